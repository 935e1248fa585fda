"""Rows of data -> examples of each kind, and what is said of rows that do not fit."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import BertWordPieceTokenizer, Tokenizer, models, pre_tokenizers
from transformers import BertTokenizerFast, ByT5Tokenizer, PreTrainedTokenizerFast
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from sft_common.config import HEADS
from sft_common.errors import DataError, ModelError
from sft_common.model.heads import IGNORED
from sft_edge.cli import main
from sft_edge.tasks import language, questions, words
from sft_edge.tasks.batches import Batch, Dataset
from sft_edge.tasks.checks import MAX_CLASSES, class_of, found_labels, number_of
from sft_edge.tasks.data import read_rows_of
from sft_edge.tasks.files import Row
from sft_edge.tasks.kinds import KINDS, Encoder
from sft_edge.tasks.language import tokenized as running
from sft_edge.tasks.table import TASKS
from tests.models import WORDS
from tests.processes import write_rows

HUGE = 10**400
"""JSON may hold it, a float may not."""

PLACE = r"train\.jsonl:2: "
"""Where the second of some `rows` stands."""

CLASSES = TASKS["text-classification"].with_labels(("bad", "good"))
TAGGED = TASKS["token-classification"].with_labels(("O", "B-X", "I-X"))
RUNNING = TASKS["causal-lm"]
PICTURES = TASKS["image-classification"].with_labels(("cat", "dog"))


def rows(*values: dict[str, Any]) -> list[Row]:
    """Return rows as they would come out of the lines of a train.jsonl."""
    return [Row(f"train.jsonl:{number}", value) for number, value in enumerate(values, start=1)]


def whole(data: Dataset) -> Batch:
    """Return all examples as one batch."""
    return data.batch(range(len(data)))


def ids(batch: Batch) -> list[list[int]]:
    """Return the real tokens of each example."""
    pairs = zip(batch.inputs["input_ids"].tolist(), batch.lengths, strict=True)
    return [row[:length] for row, length in pairs]


@pytest.fixture(scope="module")
def word_pieces() -> PreTrainedTokenizerFast:
    """[CLS] words [SEP]; "rooms", "finest" and "finely" are two pieces each, "unfinest" three."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "##st", "##ly", "un"]
    table = {piece: number for number, piece in enumerate([*pieces, "##fine", "fine"])}
    backend = BertWordPieceTokenizer(table, lowercase=True)
    return BertTokenizerFast(tokenizer_object=backend._tokenizer)


