"""A session that does nothing wrong among others that do, and its undisturbed twin."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from sft_cloud.builder import ModelBuilder
from sft_cloud.catalog import ModelCatalog
from sft_common.config import ModelShape, SessionSpec
from sft_common.errors import SftError
from sft_common.rpc.access import Access
from sft_edge.client import GrpcSession

PAUSE = 0.03
"""Seconds between two steps of the healthy session: it is to be there, not to fill the cloud."""


def batch_of(step: int) -> tuple[Tensor, list[int], list[int]]:
    """Return activations, lengths and labels of a step of the healthy session."""
    generator = torch.Generator().manual_seed(step)
    return torch.randn(11, 4, generator=generator), [4, 2, 5], [step % 2, 1, 0]


class Healthy(threading.Thread):
    """A session that does nothing wrong, the whole time.

    Args:
        address: of the cloud.
        spec: to open it with.
        shape: of the model.
    """

    def __init__(self, address: str, spec: SessionSpec, shape: ModelShape) -> None:
        super().__init__(name="healthy")
        access = Access(server=address, connect_seconds=60)
        self._session = GrpcSession(access, spec, shape)
        self.told: list[tuple[float, Tensor]] = []
        """Loss and gradient of every step."""
        self.error: SftError | None = None
        self.slowest = 0.0
        self.enough = threading.Event()

    @property
    def name_there(self) -> str:
        """Name of the session."""
        return self._session.session_id

    def run(self) -> None:
        """Train until there was enough."""
        try:
            while not self.enough.wait(PAUSE):
                begin, step = time.perf_counter(), len(self.told) + 1
                self._session.begin_step(step, *batch_of(step))
                self.told.append(self._session.end_step())
                self._session.apply(step, 1e-3)
                self.slowest = max(self.slowest, time.perf_counter() - begin)
            self._session.close()
        except SftError as error:
            self.error = error
        finally:
            self._session.abandon()


def differs(healthy: Healthy, model: Path, spec: SessionSpec, half: Path) -> str:
    """Return what a healthy session was told otherwise than a twin without a cloud; or nothing.

    Args:
        healthy: has ended.
        model: that it trained.
        spec: that it was opened with.
        half: the trained half that the cloud kept of it.
    """
    if healthy.error is not None:
        return f"the healthy session was refused: {healthy.error}"
    build = ModelBuilder(ModelCatalog([model]), torch.device("cpu"))
    twin, _ = build(spec).build("0" * 16, None, None)
    for step, (loss, gradient) in enumerate(healthy.told, start=1):
        mine, gradient_TW = twin.step(step, *batch_of(step))
        twin.apply(step, 1e-3)
        if mine.item() != loss or not torch.equal(gradient_TW, gradient):
            return f"the healthy session was told something else at step {step}"
    kept = load_file(half)
    same = all(torch.equal(kept[name], weight) for name, weight in twin.weights().items())
    return "" if same else "the healthy session has other weights"
