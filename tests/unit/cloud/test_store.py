"""Trained halves on disk appear whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import resource
import signal
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from sft_cloud.store import Record, Store
from sft_common.config import ModelIdentity, SessionSpec, SplitSpec
from sft_common.errors import MismatchError
from sft_common.snapshots import Snapshot

NAME = "ab12" * 4
SPEC = SessionSpec(model=ModelIdentity(name="m"), split=SplitSpec(split_layer=2), num_labels=2)


def test_weights_and_facts_are_kept(tmp_path: Path) -> None:
    record = Record(session=NAME, spec=SPEC, finished=True, steps=7)
    final = Store(tmp_path / "new" / "place").finish(record, {"w": torch.ones(2, 3).T})
    assert final == tmp_path / "new" / "place" / NAME
    assert load_file(final / "cloud.safetensors")["w"].shape == (3, 2)
    facts = json.loads((final / "session.json").read_text())
    assert (facts["session"], facts["steps"], facts["split"]["rank"]) == (NAME, 7, 8)
    assert len({path.stat().st_mode for path in final.iterdir()}) == 1


def test_a_session_of_before_the_decoders_had_layers_is_still_known(tmp_path: Path) -> None:
    record = Record(session=NAME, spec=SPEC, finished=True, steps=7)
    final = Store(tmp_path).finish(record, {"w": torch.ones(2)})
    facts = json.loads((final / "session.json").read_text())
    del facts["split"]["decoder_layers"], facts["finished"], facts["owner"]
    (final / "session.json").write_text(json.dumps(facts))
    assert Store(tmp_path).load(NAME, SPEC).keys() == {"w"}
    other = dataclasses.replace(SPEC, split=SplitSpec(split_layer=2, rank=9))
    with pytest.raises(MismatchError, match="another split: .*'rank': 8.*'rank': 9"):
        Store(tmp_path).load(NAME, other)


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    """A real limit on the size of files; safetensors has an error class of its own for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises((OSError, SafetensorError)):
            Store(tmp_path).finish(Record(session=NAME, spec=SPEC), {"w": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert list((tmp_path / NAME).iterdir()) == []


def test_what_nobody_can_take_up_is_swept_away(tmp_path: Path) -> None:
    """Examples that were on their way when the process was killed, and nothing else."""
    store, known, unknown, strange = Store(tmp_path), "aa" * 8, "bb" * 8, tmp_path / "other"
    store.note(Record(session=known, spec=SPEC))
    for name in (known, unknown):
        (store.made(name) / "examples.bin").write_bytes(b"rows")
    store.made("cc" * 8)
    store.snapshots("dd" * 8).write("step-00000001", Snapshot({}, {}))
    strange.mkdir()
    store.sweep()
    assert store.names() == [known]
    assert (store.place(known) / "examples.bin").exists() and strange.exists()
