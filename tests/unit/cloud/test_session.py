"""The order of requests and the sizes of what they carry."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sft_cloud.session import MAX_EXCHANGES, Session
from sft_common.config import ModelShape, OptimizerSpec, SplitSpec
from sft_common.errors import LimitError, ProtocolError
from sft_common.model.cuts import Decoder
from sft_common.position import Position
from sft_common.step_memory import memory_of, step_bytes
from sft_common.wire.codec import tensor_from_parts, tensor_to_parts
from sft_common.wire.encodings import ENCODING_TABLE
from tests.doubles import open_session
from tests.models import save_tiny_model

LENGTHS, LABELS = [3, 1], [0, 1]


@pytest.fixture
def session(tiny_model: Path) -> Session:
    return open_session(tiny_model, SplitSpec(split_layer=2, rank=4))[0]


def activation() -> torch.Tensor:
    return torch.randn(sum(LENGTHS), 4)


def test_steps_and_applies_alternate(session: Session) -> None:
    for number in (1, 2):
        loss, gradient = session.step(number, activation(), LENGTHS, LABELS)
        assert loss > 0 and gradient.shape == (4, 4)
        session.apply(number, 1e-3)
        assert session.applied == number
    assert session.evaluate(activation(), LENGTHS).shape == (2, 2)


def test_apply_changes_the_weights_once(session: Session) -> None:
    before = {name: w.clone() for name, w in session.weights().items()}
    session.step(1, activation(), LENGTHS, LABELS)
    assert all(torch.equal(before[name], w) for name, w in session.weights().items())
    session.apply(1, 1e-3)
    assert not all(torch.equal(before[name], w) for name, w in session.weights().items())


def test_a_step_out_of_order_is_refused(session: Session) -> None:
    with pytest.raises(ProtocolError, match="step 2 came, step 1 was expected"):
        session.step(2, activation(), LENGTHS, LABELS)
    session.step(1, activation(), LENGTHS, LABELS)
    with pytest.raises(ProtocolError, match="step 2 came before apply of step 1"):
        session.step(2, activation(), LENGTHS, LABELS)
    with pytest.raises(ProtocolError, match="evaluate came before apply of step 1"):
        session.evaluate(activation(), LENGTHS)
    session.apply(1, 1e-3)
    with pytest.raises(ProtocolError, match="step 1 came, step 2 was expected"):
        session.step(1, activation(), LENGTHS, LABELS)


def test_micro_batches_add_up_to_the_whole_step(tiny_model: Path) -> None:
    split = SplitSpec(split_layer=2, rank=4)
    # With its usual eps Adam makes a whole step of what is rounding alone.
    slow = OptimizerSpec(eps=1.0)
    whole, parted = (
        open_session(tiny_model, split, dropout=0.0, optimizer=slow)[0] for _ in range(2)
    )
    x_T4, lengths, labels = torch.randn(9, 4), [3, 1, 5], [0, 1, 1]
    loss, gradient = whole.step(1, x_T4, lengths, labels)
    first = parted.step(1, x_T4[:4], [3, 1], [0, 1], share=2 / 3)
    second = parted.step(1, x_T4[4:], [5], [1], exchange=1, share=1 / 3)
    torch.testing.assert_close(first[0] + second[0], loss, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.cat([first[1], second[1]]), gradient, atol=1e-6, rtol=1e-5)
    before = {name: weight.clone() for name, weight in whole.weights().items()}
    whole.apply(1, 1.0)
    parted.apply(1, 1.0, exchanges=2)
    assert any(not torch.equal(before[name], weight) for name, weight in whole.weights().items())
    for name, weight in whole.weights().items():
        torch.testing.assert_close(parted.weights()[name], weight, atol=1e-6, rtol=0)


def test_micro_batches_come_in_order(session: Session) -> None:
    expected = "exchange 1 of step 1 came, exchange 0 of step 1 was expected"
    with pytest.raises(ProtocolError, match=expected):
        session.step(1, activation(), LENGTHS, LABELS, exchange=1, share=0.5)
    session.step(1, activation(), LENGTHS, LABELS, share=0.5)
    for step, number in ((1, 2), (2, 1), (1, 7)):
        expected = f"exchange {number} of step {step} came, exchange 1 of step 1 was expected"
        with pytest.raises(ProtocolError, match=expected):
            session.step(step, activation(), LENGTHS, LABELS, exchange=number, share=0.5)
    with pytest.raises(ProtocolError, match="step 1 came before apply of step 1"):
        session.step(1, activation(), LENGTHS, LABELS, share=0.5)
    session.step(1, activation(), LENGTHS, LABELS, exchange=1, share=0.5)
    session.apply(1, 1e-3, exchanges=2)
    session.step(2, activation(), LENGTHS, LABELS)


@pytest.mark.parametrize(("exchanges", "share"), [(1, 0.5), (2, 1.0), (0, 1.0)])
def test_an_apply_of_half_a_step_is_refused(session: Session, exchanges: int, share: float) -> None:
    session.step(1, activation(), LENGTHS, LABELS, share=share)
    expected = f"is for {exchanges} exchanges, but 1 came, with {share:g} of the loss and 0 passes"
    with pytest.raises(ProtocolError, match=expected):
        session.apply(1, 1e-3, exchanges=exchanges)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, float("nan"), float("inf")])
def test_an_impossible_share_is_refused(session: Session, share: float) -> None:
    with pytest.raises(ProtocolError, match=f"has share {share}; over 0 up to 1 fit"):
        session.step(1, activation(), LENGTHS, LABELS, share=share)


def test_an_apply_out_of_order_is_refused(session: Session) -> None:
    with pytest.raises(ProtocolError, match="apply names step 1, but no step waits for it"):
        session.apply(1, 1e-3)
    session.step(1, activation(), LENGTHS, LABELS)
    with pytest.raises(ProtocolError, match="apply names step 2, but step 1 waits for it"):
        session.apply(2, 1e-3)
    session.apply(1, 1e-3)
    with pytest.raises(ProtocolError, match="apply names step 2, but no step waits"):
        session.apply(2, 1e-3)


def test_the_largest_numbers_that_fit_are_no_defect(tiny_model: Path) -> None:
    most = OptimizerSpec(eps=1e6, weight_decay=1e6)
    for optimizer in (most, OptimizerSpec(eps=1e-30, beta1=0.0, beta2=0.0)):
        session, _ = open_session(tiny_model, SplitSpec(split_layer=2, rank=4), optimizer=optimizer)
        session.step(1, activation(), LENGTHS, LABELS)
        session.apply(1, 1e6)


def test_an_apply_that_comes_again_changes_nothing(session: Session) -> None:
    session.step(1, activation(), LENGTHS, LABELS)
    session.apply(1, 1e-3)
    before = {name: w.clone() for name, w in session.weights().items()}
    session.apply(1, 1e-3)
    assert session.position == Position(1)
    assert all(torch.equal(before[name], w) for name, w in session.weights().items())
    session.step(2, activation(), LENGTHS, LABELS)
    session.apply(1, 1e-3)  # sent once more, together with step 2, by an edge that was cut off
    assert session.position == Position(1, 1)
    assert all(torch.equal(before[name], w) for name, w in session.weights().items())
    session.apply(2, 1e-3)
    with pytest.raises(ProtocolError, match="apply names step 1, but no step waits for it"):
        session.apply(1, 1e-3)


def test_a_step_has_no_more_exchanges_than_its_replies_have_places(session: Session) -> None:
    session._exchanges = MAX_EXCHANGES
    with pytest.raises(ProtocolError, match="step 1 has more than 2048 exchanges; choose few"):
        session.step(1, activation(), LENGTHS, LABELS, exchange=MAX_EXCHANGES, share=1e-9)


def test_passes_forward_and_backward_in_any_order_are_the_step(tiny_model: Path) -> None:
    """Two micro-batches whose passes back come the other way round, as autograd runs them."""
    slow = OptimizerSpec(eps=1.0)
    split = SplitSpec(split_layer=2, rank=4)
    whole, parted = (open_session(tiny_model, split, dropout=0.0, optimizer=slow)[0] for _ in "ab")
    x_T4, lengths, labels = torch.randn(9, 4), [3, 1, 5], [0, 1, 1]
    loss, gradient = whole.step(1, x_T4, lengths, labels)
    rows = [
        parted.forward(1, x_T4[:4], [3, 1]).requires_grad_(),
        parted.forward(1, x_T4[4:], [5], exchange=1).requires_grad_(),
    ]
    mine = torch.nn.functional.cross_entropy(torch.cat(rows), torch.tensor(labels))
    torch.testing.assert_close(mine, loss, atol=1e-6, rtol=0)
    mine.backward()
    back = [
        parted.backward(1, rows[place].grad, forward=place, exchange=3 - place) for place in (1, 0)
    ]
    torch.testing.assert_close(torch.cat(back[::-1]), gradient, atol=1e-6, rtol=1e-5)
    whole.apply(1, 1.0)
    parted.apply(1, 1.0, exchanges=4)
    for name, weight in whole.weights().items():
        torch.testing.assert_close(parted.weights()[name], weight, atol=1e-6, rtol=0)


def test_a_pass_has_one_backward(session: Session) -> None:
    rows = session.forward(1, activation(), LENGTHS)
    with pytest.raises(ProtocolError, match="1 exchanges, but 1 came, with 0 of the loss and 0 pa"):
        session.apply(1, 1e-3)
    session.backward(1, torch.ones_like(rows), forward=0)
    with pytest.raises(ProtocolError, match="names exchange 0 of step 1; of .* one: none"):
        session.backward(1, torch.ones_like(rows), forward=0, exchange=2)
    session.forward(1, activation(), LENGTHS, exchange=2)  # of which nothing is wanted
    session.apply(1, 1e-3, exchanges=3)
    assert session.waiting == {}


def test_passes_that_wait_take_no_more_memory_than_a_step(session: Session) -> None:
    shape = session.bounds._shape
    room = memory_of(session.spec, shape, 2, max(LENGTHS), logits_per_token=False)
    session.bounds._memory_bytes = 2 * room
    for place in range(2):
        session.forward(1, activation(), LENGTHS, exchange=place)
    expected = r"2 passes wait for their backward; with one more of 2 examples they take about"
    with pytest.raises(LimitError, match=expected):
        session.forward(1, activation(), LENGTHS, exchange=2)
    assert session.position == Position(0, 2)


@pytest.mark.parametrize("rate", [-1e-9, float("nan"), float("inf"), 1e308])
def test_an_impossible_rate_is_refused(session: Session, rate: float) -> None:
    session.step(1, activation(), LENGTHS, LABELS)
    with pytest.raises(ProtocolError, match="apply of step 1 has learning rate"):
        session.apply(1, rate)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0], "2 examples with 4 tokens has 1 labels; the head sequence-classification takes 2"),
        ([0, 2], r"label 2 is outside 0\.\.1"),
        ([-1, 0], r"label -1 is outside 0\.\.1"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    session: Session, labels: list[int], message: str
) -> None:
    with pytest.raises(ProtocolError, match=message):
        session.step(1, activation(), LENGTHS, labels)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([], "no examples"),
        ([3, 0], r"0\.\.3, the model takes 1\.\.64"),
        ([65], r"65\.\.65, the model takes 1\.\.64"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(
    session: Session, lengths: list[int], message: str
) -> None:
    with pytest.raises(ProtocolError, match=message):
        session.bounds.activation_shape(lengths)


def test_a_batch_that_is_mostly_padding_is_refused(session: Session) -> None:
    """Small on the wire, large in the model: 2 million short examples beside a long one."""
    with pytest.raises(
        LimitError, match=r"padded to 64 tokens takes about 206\.\d GB on the cloud"
    ):
        session.bounds.activation_shape([64] + [1] * 200_000)


def test_the_layers_of_a_decoder_take_memory_too() -> None:
    shape = ModelShape(blocks=4, hidden=32, feed_forward=64, positions=64, heads=2)
    needed = [
        step_bytes(shape, SplitSpec(cut="stream", split_layer=2, decoder_layers=layers), 8, 16)
        for layers in (0, 1, 16)
    ]
    assert needed[0] < needed[1] < needed[2]
    decoder = Decoder(4, 32, 64, 16)
    saved = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal saved
        saved += tensor.nbytes if not isinstance(tensor, torch.nn.Parameter) else 0
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        decoder(torch.randn(8, 16, 4)).sum()
    assert 0.5 * saved < needed[2] - needed[0] < 4 * saved


def headed(folder: Path, head: str, num_labels: int) -> Session:
    split = SplitSpec(cut="none", split_layer=2)
    return open_session(folder, split, head=head, num_labels=num_labels)[0]


@pytest.mark.parametrize(
    ("head", "classes", "labels", "message"),
    [
        ("token-classification", 3, [0, 1], "with 4 tokens has 2 labels; the .* takes 4"),
        ("token-classification", 3, [0, 1, 2, 3], r"label 3 is outside 0\.\.2"),
        ("token-classification", 3, [0, 1, 2, -99], r"label -99 is outside 0\.\.2"),
        ("token-classification", 3, [-100] * 4, "no token of the batch has a label"),
        ("question-answering", 2, [0, 2, 0, 1], r"label 1 is outside 0\.\.0"),
        ("question-answering", 2, [0, 3, 0, 0], r"label 3 is outside 0\.\.2"),
        ("question-answering", 2, [0, 1], "has 2 labels; the head question-answering takes 4"),
        ("regression", 1, [1.0], "has 1 labels; the head regression takes 2"),
        ("regression", 1, [1.0, float("inf")], "number inf is not finite"),
    ],
)
def test_labels_of_other_heads_are_checked_too(
    tiny_model: Path, head: str, classes: int, labels: list[float], message: str
) -> None:
    with pytest.raises(ProtocolError, match=message):
        headed(tiny_model, head, classes).step(1, torch.randn(4, 32), LENGTHS, labels)


@pytest.mark.parametrize(
    ("head", "classes", "labels", "verdict"),
    [
        ("regression", 1, [0.5, 4.0], (2, 1)),
        ("token-classification", 3, [0, -100, 2, 1], (4, 3)),
        ("question-answering", 2, [0, 2, 0, 0], (4, 2)),
    ],
)
def test_every_head_steps_and_gives_its_verdict(
    tiny_model: Path, head: str, classes: int, labels: list[float], verdict: tuple[int, int]
) -> None:
    session = headed(tiny_model, head, classes)
    loss, gradient = session.step(1, torch.randn(4, 32), LENGTHS, labels)
    assert loss > 0 and gradient.abs().sum() > 0
    session.apply(1, 1e-3)
    assert session.evaluate(torch.randn(4, 32), LENGTHS).shape == verdict
    with pytest.raises(ProtocolError, match=f"takes no labels with the head {head}"):
        session.evaluate(torch.randn(4, 32), LENGTHS, [0, 1, 0, 1])
    with pytest.raises(ProtocolError, match="evaluate takes no every_token with the head"):
        session.evaluate(torch.randn(4, 32), LENGTHS, every_token=True)


def test_a_language_model_answers_with_losses_or_with_what_comes_next(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Never with the logits of all tokens, which are as wide as the vocabulary."""
    folder = save_tiny_model(tmp_path_factory.mktemp("lm") / "gpt2", "gpt2", head="causal-lm")
    session = headed(folder, "causal-lm", 64)
    x = torch.randn(4, 32)
    assert session.evaluate(x, LENGTHS).shape == (2, 64)
    losses = session.evaluate(x, LENGTHS, [1, 2, -100, 3])
    assert losses.shape == (4,) and losses[2] == 0 and (losses[[0, 1, 3]] > 0).all()
    rows = session.evaluate(x, LENGTHS, every_token=True)
    torch.testing.assert_close(rows.logsumexp(-1)[0] - rows[0, 1], losses[0])
    with pytest.raises(ProtocolError, match="asks for losses and for the logits of every token"):
        session.evaluate(x, LENGTHS, [1, 2, -100, 3], every_token=True)
    loss, _ = session.step(1, x, LENGTHS, [1, 2, -100, 3])
    assert loss > 0


