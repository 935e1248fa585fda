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
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig

from sft_common.config import ModelIdentity, SplitSpec
from sft_common.errors import MismatchError, ModelError, first_line
from sft_common.model.checkpoint import Checkpoint
from sft_common.model.cuts import CUT_TABLE, factor
from sft_common.model.families import Family, family_of
from sft_common.model.partition import (
    Net1,
    Net2,
    cloud_half,
    edge_half,
    meta_classifier,
    split_projection_name,
)
from sft_common.model.randomness import exclusive_randomness, seed_cpu

_DIGEST_FIELDS = (
    "model_type",
    "vocab_size",
    "type_vocab_size",
    "max_position_embeddings",
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_size",
    "intermediate_size",
    "hidden_act",
    "layer_norm_eps",
)


class Pretrained:
    """One pre-trained model folder: its configuration, layout and checkpoint.

    Args:
        folder: holds config.json and safetensors.
        num_labels: C, the classes of the head.
        dropout: probability for every dropout layer; None keeps the model's own.

    Raises:
        ModelError: no configuration, no weights, or an unsupported family.
    """

    def __init__(self, folder: Path, *, num_labels: int, dropout: float | None = None) -> None:
        self.config = with_dropout(_read_config(folder, num_labels), dropout)
        self.family = family_of(self.config)
        self.checkpoint = Checkpoint(folder, self.family.backbone)

    def identity(self, name: str, revision: str = "") -> ModelIdentity:
        """Return the name of this model together with its digests."""
        facts = {field: getattr(self.config, field, None) for field in _DIGEST_FIELDS}
        last = str(self.config.num_hidden_layers - 1)
        small = [
            f"{self.family.backbone}.{tensor.replace('LAST', last)}"
            for tensor in self.family.fingerprint
        ]
        return ModelIdentity(
            name=name,
            revision=revision,
            config_digest=hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
            weights_digest=self.checkpoint.digest(small),
        )

    def net1(self, split: SplitSpec) -> Net1:
        """Return net1 on the meta device, after a look whether the checkpoint can fill it."""
        net1 = edge_half(self.config, split)
        self.checkpoint.require(
            name for name, _ in net1.skeleton.named_parameters() if not name.endswith(".cut.u")
        )
        return net1

    def fill_net1(self, net1: Net1, split: SplitSpec, u_NR: Tensor | None) -> None:
        """Give net1 its numbers; `u_NR` is the edge factor that the cloud handed over, if any."""
        handed = {} if u_NR is None else {_edge_factor_name(self.family, split): u_NR}
        fill(net1.skeleton, self.family, self.checkpoint, handed, seed=0)

    def net2(
        self, split: SplitSpec, *, seed: int, device: torch.device
    ) -> tuple[Net2, Tensor | None]:
        """Return net2 with its numbers, and the factor u (N, R) that the edge needs, if any."""
        net2 = cloud_half(self.config, split)
        u_NR: Tensor | None = None
        handed: dict[str, Tensor] = {}
        if CUT_TABLE[split.cut].factored:
            u_NR, handed = self._factors(split)
        fill(net2.skeleton, self.family, self.checkpoint, handed, seed=seed, device=device)
        return net2, u_NR

    def whole(self, *, seed: int) -> nn.Module:
        """Return the stock classifier, unsplit, with the head that a split run of the seed gets."""
        model = meta_classifier(self.config)
        fill(model, self.family, self.checkpoint, {}, seed=seed)
        return model

    def _factors(self, split: SplitSpec) -> tuple[Tensor, dict[str, Tensor]]:
        name = split_projection_name(self.config, split)
        factors = factor(self.checkpoint.read(f"{name}.weight").float().T, split.rank)
        handed = {f"{name}.sigma": factors.sigma_RR, f"{name}.v": factors.v_RH}
        if CUT_TABLE[split.cut].residual == "decoded":
            block = name.removesuffix(f".{self.family.projection}")
            handed[f"{block}.residual.decoder"] = factors.u_NR.T
        return factors.u_NR, handed


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
    skeleton: nn.Module,
    family: Family,
    checkpoint: Checkpoint,
    handed: Mapping[str, Tensor],
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> None:
    """Give a model on the meta device memory and numbers.

    Args:
        skeleton: a stock classifier, whole or partitioned.
        family: its layout.
        checkpoint: where the pre-trained tensors are.
        handed: stock name -> tensor, for parameters that no checkpoint has (factors).
        seed: of what the checkpoint may lack or have in another shape, the head and the pooler.
        device: where the numbers go.

    Raises:
        ModelError: the checkpoint lacks a tensor outside the head.
    """
    skeleton.to_empty(device="cpu")
    tops = (f"{family.backbone}.{name}" for name in family.top)
    fresh = tuple(f"{name}." for name in (*family.head, *tops))
    for name, parameter in skeleton.named_parameters():
        if name in handed:
            _copy(parameter, handed[name], name)
        elif not name.startswith(fresh):
            _copy(parameter, checkpoint.read(name), name)
        elif checkpoint.find(name) is not None:
            value = checkpoint.read(name)
            if value.shape == parameter.shape:  # else a head for another number of classes
                _copy(parameter, value, name)
    _initialise(skeleton, seed)
    skeleton.to(device)


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
            seed_cpu(seed ^ zlib.crc32(name.encode()))
            skeleton._init_weights(module)
    for parameter in skeleton.parameters():
        vars(parameter).pop("_is_hf_initialized", None)


def _edge_factor_name(family: Family, split: SplitSpec) -> str:
    return f"{family.backbone}.{family.blocks}.{split.split_layer - 1}.cut.u"


def _read_config(folder: Path, num_labels: int) -> PretrainedConfig:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is not a model folder: it has no config.json")
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder, num_labels=num_labels, trust_remote_code=False
        )
    except Exception as error:  # the libraries check fields with classes of their own
        raise ModelError(f"cannot read {folder / 'config.json'}: {first_line(error)}") from error
    return config
