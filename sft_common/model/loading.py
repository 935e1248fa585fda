"""Fill a half, and only a half, with pre-trained numbers. It knows checkpoints and seeds, no RPC.

A half arrives on the meta device with stock parameter names. It gets memory, the tensors that the
checkpoint has under those names, the factors that were handed over, and fresh values for the head.
"""

from __future__ import annotations

import copy
import hashlib
import json
import zlib
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig

from sft_common.config import BASIS_CUTS, FACTOR_CUTS, ModelIdentity, SplitSpec
from sft_common.errors import (
    ConfigError,
    MismatchError,
    ModelError,
    ProtocolError,
    first_line,
)
from sft_common.model.checkpoint import Checkpoint
from sft_common.model.cuts import CUT_TABLE, Basis, factor
from sft_common.model.families import Family, family_of
from sft_common.model.heads import HEAD_TABLE, meta_model
from sft_common.model.hub.weights import HubWeights
from sft_common.model.partition import Net1, Net2, cloud_half, edge_half
from sft_common.model.randomness import exclusive_randomness, seed_cpu

SPLIT_FILE = "split.json"
"""In a model folder: the cut that it was prepared for, whose factors it holds."""

_DIGEST_FIELDS = (
    "model_type",
    "vocab_size",
    "type_vocab_size",
    "max_position_embeddings",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_size",
    "intermediate_size",
    "hidden_dim",
    "n_inner",
    "hidden_act",
    "activation",
    "activation_function",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "rms_norm_eps",
    "rope_parameters",
    "sliding_window",
    "image_size",
    "patch_size",
    "num_channels",
)


