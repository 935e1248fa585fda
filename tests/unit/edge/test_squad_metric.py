"""Exact match and F1 as the official evaluation of SQuAD v1.1 computes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_edge.tasks.squad_metric import exact_match, f1, squad_scores

TEXT = st.lists(
    st.sampled_from(["cat", "dog", "a", "The", "an", "U.S.", "é", "–", "...", "24–10", "🐈"])
).map(" ".join)


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        ("Denver Broncos", "denver  broncos\n"),
        ("the Denver Broncos.", "Denver Broncos"),
        ("U.S.", "us"),
        ("$10,000", "10000"),
        ("snake_case", "snakecase"),  # the underscore is punctuation
        ("the-end", "theend"),  # punctuation goes before articles do
        ("an a the", "..."),  # nothing is left of either
        ("non\u00a0breaking", "non breaking"),
        ("a\u0301", "\u0301"),  # a combining mark is no letter, so its letter is an article
    ],
)
def test_case_punctuation_articles_and_white_space_do_not_count(
    prediction: str, answer: str
) -> None:
    assert exact_match(prediction, [answer]) == exact_match(answer, [prediction]) == 1.0


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        ("theatre", "atre"),  # articles are whole words
        ("“cat”", "cat"),  # only ASCII punctuation goes
        ("24–10", "24-10"),  # "24–10" and "2410"
        ("cat", "cats"),
        ("cafe\u0301", "caf\u00e9"),  # no Unicode normalisation
        ("", "cat"),
    ],
)
def test_everything_else_counts(prediction: str, answer: str) -> None:
    assert exact_match(prediction, [answer]) == exact_match(answer, [prediction]) == 0.0


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        # big cat sat / cat sat on: 2 common, precision 2/3, recall 2/3
        ("The big cat sat", "a cat, sat on", 2 / 3),
        # 1 common of 3 predicted and 1 given: 2 * 1/3 * 1 / (1/3 + 1) = 1/2
        ("so so so", "so", 1 / 2),
        # so and never once each: precision 2/3, recall 2/3
        ("so so never", "so never never", 2 / 3),
        # 1 common of 4 predicted and 1 given: 2 * 1/4 / (1/4 + 1) = 2/5
        ("in the year 1999 AD", "1999", 2 / 5),
        ("on sat cat", "cat sat on", 1.0),  # order does not count
        ("cat", "dog", 0.0),
        ("", "cat", 0.0),
        ("the", "a", 0.0),  # exact match is 1 here, but no word is common
        ("", "", 0.0),
    ],
)
def test_f1_counts_common_words(prediction: str, answer: str, expected: float) -> None:
    assert f1(prediction, [answer]) == pytest.approx(expected, rel=1e-15)
    assert f1(answer, [prediction]) == pytest.approx(expected, rel=1e-15)


def test_the_most_favourable_answer_counts_and_questions_weigh_the_same() -> None:
    # First question: the first answer is exact, 1 and 1. Second: no answer is exact; F1 is 2/3 for
    # "dog" (precision 1/2, recall 1) and 2/5 for "very big cat" (1/2, 1/3). Means: 5/6 and 1/2.
    scores = squad_scores(["cat", "big dog"], [["the cat", "dog"], ["a very big cat", "Dog!"]])
    assert scores == {"f1": pytest.approx(5 / 6), "exact_match": 0.5}


@given(TEXT, TEXT)
def test_scores_lie_between_0_and_1_and_agree_where_words_do(one: str, other: str) -> None:
    scores = squad_scores([one], [[other]])
    assert 0.0 <= scores["f1"] <= 1.0
    assert scores["exact_match"] in (0.0, 1.0)
    if scores["exact_match"] and scores["f1"] != 1.0:
        assert f1(one, [one]) == 0.0  # no words at all
    assert squad_scores([one], [[other, one]])["exact_match"] == 1.0


@pytest.mark.parametrize(
    ("predictions", "answers", "message"),
    [
        ([], [], "0 predictions for 0 questions"),
        (["cat"], [["cat"], ["dog"]], "1 predictions for 2 questions"),
        (["cat"], [[]], "no answer to compare with"),
    ],
)
def test_nothing_to_compare_is_refused(
    predictions: list[str], answers: list[list[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        squad_scores(predictions, answers)
