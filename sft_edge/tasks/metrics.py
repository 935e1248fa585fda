"""Metrics of the tasks, by scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sklearn.metrics import accuracy_score, matthews_corrcoef

METRICS: dict[str, Callable[[Sequence[int], Sequence[int]], float]] = {
    "accuracy": accuracy_score,
    "matthews": matthews_corrcoef,
}
"""Name -> function of (labels, predictions); 1 is perfect."""
