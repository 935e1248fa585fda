"""Sessions that were begun and never taken up again are deleted after a while; finished ones stay.

Of finished ones the states go by which a script could still take them up.

It knows no streams; the host deletes, and leaves alone what is in memory.
"""

from __future__ import annotations

import asyncio
import logging
import time

from sft_cloud.host import Host
from sft_cloud.kept import Kept, kept_sessions
from sft_cloud.store import Store
from sft_common.errors import first_line

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400.0

LOOK_EVERY_SECONDS = 3600.0


async def forget_untouched(host: Host, days: float) -> None:
    """Delete sessions on disk that nobody has touched for so long; runs until it is cancelled.

    Args:
        host: whose sessions they are; one that keeps none has nothing to forget.
        days: since something of a session was written last; 0: for ever.
    """
    if host.store is None or not days:
        return
    limit = days * DAY_SECONDS
    while True:
        await _forget(host, host.store, limit)
        await asyncio.sleep(min(LOOK_EVERY_SECONDS, max(1.0, limit / 10)))


async def _forget(host: Host, store: Store, limit: float) -> None:
    try:
        for kept in await asyncio.to_thread(_untouched, store, limit):
            if kept.state == "finished":
                await asyncio.to_thread(store.drop_states, kept.session)
            elif await host.delete(kept.session, from_disk_only=True):
                log.info(
                    "session %s forgotten: nothing of it was written for %.1f days",
                    kept.session,
                    (time.time() - kept.touched) / DAY_SECONDS,
                    extra={"session": kept.session},
                )
    except OSError as error:
        log.warning("cannot forget sessions of %s: %s", store.folder, first_line(error))


def _untouched(store: Store, limit: float) -> list[Kept]:
    end = time.time() - limit
    return [
        kept
        for kept in kept_sessions(store)
        if kept.touched < end and (kept.state != "finished" or kept.snapshots)
    ]
