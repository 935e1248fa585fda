"""The history of a federation on disk: it grows by lines, and what no average counts is dropped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sft_cloud.federation.journal import Journal
from sft_cloud.federation.keeping import Keeper, Progress
from sft_cloud.federation.state import State
from sft_common.errors import SnapshotError
from tests.unit.cloud.federation.scene import plan
from tests.unit.cloud.federation.test_reporting import record

FIVE = tuple(record(number, metric="é\u2028\n") for number in range(1, 6))


def test_a_try_adds_its_line_and_what_was_there_is_not_written_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "f" / "history.jsonl")
    journal.write(FIVE[:2])
    before = journal.path.read_bytes()
    mark = journal.write(FIVE)
    after = journal.path.read_bytes()
    assert after.startswith(before) and after.count(b"\n") == 5
    assert Journal(journal.path).read(mark) == FIVE
    assert journal.write(FIVE) == mark


def test_lines_that_no_average_counts_are_dropped(tmp_path: Path) -> None:
    """Of a process that was killed between its line and its average, whole or torn."""
    journal = Journal(tmp_path / "history.jsonl")
    mark = journal.write(FIVE[:2])
    journal.write(FIVE[:4])
    with open(journal.path, "ab") as file:
        file.write(b'{"round":5,"num')
    again = Journal(journal.path)
    assert again.read(mark) == FIVE[:2]
    other = record(3, examples=77)
    last = again.write((*FIVE[:2], other))
    assert Journal(journal.path).read(last) == (*FIVE[:2], other)
    assert journal.path.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("harm", ["changed", "short", "gone"])
def test_a_damaged_history_is_not_believed(tmp_path: Path, harm: str) -> None:
    journal = Journal(tmp_path / "history.jsonl")
    mark = journal.write(FIVE)
    text = journal.path.read_bytes()
    journal.path.write_bytes(text.replace(b"1000", b"1001", 1) if harm == "changed" else text[:-9])
    if harm == "gone":
        journal.path.unlink()
    with pytest.raises(SnapshotError, match=r"the history .*history\.jsonl"):
        Journal(journal.path).read(mark)


def test_an_average_is_as_large_after_a_thousand_rounds_as_after_one(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, plan())
    state = State(clients={"w": torch.zeros(2)})
    sizes = []
    for tries in (1, 1000):
        records = tuple(record(number) for number in range(1, tries + 1))
        keeper.write(Progress(state=state, done=tries, tries=tries, records=records))
        newest = max(tmp_path.glob("averages/*/snapshot.json"))
        sizes.append(newest.stat().st_size)
    assert sizes[1] - sizes[0] < 50
    found = Keeper(tmp_path, plan()).read()
    assert found is not None and len(found.records) == 1000
