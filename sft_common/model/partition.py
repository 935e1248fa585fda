"""Make net1 or net2 out of a stock transformers model, on the meta device.

The stock model's own forward stays in charge (masks, pooling, head): what a half does not own is
replaced by a module without parameters that hands its input on, so every parameter keeps its stock
name. It knows the table of families and the cuts; it reads no files and holds no numbers.

Legend: B batch, M sequence, N hidden width, W width on the wire, C classes.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from sft_common.config import TAIL_CUTS, ModelShape, SplitSpec
from sft_common.model.block import BiasOnly, BlockLayout
from sft_common.model.cuts import (
    CUT_TABLE,
    CloudFactors,
    Cut,
    Decoder,
    EdgeFactor,
    Encoder,
)
from sft_common.model.families import Family, blocks_of, family_of, shape_of
from sft_common.model.heads import logits_of, meta_model


class PassOn(nn.Module):
    """Stands where a module was that the other half owns: hands its first input on."""

    def __init__(self, *, as_tuple: bool = False) -> None:
        super().__init__()
        self._as_tuple = as_tuple

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Any:
        """Return the stream unchanged."""
        return (hidden, None) if self._as_tuple else hidden


class Nothing(nn.Module):
    """Stands where something was added: a zero that broadcasts."""

    def forward(self, *_: Any, **__: Any) -> Tensor:
        """Return a scalar zero."""
        return torch.zeros(())


class Inlet(nn.Module):
    """Stands where the embeddings were: gives the stream its shape, and no numbers."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self._hidden = hidden
        # ViT looks up the type of its first weight before it calls its embeddings.
        weight = SimpleNamespace(dtype=torch.float32)
        self.patch_embeddings = SimpleNamespace(projection=SimpleNamespace(weight=weight))

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """Return a stream of zeros that takes no memory, shape (B, M, N)."""
        given = inputs[0] if inputs else named["input_ids"]
        zero = torch.zeros((), device=given.device)
        return zero.expand(*given.shape, self._hidden)


