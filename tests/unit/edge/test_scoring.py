"""Scores and metrics against values worked by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from torch import Tensor

from sft_common.model.heads import IGNORED
from sft_common.report.metrics import shown
from sft_edge.tasks.batches import Batch, Labels
from sft_edge.tasks.metrics import (
    METRICS,
    Entity,
    entities,
    entity_f1,
    pearson,
    spearman,
)
from sft_edge.tasks.scoring import ClassScorer, LossScorer, NumberScorer, TagScorer

TAGS = ("O", "B-PER", "I-PER", "B-LOC")
O, B, I, L = range(4)  # noqa: E741


def batch(labels: Labels, lengths: list[int] | None = None) -> Batch:
    return Batch(inputs={}, lengths=lengths or [1] * len(labels), labels=labels)


def odds(*of_class_1: float) -> Tensor:
    """Return logits of two classes, (B, 2), that give class 1 these odds to one."""
    return torch.tensor([[0.0, math.log(value)] for value in of_class_1])


def sure(*classes: int) -> Tensor:
    """Return logits (T, 4) that give each of these classes nearly all."""
    return torch.eye(len(TAGS))[list(classes)] * 40


# Classes


def test_classes_over_several_batches() -> None:
    # Predictions 1, 0, 1 | 1 for labels 1, 1, 0 | 1: 2 true and 1 false positive, 1 false negative.
    scorer = ClassScorer("matthews", "accuracy", "f1")
    scorer.add(batch([1, 1, 0]), odds(3, 1 / 3, 3))
    scorer.add(batch([1]), odds(4))
    score = scorer.score()
    assert list(score.metrics) == ["matthews", "accuracy", "f1"]
    assert score.metrics == pytest.approx(
        {
            "matthews": (2 * 0 - 1 * 1) / math.sqrt(3 * 3 * 1 * 1),
            "accuracy": 2 / 4,
            "f1": 2 * 2 / (2 * 2 + 1 + 1),
        }
    )
    # Probabilities of the right classes: 3/4, 1/4, 1/4, 4/5.
    assert score.loss == pytest.approx(-math.log(3 / 4 * 1 / 4 * 1 / 4 * 4 / 5) / 4)


@pytest.mark.parametrize("verdict", [odds(4), odds(1 / 4)])
def test_a_part_of_one_example_has_all_metrics(verdict: Tensor) -> None:
    for label in (0, 1):
        scorer = ClassScorer(*METRICS)
        scorer.add(batch([label]), verdict)
        assert all(0 <= value <= 1 for value in scorer.score().metrics.values())


# Numbers


def test_numbers_over_several_batches() -> None:
    # Ranks differ by 0, 1, 1, 0: spearman 1 - 6 * 2 / (4 * 15); so do the numbers, hence pearson.
    scorer = NumberScorer()
    scorer.add(batch([1.0, 2.0, 3.0]), torch.tensor([[1.0], [3.0], [2.0]]))
    scorer.add(batch([4.0]), torch.tensor([[4.0]]))
    score = scorer.score()
    assert list(score.metrics) == ["spearman", "pearson"]
    assert score.metrics == pytest.approx({"spearman": 0.8, "pearson": 0.8})
    assert score.loss == (0 + 1 + 1 + 0) / 4


def test_correlations_have_their_textbook_values() -> None:
    random = np.random.default_rng(0)
    numbers = random.integers(0, 6, 40).astype(float)  # with ties, as STS-B has
    predictions = numbers + random.normal(size=40)
    lists = (numbers.tolist(), predictions.tolist())
    assert pearson(*lists) == pytest.approx(np.corrcoef(numbers, predictions)[0, 1])
    ranks = (rankdata(numbers), rankdata(predictions))
    assert spearman(*lists) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert spearman([1, 2, 3], [-1, 5, 100]) == pytest.approx(1)
    assert pearson([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


@pytest.mark.parametrize("correlation", [spearman, pearson])
def test_a_constant_has_no_correlation(correlation: object) -> None:
    assert callable(correlation)
    assert correlation([1.0, 2.0], [3.0, 3.0]) == 0.0
    assert correlation([1.0, 1.0], [3.0, 4.0]) == 0.0
    assert correlation([1.0], [3.0]) == 0.0


# Tags


def test_entities_over_several_batches() -> None:
    """Each example stands by itself, and tokens without a label count nowhere."""
    scorer = TagScorer(TAGS)
    # [CLS] Ada Lovelace lives here [SEP] | [CLS] Paris [SEP]; the model loses the surname.
    scorer.add(
        batch([IGNORED, B, I, O, O, IGNORED, IGNORED, L, IGNORED], [6, 3]),
        sure(L, B, O, O, O, L, B, L, B),
    )
    # [CLS] with Bo [SEP], then [CLS] Al ##an came [SEP]: right. Read in a row, B I would be one.
    scorer.add(
        batch([IGNORED, O, B, IGNORED, IGNORED, I, IGNORED, O, IGNORED], [4, 5]),
        sure(O, O, B, B, I, I, B, O, O),
    )
    score = scorer.score()
    # Entities: Ada Lovelace, Paris, Bo, Alan; found: Ada, Paris, Bo, Alan. Three are right.
    assert score.metrics == pytest.approx({"f1": 2 * 3 / (4 + 4), "accuracy": 8 / 9})
    assert list(score.metrics) == ["f1", "accuracy"]
    # One of nine labelled tokens is 40 nats off.
    assert score.loss == pytest.approx(40 / 9)


def test_tags_that_make_up_no_entities_have_no_f1() -> None:
    scorer = TagScorer(("0", "1", "2", "3"))
    scorer.add(batch([0, 1, 1, 3], [4]), sure(0, 1, 2, 3))
    assert scorer.score().metrics == {"accuracy": 0.75}


# Losses


def test_perplexity_over_several_batches() -> None:
    scorer = LossScorer()
    scorer.add(batch([7, 8, IGNORED], [3]), torch.tensor([1.0, 2.0, 0.0]))
    scorer.add(batch([9], [1]), torch.tensor([6.0]))
    score = scorer.score()
    assert score.loss == pytest.approx(3.0)  # 1 + 2 + 6 over three labelled tokens
    assert score.metrics == pytest.approx({"perplexity": math.exp(3)})


def test_a_perplexity_beyond_all_floats_can_still_be_written() -> None:
    scorer = LossScorer()
    scorer.add(batch([1, 2], [2]), torch.tensor([700.0, 900.0]))
    json.dumps(scorer.score().metrics, allow_nan=False)


# Entities


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER I-PER", [("PER", 0, 2)]),  # up to the end
        ("B-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
        ("I-PER I-PER I-LOC", [("PER", 0, 2), ("LOC", 2, 3)]),  # CoNLL-2003 as it was published
        ("I-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("B-PER O I-PER", [("PER", 0, 1), ("PER", 2, 3)]),
        ("B-a-b I-a-b I-b", [("a-b", 0, 2), ("b", 2, 3)]),  # a kind may hold a hyphen
        ("NOUN NOUN VERB", [("NOUN", 0, 1), ("NOUN", 1, 2), ("VERB", 2, 3)]),
    ],
)
def test_where_entities_begin_and_end(tags: str, expected: list[Entity]) -> None:
    assert list(entities(tags.split())) == expected


@pytest.mark.parametrize(
    ("labels", "predictions", "expected"),
    [
        ("B-PER I-PER O B-LOC", "B-PER I-PER O B-LOC", 1.0),
        ("B-PER I-PER O B-LOC", "B-PER I-PER O B-PER", 2 * 1 / (2 + 2)),  # another kind
        ("B-PER I-PER O O", "B-PER O O O", 0.0),  # another end
        ("O I-PER O O", "I-PER I-PER O O", 0.0),  # another start
        ("B-PER I-PER O B-LOC", "I-PER I-PER B-LOC B-LOC", 2 * 2 / (2 + 3)),  # one too many
        ("O O", "O O", 1.0),
        ("O O", "O B-PER", 0.0),
        ("O B-PER", "O O", 0.0),
    ],
)
def test_an_entity_is_right_as_a_whole_or_not_at_all(
    labels: str, predictions: str, expected: float
) -> None:
    assert entity_f1([labels.split()], [predictions.split()]) == pytest.approx(expected)


def test_entities_of_different_sentences_are_different() -> None:
    assert entity_f1([["B-PER"], ["O"]], [["O"], ["B-PER"]]) == 0.0
    # 2 of 3 are right, and 2 of the 2 found: 2 * 2 / (3 + 2).
    labels = [["B-PER", "O"], ["B-PER", "B-LOC"]]
    assert entity_f1(labels, [["B-PER", "O"], ["O", "B-LOC"]]) == pytest.approx(4 / 5)


SEQUENCES = st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "X"]))


@given(SEQUENCES)
def test_every_tag_but_o_is_in_just_one_entity(tags: list[str]) -> None:
    covered = [at for _, start, end in entities(tags) for at in range(start, end)]
    assert covered == [at for at, tag in enumerate(tags) if tag != "O"]
    assert entity_f1([tags], [tags]) == 1.0


# What people read


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("accuracy", 0.91342, "91.34 %"),
        ("spearman", -0.5, "-50.00 %"),
        ("f1", 1.0, "100.00 %"),
        ("perplexity", 12345.6789, "12,345.679"),
        ("perplexity_other", 2.0, "2.000"),
    ],
)
def test_metrics_as_people_read_them(name: str, value: float, expected: str) -> None:
    assert shown(name, value) == expected
