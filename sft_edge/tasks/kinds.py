"""The kinds of tasks: for each its head, its examples and how it is scored.

Adding a kind is one class here and one in predicting.py; adding a task is one row in table.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sft_common.config import ModelShape
from sft_common.model.loading import Pretrained
from sft_common.model.tokenizer import check_length, load_tokenizer, padding_of
from sft_edge.tasks import images, language, questions, texts, words
from sft_edge.tasks.batches import Dataset
from sft_edge.tasks.checks import found_labels, require
from sft_edge.tasks.encoders import load_image_processor
from sft_edge.tasks.files import Row
from sft_edge.tasks.scoring import ClassScorer, LossScorer, NumberScorer, Scorer, TagScorer
from sft_edge.tasks.spans import windows_of
from sft_edge.tasks.table import Task


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What turns examples into inputs of one model."""

    tool: Any
    """A tokenizer, or an image processor."""

    max_length: int
    """Tokens of an example."""

    folder: Path | None = None
    """Of the data: paths in it are relative to this."""


class Part(NamedTuple):
    """One part of the data, ready."""

    data: Dataset
    scorer: Callable[[], Scorer]


class Kind(Protocol):
    """What a kind of task does."""

    head: str
    """What the model ends in, one of `sft_common.config.HEADS`."""

    classes: str
    """What has a class: "row", "word", or "" for nothing."""

    def labels(self, task: Task, rows: Sequence[Row]) -> tuple[str, ...]:
        """Return the classes that a training part names, () if the kind has none."""

    def part(self, task: Task, rows: Sequence[Row], encoder: Encoder) -> Part:
        """Return some rows as examples, with what scores them.

        Raises:
            DataError: a row is broken; names its place.
        """


class Text:
    """A text or a pair of texts with a class."""

    head, classes = "sequence-classification", "row"

    def labels(self, task: Task, rows: Sequence[Row]) -> tuple[str, ...]:
        """Return the classes of the label column."""
        for row in rows:
            require(task, row, *task.columns, task.label_column)
        return found_labels(task, (row.values[task.label_column] for row in rows))

    def part(self, task: Task, rows: Sequence[Row], encoder: Encoder) -> Part:
        """Return rows of tokens and a scorer of classes."""
        examples = texts.classified(task, rows)
        more = () if len(task.labels) != 2 else ("f1",)
        names = dict.fromkeys((task.metric, "accuracy", *more))
        data = texts.tokenized(examples, encoder.tool, encoder.max_length)
        return Part(data, lambda: ClassScorer(*names))


class Similarity:
    """A pair of texts with a number."""

    head, classes = "regression", ""

    def labels(self, task: Task, rows: Sequence[Row]) -> tuple[str, ...]:
        """Return none: there are no classes."""
        return ()

    def part(self, task: Task, rows: Sequence[Row], encoder: Encoder) -> Part:
        """Return rows of tokens and a scorer of numbers."""
        examples = texts.rated(task, rows)
        data = texts.tokenized(examples, encoder.tool, encoder.max_length, numbers=True)
        return Part(data, NumberScorer)


class Words:
    """Words with a tag each."""

    head, classes = "token-classification", "word"

    def labels(self, task: Task, rows: Sequence[Row]) -> tuple[str, ...]:
        """Return the tags of all words."""
        return found_labels(task, words.tags_of(task, rows))

    def part(self, task: Task, rows: Sequence[Row], encoder: Encoder) -> Part:
        """Return rows of tokens and a scorer of tags."""
        data = words.tokenized(words.tagged(task, rows), encoder.tool, encoder.max_length)
        return Part(data, lambda: TagScorer(task.labels))


class QuestionAnswering:
    """A question with its answer out of a context."""

    head, classes = "question-answering", ""

    def labels(self, task: Task, rows: Sequence[Row]) -> tuple[str, ...]:
        """Return none: the classes are the two ends of a span."""
        return ()

    def part(self, task: Task, rows: Sequence[Row], encoder: Encoder) -> Part:
        """Return windows of tokens and a scorer of answers."""
        asked = questions.read(task, rows)
        windows = windows_of(asked, encoder.tool, encoder.max_length)
        data = questions.tokenized(windows, encoder.tool)
        return Part(data, lambda: questions.AnswerScorer(asked, windows))


class Language:
    """Running text whose next token is to be predicted."""

    head, classes = "causal-lm", ""

    def labels(self, task: Task, rows: Sequence[Row]) -> tuple[str, ...]:
        """Return none: the classes are the vocabulary."""
        return ()

    def part(self, task: Task, rows: Sequence[Row], encoder: Encoder) -> Part:
        """Return rows of tokens and a scorer of their losses."""
        data = language.tokenized(language.read(task, rows), encoder.tool, encoder.max_length)
        return Part(data, LossScorer)


class Image:
    """An image with a class."""

    head, classes = "image-classification", "row"

    def labels(self, task: Task, rows: Sequence[Row]) -> tuple[str, ...]:
        """Return the classes of the label column."""
        for row in rows:
            require(task, row, *task.columns, task.label_column)
        return found_labels(task, (row.values[task.label_column] for row in rows))

    def part(self, task: Task, rows: Sequence[Row], encoder: Encoder) -> Part:
        """Return images and a scorer of classes."""
        data = images.prepare(task, rows, encoder.tool, encoder.max_length, encoder.folder)
        return Part(data, lambda: ClassScorer("accuracy"))


KINDS: dict[str, Kind] = {
    "text": Text(),
    "similarity": Similarity(),
    "question": QuestionAnswering(),
    "words": Words(),
    "language": Language(),
    "image": Image(),
}
"""Name of a kind -> what it does."""


def encoder_for(
    task: Task,
    model: Path,
    pretrained: Pretrained,
    shape: ModelShape,
    *,
    max_length: int | None,
    data: Path | None,
) -> Encoder:
    """Return what turns a task's examples into inputs of a model.

    Args:
        task: whose examples.
        model: the model's folder.
        pretrained: the same model, read.
        shape: its sizes.
        max_length: tokens of an example; None for the task's.
        data: folder of the data.

    Raises:
        ConfigError: the model does not take examples of that length.
        ModelError: the folder lacks the tokenizer or image processor.
    """
    if task.kind == "image":
        tool = load_image_processor(model, pretrained.config.image_size)
        return Encoder(tool=tool, max_length=shape.positions, folder=data)
    tokenizer = load_tokenizer(model, pretrained.config.vocab_size, words=task.kind == "words")
    pretrained.padding = padding_of(tokenizer)
    wanted = max_length or min(task.max_length, shape.positions)
    pairs = len(task.columns) == 2
    check_length(wanted, tokenizer, shape.positions, model=model.name, pairs=pairs)
    return Encoder(tool=tokenizer, max_length=wanted, folder=data)
