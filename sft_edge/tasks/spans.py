"""Questions -> windows of tokens, and scores of those windows -> answers.

Extractive question answering after SQuAD v1.1: every answer is a piece of its context. It knows
the tokenizer, not the model and not the metric.

Legend: M tokens of one window, K candidates for its first or last token.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sft_common.errors import ConfigError, ModelError

_TOKENIZED_AT_ONCE = 500

Span = tuple[int, int]
"""First character and the one after the last."""

Offsets = tuple[Span | None, ...]
"""For each token the characters of the context that it covers; None for one of another origin."""


class Question(NamedTuple):
    """One question about one context, with the answers that people gave."""

    id: str
    question: str
    context: str

    answers: tuple[str, ...]
    """Each a piece of the context; empty if nobody answered."""

    starts: tuple[int, ...]
    """Character of the context at which each answer starts."""


class Window(NamedTuple):
    """As much of a context as fits behind its question: M tokens, not padded."""

    question: int
    """Which of the questions, from 0."""

    columns: dict[str, list[int]]
    """Inputs of the model by name, M numbers each, without `attention_mask`."""

    start: int
    """First token of the answer; 0 if this window does not hold the whole answer."""

    end: int
    """Last token of the answer, itself included; 0 likewise."""

    offsets: Offsets
    """Where the tokens stand in the context, M entries."""


class _Asked(NamedTuple):
    """A question as it goes into the tokenizer."""

    row: int
    text: str
    overlap: int


def windows_of(
    questions: Sequence[Question],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    stride: int = 128,
) -> list[Window]:
    """Return the windows of all questions in order, sliding as in BERT's recipe for SQuAD.

    A window is the question, then a piece of its context. A question may take half of the room
    and loses its end beyond that. The first answer is the one to learn.

    Args:
        questions: with their contexts.
        tokenizer: of the model; a fast one, which knows the place of each token in the text.
        max_length: tokens of a window, M at most.
        stride: context tokens that two neighbouring windows share; fewer where they would fill
            more than three quarters of the room behind the question, so that windows advance.

    Raises:
        ModelError: the tokenizer is a slow one.
        ConfigError: max_length leaves no room beside the special tokens.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(
            f"{type(tokenizer).__name__} does not tell the place of a token in its text; question "
            "answering needs a model with a fast tokenizer (tokenizer.json)"
        )
    special = tokenizer.num_special_tokens_to_add(pair=True)
    if max_length <= special:
        raise ConfigError(
            f"max_length {max_length} leaves no room beside {special} special tokens; "
            f"give at least {special + 1}"
        )
    windows: list[Window] = []
    for first in range(0, len(questions), _TOKENIZED_AT_ONCE):
        rows = range(first, min(first + _TOKENIZED_AT_ONCE, len(questions)))
        texts = [questions[row].question.lstrip() for row in rows]
        asked = _asked(rows, texts, tokenizer, max_length - special, stride)
        # One call of the tokenizer takes one stride; almost always all questions share it.
        for _, group in groupby(asked, key=lambda one: one.overlap):
            windows.extend(_cut(questions, list(group), tokenizer, max_length))
    return windows


