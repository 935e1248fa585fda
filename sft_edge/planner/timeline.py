"""How long a step takes: one thing after the other (SFT, Eq. 4), or with what runs side by side.

Plain arithmetic over seconds; it knows no model and no cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Leg(NamedTuple):
    """The way of one micro-batch, in seconds."""

    forward: float
    """Of net1."""

    up: float
    """That its activation takes the link, beside the latency."""

    cloud_forward: float
    cloud_backward: float
    down: float
    """That its gradient takes the link."""

    backward: float
    """Of net1."""

    logits_down: float = 0.0
    """That its logits take the link, where labels stay on the edge."""

    logits_up: float = 0.0
    """That their gradient takes it."""


ONE_EXCHANGE = 6
"""Parts of a leg where labels travel with the activations."""


class Around(NamedTuple):
    """What a step takes beside its micro-batches, in seconds."""

    latency: float
    """Half of a round trip."""

    update: float
    """Of net1, in which the edge does nothing else."""

    late: float
    """Of net1, for which waiting is used as far as there is any."""

    cloud_update: float
    """Of net2."""


class Step(NamedTuple):
    """What a step took."""

    seconds: float
    waiting: float
    """Of them, in which the edge had nothing to do."""


def in_turn(legs: Sequence[Leg], around: Around, *, kept: bool = False) -> float:
    """Return the seconds of a step in which nothing runs beside anything else (SFT, Eq. 4).

    Net1, the way up, net2, the way down; Eq. 4 leaves out latency and updates, which are here.

    Args:
        legs: of its micro-batches.
        around: what it takes beside them.
        kept: whether labels stay on the edge, as of `Timeline`.
    """
    ways = 4 if kept else 2
    each = sum(sum(leg if kept else leg[:ONE_EXCHANGE]) + ways * around.latency for leg in legs)
    return each + around.update + around.late + around.cloud_update


@dataclass
class Timeline:
    """Steps one behind the other, as edge, link and cloud take them.

    Args:
        kept: whether labels stay on the edge: logits come down and their gradient goes up, so
            every micro-batch has a second round trip.
    """

    kept: bool = False
    _now: float = field(default=0.0, init=False)
    _up: float = field(default=0.0, init=False)
    _down: float = field(default=0.0, init=False)
    _cloud: float = field(default=0.0, init=False)
    _late: float = field(default=0.0, init=False)
    _waited: float = field(default=0.0, init=False)

    def step(self, legs: Sequence[Leg], around: Around) -> Step:
        """Take a step; returns its seconds, from the edge's beginning to its update.

        All forward passes come first; gradients are taken in order. The cloud's update begins with
        the edge's last backward pass, and holds up the next step's first micro-batch there.
        """
        begin, self._waited, self._late = self._now, 0.0, around.late
        answers = self._kept(legs, around) if self.kept else self._sent(legs, around)
        for number, (leg, answer) in enumerate(zip(legs, answers, strict=True), start=1):
            self._wait_until(answer)
            if number == len(legs):
                self._cloud = max(self._cloud, self._now + around.latency) + around.cloud_update
            self._now += leg.backward
        self._now += self._late + around.update
        return Step(self._now - begin, self._waited)

    def _sent(self, legs: Sequence[Leg], around: Around) -> list[float]:
        """Return when each answer comes where labels travel with the activations."""
        answers = []
        for leg in legs:
            self._now += leg.forward
            arrival = self._sent_up(self._now, leg.up) + around.latency
            done = self._worked(arrival, leg.cloud_forward + leg.cloud_backward)
            answers.append(self._sent_down(done, leg.down) + around.latency)
        return answers

    def _kept(self, legs: Sequence[Leg], around: Around) -> list[float]:
        """Return when each answer comes where labels stay here."""
        logits = []
        for leg in legs:
            self._now += leg.forward
            arrival = self._sent_up(self._now, leg.up) + around.latency
            done = self._worked(arrival, leg.cloud_forward)
            logits.append(self._sent_down(done, leg.logits_down) + around.latency)
        answers = []
        for leg, came in zip(legs, logits, strict=True):
            self._wait_until(came)
            arrival = self._sent_up(self._now, leg.logits_up) + around.latency
            done = self._worked(arrival, leg.cloud_backward)
            answers.append(self._sent_down(done, leg.down) + around.latency)
        return answers

    def _wait_until(self, moment: float) -> None:
        """Wait on the edge, and use it for what was put off."""
        wait = max(0.0, moment - self._now)
        used = min(wait, self._late)
        self._late -= used
        self._waited += wait - used
        self._now += wait

    def _sent_up(self, ready: float, seconds: float) -> float:
        self._up = max(self._up, ready) + seconds
        return self._up

    def _sent_down(self, ready: float, seconds: float) -> float:
        self._down = max(self._down, ready) + seconds
        return self._down

    def _worked(self, ready: float, seconds: float) -> float:
        self._cloud = max(self._cloud, ready) + seconds
        return self._cloud