@pytest.fixture(scope="module")
def letters() -> PreTrainedTokenizerFast:
    """One token for each letter a to z, 0 to 25, nothing around them; 26 ends a text."""
    table = {chr(ord("a") + number): number for number in range(26)} | {"<end>": 26, "Ġ": 27}
    backend = Tokenizer(models.BPE(table, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<end>",
        model_input_names=["input_ids", "attention_mask"],
    )


# Texts


def test_pairs_of_textswith_their_classes(word_pieces: PreTrainedTokenizerFast) -> None:
    task = dataclasses.replace(CLASSES, columns=("a", "b"), label_column="kind")
    some = rows(
        {"a": "tea", "b": "the room", "kind": "good"}, {"b": "rooms", "a": "a bus", "kind": "bad"}
    )
    part = KINDS["text"].part(task, some, Encoder(tool=word_pieces, max_length=9))
    batch = whole(part.data)
    assert [word_pieces.decode(row) for row in ids(batch)] == [
        "[CLS] tea [SEP] the room [SEP]",
        "[CLS] a bus [SEP] rooms [SEP]",
    ]
    assert batch.inputs["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 0], [0] * 4 + [1] * 3]
    assert (batch.lengths, batch.labels) == ([6, 7], [1, 0])


def test_textsare_cut_off_at_the_longest(word_pieces: PreTrainedTokenizerFast) -> None:
    some = rows({"text": "the room was quiet", "label": "good"}, {"text": "tea", "label": "bad"})
    part = KINDS["text"].part(CLASSES, some, Encoder(tool=word_pieces, max_length=4))
    assert [word_pieces.decode(row) for row in ids(whole(part.data))] == [
        "[CLS] the room [SEP]",
        "[CLS] tea [SEP]",
    ]


def test_numbers_stay_numbers(word_pieces: PreTrainedTokenizerFast) -> None:
    some = rows(
        *({"sentence1": "tea", "sentence2": "food", "label": n} for n in (3.75, 5, "0.5", "1e-1"))
    )
    part = KINDS["similarity"].part(TASKS["stsb"], some, Encoder(tool=word_pieces, max_length=9))
    assert whole(part.data).labels == [3.75, 5.0, 0.5, 0.1]


@pytest.mark.parametrize(
    "value", ["four", "", True, [1], "nan", "inf", pytest.param(HUGE, id="huge")]
)
def test_what_is_no_number_is_named(value: object) -> None:
    some = rows({"label": 1}, {"label": value})
    with pytest.raises(DataError, match=PLACE + r"column 'label' holds .*, not a number"):
        number_of(some[1], "label")


# Classes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2, 0, 0], ("0", "1", "2")),
        (["2", "0"], ("0", "1", "2")),
        (["10", "9"], tuple(map(str, range(11)))),
        (["good", "bad", "good"], ("bad", "good")),
        (["1", "one"], ("1", "one")),
        ([" good", "bad "], ("bad", "good")),  # as hand-made .csv files have it
        ([True, False], ("False", "True")),
        ([0.0, 1.0], ("0.0", "1.0")),
        ([-1, 1], ("-1", "1")),
        ([1, 2, "x"], ("1", "2", "x")),
    ],
)
def test_classes_that_labels_name(values: list[Any], expected: tuple[str, ...]) -> None:
    """What a label is called is the class that it becomes."""
    task = TASKS["text-classification"]
    labels = found_labels(task, values)
    assert labels == expected
    known = task.with_labels(labels)
    numbers = [class_of(known, rows({})[0], value) for value in values]
    assert [labels[number] for number in numbers] == [str(value).strip() for value in values]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 1], "has 1 different labels; a task needs 2 to 10000; is it the right --label-column"),
        (map(str, range(MAX_CLASSES + 1)), "has 10001 different labels"),
        ([0, 20_000], "has label 20000; numbered classes go from 0 to at most 9999"),
    ],
)
def test_labels_that_are_no_classes(values: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"column 'label' of the training part {message}"):
        found_labels(TASKS["text-classification"], values)


@pytest.mark.parametrize("name", ["text", "words", "image"])
def test_classes_come_from_the_training_part(tmp_path: Path, name: str) -> None:
    """A class that only the validation part has is refused where it stands."""
    task = {"text": CLASSES, "words": TAGGED, "image": PICTURES}[name].with_labels(())
    wrap = {"text": str, "words": lambda label: [label], "image": str}[name]
    content = {"text": "tea", "words": ["tea"], "image": [[0]]}[name]

    def row(label: str) -> dict[str, Any]:
        return {task.columns[0]: content, task.label_column: wrap(label)}

    write_rows(tmp_path, [row("b"), row("a")], [row("a"), row("c")])
    read = read_rows_of(task, tmp_path, train_limit=None, eval_limit=None)
    assert read.task.labels == ("a", "b")
    part = partial(KINDS[task.kind].part, read.task, read.validation[""])
    with pytest.raises(
        DataError, match=r"validation\.jsonl:2: label 'c' is none of .*\(0 a, 1 b\)"
    ):
        part(Encoder(tool=None, max_length=9))


def test_mnli_has_two_validation_parts(tmp_path: Path) -> None:
    for part, label in (("train", 0), ("validation_matched", 1), ("validation_mismatched", 2)):
        row = {"premise": part, "hypothesis": "tea", "label": label}
        (tmp_path / f"{part}.jsonl").write_text(json.dumps(row))
    read = read_rows_of(TASKS["mnli"], tmp_path, train_limit=None, eval_limit=None)
    found = {suffix: part[0].values["label"] for suffix, part in read.validation.items()}
    assert found == {"": 1, "_mismatched": 2}


# Words


def tagged(*sentences: tuple[object, object]) -> list[words.Sentence]:
    return words.tagged(TAGGED, rows(*({"tokens": w, "tags": t} for w, t in sentences)))