def _asked(
    rows: range, texts: list[str], tokenizer: PreTrainedTokenizerFast, room: int, stride: int
) -> Iterator[_Asked]:
    all_ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    for row, text, ids in zip(rows, texts, all_ids, strict=True):
        length = len(ids)
        if length > room // 2:
            text, length = _shortened(text, tokenizer, room // 2)
        yield _Asked(row, text, min(stride, 3 * (room - length) // 4))


def _shortened(text: str, tokenizer: PreTrainedTokenizerFast, most: int) -> tuple[str, int]:
    """Return the beginning of a text that has at most so many tokens, and how many it has."""
    while True:
        encoded = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        offsets = encoded["offset_mapping"]
        if len(offsets) <= most:
            return text, len(offsets)
        # The shorter text may fall into other tokens, and more of them, hence the loop.
        text = text[: min(offsets[most][0], len(text) - 1)]


def _cut(
    questions: Sequence[Question],
    asked: list[_Asked],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
) -> Iterator[Window]:
    encoded = tokenizer(
        [one.text for one in asked],
        [questions[one.row].context for one in asked],
        truncation="only_second",
        max_length=max_length,
        stride=asked[0].overlap,
        padding=False,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    names = [name for name in tokenizer.model_input_names if name != "attention_mask"]
    samples: list[int] = encoded["overflow_to_sample_mapping"]
    shared: dict[Span, Span] = {}  # one object for all windows and questions of a context
    for sample, numbers in groupby(range(len(samples)), key=samples.__getitem__):
        row = asked[sample].row
        pieces = {number: _offsets(encoded, number, shared) for number in numbers}
        ends = _answer_ends(questions[row], pieces.values())
        for number, offsets in pieces.items():
            columns = {name: encoded[name][number] for name in names}
            yield Window(row, columns, *_answer_tokens(ends, offsets), offsets)


def _offsets(encoded: BatchEncoding, number: int, shared: dict[Span, Span]) -> Offsets:
    origins, spans = encoded.sequence_ids(number), encoded["offset_mapping"][number]
    return tuple(
        shared.setdefault(span, span) if origin == 1 else None
        for origin, span in zip(origins, spans, strict=True)
    )


def _answer_ends(question: Question, pieces: Iterable[Offsets]) -> tuple[Span, Span] | None:
    """Return the spans of the first and last token with a part of the first answer, if any."""
    if not question.answers:
        return None
    left = question.starts[0]
    right = left + len(question.answers[0])
    # By overlap: an answer may start or end within a token, or with a character that has none.
    spans = {span for offsets in pieces for span in offsets if span}
    touched = [span for span in spans if span[0] < right and left < span[1]]
    return (min(touched), max(touched)) if touched else None


def _answer_tokens(ends: tuple[Span, Span] | None, offsets: Offsets) -> tuple[int, int]:
    if ends is None or not set(ends) <= set(offsets):
        return 0, 0
    # The byte tokens of one character all have the same span.
    return offsets.index(ends[0]), len(offsets) - 1 - offsets[::-1].index(ends[1])


def best_answers(
    questions: Sequence[Question],
    windows: Sequence[Window],
    logits: Sequence[Tensor],
    *,
    n_best: int = 20,
    longest: int = 30,
) -> list[str]:
    """Return the best answer to each question over all its windows (Devlin et al. 2019, 4.2).

    The best answer has the highest sum of start and end score; of equal ones it is the earliest
    window's. "" if no two candidates make an answer. White space around an answer is dropped:
    some tokenizers count it to the word.

    Args:
        questions: all of them, in the order that the windows count them in.
        windows: of these questions.
        logits: for each window (M, 2), start and end score of every token, on the CPU.
        n_best: candidates K for the first and for the last token of each window.
        longest: tokens of an answer at most.
    """
    answers = [""] * len(questions)
    highest = [-math.inf] * len(questions)
    for window, logits_M2 in zip(windows, logits, strict=True):
        assert logits_M2.shape == (len(window.offsets), 2)
        score, span = _best_span(window, logits_M2.float(), n_best, longest)
        if score > highest[window.question]:
            highest[window.question] = score
            answers[window.question] = questions[window.question].context[slice(*span)].strip()
    return answers


def _best_span(window: Window, logits_M2: Tensor, n_best: int, longest: int) -> tuple[float, Span]:
    """Return the highest score of a window and its characters; -inf if there is no valid pair."""
    of_context_M = torch.tensor([span is not None for span in window.offsets])
    order_M2 = logits_M2.sort(dim=0, descending=True, stable=True).indices
    start_K1, end_K = order_M2[:n_best, :1], order_M2[:n_best, 1]
    fits_KK = (start_K1 <= end_K) & (end_K < start_K1 + longest)
    fits_KK &= of_context_M[start_K1] & of_context_M[end_K]
    sums_KK = logits_M2[start_K1, 0] + logits_M2[end_K, 1]
    sums_KK = sums_KK.masked_fill(~fits_KK, -math.inf)
    best_start, best_end = divmod(int(sums_KK.argmax()), len(end_K))
    first = window.offsets[int(start_K1[best_start])]
    last = window.offsets[int(end_K[best_end])]
    if first is None or last is None:
        return -math.inf, (0, 0)
    return float(sums_KK[best_start, best_end]), (first[0], last[1])
