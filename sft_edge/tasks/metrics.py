"""Metrics of the tasks; scikit-learn and scipy are imported when the first one is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

Entity = tuple[str, int, int]
"""Kind, first token and the one after the last."""


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


def binary_f1(labels: Sequence[int], predictions: Sequence[int]) -> float:
    """Return the F1 of class 1 among two."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, zero_division=0.0))


def spearman(numbers: Sequence[float], predictions: Sequence[float]) -> float:
    """Return the rank correlation, -1 to 1; 0 if either side is constant."""
    if len(set(numbers)) < 2 or len(set(predictions)) < 2:
        return 0.0
    from scipy.stats import spearmanr

    return float(spearmanr(numbers, predictions).statistic)


def pearson(numbers: Sequence[float], predictions: Sequence[float]) -> float:
    """Return the linear correlation, -1 to 1; 0 if either side is constant."""
    if len(set(numbers)) < 2 or len(set(predictions)) < 2:
        return 0.0
    from scipy.stats import pearsonr

    return float(pearsonr(numbers, predictions).statistic)


def entity_f1(labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> float:
    """Return the F1 of whole entities over sequences of tags such as B-PER, I-PER, O.

    An entity counts if kind and both ends are right (CoNLL-2003). A tag without B- or I- is an
    entity of its own, except O. 1 if there are none on either side.
    """
    true = {(n, e) for n, tags in enumerate(labels) for e in entities(tags)}
    found = {(n, e) for n, tags in enumerate(predictions) for e in entities(tags)}
    if not true and not found:
        return 1.0
    return 2 * len(true & found) / (len(true) + len(found))


def entities(tags: Sequence[str]) -> Iterator[Entity]:
    """Yield the entities of a sequence of tags; an I- that continues nothing begins one."""
    kind, start = "", 0
    for at, tag in enumerate([*tags, "O"]):
        here = "" if tag == "O" else tag.removeprefix("B-").removeprefix("I-")
        if kind and not (tag.startswith("I-") and here == kind):
            yield kind, start, at
            kind = ""
        if here and not kind:
            kind, start = here, at


METRICS: dict[str, Callable[[Sequence[int], Sequence[int]], float]] = {
    "accuracy": accuracy,
    "matthews": matthews,
    "f1": binary_f1,
}
"""Metrics of classes: name -> function of (labels, predictions); 1 is perfect."""


def are_entities(tags: Sequence[str]) -> bool:
    """Return whether classes of words make up entities: whether any is like B-... or I-..."""
    return any(tag.startswith(("B-", "I-")) for tag in tags)
