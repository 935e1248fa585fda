"""The federations of one cloud, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from sft_cloud.federation.federation import Federation
from sft_cloud.metrics import Traffic
from sft_common.config import SessionSpec
from sft_common.errors import ConfigError, printable


class Federations:
    """All federations of a cloud.

    Args:
        federations: each with a name of its own.

    Raises:
        ConfigError: two have the same name.
    """

    def __init__(self, federations: Iterable[Federation] = ()) -> None:
        self._by_name: dict[str, Federation] = {}
        self._leading: list[asyncio.Task[None]] = []
        for federation in federations:
            name = federation.plan.name
            if name in self._by_name:
                raise ConfigError(f"two federations are named {name}; give each its own name")
            self._by_name[name] = federation

    def __iter__(self) -> Iterator[Federation]:
        return iter(self._by_name.values())

    def find(self, name: str) -> Federation:
        """Return a federation.

        Raises:
            ConfigError: there is none of that name.
        """
        if (federation := self._by_name.get(name)) is not None:
            return federation
        known = ", ".join(sorted(self._by_name)) or "none; it is given some with --federation FILE"
        raise ConfigError(
            f"this cloud leads no federation {printable(name[:80])!r}; it leads: {known}"
        )

    def traffic_of(self, spec: SessionSpec) -> list[Traffic]:
        """Return what counts the bytes of a session's federation, if it has one here."""
        federation = self._by_name.get(spec.federation)
        return [federation.traffic] if federation else []

    def begin(self) -> None:
        """Lead all of them from now on."""
        self._leading = [asyncio.create_task(federation.lead()) for federation in self]

    def stop(self) -> None:
        """Lead none of them any more; what is on disk stays."""
        for task in self._leading:
            task.cancel()
        for federation in self:
            federation.stop()
