"""What a federation starts from: the parts of a pre-trained model that its method averages.

It knows models; it knows neither rounds nor clients.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sft_cloud.federation.round import Update
from sft_cloud.federation.state import State
from sft_common.config import BASIS_CUTS, SplitSpec, any_scaled
from sft_common.errors import DataError
from sft_common.federation.averaging import Moments
from sft_common.federation.plan import FederationPlan, Transfer
from sft_common.federation.tensors import Shapes, trained_of
from sft_common.model.calibration import LEAST_TOKENS_PER_RANK
from sft_common.model.codes import code_of
from sft_common.model.cuts import Basis, basis_of_moments
from sft_common.model.families import shape_of
from sft_common.model.joined import save_joined
from sft_common.model.loading import Pretrained, set_basis, set_edge_factor
from sft_common.model.parting import Parting
from sft_common.model.partition import cloud_half, edge_half
from sft_common.model.parts_folder import WHOLE, save_parts

CPU = torch.device("cpu")

TOOLS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "preprocessor_config.json",
)
"""Files of tokenizers and image processors."""


class WholeBeginning:
    """FedAvg: clients train the whole model.

    Args:
        plan: of the federation.
        pretrained: its model.
    """

    calibrations: tuple[str, ...] = ()

    def __init__(self, plan: FederationPlan, pretrained: Pretrained) -> None:
        self._plan, self._pretrained = plan, pretrained
        pretrained.check_unsplit()

    def state(self) -> State:
        """Return the pre-trained model with the head that the seed gives."""
        return State(clients=trained_of(self._pretrained.whole(seed=self._plan.seed)))

    def calibration_shapes(self, duty: str) -> Shapes:
        """There is no calibration."""
        raise AssertionError(duty)

    def calibrated(self, duty: str, found: Mapping[str, Update], before: State) -> State:
        """There is no calibration."""
        raise AssertionError(duty)

    def save(self, state: State, folder: Path) -> None:
        """Write a stock model."""
        _save_halves(folder, self._plan, self._pretrained, WHOLE, state.clients)


class HalvesBeginning:
    """SplitFed: clients train net1, the cloud net2.

    Args:
        plan: of the federation.
        pretrained: its model.

    Raises:
        ConfigError: the cut does not fit the model.
    """

    def __init__(self, plan: FederationPlan, pretrained: Pretrained) -> None:
        assert plan.cut is not None
        self._plan, self._pretrained, self._cut = plan, pretrained, plan.cut
        plan.cut.split.check(shape_of(pretrained.config))
        needed = needs_basis(plan.cut, pretrained)
        self.calibrations: tuple[str, ...] = ("calibrate-cut",) if needed else ()

    def state(self) -> State:
        """Return both halves; those of a cut that needs a basis are still without one."""
        return self._halves(None) if not self.calibrations else State(clients={})

    def calibration_shapes(self, duty: str) -> Shapes:
        """Return the moments of the stream."""
        return moments_shapes(shape_of(self._pretrained.config).hidden)

    def calibrated(self, duty: str, found: Mapping[str, Update], before: State) -> State:
        """Return both halves, with the basis of what all clients have found."""
        return self._halves(basis_found(self._cut, found))

    def save(self, state: State, folder: Path) -> None:
        """Write both halves as one model."""
        both = {**state.clients, **state.cloud}
        _save_halves(folder, self._plan, self._pretrained, self._cut.split, both)

    def _halves(self, basis: Basis | None) -> State:
        split, seed = self._cut.split, self._plan.seed
        net1 = self._pretrained.net1(split)
        self._pretrained.fill_net1(net1)
        cloud_basis = (basis.mean, basis.decoder) if basis else None
        net2, u_NR = self._pretrained.net2(split, seed=seed, device=CPU, basis=cloud_basis)
        if u_NR is not None:
            set_edge_factor(net1, u_NR)
        if basis is not None:
            set_basis(net1, basis)
        return State(clients=trained_of(net1.skeleton), cloud=trained_of(net2.skeleton))


class PartsBeginning:
    """SFPrompt: clients train soft prompts and the tail, the body is frozen.

    Args:
        plan: of the federation.
        pretrained: its model.

    Raises:
        ConfigError, ModelError: the cuts do not fit the model.
    """

    def __init__(self, plan: FederationPlan, pretrained: Pretrained) -> None:
        self._plan, self._pretrained = plan, pretrained
        transfers = {"calibrate-cut": plan.cut, "calibrate-tail": plan.tail}
        self._transfers = {duty: at for duty, at in transfers.items() if at is not None}
        self.calibrations = tuple(
            duty for duty, at in self._transfers.items() if at.split.cut in BASIS_CUTS
        )
        self._codes: dict[str, Tensor] = {}
        for duty, at in self._transfers.items():
            if duty not in self.calibrations:
                self._codes |= code_of(pretrained, at.split)

    def state(self) -> State:
        """Return the prompts and the tail; only the codes that are known, if some are not."""
        if self.calibrations:
            return self._known()
        return self._whole()

    def calibration_shapes(self, duty: str) -> Shapes:
        """Return the moments of the stream."""
        return moments_shapes(shape_of(self._pretrained.config).hidden)

    def calibrated(self, duty: str, found: Mapping[str, Update], before: State) -> State:
        """Return the state with the basis of what all clients have found."""
        at = self._transfers[duty]
        self._codes |= {**before.given, **before.code}
        self._codes |= code_of(self._pretrained, at.split, basis_found(at, found))
        return self._whole() if duty == self.calibrations[-1] else self._known()

    def save(self, state: State, folder: Path) -> None:
        """Write a model in three parts."""
        code = {**state.given, **state.code}
        plan = self._plan
        save_parts(folder, self._pretrained, plan.parts, code, state.clients, labels=plan.labels)
        copy_tools(self._pretrained.checkpoint.folder, folder)

    def _known(self) -> State:
        """Return what is known of the first cut's code, before all of both are."""
        parting = Parting(self._pretrained, self._plan.parts)
        return State(
            clients={},
            given=self._chosen(parting.head_shapes()),
            code=self._chosen(parting.body_shapes()),
        )

    def _whole(self) -> State:
        parting = Parting(self._pretrained, self._plan.parts, self._codes)
        return State(
            clients=parting.parts(seed=self._plan.seed).state(),
            given=self._chosen(parting.given_shapes()),
            code=self._chosen(parting.body_shapes()),
        )

    def _chosen(self, shapes: Shapes) -> dict[str, Tensor]:
        return {name: self._codes[name] for name in shapes if name in self._codes}


