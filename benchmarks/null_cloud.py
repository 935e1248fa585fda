"""A cloud whose model computes nothing: everything of `sft-cloud serve` but the work on the device.

    python -m benchmarks.null_cloud --port-file FILE

The gradient of an activation is the activation, every loss is 0. A session may ask for the time
that a device would have needed: it is slept, and this machine's cores stay free.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.programs import LocalCloud
from sft_cloud.admission import NOTHING
from sft_cloud.bounds import Bounds
from sft_cloud.builder import Basis
from sft_cloud.engine import Engine
from sft_cloud.host import Host, Limits
from sft_cloud.scheduler import Scheduler
from sft_cloud.server import Waits, serve
from sft_cloud.servicer import SplitTrainingServicer
from sft_cloud.session import Session
from sft_cloud.transfers import Transfers
from sft_common.config import ModelIdentity, ModelShape, SessionSpec, SplitSpec
from sft_common.files import written_aside
from sft_common.own_optimizer import GroupUpdate

MAX_SESSIONS = 1000

ANY_POSITIONS = 2**31


class Device(NamedTuple):
    """How long an emulated device takes, in seconds."""

    step: float = 0.0
    """For a micro-batch of a training step, however small."""

    token: float = 0.0
    """For each of its tokens, padding included."""

    update: float = 0.0
    """For a step of the optimizer."""

    def work(self, tokens: int) -> None:
        """Take the time of a micro-batch."""
        if seconds := self.step + self.token * tokens:
            time.sleep(seconds)

    def apply(self) -> None:
        """Take the time of an update."""
        if self.update:
            time.sleep(self.update)


def null_spec(
    width: int,
    *,
    encoding: str = "float32",
    gradient_encoding: str = "float32",
    device: Device = Device(),
) -> SessionSpec:
    """Return what to open a session with.

    Args:
        width: W, the numbers of a token.
        encoding: of activations.
        gradient_encoding: of gradients.
        device: how long the cloud is to take.
    """
    return SessionSpec(
        model=ModelIdentity(name=json.dumps(device)),
        split=SplitSpec(cut="stream", split_layer=1, rank=width),
        num_labels=2,
        encoding=encoding,
        gradient_encoding=gradient_encoding,
    )


def null_shape(width: int) -> ModelShape:
    """Return the sizes of a model with activations of any width W."""
    return ModelShape(blocks=1, hidden=width, feed_forward=width, positions=ANY_POSITIONS, heads=1)


class NullEngine(Engine):
    """Computes nothing, in a given time; an evaluation takes none.

    Args:
        emulated: how long the rest takes.
    """

    def __init__(self, emulated: Device) -> None:
        self.device = torch.device("cpu")
        self.transfers = Transfers(self.device)
        self._emulated = emulated

    def step(
        self,
        activation_BMW: Tensor,
        mask_BM: Tensor,
        labels: Tensor,
        share: float = 1.0,
        *,
        autocast: str = "",
    ) -> tuple[Tensor, Tensor]:
        """Return the activation as its own gradient."""
        self._emulated.work(mask_BM.numel())
        return torch.zeros(()), activation_BMW

    def apply(self, learning_rate: float, updates: Sequence[GroupUpdate] = ()) -> None:
        """Update nothing."""
        self._emulated.apply()

    def evaluate(
        self,
        activation_BMW: Tensor,
        mask_BM: Tensor,
        labels: Tensor | None = None,
        *,
        every_token: bool = False,
        autocast: str = "",
    ) -> Tensor:
        """Return logits that favour no class."""
        return torch.zeros(len(activation_BMW), 2)

    def weights(self) -> dict[str, Tensor]:
        """Return none."""
        return {}


class NullDesign:
    """A session with a null engine; a `Design`.

    Args:
        spec: what was asked for.
        code: of no meaning.
    """

    need = NOTHING

    def __init__(self, spec: SessionSpec, code: object = None) -> None:
        self._spec = spec

    def build(
        self,
        session_id: str,
        basis: Basis | None,
        trained: Mapping[str, Tensor] | None,
        *,
        edge_has: bool = False,
    ) -> tuple[Session, Tensor | None]:
        """Return the session."""
        spec = self._spec
        bounds = Bounds(
            spec,
            null_shape(spec.split.rank),
            memory_bytes=2**60,
            message_bytes=2**60,
            logits_per_token=False,
        )
        engine = NullEngine(Device(*json.loads(spec.model.name)))
        return Session(session_id, spec, bounds, engine), None


@contextmanager
def null_cloud() -> Iterator[tuple[int, int]]:
    """Run a null cloud in a process of its own; yields its port and its process number."""
    serve = [sys.executable, "-m", "benchmarks.null_cloud"]
    with tempfile.TemporaryDirectory(prefix="sft-null-") as place:
        with LocalCloud(Path(place), serve) as cloud:
            yield cloud.port(), cloud.pid


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", type=Path, required=True)
    options = parser.parse_args()

    def ready(port: int) -> None:
        with written_aside(options.port_file) as aside:
            aside.write_text(f"{port}\n")

    torch.set_num_threads(1)
    scheduler = Scheduler(MAX_SESSIONS)
    limits = Limits(max_sessions=MAX_SESSIONS)
    host = Host(builder=NullDesign, scheduler=scheduler, limits=limits)
    servicer = SplitTrainingServicer(host, "nothing")
    asyncio.run(
        serve(
            servicer,
            sessions=host,
            host=options.host,
            port=options.port,
            waits=Waits(grace_seconds=1),
            ready=ready,
        )
    )
    scheduler.close()


if __name__ == "__main__":
    main()
