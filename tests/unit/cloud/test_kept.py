"""What a save folder tells of its sessions, and that nothing comes back once it was deleted."""

from __future__ import annotations

import argparse
import io
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from sft_cloud.admin_socket import MAX_PATH_BYTES, check_own, check_place, fits, target_of
from sft_cloud.kept import alone_with, kept_sessions, states_on_disk
from sft_cloud.overview import summaries_of_folder
from sft_cloud.sessions_command import chosen_of, run_delete, run_list
from sft_cloud.store import Record, Store
from sft_cloud.training_files import BEGUN, TOLD, TRAINING
from sft_common.config import ModelIdentity, SessionSpec, SplitSpec
from sft_common.errors import ConfigError, SessionLostError
from sft_common.pb.sft.v1 import operations_pb2 as pb
from sft_common.snapshots import Snapshot, Snapshots

SPEC = SessionSpec(model=ModelIdentity(name="m"), split=SplitSpec(split_layer=2), num_labels=2)
PARKED, FINISHED, DAMAGED = "aa" * 8, "bb" * 8, "cc" * 8
DAY = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One session of each kind that a disk can hold, and a stranger's file."""
    store = Store(tmp_path / "sessions")
    store.note(Record(session=PARKED, spec=SPEC, owner="lab"))
    store.snapshots(PARKED).write("step-00000010", Snapshot({}, {"weights": {"w": torch.ones(9)}}))
    store.snapshots(PARKED).write("parked-00000012-1", Snapshot({}, {}))
    store.finish(
        Record(session=FINISHED, spec=SPEC, owner="ward", finished=True, steps=7),
        {"w": torch.ones(3)},
    )
    (store.folder / DAMAGED).mkdir()
    (store.folder / DAMAGED / "session.json").write_text("{")
    (store.folder / "readme").write_text("not a session")
    return store


def options(store: Store, *sessions: str, **changes: object) -> argparse.Namespace:
    fields: dict[str, object] = {
        "sessions": list(sessions),
        "owner": None,
        "older_than": None,
        "yes": True,
        "json": False,
        "save_dir": store.folder,
        "admin_socket": None,
    }
    return argparse.Namespace(**{**fields, **changes})


def test_a_folder_tells_of_its_sessions(store: Store) -> None:
    found = {summary.session_id: summary for summary in summaries_of_folder(store)}
    assert list(found) == [PARKED, FINISHED, DAMAGED]
    parked, finished, damaged = found.values()
    assert (parked.state, parked.owner, parked.steps, parked.snapshots) == (
        pb.SESSION_STATE_PARKED,
        "lab",
        12,
        2,
    )
    assert (finished.state, finished.owner, finished.steps) == (
        pb.SESSION_STATE_FINISHED,
        "ward",
        7,
    )
    assert damaged.state == pb.SESSION_STATE_DAMAGED
    count = Counter(state for _, state in states_on_disk(store))
    assert count == {"parked": 2, "finished": 1}  # it opens no file
    for summary in found.values():
        files = [p for p in (store.folder / summary.session_id).rglob("*") if p.is_file()]
        assert summary.disk_bytes >= sum(file.stat().st_size for file in files)


def test_a_training_that_goes_on_alone_is_told_from_one_that_failed(store: Store) -> None:
    marks = Snapshots(store.folder / PARKED / TRAINING)
    for mark, state in (
        (BEGUN, pb.SESSION_STATE_TRAINING),
        (TOLD, pb.SESSION_STATE_TRAINING),
        (None, pb.SESSION_STATE_FAILED),
    ):
        if mark is None:
            marks.remove(BEGUN)
        else:
            marks.write(mark, Snapshot({}, {}))
        assert next(iter(summaries_of_folder(store))).state == state
        assert dict(states_on_disk(store))[PARKED].upper() in pb.SessionState.Name(state)


def test_what_is_deleted_is_not_written_again(store: Store) -> None:
    store.delete(PARKED)
    for write in (store.note, lambda record: store.finish(record, {"w": torch.ones(3)})):
        with pytest.raises(OSError, match=f"session {PARKED} was deleted"):
            write(Record(session=PARKED, spec=SPEC))
    assert not [path for path in store.folder.rglob("*") if PARKED in str(path)]
    assert store.has(FINISHED)


def test_names_that_are_none_delete_nothing(store: Store) -> None:
    before = sorted(store.folder.parent.rglob("*"))
    for name in ("..", ".", "", "readme", "../sessions", PARKED.upper(), PARKED + "/..", "dd" * 8):
        assert not store.has(name)
        with suppress(SessionLostError):  # no name of a session
            store.delete(name)
    assert sorted(store.folder.parent.rglob("*")) == before


def test_sessions_are_chosen_by_all_that_is_said(store: Store) -> None:
    os.utime(store.folder / FINISHED)
    for path in [store.folder / PARKED, *(store.folder / PARKED).rglob("*")]:
        os.utime(path, (0, 0))
    found = summaries_of_folder(store)

    def names(*sessions: str, **changes: object) -> list[str]:
        chosen = chosen_of(found, options(store, *sessions, **changes))
        return [summary.session_id for summary in chosen]

    assert names(FINISHED) == [FINISHED]
    assert names(owner="lab") == [PARKED]
    assert names(older_than=1.0) == [PARKED]
    assert names(FINISHED, owner="lab") == []
    assert names(older_than=1.0, owner="ward") == []
    with pytest.raises(ConfigError, match="there is no session 'xy'; nothing was deleted"):
        names(FINISHED, "xy")


def test_a_folder_without_a_cloud_is_worked_on_directly(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run_list(options(store))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "session",
        PARKED,
        FINISHED,
        DAMAGED,
    ]
    run_delete(options(store, owner="lab"))
    assert capsys.readouterr().out == f"{PARKED} deleted\n"
    run_delete(options(store, owner="lab"))
    assert capsys.readouterr().out == "no session fits; nothing was deleted\n"
    assert not store.has(PARKED) and store.has(FINISHED)


def test_nobody_agreed_or_said_which(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(ConfigError, match="1 sessions would be deleted; give --yes to agree"):
        run_delete(options(store, PARKED, yes=False))
    with pytest.raises(ConfigError, match="which sessions"):
        run_delete(options(store))
    assert store.has(PARKED)


def test_a_folder_belongs_to_one_program(store: Store) -> None:
    with alone_with(store.folder):
        with pytest.raises(ConfigError, match="another sft-cloud works on --save-dir"):
            run_delete(options(store, PARKED))
    assert [kept.session for kept in kept_sessions(store)] == [PARKED, FINISHED, DAMAGED]


def test_a_folder_that_is_made_is_its_owners_alone(tmp_path: Path) -> None:
    assert Store(tmp_path / "new").folder.stat().st_mode & 0o777 == 0o700


def test_where_a_socket_may_be(tmp_path: Path) -> None:
    folder = Path("/") / ("x" * (MAX_PATH_BYTES - 2))
    assert fits(folder / "y"[:0]) and not fits(folder / "yy")
    assert target_of(Path("/a b/50%/#?ü")) == "unix:/a%20b/50%25/%23%3F%C3%BC"
    with pytest.raises(ConfigError, match="there is no folder"):
        check_place(tmp_path / "no" / "sock")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="there is something else"):
        check_place(tmp_path / "file")
    check_own(tmp_path / "file")


def test_another_users_socket_is_not_talked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="run this as the user of the cloud"):
        check_own(tmp_path)
