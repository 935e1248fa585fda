"""Rounds of unlike edges on one device, simulated: no clock, no thread, no model.

In a round all edges take the same number of steps, and it ends with the slowest. Two bounds hold
whatever the rule: the device's work, and the slowest edge that never waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from sft_cloud.away import Away
from sft_cloud.fairness import QUEUES, Share

STEPS = 40

SLOW = [1.0] * 7 + [8.0]
UNLIKE = [8 ** (number / 7) for number in range(8)]
ALIKE = [8.0] * 8
FAST = [0.5] * 8


@dataclass
class Edge:
    """One edge, which is away for `own` seconds in each step and wants the device for `work`."""

    own: float
    work: float = 1.0
    exchanges: int = 1
    """Pieces of work in a step, between which it is away."""

    share: Share = field(default_factory=Share)
    away: Away = field(default_factory=Away)
    comes: float = 0.0
    done: int = 0
    """Pieces of work."""

    waited: float = 0.0
    """Longest."""


def finished(rule: str, edges: Sequence[Edge], steps: int = STEPS) -> float:
    """Return when a round is over; the edges are measured as a cloud measures them."""
    queue, now, end = QUEUES[rule](), 0.0, 0.0
    coming = list(edges)
    while coming or len(queue):
        if not len(queue):
            now = max(now, min(edge.comes for edge in coming))
        for edge in sorted((e for e in coming if e.comes <= now), key=lambda edge: edge.comes):
            coming.remove(edge)
            edge.away.came(edge.comes, begins=edge.done % edge.exchanges == 0)
            edge.share.own_seconds = edge.away.seconds
            queue.put(edge.share, edge)
        edge, share = queue.take()
        edge.waited = max(edge.waited, now - edge.comes)
        now += edge.work / edge.exchanges
        queue.charge(share, edge.work / edge.exchanges)
        edge.away.answered(now)
        edge.comes, edge.done = now + edge.own / edge.exchanges, edge.done + 1
        if edge.done < steps * edge.exchanges:
            coming.append(edge)
        end = max(end, edge.comes)
    return end


def bound(edges: Sequence[Edge], steps: int = STEPS) -> float:
    """Return the time that no rule can beat."""
    work = steps * sum(edge.work for edge in edges)
    return max(work, max(steps * (edge.own + edge.work) for edge in edges))


@pytest.mark.parametrize("exchanges", [1, 2])
@pytest.mark.parametrize("owns", [SLOW, UNLIKE, ALIKE, FAST])
def test_the_slowest_edge_waits_for_little_more_than_what_has_begun(
    owns: list[float], exchanges: int
) -> None:
    edges = [Edge(own, exchanges=exchanges) for own in owns]
    begun = STEPS * max(edge.work for edge in edges)
    assert finished("longest-first", edges) <= bound(edges) + begun


@pytest.mark.parametrize("exchanges", [1, 2])
@pytest.mark.parametrize("owns", [SLOW, UNLIKE])
def test_a_contended_round_of_unlike_edges_is_shorter_than_by_arrival(
    owns: list[float], exchanges: int
) -> None:
    longest, fifo = (
        finished(rule, [Edge(own, exchanges=exchanges) for own in owns])
        for rule in ("longest-first", "fifo")
    )
    assert longest < fifo


@pytest.mark.parametrize("owns", [ALIKE, FAST])
def test_among_edges_that_are_alike_no_rule_is_worse_than_by_arrival(owns: list[float]) -> None:
    took = {rule: finished(rule, [Edge(own) for own in owns]) for rule in QUEUES}
    for rule in QUEUES:
        assert took[rule] <= took["fifo"] * 1.01, rule


@pytest.mark.parametrize("owns", [SLOW, UNLIKE, ALIKE, FAST])
def test_nobody_waits_longer_than_the_longest_own_time_and_everybodys_work(
    owns: list[float],
) -> None:
    edges = [Edge(own) for own in owns]
    finished("longest-first", edges)
    assert max(edge.waited for edge in edges) <= max(owns) + len(owns)
