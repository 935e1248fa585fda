"""Hostile edges: malformed and out-of-order messages for a real cloud, beside a healthy session.

    python -m benchmarks.fuzz --messages 200000 [--seed N] [--minutes M] [--json FILE]

The cloud is `sft-cloud serve` with a tiny model. A finding is: an internal error, a traceback in
its log, a stream that does not end, a health check that fails, a dead process, memory that grows,
or a healthy session that is told anything else than an undisturbed one.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import grpc
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.fuzz_findings import Finding, Tally, reproduced, shortest
from benchmarks.fuzz_grammar import Grammar, Names
from benchmarks.fuzz_healthy import Healthy, differs
from benchmarks.fuzz_streams import HostileEdge
from benchmarks.processes import resident_bytes
from benchmarks.programs import LocalCloud, command
from benchmarks.report import Benchmark, Figure, Found, progress
from sft_common.config import ModelShape, SessionSpec, SplitSpec
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.rpc.options import SERVICE

EDGES, CHANNELS, SESSIONS = 24, 6, 32

MOST_GROWTH = 300e6
"""Bytes that the cloud may take beyond what it has after a tenth of the messages."""

HEALTH_SECONDS = 20.0
"""A health check and a healthy step take no longer, however much else comes."""

LOGGED = re.compile(
    r"Traceback \(|^\S+ \S+ ERROR |never (retrieved|awaited)|^\w*(Error|Exception)\b"
)
"""What must not stand in the cloud's log."""


def write_tiny_bert(folder: Path) -> None:
    """Save a BERT of 2 blocks of 16, whose steps take a millisecond."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(7)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = BertConfig(**sizes, num_attention_heads=2, vocab_size=64, max_position_embeddings=32)
    BertModel(config).save_pretrained(folder)


def spec_of(model: Path) -> tuple[SessionSpec, ModelShape]:
    """Return what a session is opened with, and the sizes of its model."""
    pretrained = Pretrained(model, num_labels=2)
    spec = SessionSpec(
        model=pretrained.identity(model.name),
        split=SplitSpec(split_layer=2, rank=4),
        num_labels=2,
    )
    return spec, shape_of(pretrained.config)


@dataclass(slots=True)
class Storm:
    """What was found."""

    tally: Tally
    seconds: float
    grown: float
    """Bytes, beyond the level after a tenth of the messages."""
    level: float
    steps: int
    slowest: float
    findings: list[Finding]


async def _watch(cloud: LocalCloud, address: str, tally: Tally, memory: list[int]) -> None:
    """Look at memory and health until the storm is over."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        while True:
            memory.append(resident_bytes(cloud.pid))
            if tally.wrong < tally.limit / 10:
                memory.clear()
            try:
                request = health_pb2.HealthCheckRequest(service=SERVICE)
                await stub.Check(request, timeout=HEALTH_SECONDS)
            except grpc.RpcError as error:
                tally.findings.append(Finding(f"health does not answer: {error}", []))
            await asyncio.sleep(0.5)


async def _storm(
    cloud: LocalCloud, address: str, spec: SessionSpec, shape: ModelShape, tally: Tally, seed: int
) -> list[int]:
    channels = [grpc.aio.insecure_channel(address, _OWN) for _ in range(CHANNELS)]
    names, memory, edges = Names(), list[int](), list[HostileEdge]()
    watching = asyncio.create_task(_watch(cloud, address, tally, memory))
    for number in range(EDGES):
        draw = Random(f"{seed} {number}")
        grammar = Grammar(draw, spec, shape, names)
        edges.append(HostileEdge(draw, channels[number % CHANNELS], grammar, names, tally))
    await asyncio.gather(*(edge.run() for edge in edges))
    await asyncio.sleep(1)
    watching.cancel()
    for channel in channels:
        await channel.close()
    return memory


_OWN = [("grpc.use_local_subchannel_pool", 1)]