def test_the_first_piece_of_a_word_has_its_tag(word_pieces: PreTrainedTokenizerFast) -> None:
    #                    [CLS] the un ##fine ##st room ##s room [SEP]
    sentence = (["the", "unfinest", "rooms", "room"], ["O", "B-X", "I-X", "O"])
    batch = whole(words.tokenized(tagged(sentence, (["tea"], ["B-X"])), word_pieces, 20))
    pieces = word_pieces.convert_ids_to_tokens(ids(batch)[0])
    assert pieces == ["[CLS]", "the", "un", "##fine", "##st", "room", "##s", "room", "[SEP]"]
    assert batch.labels[:9] == [IGNORED, 0, 1, IGNORED, IGNORED, 2, IGNORED, 0, IGNORED]
    assert batch.labels[9:] == [IGNORED, 1, IGNORED]
    assert batch.lengths == [9, 3]


@pytest.mark.parametrize(
    ("longest", "expected"),
    [
        (9, [IGNORED, 0, 1, IGNORED, IGNORED, 2, IGNORED, 0, IGNORED]),
        (8, [IGNORED, 0, 1, IGNORED, IGNORED, 2, IGNORED, IGNORED]),
        (7, [IGNORED, 0, 1, IGNORED, IGNORED, 2, IGNORED]),  # the word's second piece is cut off
        (3, [IGNORED, 0, IGNORED]),
    ],
)
def test_words_beyond_the_longest_lose_their_tags(
    word_pieces: PreTrainedTokenizerFast, longest: int, expected: list[int]
) -> None:
    sentence = (["the", "unfinest", "rooms", "room"], ["O", "B-X", "I-X", "O"])
    batch = whole(words.tokenized(tagged(sentence), word_pieces, longest))
    assert batch.labels == expected
    assert batch.lengths == [len(expected)]


def test_words_of_a_tokenizer_without_special_tokens(letters: PreTrainedTokenizerFast) -> None:
    sentences = tagged((["ab", "c", "c"], ["B-X", "O", "I-X"]))
    assert whole(words.tokenized(sentences, letters, 9)).labels == [1, IGNORED, 0, 2]


def test_sentences_without_a_labelled_token_are_left_out(
    word_pieces: PreTrainedTokenizerFast,
) -> None:
    """No word, or words that are no token: here one that consists of a mark of direction."""
    sentences = tagged(([], []), (["tea"], ["O"]), (["\u200e"], ["B-X"]))
    assert len(words.tokenized(sentences, word_pieces, 9)) == 1


def test_words_may_be_a_text_with_spaces() -> None:
    assert tagged(("the quiet  room", "O B-X I-X")) == [(["the", "quiet", "room"], [0, 1, 2])]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"tokens": ["tea"]}, "column 'tags' is missing; task token-classification needs tokens"),
        ({"words": ["tea"], "tags": [0]}, r"column 'tokens' is missing; .*\(found: words, tags\)"),
        (
            {"tokens": ["tea", "bus"], "tags": ["O"]},
            "2 words in column 'tokens', but 1 tags in 'ta",
        ),
        ({"tokens": ["tea"], "tags": [1]}, r"label '1' is none of those in .* \(0 O, 1 B-X"),
        ({"tokens": ["tea"], "tags": ["B-Y"]}, "label 'B-Y' is none of"),
        ({"tokens": ["tea"], "tags": [None]}, "label 'None' is none of"),
        ({"tokens": ["tea", 5], "tags": ["O", "O"]}, "column 'tokens' holds 5, not text"),
        ({"tokens": 5, "tags": [0]}, "column 'tokens' holds 5, not a list"),
        ({"tokens": ["tea"], "tags": {"a": 1}}, "column 'tags' holds {'a': 1}, not a list"),
    ],
)
def test_broken_rows_of_words(broken: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=PLACE + message):
        words.tagged(TAGGED, rows({"tokens": ["tea"], "tags": ["O"]}, broken))


def test_words_need_a_tokenizer_that_tells_them_apart() -> None:
    with pytest.raises(ModelError, match="needs a fast tokenizer"):
        words.tokenized([words.Sentence(["tea"], [0])], ByT5Tokenizer(), 9)


# Running text


A, B, C, D, E, END = 0, 1, 2, 3, 4, 26