class Pretrained:
    """One pre-trained model folder: its configuration, layout and checkpoint.

    Args:
        folder: holds config.json and safetensors.
        num_labels: C, the classes of the head.
        head: what the model ends in, one of `HEADS`.
        dropout: probability for every dropout layer; None keeps the model's own.
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
        labels = 2 if HEAD_TABLE[head].next_token else num_labels
        self.config = with_dropout(_read_config(folder, labels), dropout)
        self.head = head
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
        """Return the name of this model together with its digests.

        The digest of the weights means the same for a folder and for the hub, so that either may
        meet the other: it is over the first rows of a few tensors, which are fetched if need be.
        """
        return self._identity(name, revision, self.checkpoint.digest(self._telling_names()))

    def check_same(self, edge: ModelIdentity, revision: str = "") -> None:
        """Refuse an edge that holds another model than this one.

        Where both sides have the model from the hub, its commit says which weights are meant, and
        no tensor is read; else the digests of the weights are compared.

        Args:
            edge: what the edge holds.
            revision: commit of this model; empty for a folder.

        Raises:
            MismatchError: shows both digests.
        """
        if revision and revision == edge.revision:
            digest = edge.weights_digest
        else:
            digest = self.checkpoint.digest(self._telling_names())
        check_same(edge, self._identity(edge.name, revision, digest))

    def _identity(self, name: str, revision: str, weights_digest: str) -> ModelIdentity:
        facts = {field: getattr(self.config, field, None) for field in _DIGEST_FIELDS}
        return ModelIdentity(
            name=name,
            revision=revision,
            config_digest=hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
            weights_digest=weights_digest,
        )

    @property
    def classes(self) -> int | None:
        """C where the head does not leave it to the task: two ends of a span, or the vocabulary."""
        if HEAD_TABLE[self.head].next_token:
            return int(self.config.vocab_size)
        return 2 if HEAD_TABLE[self.head].labels == "span" else None

    def check_classes(self, num_labels: int) -> None:
        """Refuse a number of classes that the head cannot have.

        Raises:
            ConfigError: shows both numbers.
        """
        fixed = self.classes
        if fixed is not None and num_labels != fixed:
            raise ConfigError(f"{num_labels} labels, but this model's {self.head} head has {fixed}")

    def _telling_names(self) -> list[str]:
        """Return what tells two fine-tunings apart: the embeddings and the outermost blocks."""
        backbone = f"{self._stock.base_model_prefix}."
        blocks = f"{backbone}{self.family.blocks}."
        inner = tuple(f"{blocks}{n}." for n in range(1, self.config.num_hidden_layers - 1))
        return [
            name
            for name, _ in self._stock.named_parameters()
            if name.startswith(backbone) and not name.startswith(inner)
            if not any(name.startswith(f"{backbone}{top}.") for top in self.family.top)
            if self.checkpoint.find(name) is not None
        ]

    def net1(self, split: SplitSpec) -> Net1:
        """Return net1 on the meta device, after a look whether the checkpoint can fill it.

        Raises:
            ConfigError: the cut does not fit the model, or the model was prepared for another one.
            ModelError: the checkpoint lacks a tensor.
        """
        self._check_prepared(split)
        net1 = edge_half(self.config, split, self.head)
        code = () if self.prepared else f"{net1.block_name}.cut."
        self.checkpoint.require(
            name for name, _ in net1.skeleton.named_parameters() if not name.startswith(code)
        )
        return net1

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
    ) -> tuple[Net2, Tensor | None]:
        """Return net2 with its numbers, and the factor u (in, R) that the edge needs, if any.

        Args:
            split: the cut.
            seed: of the fresh head.
            device: where the numbers go.
            basis: mu (N,) and D (R, N), for the cuts that have a basis.
            trained: what a session left, by stock name; None for the pre-trained numbers.

        Raises:
            ConfigError: the cut does not fit the model, or the model was prepared for another one.
            ModelError: the checkpoint lacks a tensor.
            ProtocolError: the cut needs a basis and none came, or the other way round.
        """
        self._check_prepared(split)
        net2 = cloud_half(self.config, split, self.head)
        ready = trained is not None or self.prepared is not None
        if (basis is not None) != (split.cut in BASIS_CUTS and not ready):
            raise ProtocolError(
                f"cut {split.cut} of this model {'takes no' if basis else 'needs a'} basis"
            )
        u, handed = (None, dict(trained or {})) if ready else self._code(net2, split, basis)
        fill(net2.skeleton, self.checkpoint, handed, seed=seed, device=device)
        freeze_shared(net2.skeleton, self.family)
        return net2, u

    def _code(
        self, net2: Net2, split: SplitSpec, basis: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Return the edge's factor, if any, and the cloud's share of the cut by stock name."""
        at = f"{net2.block_name}.cut"
        if basis is not None:
            return None, {f"{at}.mean": basis[0], f"{at}.decoder": basis[1]}
        if split.cut not in FACTOR_CUTS:
            return None, {}
        factors = factor(self._split_weight(net2, split), split.rank)
        return factors.u, {f"{at}.sigma": factors.sigma, f"{at}.v": factors.v}

    def whole(self, *, seed: int) -> nn.Module:
        """Return the stock model, unsplit, with the head that a split run of the seed gets.

        Raises:
            ConfigError: the model was prepared for a cut, so that its whole block is gone.
        """
        if self.prepared is not None and self.prepared.cut != "none":
            raise ConfigError(
                f"{self.checkpoint.folder} was prepared for the cut {self.prepared.cut}: it holds "
                "no unsplit model; leave --unsplit out"
            )
        model: nn.Module = meta_model(self.config, self.head)
        fill(model, self.checkpoint, {}, seed=seed)
        freeze_shared(model, self.family)
        return model

    def _check_prepared(self, split: SplitSpec) -> None:
        if self.prepared not in (None, split):
            assert self.prepared is not None
            raise ConfigError(
                f"{self.checkpoint.folder.name} was prepared for {self.prepared.words()}, but "
                f"{split.words()} was asked; leave --cut, --split-layer and --rank out"
            )

    def _split_weight(self, net2: Net2, split: SplitSpec) -> Tensor:
        """Return the weight that the cut factors, (in, out); those of a gated layer in a row.

        It lies amidst what net2 is filled with, so all of that is fetched with it.
        """
        layout = self.family.block
        paths = CUT_TABLE[split.cut].factored(layout)
        names = [f"{net2.block_name}.{path}.weight" for path in paths]
        self.checkpoint.prefetch(
            [*names, *_sources(net2.skeleton, self.checkpoint, handed={}).values()]
        )
        weights = [self.checkpoint.read(name).float() for name in names]
        return torch.cat([layout.matrix(weight) for weight in weights], dim=1)