def test_the_wire_is_as_wide_as_the_cut_says(tiny_model: Path) -> None:
    for cut, width in (("sft", 4), ("none", 32), ("svd-residual", 36), ("sft-output", 4)):
        session, u = open_session(tiny_model, SplitSpec(cut=cut, split_layer=2, rank=4))
        assert session.bounds.activation_shape([2, 3]) == (5, width)
        assert (u is None) == (cut == "none")


@pytest.mark.parametrize("encoding", ["float16", "bfloat16", "int8", "int4"])
def test_what_rounding_adds_to_gradients_over_a_run_is_zero_within_its_standard_error(
    tiny_model: Path, encoding: str
) -> None:
    session, _ = open_session(tiny_model, SplitSpec(split_layer=2, rank=4), seed=5)
    generator = torch.Generator().manual_seed(6)
    errors = []
    for step in range(1, 251):
        x_T4 = torch.randn(8, 4, generator=generator)
        _, gradient_T4 = session.step(step, x_T4, [5, 3], [0, 1])
        session.apply(step, 1e-3)
        message, numbers = tensor_to_parts(gradient_T4, encoding, session.rounding)
        arrived = tensor_from_parts(message, numbers, (8, 4), "gradient", encoding)
        spacing = ENCODING_TABLE[encoding].spacing(gradient_T4)
        errors.append((arrived - gradient_T4) / spacing)
    error_T4 = torch.cat(errors).double()
    z = error_T4.mean(dim=0) / (error_T4.std(dim=0) / len(error_T4) ** 0.5)
    assert (error_T4 != 0).double().mean() > 0.5
    assert (z.abs() < 4).all(), z