def test_each_token_is_to_tell_the_next_also_that_of_the_next_row(
    letters: PreTrainedTokenizerFast,
) -> None:
    batch = whole(running(["abcd", "", "e"], letters, 3))
    assert ids(batch) == [[A, B, C], [D, END, END], [E, END]]
    assert batch.labels == [B, C, D, END, END, E, END, IGNORED]


def test_a_last_row_that_can_tell_nothing_is_left_out(letters: PreTrainedTokenizerFast) -> None:
    batch = whole(running(["abc"], letters, 3))  # and an end behind it
    assert (ids(batch), batch.labels) == ([[A, B, C]], [B, C, END])


def test_textsare_joined_if_there_is_no_token_for_their_end(
    word_pieces: PreTrainedTokenizerFast,
) -> None:
    batch = whole(running(["tea", "bus"], word_pieces, 8))
    assert word_pieces.decode(ids(batch)[0]) == "[CLS] tea [SEP] [CLS] bus [SEP]"
    assert batch.inputs["token_type_ids"].sum() == 0


@given(st.lists(st.text("abcde", max_size=9), min_size=2, max_size=6), st.integers(1, 9))
def test_labels_are_the_tokens_moved_by_one(
    letters: PreTrainedTokenizerFast, texts: list[str], longest: int
) -> None:
    data = running(texts, letters, longest)
    batch = whole(data)
    flat = [token for row in ids(batch) for token in row]
    assert batch.labels[: len(flat) - 1] == flat[1:]
    assert max(batch.lengths) <= longest
    tokens = sum(map(len, texts)) + len(texts)
    assert len(flat) == tokens - (tokens % longest == 1 or longest == 1)
    assert batch.labels[-1] == (IGNORED if len(flat) == tokens else END)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"sentence": "tea"}, "column 'text' is missing; task causal-lm needs text"),
        ({"text": ["tea"]}, r"column 'text' holds \['tea'\], not text"),
        ({"text": "half \ud800"}, "column 'text' holds 'half .*, not text"),
    ],
)
def test_broken_rows_of_running_text(broken: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=PLACE + message):
        language.read(RUNNING, rows({"text": "tea"}, broken))


def test_one_token_predicts_nothing(letters: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DataError, match="fewer than two tokens"):
        running([""], letters, 3)


# Questions


def question(**changes: Any) -> dict[str, Any]:
    return {
        **{"id": "q", "question": "what was quiet", "context": "the room was quiet"},
        **{"answers": {"text": ["the room", "room"], "answer_start": [0, 4]}},
        **changes,
    }


def test_questions_with_their_answers(word_pieces: PreTrainedTokenizerFast) -> None:
    later = question(answers={"text": ["quiet"], "answer_start": [13]})
    part = KINDS["question"].part(
        TASKS["squad"], rows(question(), later), Encoder(tool=word_pieces, max_length=20)
    )
    # [CLS] [UNK] was quiet [SEP] the room was quiet [SEP]: words 0 and 1 of the context, then 3.
    batch = whole(part.data)
    assert batch.labels == [5, 6, 8, 8]
    assert batch.lengths == [10, 10]
    (asked,) = questions.read(TASKS["squad"], rows(question()))
    assert (asked.id, asked.answers, asked.starts) == ("q", ("the room", "room"), (0, 4))