def storm(folder: Path, *, messages: int, seed: int, seconds: float = float("inf")) -> Storm:
    """Send messages to a cloud and look at it.

    Args:
        folder: empty; gets the model, the cloud's log and its sessions.
        messages: to send that are malformed or out of order; others come on top.
        seed: of all that is drawn.
        seconds: to stop after, if there were not as many messages.
    """
    model, sessions = folder / "tiny", folder / "sessions"
    write_tiny_bert(model)
    spec, shape = spec_of(model)
    serve: list[object] = ["serve", "--cpu", "--grace", 5, "--model", model, "--save-dir", sessions]
    serve += ["--max-sessions", SESSIONS, "--park-after", 5, "--max-message", 4, "--allow-export"]
    with LocalCloud(folder, command("sft_cloud", *serve)) as cloud:
        address = cloud.address()
        healthy = Healthy(address, spec, shape)
        healthy.start()
        begin = time.monotonic()
        tally = Tally(messages, until=begin + seconds)
        try:
            memory = asyncio.run(_storm(cloud, address, spec, shape, tally, seed))
        finally:
            healthy.enough.set()
            healthy.join()
        took = time.monotonic() - begin
        findings = list(tally.findings)
        half = sessions / healthy.name_there / "cloud.safetensors"
        if wrong := differs(healthy, model, spec, half):
            findings.append(Finding(wrong, []))
        findings += _logged(folder / "cloud.log")
        level = memory[0] if memory else 0
        grown = max(memory, default=0) - level
        if grown > MOST_GROWTH:
            findings.append(Finding(f"the cloud grew by {grown / 1e6:.0f} MB", []))
        for finding in findings:
            if finding.messages and reproduced(address, finding.messages):
                finding.messages = shortest(address, finding.messages)
    return Storm(tally, took, grown, level, len(healthy.told), healthy.slowest, findings)


def _logged(log: Path) -> list[Finding]:
    """Return the lines of a log that must not be there."""
    lines = log.read_text(errors="replace").splitlines()
    return [Finding(f"logged: {line}", []) for line in lines if LOGGED.search(line)]


def measure(options: argparse.Namespace) -> Found:
    """Run the storm."""
    with tempfile.TemporaryDirectory(prefix="sft-fuzz-") as place:
        messages = 5000 if options.quick else options.messages
        found = storm(
            Path(place), messages=messages, seed=options.seed, seconds=60 * options.minutes
        )
        log = (Path(place) / "cloud.log").read_text(errors="replace")
    tally = found.tally
    for finding in found.findings[:20]:
        progress(f"seed {options.seed}: {finding.what}")
        for raw in finding.messages:
            progress(f"    {raw[:400].hex()}{'...' if len(raw) > 400 else ''}")
    if found.findings and options.log:
        options.log.write_text(log)
    figures = [
        Figure(name="wrong messages", value=tally.wrong, at_least=messages),
        Figure(name="of them inside a session", value=tally.inside),
        Figure(name="messages", value=tally.messages),
        Figure(name="streams", value=sum(tally.streams.values())),
        Figure(name="seconds", value=found.seconds),
        Figure(name="messages a second", value=tally.messages / found.seconds),
        Figure(name="answers", value=sum(tally.answers.values())),
        Figure(name="kinds of refusals", value=len(tally.refusals)),
        Figure(name="memory after a tenth, MB", value=found.level / 1e6),
        Figure(name="memory growth since, MB", value=found.grown / 1e6, at_most=MOST_GROWTH / 1e6),
        Figure(name="steps of the healthy session", value=found.steps),
        Figure(name="slowest of them, s", value=found.slowest, at_most=HEALTH_SECONDS),
        Figure(name="findings", value=len(found.findings), at_most=0),
    ]
    return Found(
        figures,
        {
            "answers": dict(tally.answers.most_common()),
            "streams by how they ended": dict(tally.streams.most_common()),
            "refusals": dict(tally.refusals.most_common()),
            "findings": [finding.what for finding in found.findings],
        },
    )


def _parser() -> Benchmark:
    benchmark = Benchmark("fuzz", __doc__ or "")
    add = benchmark.parser.add_argument
    add("--messages", type=int, default=200_000, metavar="N")
    add("--seed", type=int, default=1, metavar="N")
    add("--minutes", type=float, default=60.0, metavar="M", help="stop after so long")
    add("--log", type=Path, metavar="FILE", help="the cloud's log, if there are findings")
    return benchmark


if __name__ == "__main__":
    _parser().run(measure)
