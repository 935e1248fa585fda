"""Metrics of the tasks, by scikit-learn, which is imported when the first one is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def accuracy(labels: Sequence[int], predictions: Sequence[int]) -> float:
    """Return the share of right predictions."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def matthews(labels: Sequence[int], predictions: Sequence[int]) -> float:
    """Return the Matthews correlation, -1 to 1; 0 if labels or predictions are all the same."""
    if len(set(labels)) < 2 or len(set(predictions)) < 2:
        return 0.0
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


METRICS: dict[str, Callable[[Sequence[int], Sequence[int]], float]] = {
    "accuracy": accuracy,
    "matthews": matthews,
}
"""Name -> function of (labels, predictions); 1 is perfect."""
