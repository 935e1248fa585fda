"""Folders that are replaced whole, or stay as they were."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sft_common import files
from sft_common.files import replace_folder


def write(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "new").write_text("new")


@pytest.fixture
def former(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").write_text("old")
    return folder


def test_a_folder_takes_the_place_of_a_former_one(former: Path) -> None:
    replace_folder(former, write)
    assert [path.name for path in former.iterdir()] == ["inner"]
    replace_folder(former.parent / "other", write)
    assert sorted(path.name for path in former.parent.iterdir()) == ["model", "other"]


@pytest.mark.parametrize("what", ["write", "flush", "rename"])
def test_a_former_folder_stays_if_the_new_one_fails(
    former: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def fail(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    rename = Path.rename

    def rename_the_former(path: Path, to: Path) -> Path:
        if to == former and "former" not in path.name:
            fail()
        return rename(path, to)

    if what == "flush":
        monkeypatch.setattr(files, "_flush", fail)
    elif what == "rename":
        monkeypatch.setattr(Path, "rename", rename_the_former)
    with pytest.raises(OSError, match="No space left"):
        replace_folder(former, fail if what == "write" else write)
    assert [path.name for path in former.parent.iterdir()] == ["model"]
    assert [path.name for path in former.iterdir()] == ["old"]
