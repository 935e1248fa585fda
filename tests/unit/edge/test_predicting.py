"""Lines that a person types, and what is made of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from sft_common.errors import DataError
from sft_common.model.tokenizer import load_tokenizer
from sft_edge.tasks.kinds import Encoder
from sft_edge.tasks.predicting import continuation_rows, continuation_set, predictor_for
from sft_edge.tasks.table import TASKS


@pytest.fixture
def encoder(tiny_model: Path) -> Encoder:
    return Encoder(tool=load_tokenizer(tiny_model, 64), max_length=6)


def test_a_text_is_gone_on_with_from_its_end(encoder: Encoder) -> None:
    """However long it is: the model sees the last tokens that it has room for."""
    rows = continuation_rows(["the a was is not good bad fine", "tea"], encoder)
    assert encoder.tool.decode(rows[0]) == "[CLS] the a was is not good bad fine"
    seen = continuation_set(rows, encoder)
    assert [encoder.tool.decode(row) for row in seen.batch([0]).inputs["input_ids"]] == [
        "was is not good bad fine"
    ]
    assert seen.lengths([0, 1]) == [6, 2]


def test_pairs_come_with_a_tab_and_are_counted(encoder: Encoder) -> None:
    predictor = predictor_for(TASKS["rte"], ["tea\tfood", "bus\troom"], encoder)
    assert len(predictor.data) == 2
    answers = predictor.answers([torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])])
    assert [answer.prediction for answer in answers] == ["entailment", "not_entailment"]
    assert answers[0].probability == pytest.approx(0.8808, abs=1e-4)
    with pytest.raises(DataError, match=r"line 2: task rte needs sentence1, sentence2, .* are 1"):
        predictor_for(TASKS["rte"], ["tea\tfood", "bus"], encoder)
    with pytest.raises(DataError, match="line 1: .* are 1"):
        predictor_for(TASKS["rte"], ["tea\t "], encoder)


def test_images_by_their_paths(tmp_path: Path) -> None:
    """Of one's own classes, which have names and no numbers."""
    Image.new("L", (4, 4), 255).save(tmp_path / "white.png")
    task = TASKS["image-classification"].with_labels(("cat", "dog"))
    processor = ViTImageProcessorPil(size={"height": 2, "width": 2})
    encoder = Encoder(tool=processor, max_length=5)
    predictor = predictor_for(task, [str(tmp_path / "white.png")], encoder)
    assert predictor.data.batch([0]).inputs["pixel_values"].tolist() == [[[[1.0] * 2] * 2] * 3]
    assert predictor.answers([torch.tensor([0.0, 9.0])])[0].prediction == "dog"
    with pytest.raises(DataError, match="absent.png: cannot read the image"):
        predictor_for(task, ["absent.png"], encoder)


def test_numbers_and_answers(encoder: Encoder) -> None:
    numbers = predictor_for(TASKS["stsb"], ["tea\tfood"], encoder).answers([torch.tensor([2.5])])
    assert numbers[0].prediction == 2.5
    asked = predictor_for(
        TASKS["squad"], ["is it\tthe quiet room"], dataclasses.replace(encoder, max_length=12)
    )
    (row,) = asked.data.batch([0]).inputs["input_ids"].tolist()
    scores = torch.zeros(len(row), 2)
    at = row.index(encoder.tool.convert_tokens_to_ids("quiet"))
    scores[at] = 9
    assert asked.answers([scores])[0].prediction == "quiet"
