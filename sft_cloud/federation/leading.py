"""From files to federations that this cloud leads."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from torch import Tensor

from sft_cloud.catalog import ModelCatalog
from sft_cloud.federation.beginning import HalvesBeginning, PartsBeginning, WholeBeginning
from sft_cloud.federation.federation import Federation
from sft_cloud.federation.file import Written, read_federation
from sft_cloud.federation.keeping import Keeper
from sft_cloud.federation.registry import Federations
from sft_cloud.federation.start import Beginning
from sft_cloud.host import Host
from sft_cloud.metrics import Traffic
from sft_cloud.session import Session
from sft_common.errors import SessionLostError
from sft_common.federation.plan import SPLIT_METHODS

FOLDER = "federations"
"""In the save folder: a folder for each federation."""


def federations_of(
    files: Iterable[Path], catalog: ModelCatalog, host: Host, save_dir: Path | None
) -> Federations:
    """Return the federations that files describe.

    Args:
        files: of `--federation`.
        catalog: where models are found.
        host: has the sessions of their clients.
        save_dir: where averages are kept; None keeps none.

    Raises:
        ConfigError, ModelError: a file or its model is not what it should be.
    """
    return Federations(
        _federation(read_federation(path, catalog.own), host, save_dir) for path in files
    )


def _federation(written: Written, host: Host, save_dir: Path | None) -> Federation:
    plan = written.plan
    keeper = Keeper(save_dir / FOLDER / plan.name, plan) if save_dir else None
    return Federation(
        plan,
        _beginning(written),
        host.scheduler,
        Traffic(),
        keeper=keeper,
        net2_of=partial(_net2_of, host, plan.name),
    )


def _beginning(written: Written) -> Beginning:
    plan, pretrained = written.plan, written.pretrained
    if plan.method == "fedavg":
        return WholeBeginning(plan, pretrained)
    if plan.method in SPLIT_METHODS:
        return HalvesBeginning(plan, pretrained)
    return PartsBeginning(plan, pretrained)


async def _net2_of(
    host: Host, federation: str, session_id: str, owner: str, seed: int
) -> dict[str, Tensor]:
    """Return what a session in memory has trained of net2.

    Args:
        host: has the session.
        federation: that it is a part of.
        session_id: its name.
        owner: whose it is.
        seed: that it was opened with: another try's, or another client's, has another one.

    Raises:
        SessionLostError: there is no such session.
    """
    hosted = host.residents.get(session_id)
    if hosted is None or hosted.record.owner != owner:
        raise SessionLostError(f"session {session_id[:40]!r}, whose net2 is handed in, is not here")
    spec = hosted.record.spec
    if (spec.federation, spec.seed, spec.tail) != (federation, seed, None):
        raise SessionLostError(
            f"session {session_id[:40]!r}, whose net2 is handed in, is not what this "
            "client trained in this try"
        )
    await hosted.quiet()
    return await host.scheduler.compute(_copied, hosted.session)


def _copied(session: Session) -> dict[str, Tensor]:
    """Return a copy of a session's net2, which goes on changing."""
    return {name: tensor.clone() for name, tensor in session.weights().items()}