def test_a_perfect_verdict_scores_1(word_pieces: PreTrainedTokenizerFast) -> None:
    later = question(answers={"text": ["quiet"], "answer_start": [13]})
    part = KINDS["question"].part(
        TASKS["squad"], rows(question(), later), Encoder(tool=word_pieces, max_length=20)
    )
    scorer = part.scorer()
    for batch in part.data.in_order(1):
        verdict = torch.zeros(sum(batch.lengths), 2)
        verdict[batch.labels[0], 0] = verdict[batch.labels[1], 1] = 40.0
        scorer.add(batch, verdict)
    score = scorer.score()
    assert score.metrics == {"f1": 1.0, "exact_match": 1.0}
    assert score.loss == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": None}, "column 'question' is missing; task squad needs question, context"),
        ({"context": 5}, "column 'context' holds 5, not text"),
        (
            {"answers": {"text": ["room"], "answer_start": [5]}},
            "answer 'room' is not at character 5 of the context, where 'oom was quiet' stands",
        ),
        ({"answers": {"text": ["the"], "answer_start": [-18]}}, "answer 'the' is not at char"),
        ({"answers": {"text": [], "answer_start": []}}, "column 'answers' must hold lists of equ"),
        ({"answers": {"text": ["room", "a"], "answer_start": [4]}}, "column 'answers' must hold"),
        ({"answers": {"text": ["room"]}}, "column 'answers' must hold lists"),
        ({"answers": ["room"]}, "column 'answers' must hold lists"),
        ({"answers": "room"}, "column 'answers' must hold lists"),
        ({"answers": {"text": "room", "answer_start": 4}}, "column 'answers' must hold lists"),
        ({"answers": {"text": [5], "answer_start": [4]}}, "column 'answers' holds 5, not text"),
        ({"answers": {"text": ["room"], "answer_start": ["x"]}}, "column 'answers' must hold"),
        ({"answers": {"text": ["room"], "answer_start": [float("inf")]}}, "column 'answers' must"),
    ],
)
def test_broken_questions(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=PLACE + message):
        questions.read(TASKS["squad"], rows(question(), question(**changes)))


# Images


BLACK, GREY, WHITE = 0, 51, 255
TILE = [[BLACK, WHITE], [GREY, GREY]]


@pytest.fixture(scope="module")
def processor() -> ViTImageProcessorPil:
    """Leaves images of 2 x 2 as they are and maps 0..255 to -1..1."""
    return ViTImageProcessorPil(size={"height": 2, "width": 2})


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    memory = io.BytesIO()
    image.save(memory, kind)
    return memory.getvalue()


def tile() -> Image.Image:
    image = Image.new("L", (2, 2))
    image.putdata([number for row in TILE for number in row])
    return image


@pytest.mark.parametrize(
    "value",
    [
        TILE,
        [[float(number) for number in row] for row in TILE],
        [[[number] * 3 for number in row] for row in TILE],
        encoded(tile()),
        {"bytes": encoded(tile().convert("RGB"), "BMP"), "path": "elsewhere.bmp"},
        {"bytes": None, "path": "tile.png"},
        "tile.png",
        "deeper/tile.png",
    ],
)
def test_every_form_of_an_image_is_the_same_pixels(
    processor: ViTImageProcessorPil, tmp_path: Path, value: object
) -> None:
    (tmp_path / "deeper").mkdir()
    for name in ("tile.png", "deeper/tile.png"):
        (tmp_path / name).write_bytes(encoded(tile()))
    part = KINDS["image"].part(
        PICTURES,
        rows({"image": value, "label": "dog"}, {"image": [[WHITE]], "label": "cat"}),
        Encoder(tool=processor, max_length=5, folder=tmp_path),
    )
    batch = whole(part.data)
    pixels = batch.inputs["pixel_values"]
    assert pixels.shape == (2, 3, 2, 2)
    channel = torch.tensor([[-1.0, 1.0], [-0.6, -0.6]])
    torch.testing.assert_close(pixels[0], channel.expand(3, 2, 2), rtol=0, atol=1e-6)
    torch.testing.assert_close(pixels[1], torch.ones(3, 2, 2), rtol=0, atol=1e-6)
    assert (batch.labels, batch.lengths) == ([1, 0], [5, 5])