class EdgeBlock(nn.Module):
    """The split block in front of the wire; its stream is kept aside for `send`: see `Net1`."""

    def __init__(self, block: nn.Module, family: Family, cut: Cut, code: nn.Module) -> None:
        super().__init__()
        _adopt(self, block)
        self.cut = code
        self._stream: Tensor | None = None
        self._layout, self._kind, self._as_tuple = family.block, cut, family.returns_tuple

    def forward(self, hidden_BMN: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Compute the stream h (B, M, N); it goes on to keep the stock code content."""
        self._stream = stream = self._layout.attend(self, hidden_BMN, *args, **kwargs)
        return (stream, None) if self._as_tuple else stream

    def take(self) -> Tensor:
        """Return the stream h of the last forward pass, (B, M, N), once."""
        stream, self._stream = self._stream, None
        assert stream is not None
        return stream

    def send(self, stream: Tensor) -> Tensor:
        """Return the activation (..., W) of a stream h (..., N)."""
        activation: Tensor = self.cut(self._kind.leave(self, self._layout, stream))
        return torch.cat([activation, stream], dim=-1) if self._kind.sends_stream else activation

    def end(self, stream: Tensor) -> Tensor:
        """Return how far this side computes a stream h (..., N): h, or y with an -end cut."""
        if self._kind.leaves_at != "sum":
            return stream
        return self._kind.leave(self, self._layout, stream)

    def bypass(self, stream: Tensor) -> Tensor:
        """Return what `send` would if what `end` gives, (..., N), had been this one."""
        if self._kind.leaves_at != "sum":
            return self.send(stream)
        code: Tensor = self.cut(stream)
        return code


class CloudBlock(nn.Module):
    """The split block behind the wire: the rest of the feed-forward layer."""

    def __init__(
        self, block: nn.Module, family: Family, cut: Cut, code: nn.Module, rank: int
    ) -> None:
        super().__init__()
        _adopt(self, block)
        self.cut = code
        self.activation: Tensor | None = None
        self._layout, self._kind, self._as_tuple = family.block, cut, family.returns_tuple
        self._rank = rank

    def forward(self, *_: Any, **__: Any) -> Any:
        """Return the output of the split block, shape (B, M, N), from what came over the wire."""
        assert self.activation is not None
        code, kept = self.activation, self.activation.new_zeros(())
        if self._kind.sends_stream:
            code, kept = code[..., : self._rank], code[..., self._rank :]
        output = self._kind.go_on(self, self._layout, self.cut(code), kept)
        return (output, None) if self._as_tuple else output


class Net1(nn.Module):
    """The edge half: embeddings, blocks 1..l-1, the first part of block l."""

    def __init__(self, skeleton: Any, block_name: str) -> None:
        super().__init__()
        self.skeleton = skeleton
        self.block_name = block_name

    @property
    def block(self) -> EdgeBlock:
        """The split block."""
        block = self.skeleton.get_submodule(self.block_name)
        assert isinstance(block, EdgeBlock)
        return block

    @property
    def words(self) -> nn.Embedding | None:
        """The table that `input_ids` are looked up in; None where the input is no text."""
        backbone = self.skeleton.get_submodule(self.skeleton.base_model_prefix)
        table = backbone.get_input_embeddings()
        return table if isinstance(table, nn.Embedding) else None

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the activation of the cut layer.

        Args:
            inputs: what the tokenizer or image processor gives: `input_ids` and `attention_mask`,
                shape (B, M), and, for families that have it, `token_type_ids`; or `pixel_values`.

        Returns:
            The activation, shape (B, M, W); rows of padding hold no meaning.
        """
        self.skeleton.get_submodule(self.skeleton.base_model_prefix)(**inputs)
        return self.block.send(self.block.take())


class Net2(nn.Module):
    """The cloud half: the rest of block l, blocks l+1..L, what is above them, and the head."""

    def __init__(self, skeleton: Any, block_name: str) -> None:
        super().__init__()
        self.skeleton = skeleton
        self.block_name = block_name

    def forward(self, activation_BMW: Tensor, attention_mask_BM: Tensor) -> Tensor:
        """Return the logits; their shape is the head's (heads.py).

        Args:
            activation_BMW: activation of the cut layer, shape (B, M, W).
            attention_mask_BM: 1 for a real token, 0 for padding, shape (B, M); anywhere.
        """
        block: Any = self.skeleton.get_submodule(self.block_name)
        block.activation = activation_BMW
        try:
            return self._above(self._stand_in(attention_mask_BM.long()))
        finally:
            block.activation = None

    def _above(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return what comes of the split block's input, which it holds."""
        return logits_of(self.skeleton(**inputs))

    def _stand_in(self, mask_BM: Tensor) -> dict[str, Tensor]:
        """Return inputs that nobody reads but to see what is padding: token 0, the padding's id."""
        if self.skeleton.main_input_name == "pixel_values":
            return {"pixel_values": mask_BM}
        return {"input_ids": mask_BM, "attention_mask": mask_BM}


def split_block_name(skeleton: Any, family: Family, split: SplitSpec) -> str:
    """Return the stock name of the block that is cut."""
    return f"{skeleton.base_model_prefix}.{family.blocks}.{split.split_layer - 1}"


def edge_half(config: PretrainedConfig, split: SplitSpec, head: str) -> Net1:
    """Return net1 on the meta device (SFT, Algorithm 1, edge side).

    Raises:
        ConfigError: the cut does not fit the model.
        ModelError: the family is not supported, or has no such head.
    """
    return edge_half_of(meta_model(config, head), split)


def edge_half_of(skeleton: Any, split: SplitSpec) -> Net1:
    """Make net1 out of a model with a head, in place; the edge's share of the cut is on meta.

    Raises:
        ConfigError: the cut does not fit the model.
        ModelError: the family is not supported.
    """
    family, shape = family_of(skeleton.config), shape_of(skeleton.config)
    split.check(shape, TAIL_CUTS)
    backbone = skeleton.get_submodule(skeleton.base_model_prefix)
    blocks, cut, at = blocks_of(backbone, family), CUT_TABLE[split.cut], split.split_layer - 1
    with torch.device("meta"):
        _strip(blocks[at], _others(family.block, cut.edge_modules(family.block)))
        blocks[at] = EdgeBlock(
            blocks[at], family, cut, _edge_code(cut, split.coded_width(shape), split.rank)
        )
    for index in range(split.split_layer, len(blocks)):
        blocks[index] = PassOn(as_tuple=family.returns_tuple)
    _pass_on(backbone, family.top)
    skeleton.config.tie_word_embeddings = False  # the head is the cloud's
    for name, _ in list(skeleton.named_children()):
        if name != skeleton.base_model_prefix:
            setattr(skeleton, name, None)
    return Net1(skeleton, split_block_name(skeleton, family, split))


def cloud_half(config: PretrainedConfig, split: SplitSpec, head: str) -> Net2:
    """Return net2 on the meta device (SFT, Algorithm 1, cloud side).

    Raises:
        ConfigError: the cut does not fit the model.
        ModelError: the family is not supported, or has no such head.
    """
    return cloud_half_of(meta_model(config, head), split)


def cloud_half_of(skeleton: Any, split: SplitSpec) -> Net2:
    """Make net2 out of a model with a head, in place; the cloud's share of the cut is on meta.

    Raises:
        ConfigError: the cut does not fit the model.
        ModelError: the family is not supported.
    """
    family, shape = family_of(skeleton.config), shape_of(skeleton.config)
    split.check(shape, TAIL_CUTS)
    skeleton.config.pad_token_id = 0  # of the stand-in tokens; see Net2
    skeleton.config.tie_word_embeddings = False  # the embeddings are the edge's
    backbone = skeleton.get_submodule(skeleton.base_model_prefix)
    blocks, cut, at = blocks_of(backbone, family), CUT_TABLE[split.cut], split.split_layer - 1
    with torch.device("meta"):
        block = blocks[at]
        code = _cloud_code(block, family.block, cut, shape, split)
        for path in cut.factored(family.block):
            block.set_submodule(path, BiasOnly(block.get_submodule(path)))
        _strip(block, cut.edge_modules(family.block))
        blocks[at] = CloudBlock(block, family, cut, code, split.rank)
    _pass_on_below(backbone, family, at, shape.hidden)
    return Net2(skeleton, split_block_name(skeleton, family, split))


def bridge_of(skeleton: Any, split: SplitSpec) -> Net1:
    """Make what sends a stream through a cut out of a model with a head, in place.

    It is the edge's share of the code, and of its block what the edge computes behind attention.

    Raises:
        ConfigError: the cut does not fit the model.
        ModelError: the family is not supported.
    """
    family, shape = family_of(skeleton.config), shape_of(skeleton.config)
    net1 = edge_half_of(skeleton, split)
    backbone = skeleton.get_submodule(skeleton.base_model_prefix)
    ends = CUT_TABLE[split.cut].leaves_at == "sum"
    _strip(net1.block, _others(family.block, ()) if ends else family.block.attention)
    _pass_on_below(backbone, family, split.split_layer - 1, shape.hidden)
    return net1


def _pass_on_below(backbone: Any, family: Family, at: int, hidden: int) -> None:
    """Replace what is below a block: other blocks, and what makes the first stream."""
    blocks = blocks_of(backbone, family)
    for index in range(at):
        blocks[index] = PassOn(as_tuple=family.returns_tuple)
    _pass_on(backbone, family.after_embeddings)
    for name in family.added_to_embeddings:
        backbone.set_submodule(name, Nothing())
    backbone.set_submodule(family.embeddings, Inlet(hidden))


def _edge_code(cut: Cut, width: int, rank: int) -> nn.Module:
    match cut.code:
        case "factors":
            return EdgeFactor(width, rank)
        case "basis":
            return Encoder(width, rank)
        case _:
            return nn.Identity()


def _cloud_code(
    block: nn.Module, layout: BlockLayout, cut: Cut, shape: ModelShape, split: SplitSpec
) -> nn.Module:
    match cut.code:
        case "factors":
            weights = [block.get_parameter(f"{path}.weight") for path in cut.factored(layout)]
            return CloudFactors(split.rank, sum(layout.matrix(w).shape[1] for w in weights))
        case "basis":
            return Decoder(split.rank, shape.hidden, shape.feed_forward, split.decoder_layers)
        case _:
            return nn.Identity()


def _others(layout: BlockLayout, mine: tuple[str, ...]) -> tuple[str, ...]:
    """Return the modules of a block that are not in a list of them."""
    every = (*layout.attention, *layout.projections, layout.contraction, layout.norm)
    return tuple(path for path in every if path not in mine)


def _strip(block: nn.Module, paths: tuple[str, ...]) -> None:
    for path in paths:
        block.set_submodule(path, nn.Identity())


def _adopt(parent: nn.Module, block: nn.Module) -> None:
    for name, module in block.named_children():
        parent.add_module(name, module)


def _pass_on(parent: nn.Module, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(parent, name, None) is not None:
            parent.set_submodule(name, PassOn())
