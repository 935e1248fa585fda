"""Make net1 or net2 out of a stock transformers model, on the meta device.

The stock model's own forward stays in charge (masks, pooling, head): what a half does not own is
replaced by a module without parameters that hands its input on, so every parameter keeps its stock
name. It knows the table of families and the cuts; it reads no files and holds no numbers.

Legend: B batch, M sequence, N hidden width, W width on the wire, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PretrainedConfig

from sft_common.config import SplitSpec
from sft_common.errors import ModelError, first_line
from sft_common.model.cuts import CUT_TABLE, CloudFactors, EdgeFactor, residual_of
from sft_common.model.families import Family, family_of, shape_of


class PassOn(nn.Module):
    """Stands where a block was that the other half owns."""

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        """Return the stream unchanged."""
        return hidden


class PassEmbeddings(nn.Module):
    """Stands where the embeddings were: what came over the wire takes their place."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> Tensor:
        """Return the activation unchanged."""
        return inputs_embeds


class EdgeBlock(nn.Module):
    """The split block in front of the wire: attention with its residual, then the edge factor."""

    def __init__(self, block: nn.Module, family: Family, factor: nn.Module) -> None:
        super().__init__()
        for name in family.edge_modules:
            self.add_module(name, block.get_submodule(name))
        self.cut = factor
        self._attend = family.attend

    def forward(self, hidden_BMN: Tensor, attention_mask: Any = None, *_: Any, **__: Any) -> Tensor:
        """Return the activation of the cut layer, shape (B, M, W)."""
        activation: Tensor = self.cut(self._attend(self, hidden_BMN, attention_mask))
        return activation


class CloudBlock(nn.Module):
    """The split block behind the wire: the rest of the feed-forward layer."""

    def __init__(self, block: nn.Module, family: Family, residual: nn.Module) -> None:
        super().__init__()
        for name, module in block.named_children():
            if name not in family.edge_modules:
                self.add_module(name, module)
        self.residual = residual
        self._feed_forward = family.feed_forward

    def forward(self, activation_BMW: Tensor, *_: Any, **__: Any) -> Tensor:
        """Return the output of the split block, shape (B, M, N)."""
        return self._feed_forward(self, activation_BMW, self.residual(activation_BMW))


class Net1(nn.Module):
    """The edge half: embeddings, blocks 1..l-1, the first part of block l."""

    def __init__(self, skeleton: nn.Module, family: Family) -> None:
        super().__init__()
        self.skeleton = skeleton
        self._backbone = family.backbone

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the activation of the cut layer.

        Args:
            inputs: what the tokenizer gives: `input_ids` and `attention_mask`, shape (B, M), and,
                for families that have it, `token_type_ids`.

        Returns:
            The activation, shape (B, M, W); rows of padding hold no meaning.
        """
        output = self.skeleton.get_submodule(self._backbone)(**inputs)
        activation: Tensor = output.last_hidden_state
        return activation


class Net2(nn.Module):
    """The cloud half: the rest of block l, blocks l+1..L, pooler and head."""

    def __init__(self, skeleton: nn.Module) -> None:
        super().__init__()
        self.skeleton = skeleton

    def forward(self, activation_BMW: Tensor, attention_mask_BM: Tensor) -> Tensor:
        """Return the logits, shape (B, C).

        Args:
            activation_BMW: activation of the cut layer, shape (B, M, W).
            attention_mask_BM: 1 for a real token, 0 for padding, shape (B, M).
        """
        output = self.skeleton(inputs_embeds=activation_BMW, attention_mask=attention_mask_BM)
        logits: Tensor = output.logits
        return logits


def meta_classifier(config: PretrainedConfig) -> nn.Module:
    """Return the whole stock sequence classifier, float32, without memory for its numbers.

    A configuration may ask for half precision, that of its file; training needs float32 weights.

    Raises:
        ModelError: its numbers do not fit together.
    """
    try:
        with torch.device("meta"):
            model: nn.Module = AutoModelForSequenceClassification.from_config(
                config, dtype=torch.float32, trust_remote_code=False
            )
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"config.json describes no model: {first_line(error)}") from error
    return model


def split_projection_name(config: PretrainedConfig, split: SplitSpec) -> str:
    """Return the stock name of the module whose weight the cut factors."""
    family = family_of(config)
    return f"{family.backbone}.{family.blocks}.{split.split_layer - 1}.{family.projection}"


def edge_half(config: PretrainedConfig, split: SplitSpec) -> Net1:
    """Return net1 on the meta device (SFT, Algorithm 1, edge side).

    Raises:
        ConfigError: the cut does not fit the model.
        ModelError: the family is not supported.
    """
    family, hidden = family_of(config), shape_of(config).hidden
    skeleton, backbone, blocks = _take_apart(config, split)
    at = split.split_layer - 1
    with torch.device("meta"):
        factored = CUT_TABLE[split.cut].factored
        factor = EdgeFactor(hidden, split.rank) if factored else nn.Identity()
        blocks[at] = EdgeBlock(blocks[at], family, factor)
    for index in range(split.split_layer, len(blocks)):
        blocks[index] = PassOn()
    _drop(backbone, family.top)
    _drop(skeleton, family.head)
    return Net1(skeleton, family)


def cloud_half(config: PretrainedConfig, split: SplitSpec) -> Net2:
    """Return net2 on the meta device (SFT, Algorithm 1, cloud side).

    Raises:
        ConfigError: the cut does not fit the model.
        ModelError: the family is not supported.
    """
    family, hidden = family_of(config), shape_of(config).hidden
    skeleton, backbone, blocks = _take_apart(config, split)
    cut, at = CUT_TABLE[split.cut], split.split_layer - 1
    with torch.device("meta"):
        if cut.factored:
            _factor_projection(blocks[at], family, split.rank)
        residual = residual_of(cut, split.rank, hidden)
        blocks[at] = CloudBlock(blocks[at], family, residual)
    for index in range(at):
        blocks[index] = PassOn()
    _pass_bottom(backbone, family)
    return Net2(skeleton)


def _take_apart(
    config: PretrainedConfig, split: SplitSpec
) -> tuple[nn.Module, nn.Module, nn.ModuleList]:
    """Return a whole classifier on the meta device, its backbone, and the backbone's blocks."""
    family = family_of(config)
    split.check(shape_of(config))
    skeleton = meta_classifier(config)
    backbone = skeleton.get_submodule(family.backbone)
    blocks = backbone.get_submodule(family.blocks)
    assert isinstance(blocks, nn.ModuleList)
    return skeleton, backbone, blocks


def _factor_projection(block: nn.Module, family: Family, rank: int) -> None:
    linear = block.get_submodule(family.projection)
    assert isinstance(linear, nn.Linear)
    factors = CloudFactors(rank, linear.out_features, bias=linear.bias is not None)
    block.set_submodule(family.projection, factors)


def _drop(parent: nn.Module, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(parent, name, None) is not None:
            setattr(parent, name, None)


def _pass_bottom(backbone: nn.Module, family: Family) -> None:
    embeddings, *others = family.bottom
    backbone.set_submodule(embeddings, PassEmbeddings())
    for name in others:
        if getattr(backbone, name, None) is not None:
            backbone.set_submodule(name, PassOn())
