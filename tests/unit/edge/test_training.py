"""The loop, the schedule, the order of batches, and the loss that hides the cloud."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_linear_schedule_with_warmup

from sft_common.config import OptimizerSpec, SplitSpec
from sft_common.errors import ModelError, TrainingError
from sft_common.model.heads import HEAD_TABLE
from sft_common.model.loading import Pretrained, set_edge_factor
from sft_common.model.partition import Net1
from sft_common.model.tokenizer import load_tokenizer
from sft_common.plan import SORTED_BATCHES, Plan, learning_rate_at, micro_batches, planned_steps
from sft_common.position import Position
from sft_edge import late_table
from sft_edge.elsewhere import received_loss
from sft_edge.learners import SplitLearner
from sft_edge.pacing import Pacing
from sft_edge.tasks.batches import Batch, Dataset
from sft_edge.tasks.data import TaskData
from sft_edge.tasks.kinds import Part
from sft_edge.tasks.metrics import METRICS
from sft_edge.tasks.scoring import ClassScorer
from sft_edge.tasks.texts import Example, tokenized
from sft_edge.trainer import Evaluation, evaluate, train
from tests.doubles import CPU, LocalSession, open_session
from tests.models import save_tiny_model

SPLIT = SplitSpec(split_layer=2, rank=4)


def examples(count: int) -> list[Example]:
    texts = {0: "the food was awful and poor", 1: "a lovely quiet room", 2: "never again"}
    return [
        Example((f"{texts[n % 3]} {'very ' * (n % 5)}",), int(n % 3 == 1)) for n in range(count)
    ]


@pytest.fixture
def data(tiny_model: Path) -> Dataset:
    return tokenized(examples(23), load_tokenizer(tiny_model, 64), 12)


def task_data(data: Dataset) -> TaskData:
    return TaskData(train=data, validation={"": Part(data, lambda: ClassScorer("accuracy"))})


class Notes:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, float]] = []
        self.labels: list[list[int]] = []
        self.losses: list[float] = []
        self.evaluations: list[tuple[int, int]] = []
        self.batches = 0

    def stepped(
        self, step: int, epoch: int, batches: Sequence[Batch], loss: float, rate: float
    ) -> None:
        self.steps.append((step, epoch, rate))
        self.losses.append(loss)
        self.labels.append([label for batch in batches for label in batch.labels])

    def evaluating(self, batch: Batch, verdict: torch.Tensor) -> None:
        self.batches += 1

    def evaluated(self, step: int, epoch: int, evaluation: Evaluation) -> None:
        self.evaluations.append((step, epoch))


def learner(folder: Path, micro_batches: int = 1) -> SplitLearner:
    session, u = open_session(folder, SPLIT, dropout=0.0)
    pretrained = Pretrained(folder, num_labels=2, dropout=0.0)
    net1 = pretrained.net1(SPLIT)
    pretrained.fill_net1(net1)
    assert u is not None
    set_edge_factor(net1, u)
    head = HEAD_TABLE["sequence-classification"]
    return SplitLearner(
        net1, LocalSession(session), head, OptimizerSpec(), CPU, pacing=Pacing(micro_batches)
    )


@pytest.mark.parametrize("total", [1, 7, 10, 100, 333])
def test_the_schedule_is_the_released_codes(total: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-5)
    schedule = get_linear_schedule_with_warmup(optimizer, int(0.1 * total), total)
    for step in range(1, total + 1):
        expected = schedule.get_last_lr()[0]
        assert learning_rate_at(step, total, 3e-5) == pytest.approx(expected, rel=1e-12, abs=1e-18)
        optimizer.step()
        schedule.step()


def test_every_example_comes_once_an_epoch_in_an_order_that_the_seed_gives(
    data: Dataset,
) -> None:
    def order(seed: int, epoch: int) -> list[tuple[int, ...]]:
        rows = []
        for batch in data.shuffled(4, seed=seed, epoch=epoch):
            for ids, length in zip(batch.inputs["input_ids"], batch.lengths, strict=True):
                rows.append(tuple(ids[:length].tolist()))
        return rows

    plain = sorted(
        tuple(ids[:n].tolist())
        for batch in data.in_order(5)
        for ids, n in zip(batch.inputs["input_ids"], batch.lengths, strict=True)
    )
    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1) != order(2, 1)
    assert sorted(order(1, 0)) == sorted(order(2, 1)) == plain
    assert len(plain) == 23


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=400),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 2**40),
)
def test_batches_of_about_one_length_hold_every_example_once_and_little_padding(
    lengths: list[int], batch_size: int, seed: int
) -> None:
    def batches(*, grouped: bool, epoch: int) -> list[list[int]]:
        plan = Plan(
            epochs=2,
            batch_size=batch_size,
            learning_rate=1e-3,
            seed=seed,
            group_by_length=grouped,
        )
        return [s.rows for s in planned_steps(plan, lengths) if s.epoch == epoch + 1]

    def padded(of: list[list[int]]) -> int:
        return sum(len(rows) * max(lengths[row] for row in rows) for rows in of)

    for epoch in (0, 1):
        mixed, grouped = (batches(grouped=g, epoch=epoch) for g in (False, True))
        assert sorted(row for rows in grouped for row in rows) == list(range(len(lengths)))
        assert sorted(map(len, grouped)) == sorted(map(len, mixed))
        assert grouped == batches(grouped=True, epoch=epoch)
        # Sorted stretches of 50 batches: at most 60 tokens a batch more than none, and a batch's
        # worth of steps between lengths for each stretch.
        stretches = -(-len(mixed) // SORTED_BATCHES)
        assert padded(grouped) <= sum(lengths) + stretches * 60 * batch_size


def test_a_batch_is_padded_to_its_longest_and_cut_at_the_limit(data: Dataset) -> None:
    for batch in data.in_order(7):
        mask = batch.inputs["attention_mask"]
        assert mask.shape[1] == max(batch.lengths) <= 12
        assert mask.sum(dim=1).tolist() == batch.lengths
        assert batch.inputs["input_ids"][mask == 0].eq(0).all()
        assert batch.padded_tokens == mask.numel()


def test_the_loop_counts_steps_epochs_and_evaluations(tiny_model: Path, data: Dataset) -> None:
    notes = Notes()
    plan = Plan(epochs=2, batch_size=8, learning_rate=1e-3, seed=0)
    train(learner(tiny_model), task_data(data), plan=plan, metric="accuracy", watcher=notes)
    assert [(step, epoch) for step, epoch, _ in notes.steps] == [
        (1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2),
    ]  # fmt: skip
    assert notes.evaluations == [(3, 1), (6, 2)]
    assert [len(labels) for labels in notes.labels] == [8, 8, 7] * 2


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40),
    count=st.integers(1, 12),
)
def test_micro_batches_are_the_batch_in_even_parts_of_about_one_length(
    lengths: list[int], count: int
) -> None:
    rows = list(range(len(lengths)))[::-1]
    parts = micro_batches(rows, lengths, count)
    assert sorted(row for part in parts for row in part) == sorted(rows)
    assert len(parts) == min(count, len(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if count == 1:
        assert parts == [rows]
    else:
        longest = [max(lengths[row] for row in part) for part in parts]
        assert longest == sorted(longest)


@pytest.mark.parametrize("count", [2, 5, 99])
def test_micro_batches_change_no_number(tiny_model: Path, data: Dataset, count: int) -> None:
    plan = Plan(epochs=2, batch_size=8, learning_rate=1e-3, seed=0)
    found = []
    for micro in (1, count):
        notes = Notes()
        learning = learner(tiny_model, micro_batches=micro)
        last = train(learning, task_data(data), plan=plan, metric="accuracy", watcher=notes)
        found.append([*notes.losses, last.loss])
    assert found[1] == pytest.approx(found[0], abs=1e-6)


@pytest.mark.parametrize("polls", [0, 1, 4])
@pytest.mark.parametrize(("family", "batch_size"), [("bert", 8), ("gpt2", 1)])
def test_what_is_put_off_changes_no_number(
    tmp_path: Path,
    data: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    batch_size: int,
    polls: int,
) -> None:
    """A cloud that is polled some times before it has answered, beside an optimizer's own step.

    GPT-2 looks types of tokens up in the words' table too.
    """
    folder = save_tiny_model(tmp_path / family, family)
    monkeypatch.setattr(late_table, "PART", 8 * 32)
    monkeypatch.setattr(late_table, "FEW", 1.0)
    plan = Plan(epochs=2, batch_size=batch_size, learning_rate=1e-2, seed=0)
    found = []
    for late in (True, False):
        with monkeypatch.context() as patch:
            answers = cycle([False] * polls + [True])
            patch.setattr(LocalSession, "answered", lambda _, answers=answers: next(answers))
            if not late:
                patch.setattr(Net1, "words", None)
            notes, learning = Notes(), learner(folder)
            train(learning, task_data(data), plan=plan, metric="accuracy", watcher=notes)
            found.append((notes.losses, dict(learning.net1.named_parameters())))
    (losses, weights), (expected_losses, expected) = found
    assert losses == expected_losses
    assert {name for name in weights if not torch.equal(weights[name], expected[name])} == set()


def test_a_micro_batch_weighs_what_it_has_to_learn(tiny_model: Path) -> None:
    """Token labels: 3, 0 and 1 labelled tokens; the one without is not sent."""
    split = SplitSpec(split_layer=2, rank=4)
    ids = torch.randint(5, 30, (3, 3))
    labels = [[1, 0, 1], [-100, -100, -100], [-100, 1, -100]]

    def batch(rows: Sequence[int]) -> Batch:
        inputs = {"input_ids": ids[list(rows)], "attention_mask": torch.ones(len(rows), 3)}
        flat = [label for row in rows for label in labels[row]]
        return Batch(inputs=inputs, lengths=[3] * len(rows), labels=flat)

    losses = []
    for parts in ([(0, 1, 2)], [(0,), (1,), (2,)]):
        session, u = open_session(tiny_model, split, dropout=0.0, head="token-classification")
        pretrained = Pretrained(tiny_model, num_labels=2, dropout=0.0, head="token-classification")
        net1 = pretrained.net1(split)
        pretrained.fill_net1(net1)
        assert u is not None
        set_edge_factor(net1, u)
        head = HEAD_TABLE["token-classification"]
        learning = SplitLearner(net1, LocalSession(session), head, OptimizerSpec(), CPU)
        for step in (1, 2):
            losses.append(learning.train_step(step, [batch(part) for part in parts], 1e-3))
        assert session.applied == 2
    assert losses[2:] == pytest.approx(losses[:2], abs=1e-6)


def test_max_steps_ends_in_the_middle_with_an_evaluation(tiny_model: Path, data: Dataset) -> None:
    notes = Notes()
    plan = Plan(epochs=9, max_steps=4, batch_size=8, learning_rate=1e-3, seed=0)
    train(learner(tiny_model), task_data(data), plan=plan, metric="accuracy", watcher=notes)
    assert len(notes.steps) == 4
    assert notes.steps[-1][2] == learning_rate_at(4, 4, 1e-3)
    assert notes.evaluations == [(3, 1), (4, 2)]


def test_the_split_model_learns(tiny_model: Path, data: Dataset) -> None:
    notes = Notes()
    plan = Plan(epochs=12, batch_size=8, learning_rate=5e-3, seed=0)
    last = train(learner(tiny_model), task_data(data), plan=plan, metric="accuracy", watcher=notes)
    assert last.value == 1.0
    assert notes.losses[-1] < notes.losses[0] / 2


class Diverging:
    """A learner whose loss is no number at the third step."""

    @property
    def micro_batches(self) -> int:
        return 2

    def train_step(self, step: int, batches: Sequence[Batch], learning_rate: float) -> float:
        return 0.5 if step < 3 else float("nan")

    def predictions(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        for batch in batches:
            yield batch, torch.full((len(batch.labels), 2), float("inf"))


def test_a_loss_that_is_no_number_ends_the_run(data: Dataset) -> None:
    notes = Notes()
    plan = Plan(epochs=1, batch_size=4, learning_rate=1e-3, seed=0)
    why = r"the loss is nan at step 3 of 6: a learning rate of 0\.00\d+ is high"
    with pytest.raises(TrainingError, match=why):
        train(Diverging(), task_data(data), plan=plan, metric="accuracy", watcher=notes)
    assert len(notes.steps) == 2
    with pytest.raises(TrainingError, match="the validation loss is nan"):
        evaluate(
            Diverging(), task_data(data).validation, batch_size=4, metric="accuracy", watcher=notes
        )


def test_metrics_of_one_class_are_defined() -> None:
    assert METRICS["matthews"]([1, 1], [1, 0]) == 0.0
    assert METRICS["matthews"]([1, 0], [1, 1]) == 0.0
    assert METRICS["matthews"]([1, 0, 1, 0], [1, 0, 1, 0]) == 1.0
    assert METRICS["accuracy"]([1, 1], [1, 0]) == 0.5


def test_a_folder_without_a_fitting_tokenizer_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())
    with pytest.raises(ModelError, match=r"holds no tokenizer: one of tokenizer\.json"):
        load_tokenizer(tmp_path, 64)
    with pytest.raises(ModelError, match="has 39 tokens, its model's embeddings 32"):
        load_tokenizer(tiny_model, 32)


def test_a_received_loss_has_the_gradient_of_the_local_one(tiny_model: Path) -> None:
    """Scaled by what comes from above, as any loss's."""
    session, _ = open_session(tiny_model, SPLIT, dropout=0.0)
    activation = torch.randn(5, 4, requires_grad=True)
    near = LocalSession(session)
    near.begin_step(1, activation.detach(), [2, 3], [0, 1])
    loss = received_loss(activation, *near.end_step())
    (3 * loss).backward()
    other, _ = open_session(tiny_model, SPLIT, dropout=0.0)
    expected_loss, expected = other.step(1, activation.detach(), [2, 3], [0, 1])
    assert loss.item() == expected_loss
    torch.testing.assert_close(activation.grad, 3 * expected)


@pytest.mark.parametrize("broken", [0, 1])
def test_an_activation_that_is_no_number_is_not_sent_and_its_step_not_taken(
    tiny_model: Path, data: Dataset, broken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cloud would refuse it, and the session with it."""
    learning = learner(tiny_model, micro_batches=2)
    before = {name: p.clone() for name, p in learning.net1.skeleton.named_parameters()}
    whole, seen = learning._activation, []

    def activation(batch: Batch) -> torch.Tensor:
        seen.append(batch)
        return whole(batch) / (0 if len(seen) == broken + 1 else 1)

    monkeypatch.setattr(learning, "_activation", activation)
    assert math.isnan(learning.train_step(1, [data.batch([0, 1]), data.batch([2, 3])], 1e-3))
    local: LocalSession = learning._session  # type: ignore[assignment]
    assert local.session.position == Position(0, broken)
    for name, parameter in learning.net1.skeleton.named_parameters():
        assert torch.equal(parameter, before[name]), name
