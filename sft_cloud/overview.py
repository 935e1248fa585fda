"""What there is to say of a cloud and its sessions, as the owner sees it (protos: operations).

Of a running host and of a folder alone. It serves nothing and prints nothing.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch

from sft_cloud.device import memory_bytes
from sft_cloud.host import Host
from sft_cloud.hosted import Hosted
from sft_cloud.kept import Kept, kept_sessions, states_on_disk
from sft_cloud.store import Store
from sft_common.memory import available_bytes
from sft_common.pb.sft.v1 import operations_pb2 as pb

STATES = ("at_work", "waiting", "training", "parked", "finished", "failed")
"""Of sessions, as metrics name them."""


def state_of(hosted: Hosted) -> str:
    """Return where a session in memory is, one of `STATES`."""
    if hosted.training:
        return "training"
    return "waiting" if hosted.visit is None else "at_work"


def count_states(host: Host) -> Counter[str]:
    """Return how many sessions are where; opens no file."""
    here = {hosted.record.session: state_of(hosted) for hosted in host.residents}
    found = Counter(here.values())
    for name, state in states_on_disk(host.store) if host.store else ():
        if name not in here:
            found[state] += 1
    return found


def summaries(host: Host) -> list[pb.SessionSummary]:
    """Return what there is to say of all sessions; reads the disk, so not for the event loop."""
    on_disk = {kept.session: kept for kept in kept_sessions(host.store)} if host.store else {}
    here = {hosted.record.session: hosted for hosted in host.residents}
    now = time.monotonic()
    found = [_of_hosted(hosted, on_disk.get(name), now) for name, hosted in here.items()]
    found += summaries_of(kept for name, kept in on_disk.items() if name not in here)
    return sorted(found, key=lambda summary: summary.session_id)


def summaries_of(sessions: Iterable[Kept]) -> list[pb.SessionSummary]:
    """Return what there is to say of sessions that are on disk alone."""
    return [_of_kept(kept) for kept in sessions]


def summaries_of_folder(store: Store) -> list[pb.SessionSummary]:
    """Return what there is to say of the sessions of a folder that no cloud works on."""
    return summaries_of(kept_sessions(store))


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def device_memory(device: torch.device) -> tuple[int, int]:
    """Return all memory of a device, and what of it is free, in bytes."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(total), int(free)
    return memory_bytes(device), available_bytes()


def disk_free_bytes(store: Store | None) -> int:
    """Return the room that is left for sessions on disk; 0 if none are kept."""
    return shutil.disk_usage(store.folder).free if store else 0


def _of_hosted(hosted: Hosted, kept: Kept | None, now: float) -> pb.SessionSummary:
    spec, figures = hosted.record.spec, hosted.figures
    return pb.SessionSummary(
        session_id=hosted.record.session,
        state=f"SESSION_STATE_{state_of(hosted).upper()}",
        owner=hosted.record.owner,
        model=spec.model.name,
        cut=spec.split.cut,
        split_layer=spec.split.split_layer,
        rank=spec.split.rank,
        steps=hosted.session.applied,
        steps_per_second=figures.steps_per_second(now),
        received_bytes=figures.traffic.received,
        sent_bytes=figures.traffic.sent,
        idle_seconds=hosted.idle_seconds,
        memory_bytes=hosted.session.memory_bytes,
        disk_bytes=kept.size_bytes if kept else 0,
        snapshots=len(kept.snapshots) if kept else 0,
    )


def _of_kept(kept: Kept) -> pb.SessionSummary:
    summary = pb.SessionSummary(
        session_id=kept.session,
        state=f"SESSION_STATE_{kept.state.upper()}",
        steps=kept.steps,
        idle_seconds=max(0.0, time.time() - kept.touched),
        disk_bytes=kept.size_bytes,
        snapshots=len(kept.snapshots),
    )
    if kept.record is not None:
        spec = kept.record.spec
        summary.owner, summary.model = kept.record.owner, spec.model.name
        summary.cut, summary.rank = spec.split.cut, spec.split.rank
        summary.split_layer = spec.split.split_layer
    return summary
