"""What net2 can end in: the stock head, the labels it learns from, its loss. Pure torch.

Legend: B batch, M sequence, T real tokens, C classes (the vocabulary for a causal language model).

head                     labels                        logits     loss
sequence-classification  class, (B,)                   (B, C)     mean cross entropy
regression               number, (B,)                  (B, 1)     mean squared error
token-classification     class or -100, (T,)           (B, M, C)  mean cross entropy where labelled
question-answering       first and last token, (B, 2)  (B, M, 2)  mean of both cross entropies
causal-lm                next token or -100, (T,)      (B, M, C)  mean cross entropy where labelled
image-classification     class, (B,)                   (B, C)     mean cross entropy

Padding takes no part in any loss: the answer of a question cannot lie in it either.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import PretrainedConfig

from sft_common.config import ModelShape, SessionSpec
from sft_common.errors import ConfigError, ModelError, first_line
from sft_common.model.families import FAMILIES, Family

IGNORED = -100
"""Label of a token that takes no part in the loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """One row of the table at the head of this file."""

    auto_class: str
    """The class of transformers that puts this head on a model."""

    labels: str = "class"
    """What an example's label is: "class", "number", "tokens" (one each) or "span"."""

    next_token: bool = False
    """Whether the classes are the vocabulary, and a token's label is the one that follows."""

    @property
    def per_token(self) -> bool:
        """Whether the logits are one row for each token instead of one for each example."""
        return self.labels in ("tokens", "span")

    def logits_per_token(self, family: Family) -> bool:
        """Return whether a model makes logits for every token, if only to choose one of them."""
        return self.per_token or family.causal

    def label_count(self, lengths: Sequence[int]) -> int:
        """Return how many numbers the labels of a batch of these lengths are."""
        match self.labels:
            case "tokens":
                return sum(lengths)
            case "span":
                return 2 * len(lengths)
            case _:
                return len(lengths)

    def weight(self, labels: Sequence[float]) -> int:
        """Return how many losses the loss of a batch with these labels is the mean of."""
        match self.labels:
            case "tokens":
                return sum(label != IGNORED for label in labels)
            case "span":
                return len(labels) // 2
            case _:
                return len(labels)

    def loss(self, logits: Tensor, labels: Tensor, mask_BM: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar.

        Args:
            logits: as in the table at the head of this file.
            labels: flat, `label_count` of them; float for "number", else int64.
            mask_BM: True for real tokens.
        """
        match self.labels:
            case "number":
                return mse_loss(logits.squeeze(-1), labels)
            case "tokens":
                return cross_entropy(logits[mask_BM.bool()], labels, ignore_index=IGNORED)
            case "span":
                shut = logits.masked_fill(~mask_BM.bool().unsqueeze(-1), -torch.inf)
                ends = labels.reshape(-1, 2)
                first, last = (cross_entropy(shut[..., n], ends[:, n]) for n in range(2))
                return (first + last) / 2
            case _:
                return cross_entropy(logits, labels)

    def rows_shape(self, lengths: Sequence[int], classes: int) -> tuple[int, int]:
        """Return the shape of `rows` for a batch of these lengths."""
        return sum(lengths) if self.per_token else len(lengths), classes

    def rows(self, logits: Tensor, mask_BM: Tensor) -> Tensor:
        """Return logits without padding, (B, C) or (T, C). Differentiable."""
        return logits[mask_BM.bool()] if self.per_token else logits

    def verdict_shape(
        self, lengths: Sequence[int], classes: int, *, labelled: bool
    ) -> tuple[int, ...]:
        """Return the shape of `verdict` for a batch of these lengths."""
        if self.next_token:
            return (sum(lengths),) if labelled else (len(lengths), classes)
        return self.rows_shape(lengths, classes)

    def verdict(self, logits: Tensor, mask_BM: Tensor, labels: Tensor | None) -> Tensor:
        """Return what an evaluation of a batch gives.

        Args:
            logits: as in the table at the head of this file.
            mask_BM: True for real tokens; padding is on the right.
            labels: of a causal language model, flat, or None.

        Returns:
            Logits (B, C), or (T, C) of every real token; of a causal language model without labels
            those after each last token (B, C), with labels the losses of all tokens (T,).
        """
        if not self.next_token:
            return self.rows(logits, mask_BM)
        if labels is None:
            rows = torch.arange(len(logits), device=logits.device)
            return logits[rows, mask_BM.long().sum(dim=1) - 1]
        return self.token_losses(logits[mask_BM.bool()], labels)

    def token_losses(self, rows_TC: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each token, (T,), 0 where it has no label."""
        there = labels.to(rows_TC.device)
        return cross_entropy(rows_TC, there, ignore_index=IGNORED, reduction="none")


HEAD_TABLE = {
    "sequence-classification": Head(auto_class="AutoModelForSequenceClassification"),
    "regression": Head(auto_class="AutoModelForSequenceClassification", labels="number"),
    "token-classification": Head(auto_class="AutoModelForTokenClassification", labels="tokens"),
    "question-answering": Head(auto_class="AutoModelForQuestionAnswering", labels="span"),
    "causal-lm": Head(auto_class="AutoModelForCausalLM", labels="tokens", next_token=True),
    "image-classification": Head(auto_class="AutoModelForImageClassification"),
}
"""Name of a head -> what it computes; the names are `sft_common.config.HEADS`."""


EVERY_ROW = Head(auto_class="", labels="tokens")
"""A frozen body's end: a row for each token, as logits per token are."""

FIRST_ROW = Head(auto_class="")
"""The same where the tail reads the first token alone: a row for each example."""


def answer_of(spec: SessionSpec, shape: ModelShape) -> tuple[Head, int]:
    """Return what a session's forward passes answer with, and how many numbers a row of it has."""
    if spec.tail is None:
        return HEAD_TABLE[spec.head], spec.num_labels
    width = spec.tail.split.wire_width(shape)
    return (FIRST_ROW if spec.tail.first_row else EVERY_ROW), width


def meta_model(config: PretrainedConfig, head: str) -> Any:
    """Return the whole stock model with a head, float32, without memory for its numbers.

    A configuration may ask for half precision, that of its file; training needs float32 weights.

    Raises:
        ModelError: the family has no such head, or the configuration's numbers do not fit together.
    """
    auto = getattr(transformers, HEAD_TABLE[head].auto_class)
    lacking = head == "causal-lm" and not FAMILIES[config.model_type].causal
    if lacking or type(config) not in auto._model_mapping:
        raise ModelError(f"models of family {config.model_type!r} have no {head} head")
    own = copy.deepcopy(config)  # halves change a few fields
    own.use_cache = False
    try:
        with torch.device("meta"):
            return auto.from_config(own, dtype=torch.float32, trust_remote_code=False)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, ImportError) as error:
        raise ModelError(f"config.json describes no model: {first_line(error)}") from error