def prepared_split(folder: Path) -> SplitSpec | None:
    """Return the cut that a model folder was prepared for; None for an ordinary one.

    Raises:
        ModelError: its file cannot be read.
    """
    file = folder / SPLIT_FILE
    if not file.is_file():
        return None
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        return SplitSpec(
            cut=str(facts["cut"]), split_layer=int(facts["split_layer"]), rank=int(facts["rank"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"cannot read {file}: {first_line(error)}") from error


def freeze_shared(skeleton: Any, family: Family) -> None:
    """Take what both halves hold out of training."""
    backbone = skeleton.get_submodule(skeleton.base_model_prefix)
    for path in family.shared:
        if hasattr(attrgetter(path.rpartition(".")[0])(backbone), path.rpartition(".")[2]):
            backbone.get_submodule(path).requires_grad_(False)


def set_edge_factor(net1: Net1, u: Tensor) -> None:
    """Give net1 the factor u (in, R) that the cloud computed."""
    _copy(net1.block.cut.get_parameter("u"), u, "u")


def set_basis(net1: Net1, basis: Basis) -> None:
    """Give net1 its share of a basis; the offset becomes -mu E."""
    cut = net1.block.cut
    _copy(cut.get_parameter("encoder"), basis.encoder, "encoder")
    _copy(cut.get_parameter("offset"), -basis.mean @ basis.encoder, "offset")


def check_same(edge: ModelIdentity, cloud: ModelIdentity) -> None:
    """Refuse two identities that differ in configuration or weights.

    Raises:
        MismatchError: shows both digests.
    """
    for what, ours, theirs in (
        ("configuration", edge.config_digest, cloud.config_digest),
        ("weights", edge.weights_digest, cloud.weights_digest),
    ):
        if ours != theirs:
            raise MismatchError(
                f"edge and cloud hold different {what} of model {edge.name!r}: digest "
                f"{ours[:12]} on the edge, {theirs[:12]} on the cloud; give both the same folder"
            )


def with_dropout(config: PretrainedConfig, dropout: float | None) -> PretrainedConfig:
    """Return the configuration with every dropout probability replaced; None changes nothing."""
    if dropout is None:
        return config
    changed = copy.deepcopy(config)
    for name, value in vars(config).items():
        if "drop" in name and (value is None or isinstance(value, float | int)):
            setattr(changed, name, dropout)
    return changed


def fill(
    skeleton: Any,
    checkpoint: Checkpoint,
    handed: Mapping[str, Tensor],
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> None:
    """Give a model on the meta device memory and numbers.

    Args:
        skeleton: a stock model, whole or partitioned.
        checkpoint: where the pre-trained tensors are.
        handed: stock name -> tensor, for parameters that no checkpoint has (factors).
        seed: of what the checkpoint may lack or have in another shape, the head and the pooler.
        device: where the numbers go.

    Raises:
        ModelError: the checkpoint lacks a tensor outside the head.
    """
    skeleton.to_empty(device="cpu")
    if getattr(skeleton.config, "tie_word_embeddings", False):
        skeleton.tie_weights()
    sources = _sources(skeleton, checkpoint, handed)
    checkpoint.prefetch(sources.values())
    for name, parameter in skeleton.named_parameters():
        if name in handed:
            _copy(parameter, handed[name], name)
        elif name in sources:
            _copy(parameter, checkpoint.read(sources[name]), name)
    _initialise(skeleton, seed)
    skeleton.to(device)


def _sources(skeleton: Any, checkpoint: Checkpoint, handed: Mapping[str, Tensor]) -> dict[str, str]:
    """Return parameter -> stock name of what it is filled with; those handed or fresh left out."""
    found: dict[str, str] = {}
    for name, parameter in skeleton.named_parameters():
        if name in handed:
            continue
        if not _may_be_fresh(skeleton, name):
            found[name] = name
        elif (source := _source_of(skeleton, checkpoint, name)) is not None:
            if checkpoint.shape(source) == parameter.shape:  # else a head of other classes
                found[name] = source
    return found


def _may_be_fresh(skeleton: Any, name: str) -> bool:
    """Return whether a pre-training checkpoint may lack a tensor: those of heads and poolers."""
    backbone = f"{skeleton.base_model_prefix}."
    return not name.startswith(backbone) or name.startswith(f"{backbone}pooler.")


def _source_of(skeleton: Any, checkpoint: Checkpoint, name: str) -> str | None:
    """Return the stock name to read a head's tensor from; tied ones are stored only once."""
    tied = getattr(skeleton, "_tied_weights_keys", None) or {}
    return next((n for n in (name, tied.get(name)) if n and checkpoint.find(n)), None)


def _has_unfilled(module: nn.Module) -> bool:
    """Return whether a module has numbers that neither checkpoint nor cut gave it."""
    if next(module.buffers(recurse=False), None) is not None:
        return True
    return any(not hasattr(p, "_is_hf_initialized") for p in module.parameters())


def _copy(parameter: nn.Parameter, value: Tensor, name: str) -> None:
    if parameter.shape != value.shape:
        raise ModelError(
            f"tensor {name} has shape {tuple(value.shape)}, "
            f"the model needs {tuple(parameter.shape)}"
        )
    with torch.no_grad():
        parameter.copy_(value)
    # transformers' own mark: its initialisation leaves marked tensors alone.
    parameter._is_hf_initialized = True  # type: ignore[attr-defined]


def _initialise(skeleton: Any, seed: int) -> None:
    """Initialise what was not filled: fresh head parameters and buffers that no file holds.

    Each module draws from its own seed on the CPU, so that the numbers depend neither on which half
    it is in nor on the device.
    """
    with exclusive_randomness():
        for name, module in skeleton.named_modules():
            if not _has_unfilled(module):
                continue
            seed_cpu(seed ^ zlib.crc32(name.encode()))
            skeleton._init_weights(module)
    for parameter in skeleton.parameters():
        vars(parameter).pop("_is_hf_initialized", None)


def _read_config(folder: Path, num_labels: int) -> PretrainedConfig:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is not a model folder: it has no config.json")
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder, num_labels=num_labels, trust_remote_code=False
        )
    except Exception as error:  # the libraries check fields with classes of their own
        raise ModelError(f"cannot read {folder / 'config.json'}: {first_line(error)}") from error
    if getattr(config, "pad_token_id", None) is None:  # causal models often have none
        end = getattr(config, "eos_token_id", None)
        config.pad_token_id = (end[0] if isinstance(end, list) else end) or 0
    return config
