"""How much memory a training step of net2 takes, as a cloud counts it. Plain arithmetic."""

from __future__ import annotations

from sft_common.config import ModelShape, SessionSpec, SplitSpec

BYTES_OF_PARAMETER = 16
"""A weight, its gradient and two moments of AdamW, in float32."""


def step_bytes(
    shape: ModelShape,
    split: SplitSpec,
    examples: int,
    longest: int,
    classes: int = 0,
    *,
    top: int | None = None,
) -> int:
    """Return about how much memory a training step of net2 takes for its activations.

    In float32, for each token and block: the family's rows of attention scores (BERT: scores,
    softmax, dropout) of M x heads, 12 rows of the hidden and 3 of the feed-forward width, which a
    layer of the decoder is taken to need as well; and three rows of logits. Measured: never more
    than 1.5 times this, and a step may take half the memory.

    Args:
        shape: sizes of the model.
        split: the cut.
        examples: B.
        longest: M.
        classes: C of a head that makes logits for every token, which many do even if they then
            choose one of them; 0 for the others.
        top: the highest block that is computed; None: L.
    """
    blocks = (top or shape.blocks) - split.split_layer + 1
    scores = blocks * shape.score_rows * longest * shape.heads
    rows = (blocks + split.decoder_layers) * (12 * shape.hidden + 3 * shape.feed_forward)
    return examples * longest * 4 * (scores + rows + 3 * classes)


def memory_of(
    spec: SessionSpec, shape: ModelShape, examples: int, longest: int, *, logits_per_token: bool
) -> int:
    """Return about how much memory a step or an evaluation takes beside the weights.

    Of a frozen body it is that of the blocks between both cuts, as if they trained: a bound.

    Args:
        spec: what the edge opened the session with.
        shape: sizes of the model.
        examples: B.
        longest: M.
        logits_per_token: whether the head makes logits for every token.
    """
    if spec.tail is not None:
        top = spec.tail.split.split_layer
        return step_bytes(shape, spec.split, examples, longest, top=top)
    classes = spec.num_labels if logits_per_token else 0
    activations = step_bytes(shape, spec.split, examples, longest, classes)
    return activations + 12 * examples * spec.num_labels
