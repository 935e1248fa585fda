"""Bytes that an epoch of SST-2 moves at BERT-base, counted on the socket, beside the formula.

    python -m benchmarks.bytes --data DIR [--quick] [--json FILE]

The sentences are real, and so are programs' messages; the model computes nothing (null_cloud.py).
Formula: tokens x bytes of a token's row, each way. What the socket carries beside it is the labels,
the lengths and the framing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.link import LOOPBACK, linked
from benchmarks.null_cloud import null_cloud, null_shape, null_spec
from benchmarks.report import Benchmark, Figure, Found, progress
from sft_common.config import ENCODINGS
from sft_common.model.sources import DEMO_MODEL, find_model
from sft_common.model.tokenizer import load_tokenizer
from sft_common.plan import Plan, epoch_batches
from sft_common.rpc.access import Access
from sft_common.wire.encodings import ENCODING_TABLE
from sft_edge.client import GrpcSession
from sft_edge.defaults import CUT, USUAL
from sft_edge.tasks.sources import TRAIN, rows_of
from sft_edge.tasks.table import find_task

HIDDEN = 768
"""N of BERT-base."""

PADDED = 66
"""Tokens to which the paper pads SST-2."""

BATCH_SIZE = 32

RANKS = (8, 16, 32)

DEFAULTS = "defaults"

GOAL = 384
"""Times fewer bytes an epoch than plain split learning, of the defaults."""

QUICK_BATCHES = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """One way to split a step between edge and cloud."""

    name: str
    width: int
    encoding: str = "float32"
    padded: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """What one epoch of it moved."""

    name: str
    steps: int
    tokens: int
    up: int
    down: int

    formula: int
    """For each way."""

    @property
    def both(self) -> int:
        """Bytes of both ways."""
        return self.up + self.down


def ways() -> Iterator[Way]:
    """Yield plain split learning first, then everything that is set beside it."""
    yield Way(name="plain split learning, padded to 66", width=HIDDEN, padded=True)
    yield Way(name="plain split learning", width=HIDDEN)
    yield Way(name=DEFAULTS, width=USUAL[CUT].upper, encoding=USUAL[CUT].encoding)
    for rank in RANKS:
        yield Way(name=f"rank {rank}, float32, padded to 66", width=rank, padded=True)
        for encoding in ENCODINGS:
            yield Way(name=f"rank {rank}, {encoding}", width=rank, encoding=encoding)


def sst2_lengths(folder: Path) -> list[int]:
    """Return the tokens of each training sentence, at most `PADDED`.

    Raises:
        DataError: the file is missing or broken.
    """
    task = find_task("sst2")
    (column,) = task.columns
    sentences = [row.values[column] for row in rows_of(task, folder, TRAIN, None)]
    tokenizer = load_tokenizer(find_model(DEMO_MODEL).folder, 2**31)
    encoded = tokenizer(sentences, truncation=True, max_length=PADDED)
    return [len(ids) for ids in encoded["input_ids"]]


def epoch_of(lengths: Sequence[int]) -> list[list[int]]:
    """Return the batches of one epoch as the lengths of their examples."""
    plan = Plan(epochs=1, batch_size=BATCH_SIZE, learning_rate=0, seed=0)
    return [[lengths[row] for row in rows] for rows in epoch_batches(plan, lengths, 0)]


def count(way: Way, batches: Sequence[Sequence[int]]) -> Counted:
    """Send an epoch through a relay that counts."""
    progress(way.name)
    sent = [[PADDED] * len(batch) if way.padded else list(batch) for batch in batches]
    most = max(map(sum, sent))
    activation_TW = torch.randn(most, way.width)
    spec = null_spec(way.width, encoding=way.encoding, gradient_encoding=way.encoding)
    with null_cloud() as (port, _), linked(LOOPBACK, port) as link:
        session = GrpcSession(Access(server=f"127.0.0.1:{link.port}"), spec, null_shape(way.width))
        for step, lengths in enumerate(sent, start=1):
            session.begin_step(step, activation_TW[: sum(lengths)], lengths, [0] * len(lengths))
            session.end_step()
            session.apply(step, 0.0)
        session.close()
    tokens = sum(map(sum, sent))
    row = ENCODING_TABLE[way.encoding].row_bytes(way.width)
    return Counted(
        name=way.name,
        steps=len(sent),
        tokens=tokens,
        up=link.up,
        down=link.down,
        formula=tokens * row,
    )


def figures_of(found: Sequence[Counted]) -> Iterator[Figure]:
    """Yield bytes a step and the ratio to plain split learning as the paper pads it."""
    plain = found[0]
    for one in found:
        yield Figure(name=f"{one.name}: kB a step up", value=one.up / one.steps / 1e3)
        yield Figure(name=f"{one.name}: kB a step down", value=one.down / one.steps / 1e3)
        yield Figure(name=f"{one.name}: over its formula", value=one.both / one.formula / 2)
        goal = {"at_least": GOAL} if one.name == DEFAULTS else {}
        fewer = plain.both / one.both
        yield Figure(name=f"{one.name}: times fewer an epoch", value=fewer, **goal)


def measure(options: argparse.Namespace) -> Found:
    """Count the bytes of every way."""
    torch.set_num_threads(1)
    batches = epoch_of(sst2_lengths(options.data))
    found = [count(way, batches[: QUICK_BATCHES if options.quick else None]) for way in ways()]
    return Found(list(figures_of(found)), {"epoch": [asdict(one) for one in found]})


if __name__ == "__main__":
    benchmark = Benchmark("bytes", __doc__)
    benchmark.parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="of sst2")
    benchmark.run(measure)
