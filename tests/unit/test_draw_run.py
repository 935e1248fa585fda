"""The picture of the first run: drawn from what is committed, and refused where there is none."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks.draw_run import main

ROOT = Path(__file__).parents[2]
RUN = ROOT / "benchmarks" / "results" / "2026-11-23-first-run"


def drawn(run: Path, target: Path) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(run), "--to", str(target)])
    return int(end.value.code or 0)


def test_the_picture_is_that_of_the_committed_run(tmp_path: Path) -> None:
    assert drawn(RUN, tmp_path / "again.svg") == 0
    text = (tmp_path / "again.svg").read_text()
    assert text == (ROOT / "docs" / "first-run.svg").read_text()
    assert "docs/first-run.svg" in (ROOT / "README.md").read_text()
    metrics = json.loads((RUN / "metrics.json").read_text())
    title = ElementTree.fromstring(text)[0].text or ""
    for variant in ("metric", "unsplit"):
        assert f"{100 * metrics[variant]['value']:.1f} %" in title
    assert f"{metrics['bytes']['reduction']:.0f} × fewer" in title


def test_a_run_without_an_unsplit_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(RUN, tmp_path / "run")
    metrics = json.loads((RUN / "metrics.json").read_text())
    del metrics["unsplit"]
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics))
    assert drawn(tmp_path / "run", tmp_path / "it.svg") == 1
    assert "train it with --unsplit" in capsys.readouterr().err
    assert not (tmp_path / "it.svg").exists()