def fixed_classes(config: Any, head: str) -> int | None:
    """Return C where the task has no say: two ends of a span, or the vocabulary."""
    if HEAD_TABLE[head].next_token:
        return int(config.vocab_size)
    return 2 if HEAD_TABLE[head].labels == "span" else None


def classes_of(config: Any, head: str) -> int:
    """Return C of a model with a head."""
    return fixed_classes(config, head) or int(config.num_labels)


def head_of(model: nn.Module) -> str:
    """Return which of `HEADS` a stock model ends in.

    Raises:
        ConfigError: none of them.
    """
    config: Any = getattr(model, "config", None)
    for name in HEAD_TABLE:
        classes = getattr(transformers, HEAD_TABLE[name].auto_class)._model_mapping
        known = type(config) in classes and classes[type(config)]
        if name != "regression" and known and isinstance(model, known):
            regression = name == "sequence-classification" and config.num_labels == 1
            return "regression" if regression else name
    raise ConfigError(
        f"a {type(model).__name__} cannot be split; it must be a transformers model that ends in "
        f"one of: {', '.join(HEAD_TABLE)}"
    )


def logits_of(output: Any) -> Tensor:
    """Return the logits of a stock model's output; those of a span are put side by side."""
    if hasattr(output, "start_logits"):
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    logits: Tensor = output.logits
    return logits
