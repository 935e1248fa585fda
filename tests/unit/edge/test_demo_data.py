"""The embedded data set is what its README says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sft_edge.tasks.demo import compose

FOLDER = Path(compose.__file__).parent
PARTS = ("train", "validation")


def rows(part: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / f"{part}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "words",
    [CountVectorizer(), CountVectorizer(ngram_range=(1, 2)), TfidfVectorizer()],
    ids=["words", "word pairs", "weighted words"],
)
def test_a_bag_of_words_does_not_solve_it(words: Any) -> None:
    train, validation = (rows(part) for part in PARTS)
    model = make_pipeline(words, LogisticRegression(max_iter=1000))
    model.fit([row["sentence"] for row in train], [row["label"] for row in train])
    texts, labels = zip(*((row["sentence"], row["label"]) for row in validation), strict=True)
    assert model.score(texts, labels) <= 0.70


def test_size_balance_and_kinds() -> None:
    parts = {part: rows(part) for part in PARTS}
    assert sum(map(len, parts.values())) >= 2400
    for part in parts.values():
        labels = Counter(row["label"] for row in part)
        assert set(labels) == {0, 1} and labels[0] == labels[1]
        kinds = Counter(row["kind"] for row in part)
        assert set(kinds) == {"plain", "contrast", "negation", "irony"}
        assert min(kinds.values()) >= 0.12 * len(part)
        assert max(len(row["sentence"].split()) for row in part) <= 40


def test_no_sentence_comes_twice() -> None:
    sentences = [row["sentence"].lower() for part in PARTS for row in rows(part)]
    assert len(set(sentences)) == len(sentences)


def test_validation_has_no_opinion_word_and_no_subject_of_training() -> None:
    train, validation = (compose.opinion_and_subject_words(part) for part in PARTS)
    assert len(train) > 300 and len(validation) > 300
    assert train.isdisjoint(validation)
    assert compose.leaks() == set()


def test_the_files_are_what_the_composer_writes(tmp_path: Path) -> None:
    for part in PARTS:
        fresh = compose.write(part, tmp_path)
        assert fresh.read_bytes() == (FOLDER / f"{part}.jsonl").read_bytes()
