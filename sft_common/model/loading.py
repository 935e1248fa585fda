"""A pre-trained model folder, and what becomes of it: net1, net2, or the whole. It knows no RPC."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig

from sft_common.config import BASIS_CUTS, FACTOR_CUTS, ModelIdentity, SplitSpec
from sft_common.errors import ConfigError, ModelError, ProtocolError, first_line
from sft_common.model.checkpoint import Checkpoint
from sft_common.model.cuts import CUT_TABLE, Basis, factor, first_layers
from sft_common.model.families import Family, family_of
from sft_common.model.filling import copy_into, fill, fill_at_random, sources_of
from sft_common.model.heads import HEAD_TABLE, fixed_classes, meta_model
from sft_common.model.hub.weights import HubWeights
from sft_common.model.identity import check_same, config_digest, weights_digest
from sft_common.model.partition import Net1, Net2, cloud_half, edge_half, split_block_name
from sft_common.model.prepared import prepared_split


class Pretrained:
    """One pre-trained model folder: its configuration, layout and checkpoint.

    Args:
        folder: holds config.json and safetensors.
        num_labels: C, the classes of the head.
        head: what the model ends in, one of `HEADS`.
        dropout: probability for every dropout layer; None keeps the model's own, but for net1
            below a narrow cut, which then has none.
        weights: where its tensors are fetched from when they are needed; None: from the folder.

    Raises:
        ModelError: no configuration, no weights, or an unsupported family or head.
    """

    def __init__(
        self,
        folder: Path,
        *,
        num_labels: int,
        head: str = "sequence-classification",
        dropout: float | None = None,
        weights: HubWeights | None = None,
    ) -> None:
        # A language model has no labels beside its vocabulary, which would make a long list here.
        fixed = HEAD_TABLE[head].next_token or HEAD_TABLE[head].labels == "span"
        labels = 2 if fixed else num_labels
        self.config = with_dropout(read_config(folder, labels), dropout)
        self._dropout = dropout
        self.head = head
        self.padding: int | None = getattr(self.config, "pad_token_id", None)
        """Token that fills up the batches for `whole`: stock heads of causal models look for it.
        Set it to the tokenizer's before `whole` is called."""
        self.family = family_of(self.config)
        self._stock = meta_model(self.config, head)
        self.prepared = prepared_split(folder)
        self.checkpoint = Checkpoint(
            folder,
            {self.family.backbone, self._stock.base_model_prefix},
            self.family.stored_names,
            weights=weights,
        )

    def identity(self, name: str, revision: str = "") -> ModelIdentity:
        """Return the name of this model together with its digests."""
        return ModelIdentity(
            name=name,
            revision=revision,
            config_digest=config_digest(self.config),
            weights_digest=weights_digest(self._stock, self.family, self.checkpoint),
        )

    def check_same(self, edge: ModelIdentity, revision: str = "") -> None:
        """Refuse an edge that holds another model than this one.

        Where both sides have the model from the hub, its commit says which weights are meant, and
        no tensor is read; else the digests of the weights are compared. An edge that gives none
        sends what differs.

        Args:
            edge: what the edge holds.
            revision: commit of this model; empty for a folder.

        Raises:
            MismatchError: shows both digests.
        """
        if not edge.weights_digest or (revision and revision == edge.revision):
            digest = edge.weights_digest
        else:
            digest = weights_digest(self._stock, self.family, self.checkpoint)
        mine = dataclasses.replace(
            edge, config_digest=config_digest(self.config), weights_digest=digest
        )
        check_same(edge, mine)

    def block_name(self, split: SplitSpec) -> str:
        """Return the stock name of the block that a cut falls in."""
        return split_block_name(self._stock, self.family, split)

    @property
    def classes(self) -> int | None:
        """C where the head does not leave it to the task: two ends of a span, or the vocabulary."""
        return fixed_classes(self.config, self.head)

    def check_classes(self, num_labels: int) -> None:
        """Refuse a number of classes that the head cannot have.

        Raises:
            ConfigError: shows both numbers.
        """
        fixed = self.classes
        if fixed is not None and num_labels != fixed:
            raise ConfigError(f"{num_labels} labels, but this model's {self.head} head has {fixed}")

    def net1(self, split: SplitSpec) -> Net1:
        """Return net1 on the meta device, after a look whether the checkpoint can fill it.

        Below a narrow cut it has no dropout of the model's own: what that takes from a code of R
        numbers, no other number makes up for (docs/decisions/0008).

        Raises:
            ConfigError: the cut does not fit the model, or the model was prepared for another one.
            ModelError: the checkpoint lacks a tensor.
        """
        self._check_prepared(split)
        net1 = self._net1(split)
        code = () if self.prepared else f"{net1.block_name}.cut."
        self.checkpoint.require(
            name for name, _ in net1.skeleton.named_parameters() if not name.startswith(code)
        )
        return net1

    def blank_net1(self, split: SplitSpec) -> Net1:
        """Return net1 with numbers of no meaning, to see how fast it is; reads no tensor.

        Raises:
            ConfigError: the cut does not fit the model.
        """
        net1 = self._net1(split)
        fill_at_random(net1.skeleton, seed=0)
        freeze_shared(net1.skeleton, self.family)
        return net1

    def parameters_of(self, split: SplitSpec) -> tuple[int, int]:
        """Return the parameters of net1 and of net2, without their shares of the cut."""
        halves = self._net1(split), cloud_half(self.config, split, self.head)
        at = f"{halves[0].block_name}.cut."
        net1, net2 = (
            sum(p.numel() for n, p in half.skeleton.named_parameters() if not n.startswith(at))
            for half in halves
        )
        return net1, net2

    def _net1(self, split: SplitSpec) -> Net1:
        spared = self._dropout is None and CUT_TABLE[split.cut].narrow
        config = with_dropout(self.config, 0.0) if spared else self.config
        return edge_half(config, split, self.head)

    def fill_net1(self, net1: Net1, trained: Mapping[str, Tensor] | None = None) -> None:
        """Give net1 its numbers.

        Unless they are trained, or the model was prepared, those of its cut are zeros until
        `set_edge_factor` or `set_basis` has them.

        Args:
            net1: on the meta device.
            trained: what a run left, by stock name; None for the pre-trained numbers.
        """
        handed = dict(trained or {})
        if not (trained or self.prepared):
            code = net1.block.cut.named_parameters(prefix=f"{net1.block_name}.cut")
            handed = {name: torch.zeros(parameter.shape) for name, parameter in code}
        fill(net1.skeleton, self.checkpoint, handed, seed=0)
        freeze_shared(net1.skeleton, self.family)

    def net2(
        self,
        split: SplitSpec,
        *,
        seed: int,
        device: torch.device,
        basis: tuple[Tensor, Tensor] | None = None,
        trained: Mapping[str, Tensor] | None = None,
        edge_has: bool = False,
    ) -> tuple[Net2, Tensor | None]:
        """Return net2 with its numbers, and the factor u (in, R) that the edge needs, if any.

        Args:
            split: the cut.
            seed: of the fresh head.
            device: where the numbers go.
            basis: mu (N,) and D (R, N), for the cuts that have a basis.
            trained: what a session left, by stock name; None for the pre-trained numbers.
            edge_has: whether the edge has all of net2: it will send the numbers of the cut, which
                are zeros until then.

        Raises:
            ConfigError: the cut does not fit the model, or the model was prepared for another one.
            ModelError: the checkpoint lacks a tensor.
            ProtocolError: the cut needs a basis and none came, or the other way round.
        """
        self._check_prepared(split)
        net2 = cloud_half(self.config, split, self.head)
        ready = trained is not None or self.prepared is not None or edge_has
        if (basis is not None) != (split.cut in BASIS_CUTS and not ready):
            raise ProtocolError(
                f"cut {split.cut} of this model {'takes no' if basis else 'needs a'} basis"
            )
        u, handed = (None, dict(trained or {})) if ready else self._code(net2, split, basis, seed)
        if edge_has and self.prepared is None:
            code = net2.skeleton.get_submodule(f"{net2.block_name}.cut").named_parameters()
            handed |= {f"{net2.block_name}.cut.{name}": torch.zeros(p.shape) for name, p in code}
        fill(net2.skeleton, self.checkpoint, handed, seed=seed, device=device)
        freeze_shared(net2.skeleton, self.family)
        return net2, u

    def _code(
        self, net2: Net2, split: SplitSpec, basis: tuple[Tensor, Tensor] | None, seed: int
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Return the edge's factor, if any, and the cloud's share of the cut by stock name."""
        at = f"{net2.block_name}.cut"
        if basis is not None:
            decoder: Any = net2.skeleton.get_submodule(at)
            numbers = {"mean": basis[0], "decoder": basis[1], **first_layers(decoder, seed)}
            return None, {f"{at}.{name}": value for name, value in numbers.items()}
        if split.cut not in FACTOR_CUTS:
            return None, {}
        factors = factor(self._split_weight(net2, split), split.rank)
        return factors.u, {f"{at}.sigma": factors.sigma, f"{at}.v": factors.v}

    def whole(self, *, seed: int) -> nn.Module:
        """Return the stock model, unsplit, with the head that a split run of the seed gets.

        Raises:
            ConfigError: the model was prepared for a cut, so that its whole block is gone.
        """
        self.check_unsplit()
        model = meta_model(self.config, self.head)
        model.config.pad_token_id = self.padding
        fill(model, self.checkpoint, {}, seed=seed)
        freeze_shared(model, self.family)
        whole: nn.Module = model
        return whole

    def check_unsplit(self) -> None:
        """Refuse a model that was prepared for a cut, so that its whole block is gone.

        Raises:
            ConfigError: says so.
        """
        if self.prepared is not None and self.prepared.cut != "none":
            raise ConfigError(
                f"{self.checkpoint.folder} was prepared for the cut {self.prepared.cut}: it holds "
                "no unsplit model; leave --unsplit out"
            )

    def _check_prepared(self, split: SplitSpec) -> None:
        if self.prepared not in (None, split):
            assert self.prepared is not None
            raise ConfigError(
                f"{self.checkpoint.folder.name} was prepared for {self.prepared.words()}, but "
                f"{split.words()} was asked; leave --cut, --split-layer and --rank out"
            )

    def _split_weight(self, net2: Net2, split: SplitSpec) -> Tensor:
        """Return the weight that the cut factors, (in, out).

        It lies amidst what net2 is filled with, so all of that is fetched with it.
        """
        cut, layout = CUT_TABLE[split.cut], self.family.block
        names = {path: f"{net2.block_name}.{path}.weight" for path in cut.factored(layout)}
        self.checkpoint.prefetch(
            [*names.values(), *sources_of(net2.skeleton, self.checkpoint, handed={}).values()]
        )
        return cut.weight(layout, lambda path: self.checkpoint.read(names[path]).float())


def freeze_shared(skeleton: Any, family: Family) -> None:
    """Take what both halves hold out of training (docs/decisions/0007)."""
    tables = tuple(f"{skeleton.base_model_prefix}.{path}." for path in family.shared)
    for name, parameter in skeleton.named_parameters():
        if name.startswith(tables):
            parameter.requires_grad_(False)


def set_edge_factor(net1: Net1, u: Tensor) -> None:
    """Give net1 the factor u (in, R) that the cloud computed."""
    copy_into(net1.block.cut.get_parameter("u"), u, "u")


def set_basis(net1: Net1, basis: Basis) -> None:
    """Give net1 its share of a basis; the offset becomes -mu E."""
    cut = net1.block.cut
    copy_into(cut.get_parameter("encoder"), basis.encoder, "encoder")
    copy_into(cut.get_parameter("offset"), -basis.mean @ basis.encoder, "offset")


def dropouts_of(config: PretrainedConfig) -> dict[str, float | None]:
    """Return every dropout probability of a configuration, by its name."""
    known = vars(config).items()
    return {n: v for n, v in known if "drop" in n and (v is None or isinstance(v, int | float))}


def with_dropout(config: PretrainedConfig, dropout: float | None) -> PretrainedConfig:
    """Return the configuration with every dropout probability replaced; None changes nothing."""
    if dropout is None:
        return config
    changed = copy.deepcopy(config)
    for name in dropouts_of(config):
        setattr(changed, name, dropout)
    changed.classifier_dropout = dropout  # some heads have one that their configuration leaves out
    return changed


def read_config(folder: Path, num_labels: int) -> PretrainedConfig:
    """Return the configuration of a model folder.

    Raises:
        ModelError: it has none, or one that cannot be read.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is not a model folder: it has no config.json")
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder, num_labels=num_labels, trust_remote_code=False
        )
    except Exception as error:  # the libraries check fields with classes of their own
        raise ModelError(f"cannot read {folder / 'config.json'}: {first_line(error)}") from error
    return config
