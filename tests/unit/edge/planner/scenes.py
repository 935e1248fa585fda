"""Scenes for tests of the planner."""

from __future__ import annotations

from sft_edge.link import Link
from sft_edge.planner.scene import Cloud, Edge, Line, Scene, Sizes, Work

GIB = 2**30


def scene(
    *,
    megabits: float = 100.0,
    round_trip: float = 0.04,
    edge_memory: int = 8 * GIB,
    cloud_memory: int = 32 * GIB,
    cloud_times: float = 10.0,
) -> Scene:
    """Return BERT-base on 32 sentences of 13 tokens; the cloud is so many times as fast."""
    block = Work(Line(0.001, 1e-4), Line(0.002, 2e-4), 0.01)
    there = Work(
        Line(0.001 / cloud_times, 1e-4 / cloud_times),
        Line(0.002 / cloud_times, 2e-4 / cloud_times),
        0.01 / cloud_times,
    )
    return Scene(
        sizes=Sizes(
            name="bert-base-uncased",
            blocks=12,
            hidden=768,
            base_parameters=26_202_624,
            block_parameters=7_087_872,
            top_parameters=5_317_634,
        ),
        batches=((13,) * 32,),
        link=Link(
            round_trip_seconds=round_trip,
            up_bytes_per_second=megabits * 1e6 / 8,
            down_bytes_per_second=megabits * 1e6 / 8,
        ),
        edge=Edge(
            name="slow",
            memory_bytes=edge_memory,
            base=Work().plus(block, 0.5),
            block=block,
            late=0.03,
            base_token_bytes=40_000.0,
            block_token_bytes=100_000.0,
        ),
        cloud=Cloud(
            name="fast", memory_bytes=cloud_memory, top=Work().plus(there, 0.7), block=there
        ),
        layers=tuple(range(1, 13)),
    )
