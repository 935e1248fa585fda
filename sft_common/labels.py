"""Labels of many examples, kept flat: a few bytes a label. Standard library only."""

from __future__ import annotations

from array import array
from collections.abc import Iterable


class FlatLabels:
    """The labels of examples, any number of them for each.

    Args:
        numbers: whether they are numbers (floats) instead of classes.
    """

    def __init__(self, *, numbers: bool) -> None:
        self.labels: array[float] | array[int] = array("d") if numbers else array("i")
        """Of all examples, one after another."""

        self.starts = array("q", [0])
        """Where those of each example begin; the last entry is the end of all."""

    def add(self, labels: Iterable[float]) -> None:
        """Append the labels of one example."""
        self.labels.extend(labels)  # type: ignore[arg-type]
        self.starts.append(len(self.labels))

    def of(self, examples: Iterable[int]) -> list[int] | list[float]:
        """Return the labels of the examples of these numbers, in a row."""
        spans = (slice(self.starts[n], self.starts[n + 1]) for n in examples)
        return [label for span in spans for label in self.labels[span]]
