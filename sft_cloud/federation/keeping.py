"""Durable averages: after every round a federation is on disk, whole, or as it was before."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sft_cloud.federation.journal import Journal, Mark
from sft_cloud.federation.record import RoundRecord
from sft_cloud.federation.spool import remove_unfinished
from sft_cloud.federation.state import State
from sft_common.errors import ConfigError, ModelError, SnapshotError, first_line
from sft_common.federation.plan import FederationPlan
from sft_common.files import remove_leftovers, replace_folder, save_json
from sft_common.snapshots import Snapshot, Snapshots, step_name

log = logging.getLogger(__name__)

MODEL = "model"
"""Folder of the trained model, in that of the federation."""

MODEL_FACTS = "federation.json"
"""In it: whose model it is, and of how many rounds."""

HISTORY = "history.jsonl"
"""What happened, a line for each try."""

CHANGEABLE = ("rounds", "clients")
"""Of a plan, once a federation has begun: nothing that an average is made of hangs on it."""

KEPT = 2
"""Averages that stay on disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a federation has come."""

    state: State
    """Its average."""

    done: int = 0
    """Rounds that are in it."""

    tries: int = 0
    """All so far, those that came to nothing too."""

    records: tuple[RoundRecord, ...] = field(default=())
    """What happened."""


class Keeper:
    """The folder of one federation.

    Args:
        folder: where its averages are; made with the first.
        plan: what it is about.
    """

    def __init__(self, folder: Path, plan: FederationPlan) -> None:
        self.folder, self._plan = folder, plan_facts(plan)
        self._snapshots = Snapshots(folder / "averages")
        self._journal = Journal(folder / HISTORY)

    def write(self, progress: Progress) -> None:
        """Write how far it has come, and forget older averages.

        Raises:
            SnapshotError: the disk does not take it; what was there stays.
        """
        mark = self._journal.write(progress.records)
        facts = {
            "plan": self._plan,
            "done": progress.done,
            "tries": progress.tries,
            "history": dataclasses.asdict(mark),
        }
        snapshot = Snapshot(facts, progress.state.groups())
        self._snapshots.write(step_name(progress.tries), snapshot)
        self._snapshots.remove_older(KEPT)

    def save_model(self, progress: Progress, save: Callable[[State, Path], None]) -> None:
        """Write the trained model, unless it is there, in place of one of fewer or more rounds.

        If it cannot be written, that is a warning and the former one stays.

        Args:
            progress: with the last average.
            save: writes it into a folder.
        """
        facts = {"federation": self._plan["name"], "rounds": progress.done}

        def write(folder: Path) -> None:
            save(progress.state, folder)
            save_json(folder / MODEL_FACTS, facts)

        try:
            if self._facts_of_model() != facts:
                replace_folder(self.folder / MODEL, write)
        except (OSError, SafetensorError, ModelError) as error:
            log.warning("the model of %s is not written: %s", self.folder, first_line(error))

    def _facts_of_model(self) -> object:
        try:
            return json.loads((self.folder / MODEL / MODEL_FACTS).read_bytes())
        except (OSError, ValueError):
            return None

    def read(self) -> Progress | None:
        """Return how far it had come, from the newest average that is whole; None: nothing is here.

        Raises:
            ConfigError: the federation was begun with another plan.
            SnapshotError: none of its averages can be read.
        """
        remove_leftovers(self.folder)
        remove_unfinished(self.folder)
        steps = self._snapshots.steps()
        for step in reversed(steps):
            try:
                found = self._snapshots.read(step_name(step))
                self._check_plan(found.facts["plan"])
                records = self._journal.read(Mark(**found.facts["history"]))
            except SnapshotError as damaged:
                log.warning("%s; trying the average before it", damaged)
                continue
            return Progress(
                state=State.of(found.tensors),
                done=found.facts["done"],
                tries=found.facts["tries"],
                records=records,
            )
        if steps:
            raise SnapshotError(
                f"none of the averages in {self.folder} can be read; move that folder away to "
                "begin the federation anew"
            )
        return None

    def _check_plan(self, begun: dict[str, Any]) -> None:
        for name, value in self._plan.items():
            if begun.get(name) == value:
                continue
            if name in CHANGEABLE:
                log.info(
                    "federation %s goes on with %s %s, it was begun with %s",
                    *(self._plan["name"], name, value, begun.get(name)),
                )
            else:
                raise ConfigError(
                    f"federation {self._plan['name']} was begun with {name} {begun.get(name)}, "
                    f"its file says {value} now; change it back, take another name, or move "
                    f"{self.folder} away"
                )


def plan_facts(plan: FederationPlan) -> dict[str, Any]:
    """Return a plan as JSON can say it."""
    facts = dataclasses.asdict(plan)
    facts["labels"] = list(plan.labels)
    return facts
