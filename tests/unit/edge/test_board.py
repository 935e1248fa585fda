"""A log for TensorBoard, read back with TensorBoard."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sft_common.errors import ConfigError
from sft_edge.board import FOLDER, Board, board_of, check_board, opened_board
from sft_edge.recorder import Recorder
from sft_edge.run_folder import RunFolder
from sft_edge.tasks.batches import Batch
from sft_edge.traffic import Traffic
from sft_edge.trainer import Evaluation
from tests.boards import points


def test_nothing_is_made_before_the_first_point(tmp_path: Path) -> None:
    board = Board(tmp_path / "log")
    board.go_back(0, {})
    board.flush()
    board.close()
    assert list(tmp_path.iterdir()) == []


def test_points_behind_a_step_are_told_again(tmp_path: Path) -> None:
    board = Board(tmp_path)
    for step in range(1, 6):
        board.add(step, {"loss": float(step)})
    board.add(3, {"validation/loss": 30.0})
    board.go_back(3, {"loss": 3.0})
    board.add(3, {"validation/loss": 31.0})
    board.add(4, {"loss": 40.0})
    board.close()
    found = points(tmp_path)
    assert found["loss"] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]
    assert found["validation/loss"] == [(3, 31.0)]


def test_a_training_that_begins_anew_leaves_nothing_of_the_old(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        board = Board(tmp_path)
        board.add(7, {"loss": value})
        board.close()
    assert points(tmp_path)["loss"] == [(7, 2.0)]


def test_where_the_log_is(tmp_path: Path) -> None:
    assert board_of(argparse.Namespace(tensorboard=None), tmp_path) is None
    for said, folder in ((True, tmp_path / FOLDER), (tmp_path / "other", tmp_path / "other")):
        with opened_board(argparse.Namespace(tensorboard=said), tmp_path) as board:
            assert board is not None
            board.add(1, {"loss": 1.0})
        assert points(folder) == {"loss": [(1, 1.0)]}


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'sft\[tensorboard\]'"):
        check_board(argparse.Namespace(tensorboard=True))
    check_board(argparse.Namespace(tensorboard=None))


def recorder(folder: RunFolder, board: Board) -> Recorder:
    screen: Any = SimpleNamespace(advance=lambda *_: None, evaluated=lambda *_: None)
    return Recorder(folder, screen, Traffic(), variant="split", log_every=2, board=board)


def step(to: Recorder, number: int, loss: float) -> None:
    batch = cast(Batch, SimpleNamespace(lengths=[3, 2]))
    to.stepped(number, 1, [batch], loss, 1e-3)


def judge(to: Recorder, number: int, loss: float) -> None:
    metrics = {"accuracy": 0.5, "f1": 0.25}
    to.evaluated(number, 1, Evaluation(metric="accuracy", value=0.5, loss=loss, metrics=metrics))


def test_a_killed_run_goes_on_in_its_log(tmp_path: Path) -> None:
    """The snapshot of step 4 was taken before the evaluation behind it, which is done again."""
    folder = RunFolder(tmp_path, "one")
    folder.create()
    first = recorder(folder, Board(tmp_path / "log"))
    for number in range(1, 5):
        step(first, number, float(number))
    state = first.state()
    judge(first, 4, 9.0)
    step(first, 5, 5.0)
    step(first, 6, 6.0)
    board = Board(tmp_path / "log")
    second = recorder(folder, board)
    second.restore(state)
    judge(second, 4, 8.0)
    step(second, 5, 50.0)
    step(second, 6, 60.0)
    board.close()
    found = points(tmp_path / "log")
    assert found["loss"] == [(1, 1.0), (2, 2.0), (4, 4.0), (6, 60.0)]
    assert found["validation/loss"] == [(4, 8.0)]
    assert found["validation/f1"] == [(4, 0.25)]
    assert [at for at, _ in found["bytes/up"]] == [1, 2, 4, 4, 6]
    assert [at for at, _ in found["steps_per_second"]] == [1, 2, 4, 6]
    assert all(value > 0 for _, value in found["steps_per_second"])
