"""One edge's session: which request may come now, and what the engine does for it.

It checks the order of requests, keeps the replies that may be asked for again, and has bounds.py
check sizes. It knows no gRPC, no messages.

Legend: B batch, T real tokens, W width on the wire, C classes. Shapes of labels and logits are
those of the head (sft_common/model/heads.py).
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sft_cloud.arriving import Arriving
from sft_cloud.bounds import Bounds, Labels
from sft_cloud.engine import Engine, Pass, Randomness
from sft_common.autocast import Autocast, dtype_of
from sft_common.config import LARGEST, SessionSpec
from sft_common.errors import LimitError, ProtocolError
from sft_common.model.heads import HEAD_TABLE
from sft_common.own_optimizer import GroupUpdate
from sft_common.position import Position
from sft_common.snapshots import Snapshot
from sft_common.wire.packing import mask_of, pack, unpack

Reply = tuple[bytes, bytes | memoryview]
"""What was answered: a message, and the numbers of its tensor."""

MAX_EXCHANGES = 2048
"""Of a step, two for a micro-batch; their replies are all kept until it is applied."""

MAX_APART = 2
"""Losses of a step that may wait for their backward at once, each with gradients of its own."""

SHARE_ERROR = 1e-6
"""How far from 1 the shares of a step may add up, each of them rounded."""


class _Waiting(NamedTuple):
    """A forward pass whose backward has not come."""

    activation_TW: Tensor
    lengths: tuple[int, ...]
    training: bool
    autocast: Autocast | None
    passed: Pass


class Session:
    """State machine of one session: step k, apply k, step k + 1, ...; evaluate in between.

    A step comes whole or in micro-batches, whose shares of its loss add up to 1; or, where labels
    stay on the edge, as passes forward and backward. Each of these is an exchange of the step.
    With a frozen body forward passes give its rows instead of logits, and an apply moves the step
    on and changes nothing.

    Args:
        session_id: its name, letters and digits.
        spec: what the edge opened it with.
        bounds: what a batch of it may be.
        engine: net2 at work.
    """

    def __init__(
        self,
        session_id: str,
        spec: SessionSpec,
        bounds: Bounds,
        engine: Engine,
    ) -> None:
        self.session_id = session_id
        self.spec = spec
        self.bounds = bounds
        self.applied = 0
        self._replies: list[Reply] = []
        self._waiting: dict[int, _Waiting] = {}
        self._joined = set[int]()
        self._begin_step()
        self.arriving = Arriving(engine.parameters)

        self._engine = engine
        self._next_token = spec.tail is None and HEAD_TABLE[spec.head].next_token
        self.transfers = engine.transfers
        self.rounding = torch.Generator(engine.device)
        self.rounding.manual_seed(spec.seed ^ zlib.crc32(b"rounding"))

    @property
    def position(self) -> Position:
        """How far it has come."""
        return Position(self.applied, self._exchanges)

    def reply_to(self, step: int, exchange: int) -> Reply | None:
        """Return what an exchange was answered, if it has been there before.

        It is not computed again: its gradient would count twice.

        Raises:
            ProtocolError: it is neither one of those nor the next one.
        """
        if self.has_answered(step, exchange):
            return self._replies[exchange]
        self._expect_step(step, exchange)
        return None

    def has_answered(self, step: int, exchange: int) -> bool:
        """Return whether the reply to an exchange is kept."""
        return step == self.applied + 1 and exchange < len(self._replies)

    @property
    def memory_bytes(self) -> int:
        """What it takes while it is in memory, without the activations of a step."""
        return self._engine.memory_bytes + self.reply_bytes

    @property
    def reply_bytes(self) -> int:
        """What the replies take that are kept."""
        return sum(len(message) + len(numbers) for message, numbers in self._replies)

    def remember(self, reply: Reply) -> None:
        """Keep the reply to the last exchange until the step is applied."""
        self._replies.append(reply)

    def step(
        self,
        step: int,
        activation_TW: Tensor,
        lengths: Sequence[int],
        labels: Labels,
        *,
        exchange: int = 0,
        share: float = 1.0,
        apart: bool = False,
        autocast: Autocast | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run forward and backward of training step `step`, or of a micro-batch of it.

        Args:
            step: its number, from 1.
            activation_TW: without padding, shape (T, W).
            lengths: real tokens of each example, B entries.
            labels: what is to be learned.
            exchange: its place in the step, from 0.
            share: its share of what the loss of the step is the mean of.
            apart: whether the gradients of net2 wait for `take_factor`; the share is 1 then.
            autocast: how the edge's script computes, and net2 is to.

        Returns:
            The mean loss times the share, a scalar, and its gradient with respect to the
            activation, (T, W); both on the device, which may not have computed them yet.

        Raises:
            ProtocolError: a step or micro-batch out of order, labels or a share that do not fit.
        """
        self._expect_step(step, exchange)
        if not 0 < share <= 1:
            raise ProtocolError(f"micro-batch {exchange} has share {share}; over 0 up to 1 fit")
        if apart and share != 1:
            raise ProtocolError(
                f"micro-batch {exchange} is kept apart and has share {share}, not 1"
            )
        if apart and len(self._engine.apart) >= MAX_APART:
            raise LimitError(
                f"{MAX_APART} losses of step {step} wait for their backward already; call backward "
                "for each before the next, or torch.no_grad() where none will come"
            )
        labels_flat = self.bounds.checked_labels(labels, lengths)
        mask_BM = mask_of(lengths, max(lengths))
        batch = unpack(_as_it_was(activation_TW, autocast), lengths), mask_BM, labels_flat
        computes = autocast.computes if autocast else ""
        if apart:
            loss, gradient_BMW = self._engine.step_apart(exchange, *batch, computes)
        else:
            loss, gradient_BMW = self._engine.step(*batch, share, autocast=computes)
            self._shares += share
        self._exchanges += 1
        return loss, pack(gradient_BMW, mask_BM)

    def take_factor(self, step: int, exchange: int, factor: float) -> None:
        """Count gradients that were kept apart, times a factor; done twice, it is done once.

        Raises:
            ProtocolError: that exchange has not been, or the factor is no finite number.
        """
        now = step == self.applied + 1
        if step <= self.applied or (now and exchange in self._joined):
            return
        if not now or exchange not in self._engine.apart:
            raise ProtocolError(f"factor names exchange {exchange} of step {step}; none such waits")
        if not math.isfinite(factor):
            raise ProtocolError(f"factor of exchange {exchange} of step {step} is {factor}")
        self._engine.join(exchange, factor)
        self._joined.add(exchange)
        self._backwards += 1

    def forward(
        self,
        step: int,
        activation_TW: Tensor,
        lengths: Sequence[int],
        *,
        exchange: int = 0,
        training: bool = True,
        autocast: Autocast | None = None,
    ) -> Tensor:
        """Run forward of training step `step`, or of a micro-batch of it, for labels elsewhere.

        Args:
            step: its number, from 1.
            activation_TW: as of `step`.
            lengths: as of `step`.
            exchange: its place in the step, from 0.
            training: whether in training mode.
            autocast: as of `step`.

        Returns:
            The logits without padding, (B, C) or (T, C), on the device.

        Raises:
            ProtocolError: it is out of order.
            LimitError: too many passes wait for their backward.
        """
        self._expect_step(step, exchange)
        self.bounds.check_waiting([*self.waiting.values()], lengths)
        activation_TW = _as_it_was(activation_TW, autocast)
        waiting = self._passed(activation_TW, tuple(lengths), training, autocast)
        self._waiting[exchange] = waiting
        self._exchanges += 1
        return waiting.passed.rows.detach()

    @property
    def waiting(self) -> dict[int, tuple[int, ...]]:
        """Lengths of the passes that wait for their backward, by their place in the step."""
        return {place: waiting.lengths for place, waiting in self._waiting.items()}

    def lengths_of(self, forward: int) -> tuple[int, ...]:
        """Return the lengths of a pass that waits for its backward.

        Raises:
            ProtocolError: none of that place does.
        """
        if forward not in self._waiting:
            known = ", ".join(map(str, self._waiting)) or "none"
            raise ProtocolError(
                f"backward names exchange {forward} of step {self.applied + 1}; of those, waiting "
                f"for one: {known}"
            )
        return self._waiting[forward].lengths

    def backward(self, step: int, gradient: Tensor, *, forward: int, exchange: int = 1) -> Tensor:
        """Run backward of a pass of the same step.

        Args:
            step: its number.
            gradient: of the loss with respect to what `forward` returned, of its shape.
            forward: place of the pass in the step.
            exchange: place of this in the step.

        Returns:
            The gradient of the loss with respect to the activation, (T, W), on the device.

        Raises:
            ProtocolError: it is out of order, or no such pass waits for it.
        """
        self._expect_step(step, exchange)
        self.lengths_of(forward)
        _, lengths, _, _, passed = self._waiting.pop(forward)
        gradient_BMW = self._engine.backward(passed, gradient)
        self._exchanges += 1
        self._backwards += 1
        return pack(gradient_BMW, mask_of(lengths, max(lengths)))

    def apply(
        self,
        step: int,
        learning_rate: float,
        *,
        exchanges: int = 1,
        updates: Sequence[GroupUpdate] = (),
    ) -> None:
        """Step the optimizer with the gradients of step `step`; done twice, it is done once.

        Args:
            step: its number.
            learning_rate: of this optimizer step.
            exchanges: how many the step had; passes without a backward are left out of it.

            updates: of each group of a script's optimizer, which has no one rate.

        Raises:
            ProtocolError: that step does not wait for it, or not all of it has come, or the rate
                is out of its range.
            ConfigError: an update does not fit.
        """
        if self.has_applied(step):
            return
        if step != self.applied + 1 or not self._exchanges:
            waiting = f"step {self.applied + 1} waits" if self._exchanges else "no step waits"
            raise ProtocolError(f"apply names step {step}, but {waiting} for it")
        backwards = self._backwards > 0 or self.spec.tail is not None
        whole = abs(self._shares - 1) <= SHARE_ERROR if self._shares else backwards
        if exchanges != self._exchanges or not whole:
            raise ProtocolError(
                f"apply of step {step} is for {exchanges} exchanges, but {self._exchanges} came, "
                f"with {self._shares:g} of the loss and {self._backwards} passes backward"
            )
        if not 0 <= learning_rate <= LARGEST:
            raise ProtocolError(
                f"apply of step {step} has learning rate {learning_rate}; 0 to {LARGEST:g} fit"
            )
        self._engine.apply(learning_rate, updates)
        self.arriving.rows.clear()
        self.applied = step
        self._begin_step()

    def has_applied(self, step: int) -> bool:
        """Return whether that step was applied last, though micro-batches may have come since."""
        return step == self.applied > 0

    def evaluate(
        self,
        activation_TW: Tensor,
        lengths: Sequence[int],
        labels: Sequence[int] = (),
        *,
        every_token: bool = False,
        autocast: Autocast | None = None,
    ) -> Tensor:
        """Return what the head says of a batch.

        Args:
            activation_TW: as of `step`.
            lengths: as of `step`.
            labels: for causal-lm alone.
            every_token: for causal-lm alone, without labels: whether the logits of every token are
                wanted.
            autocast: as of `step`.

        Raises:
            ProtocolError: a step waits for its apply, or labels that do not fit.
        """
        if self._exchanges:
            raise ProtocolError(f"evaluate came before apply of step {self.applied + 1}")
        self.arriving.check_complete()
        if (labels or every_token) and not self._next_token:
            what = "labels" if labels else "every_token"
            whom = "a frozen body" if self.spec.tail else f"the head {self.spec.head}"
            raise ProtocolError(f"evaluate takes no {what} with {whom}")
        if labels and every_token:
            raise ProtocolError("evaluate asks for losses and for the logits of every token")
        known = self.bounds.checked_labels(labels, lengths) if labels else None
        mask_BM = mask_of(lengths, max(lengths))
        activation_BMW = unpack(_as_it_was(activation_TW, autocast), lengths)
        return self._engine.evaluate(
            activation_BMW,
            mask_BM,
            known,
            every_token=every_token,
            autocast=autocast.computes if autocast else "",
        )

    def drop(self, step: int, number: int, groups: Sequence[int]) -> None:
        """Forget the gradients so far of groups of a script's optimizer; done twice, done once.

        Args:
            step: its number.
            number: how many times that was done before in the step.
            groups: their numbers.

        Raises:
            ProtocolError: it is out of order, or there are no such groups.
        """
        if step <= self.applied or (step == self.applied + 1 and number < self._drops):
            return
        if (step, number) != (self.applied + 1, self._drops):
            raise ProtocolError(
                f"drop {number} of step {step} came, drop {self._drops} of step "
                f"{self.applied + 1} was expected"
            )
        if wrong := [group for group in groups if group >= self._engine.groups]:
            raise ProtocolError(
                f"drop names group {wrong[0]}; the optimizer has {self._engine.groups} groups"
            )
        self._engine.drop(groups)
        self._drops += 1

    def norms(self) -> list[float]:
        """Return the Euclidean norms of the gradients so far; see `Engine.norms`."""
        return self._engine.norms()

    def weights(self) -> dict[str, Tensor]:
        """Return the parameters of net2 on the CPU, by their stock names."""
        return self._engine.weights()

    def snapshot(self) -> Snapshot:
        """Return all that it is; its tensors are shared, and change with the next step or apply."""
        facts = {
            "applied": self.applied,
            "exchanges": self._exchanges,
            "shares": self._shares,
            "backwards": self._backwards,
            "waiting": {
                place: {
                    "lengths": waiting.lengths,
                    "training": waiting.training,
                    "autocast": waiting.autocast and dataclasses.asdict(waiting.autocast),
                }
                for place, waiting in self._waiting.items()
            },
            "awaited": self.arriving.rows,
            "joined": sorted(self._joined),
            "drops": self._drops,
            "settings": self._engine.settings(),
        }
        replies = {
            f"{number}:{part}": torch.frombuffer(bytearray(data), dtype=torch.uint8)
            for number, reply in enumerate(self._replies)
            for part, data in zip(("message", "numbers"), reply, strict=True)
            if len(data)
        }
        waiting = {
            f"{number}:{what}": tensor
            for number, (activation_TW, _, _, _, passed) in self._waiting.items()
            for what, tensor in zip(
                ("activation", "cpu", "cuda"), (activation_TW, *passed.began), strict=True
            )
            if tensor is not None
        }
        rounding = {"rounding": self.rounding.get_state()}
        return Snapshot(
            facts,
            {
                **self._engine.state(),
                "replies": replies,
                "waiting": waiting,
                "draws": rounding,
            },
        )

    def state(self) -> Snapshot:
        """Return what a script's optimizer calls its state, as `snapshot` does.

        Nothing of the step under way is in it: no gradients, no passes that wait.
        """
        kept = self.snapshot()
        step = {"exchanges": 0, "shares": 0.0, "backwards": 0, "drops": 0}
        groups = ("weights", "moments", "randomness", "draws")
        return Snapshot(
            {**kept.facts, **step, "waiting": {}, "joined": []},
            {group: kept.tensors[group] for group in groups},
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Become what a session of the same spec was; takes copies. Passes that wait are run again.

        Raises:
            KeyError: it is the snapshot of something else.
        """
        facts, tensors = snapshot.facts, snapshot.tensors
        self._engine.restore(tensors, facts.get("settings", ()))
        self.rounding.set_state(tensors["draws"]["rounding"].clone())
        self.applied = int(facts["applied"])
        self._exchanges, self._shares = int(facts["exchanges"]), float(facts["shares"])
        self._backwards = int(facts["backwards"])
        self._joined, self._drops = set(facts["joined"]), int(facts.get("drops", 0))
        self.arriving.rows = {str(name): int(rows) for name, rows in facts["awaited"].items()}
        kept, waiting = tensors.get("replies", {}), tensors.get("waiting", {})
        self._replies = [
            (_bytes_of(kept.get(f"{n}:message")), _bytes_of(kept.get(f"{n}:numbers")))
            for n in range(self._exchanges)
        ]
        self._waiting = {
            int(n): self._passed(
                waiting[f"{n}:activation"].clone(),
                tuple(known["lengths"]),
                bool(known["training"]),
                Autocast(**autocast) if (autocast := known.get("autocast")) else None,
                (waiting[f"{n}:cpu"], waiting.get(f"{n}:cuda")),
            )
            for n, known in facts["waiting"].items()
        }

    def _begin_step(self) -> None:
        """Begin a step of which nothing has come."""
        self._exchanges, self._shares, self._backwards, self._drops = 0, 0.0, 0, 0
        self._replies.clear()
        self._waiting.clear()
        self._joined.clear()

    def _passed(
        self,
        activation_TW: Tensor,
        lengths: tuple[int, ...],
        training: bool,
        autocast: Autocast | None,
        began: Randomness | None = None,
    ) -> _Waiting:
        mask_BM, activation_BMW = mask_of(lengths, max(lengths)), unpack(activation_TW, lengths)
        computes = autocast.computes if autocast else ""
        passed = self._engine.forward(
            activation_BMW, mask_BM, began, training=training, autocast=computes
        )
        return _Waiting(activation_TW, lengths, training, autocast, passed)

    def _expect_step(self, step: int, exchange: int) -> None:
        self.arriving.check_complete()
        if exchange >= MAX_EXCHANGES:
            raise ProtocolError(
                f"step {step} has more than {MAX_EXCHANGES} exchanges; choose fewer micro-batches"
            )
        if exchange and (step, exchange) != (self.applied + 1, self._exchanges):
            raise ProtocolError(
                f"exchange {exchange} of step {step} came, exchange "
                f"{self._exchanges} of step {self.applied + 1} was expected"
            )
        if not exchange and self._exchanges:
            raise ProtocolError(f"step {step} came before apply of step {self.applied + 1}")
        if not exchange and step != self.applied + 1:
            raise ProtocolError(f"step {step} came, step {self.applied + 1} was expected")


def _as_it_was(activation_TW: Tensor, autocast: Autocast | None) -> Tensor:
    """Return an activation in the type that it had on the edge: what follows depends on it."""
    return activation_TW.to(dtype_of(autocast.activation)) if autocast else activation_TW


def _bytes_of(tensor: Tensor | None) -> bytes:
    return b"" if tensor is None else tensor.numpy().tobytes()
