"""Net2 at work."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from sft_cloud.session import Session
from sft_common.config import SplitSpec
from tests.doubles import open_session
from tests.models import save_tiny_model

SPLIT = SplitSpec(split_layer=2, rank=4)
LENGTHS, LABELS = [5, 3], [0, 1]


def losses(sessions: list[Session], steps: int = 4) -> list[list[float]]:
    """Train sessions in turn on the same activations."""
    generator = torch.Generator().manual_seed(11)  # its own: other threads may hold the shared one
    activations = [torch.randn(8, 4, generator=generator) for _ in range(steps)]
    found: list[list[float]] = [[] for _ in sessions]
    for number, activation in enumerate(activations, start=1):
        for index, session in enumerate(sessions):
            found[index].append(session.step(number, activation, LENGTHS, LABELS)[0].item())
            session.apply(number, 1e-3)
    return found


def dropping(folder: Path, seed: int) -> Session:
    return open_session(folder, SPLIT, seed=seed, dropout=0.5)[0]


def test_sessions_side_by_side_do_not_disturb_each_others_dropout(tiny_model: Path) -> None:
    (alone,) = losses([dropping(tiny_model, 1)])
    beside, other = losses([dropping(tiny_model, 1), dropping(tiny_model, 2)])
    assert beside == alone
    assert other != alone


def test_an_opening_session_does_not_disturb_one_that_trains(tiny_model: Path) -> None:
    """Models are loaded on other threads, and their heads drawn from the same generator."""
    (alone,) = losses([dropping(tiny_model, 1)], steps=12)
    stop = threading.Event()

    def keep_opening() -> None:
        while not stop.is_set():
            dropping(tiny_model, 9)

    openers = [threading.Thread(target=keep_opening) for _ in range(2)]
    for opener in openers:
        opener.start()
    try:
        (beside,) = losses([dropping(tiny_model, 1)], steps=12)
    finally:
        stop.set()
        for opener in openers:
            opener.join()
    assert beside == alone


def test_the_cloud_does_not_drop_what_the_edge_drops(tiny_model: Path) -> None:
    torch.manual_seed(1)  # what the edge does with --seed 1
    edge = torch.get_rng_state()
    cloud, _ = dropping(tiny_model, 1)._engine._random_state
    assert not torch.equal(cloud, edge)


def test_dropout_is_on_in_steps_and_off_in_evaluations(tiny_model: Path) -> None:
    session = dropping(tiny_model, 1)
    activation = torch.randn(8, 4)
    first = session.step(1, activation, LENGTHS, LABELS)[0]
    session.apply(1, 0.0)
    assert session.step(2, activation, LENGTHS, LABELS)[0] != first
    session.apply(2, 0.0)
    once, twice = (session.evaluate(activation, LENGTHS) for _ in range(2))
    assert torch.equal(once, twice)


def test_the_callers_random_state_is_left_alone(tiny_model: Path) -> None:
    session = dropping(tiny_model, 1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    session.step(1, torch.zeros(8, 4), LENGTHS, LABELS)
    assert torch.equal(torch.rand(3), expected)


def test_the_gradient_is_that_of_the_loss(tiny_model: Path) -> None:
    """Against a central difference along a random direction."""
    session = open_session(tiny_model, SPLIT, dropout=0.0)[0]
    torch.manual_seed(2)
    activation, direction = torch.randn(8, 4), torch.randn(8, 4)
    _, gradient = session.step(1, activation, LENGTHS, LABELS)
    session.apply(1, 0.0)
    h, ends = 1e-2, []
    for number, sign in ((2, 1), (3, -1)):
        ends.append(
            session.step(number, activation + sign * h * direction, LENGTHS, LABELS)[0].item()
        )
        session.apply(number, 0.0)
    slope = (ends[0] - ends[1]) / (2 * h)
    expected = (gradient * direction).sum().item()
    assert abs(slope - expected) < 2e-3 * max(1.0, abs(expected)), (slope, expected)


def test_half_precision_is_near_and_leaves_weights_and_gradients_in_float32(
    tiny_model: Path,
) -> None:
    torch.manual_seed(3)
    activation = torch.randn(8, 4)
    found = []
    for precision in (torch.float32, torch.bfloat16):
        session = open_session(tiny_model, SPLIT, dropout=0.0, precision=precision)[0]
        loss, gradient = session.step(1, activation, LENGTHS, LABELS)
        session.apply(1, 1e-3)
        verdict = session.evaluate(activation, LENGTHS)
        assert {gradient.dtype, verdict.dtype} == {torch.float32}
        assert {weight.dtype for weight in session.weights().values()} == {torch.float32}
        found.append((loss, gradient, verdict))
    for exact, near in zip(*found, strict=True):
        assert not torch.equal(near, exact)
        torch.testing.assert_close(near, exact, rtol=0.05, atol=0.05 * exact.abs().max().item())


@pytest.mark.parametrize(
    ("family", "head"), [("bert", "token-classification"), ("llama", "causal-lm")]
)
def test_lengths_in_buckets_change_nothing(family: str, head: str, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / family, family, head=head)
    activation, labels = torch.randn(8, 4), [1, 0, -100, 1, 1, 0, 1, 1]
    found = []
    for bucket in (1, 7):
        session = open_session(folder, SPLIT, head=head, dropout=0.0, bucket=bucket)[0]
        loss, gradient = session.step(1, activation, LENGTHS, labels)
        session.apply(1, 1e-3)
        found.append((loss, gradient, session.evaluate(activation, LENGTHS)))
    for exact, padded in zip(*found, strict=True):
        torch.testing.assert_close(padded, exact, rtol=1e-4, atol=1e-6)
