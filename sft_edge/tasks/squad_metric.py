"""Exact match and F1 of extracted answers, as SQuAD v1.1 defines them. Standard library only.

Rajpurkar et al. 2016, section 6.1: answers are compared without case, ASCII punctuation, articles
and extra white space; of several given answers the most favourable one counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1.0 if the prediction is one of the answers, else 0.0.

    Raises:
        ValueError: there are no answers.
    """
    return _best(_equal, prediction, answers)


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the F1 of the words, each as often as it occurs, 0 to 1, for the nearest answer.

    0 if no word is common, also where neither side has a word left.

    Raises:
        ValueError: there are no answers.
    """
    return _best(_overlap, prediction, answers)


def squad_scores(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return "f1" and "exact_match" as means over all questions, 0 to 1.

    Args:
        predictions: one for each question.
        answers: the given ones of each question, one at least.

    Raises:
        ValueError: there are no questions, not as many predictions, or one without answers.
    """
    if not predictions or len(predictions) != len(answers):
        raise ValueError(
            f"{len(predictions)} predictions for {len(answers)} questions; "
            "give one for each question, and one question at least"
        )
    return {
        name: sum(map(score, predictions, answers)) / len(predictions)
        for name, score in (("f1", f1), ("exact_match", exact_match))
    }


def _best(score: Callable[[str, str], float], prediction: str, answers: Sequence[str]) -> float:
    if not answers:
        raise ValueError("a question has no answer to compare with; leave it out")
    return max(score(prediction, answer) for answer in answers)


def _equal(prediction: str, answer: str) -> float:
    return float(_words(prediction) == _words(answer))


def _overlap(prediction: str, answer: str) -> float:
    predicted, given = _words(prediction), _words(answer)
    common = (Counter(predicted) & Counter(given)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(given)
    return 2 * precision * recall / (precision + recall)


def _words(text: str) -> list[str]:
    # Punctuation goes first: it joins words ("the-end" is "theend", no article).
    bare = text.lower().translate(_PUNCTUATION)
    return _ARTICLES.sub(" ", bare).split()
