"""Names of sessions come from peers and from files: none leads out of the store's folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sft_cloud.kept import kept_sessions
from sft_cloud.store import Record, Store
from sft_common.config import ModelIdentity, SessionSpec, SplitSpec
from sft_common.errors import ConfigError, SessionLostError

SPEC = SessionSpec(model=ModelIdentity(name="m"), split=SplitSpec(split_layer=2), num_labels=2)

NAME = "0123456789abcdef"

BAD = [
    *("", ".", "..", "../outside", "../../etc/passwd", "/etc", "//", "~", "a/../../outside"),
    *(NAME[:-1], f"{NAME}0", NAME.upper(), f"{NAME}\n", f"{NAME}\0", f"\0{NAME}", f"{NAME}/.."),
    *("\uff10" * 16, "\u0661" * 16, "\u202e" + NAME, "0\u0300" * 8, "x" * 10**6, "..\\outside"),
    *(f"../sessions/{NAME}", f"./{NAME}", "session.json", ".probe", "con", "\ud800" * 16),
]

NAMES = st.sampled_from(BAD) | st.text(max_size=40) | st.text("./\\0a", max_size=20)

USES: list[Callable[[Store, str], object]] = [
    lambda store, name: store.record(name),
    lambda store, name: store.finished(name),
    lambda store, name: store.load(name, SPEC),
    lambda store, name: list(store.pieces(name)),
    lambda store, name: store.delete(name),
    lambda store, name: store.snapshots(name).names(),
    lambda store, name: store.note(Record(session=name, spec=SPEC)),
    lambda store, name: store.finish(Record(session=name, spec=SPEC), {"w": torch.ones(1)}),
]


def everything(folder: Path) -> list[tuple[str, int, bytes]]:
    """Return all that lies in a folder."""
    paths = sorted(folder.rglob("*"))
    return [(str(p), p.stat().st_mode, p.read_bytes() if p.is_file() else b"") for p in paths]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and with something beside it that looks like a session."""
    place = tmp_path_factory.mktemp("place")
    (place / "outside" / "snapshots" / "step-00000001").mkdir(parents=True)
    (place / "outside" / "cloud.safetensors").write_text("private")
    record = Record(session=NAME, spec=SPEC, finished=True, steps=3)
    Store(place / "sessions").finish(record, {"w": torch.ones(2)})
    facts = json.loads((place / "sessions" / NAME / "session.json").read_text())
    (place / "outside" / "session.json").write_text(json.dumps({**facts, "session": "../outside"}))
    return place


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(NAMES, st.sampled_from(USES))
def test_no_name_reads_or_writes_anything(
    place: Path, name: str, use: Callable[[Store, str], object]
) -> None:
    if name == NAME:
        return
    before = everything(place)
    with pytest.raises((SessionLostError, ConfigError), match="is no name of a session") as error:
        use(Store(place / "sessions"), name)
    assert len(str(error.value)) < 400 and str(error.value).isprintable()
    assert everything(place) == before


def test_a_record_that_names_another_session_is_not_followed(tmp_path: Path) -> None:
    store = Store(tmp_path / "sessions")
    folder = store.finish(Record(session=NAME, spec=SPEC, finished=True), {"w": torch.ones(2)})
    facts = json.loads((folder / "session.json").read_text())
    (folder / "session.json").write_text(json.dumps({**facts, "session": "../outside"}))
    with pytest.raises(SessionLostError, match=r"its record is that of '\.\./outside'"):
        store.record(NAME)
    assert [kept.record for kept in kept_sessions(store)] == [None]