def _save_halves(
    folder: Path,
    plan: FederationPlan,
    pretrained: Pretrained,
    split: SplitSpec,
    trained: Mapping[str, Tensor],
) -> None:
    """Write both halves of a model into an existing folder, with what of it never trains."""
    halves = (
        edge_half(pretrained.config, split, plan.head),
        cloud_half(pretrained.config, split, plan.head),
    )
    names = {name for half in halves for name, _ in half.skeleton.named_parameters()}
    frozen = {name: pretrained.checkpoint.read(name).float() for name in names - trained.keys()}
    save_joined(
        folder,
        {**frozen, **trained},
        pretrained.config,
        split,
        head=plan.head,
        labels=plan.labels,
        num_labels=plan.classes,
    )
    copy_tools(pretrained.checkpoint.folder, folder)


def copy_tools(source: Path, target: Path) -> None:
    """Copy what turns examples into a model's inputs, where the folders have it."""
    for name in TOOLS:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def needs_basis(transfer: Transfer, pretrained: Pretrained) -> bool:
    """Return whether a cut needs to know what streams through it."""
    return transfer.split.cut in BASIS_CUTS and pretrained.prepared is None


def moments_shapes(hidden: int) -> Shapes:
    """Return what a calibration hands in, beside its number of tokens."""
    return {"mean": torch.Size([hidden]), "scatter": torch.Size([hidden, hidden])}


def basis_found(transfer: Transfer, found: Mapping[str, Update]) -> Basis:
    """Return the basis of a cut, of all tokens that clients have looked at.

    Raises:
        DataError: they are too few for the rank.
    """
    moments = [
        Moments(update.weight, update.tensors["mean"], update.tensors["scatter"])
        for _, update in sorted(found.items())
    ]
    total = moments[0]
    for more in moments[1:]:
        total = total.plus(more)
    rank = transfer.split.rank
    if total.tokens < LEAST_TOKENS_PER_RANK * rank:
        raise DataError(
            f"the clients of the calibration have {total.tokens} tokens in all, a basis of rank "
            f"{rank} needs at least {LEAST_TOKENS_PER_RANK * rank}; take a smaller rank, or more "
            "clients in a round"
        )
    balanced = any_scaled(transfer.encoding, transfer.gradient_encoding)
    covariance = total.scatter.double() / max(1, total.tokens - 1)
    return basis_of_moments(total.mean.double(), covariance, rank, balanced=balanced)