def test_grey_images_of_16_bits_keep_their_shades(processor: ViTImageProcessorPil) -> None:
    """Scanners and medical devices write them."""
    image = Image.new("I;16", (2, 2))
    for at, number in enumerate((0, 65535, 257 * GREY, 257 * GREY)):
        image.putpixel((at % 2, at // 2), number)
    encoder = Encoder(tool=processor, max_length=5)
    some = rows({"image": encoded(image), "label": "cat"})
    pixels = whole(KINDS["image"].part(PICTURES, some, encoder).data).inputs["pixel_values"]
    torch.testing.assert_close(pixels[0, 0], torch.tensor([[-1.0, 1.0], [-0.6, -0.6]]))


CANNOT = "cannot read the image"
NO_IMAGE = "column 'image' holds no image: numbers in 0..255 in lists of"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("absent.png", CANNOT),
        ("", CANNOT),
        ("no\0name.png", CANNOT),
        (b"", CANNOT),
        (b"no image", CANNOT),
        (encoded(tile())[:-30], CANNOT),
        (b"P6\n4\xff4\n255\n", CANNOT),  # Pillow raises a bare ValueError
        (5, "column 'image' holds '5', not an image"),
        ({"bytes": None, "path": None}, "column 'image' holds .*, not an image"),
        (None, "column 'image' is missing"),
        ([[0, 256]], NO_IMAGE),
        ([[0, -1]], NO_IMAGE),
        ([[0, 1], [0]], NO_IMAGE),
        ([[None]], NO_IMAGE),
        ([0, 1], NO_IMAGE),
        ([[[0, 1]]], NO_IMAGE),
        ([[]], NO_IMAGE),
        ([[HUGE]], NO_IMAGE),
    ],
)
def test_broken_images(
    processor: ViTImageProcessorPil, tmp_path: Path, value: object, message: str
) -> None:
    """They are found before the training begins, not in the middle of it."""
    some = rows({"image": TILE, "label": "cat"}, {"image": value, "label": "cat"})
    encoder = Encoder(tool=processor, max_length=5, folder=tmp_path)
    with pytest.raises(DataError, match=PLACE + message):
        KINDS["image"].part(PICTURES, some, encoder)


# The table, and what a person types


def test_every_task_has_a_kind_and_every_kind_a_head() -> None:
    assert {task.kind for task in TASKS.values()} == set(KINDS)
    assert {kind.head for kind in KINDS.values()} == set(HEADS)


@pytest.fixture
def refused(tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `sft-edge train` with some options; returns the one line it fails with."""

    def attempt(*arguments: object) -> str:
        with pytest.raises(SystemExit) as end:
            main(["train", "--quiet", "--server", "localhost:9", *map(str, arguments)])
        assert end.value.code == 1
        (message,) = capfd.readouterr().err.splitlines()
        return message.removeprefix("sft-edge: ")

    return attempt


@pytest.mark.parametrize("option", ["--text-column", "--label-column", "--image-column"])
def test_a_published_task_keeps_its_columns(refused: Callable[..., str], option: str) -> None:
    message = refused("--task", "rte", option, "mine")
    assert message == (
        "task rte has columns of its own (sentence1, sentence2, label); for others take one of: "
        "text-classification, token-classification, causal-lm, image-classification"
    )


@pytest.mark.parametrize(
    ("task", "columns", "most"),
    [("text-classification", "abc", 2), ("causal-lm", "ab", 1), ("image-classification", "ab", 1)],
)
def test_too_many_columns(refused: Callable[..., str], task: str, columns: str, most: int) -> None:
    options = [part for name in columns for part in ("--text-column", name)]
    named = f"{len(columns)} text columns ({', '.join(columns)})"
    message = refused("--task", task, "--data", "any", *options)
    assert message == f"{named}; task {task} takes {most}"


OWN = [name for name, task in TASKS.items() if task.hub is None and not task.shipped]


@pytest.mark.parametrize("task", OWN)
@pytest.mark.parametrize("named", [True, False])
def test_a_task_of_ones_own_data_needs_data(
    refused: Callable[..., str], tiny_model: Path, task: str, named: bool
) -> None:
    """Said at once, not after the task's own model was fetched from the hub."""
    options = ("--model", tiny_model) if named else ()
    assert refused("--task", task, *options) == (
        f"task {task} has no data of its own; give --data DIR with train and validation"
    )


def test_a_wrong_column_is_named_with_its_file_and_line(
    refused: Callable[..., str], tiny_model: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path, [{"text": "tea", "kind": 1}], [{"text": "tea", "kind": 1}])
    options = ("--model", tiny_model, "--data", data, "--task", "text-classification")
    message = refused(*options)
    assert message == (
        f"{data / 'train.jsonl'}:1: column 'label' is missing; task text-classification needs "
        "text, label (found: text, kind)"
    )
    assert "column 'sort' is missing" in refused(*options, "--label-column", "sort")
    assert "column 'body' is missing" in refused(*options, "--text-column", "body")
    assert "has 1 different labels" in refused(*options, "--label-column", "kind")
