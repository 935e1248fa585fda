"""Torch's one CPU generator, shared by the threads of a process without disturbing each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LOCK = threading.RLock()


@contextmanager
def exclusive_randomness(*devices: torch.device) -> Iterator[None]:
    """Lend the generators of the CPU and of `devices` to this thread; restore them at the end.

    Others who ask wait. Dropout of a session and the initialisation of another's head would
    otherwise draw from each other's streams.
    """
    with _LOCK, torch.random.fork_rng(devices=list(devices)):
        yield


def seed_cpu(seed: int) -> None:
    """Seed the CPU's generator alone; `torch.manual_seed` would reseed every GPU too."""
    torch.default_generator.manual_seed(seed)
