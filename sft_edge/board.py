"""A run's log for TensorBoard: scalars by step. It knows no training, and its package when needed.

The log can go back: points from a step on are told again, and viewers forget the first telling.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sft_common.errors import ConfigError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
"""In the folder of a run, unless another is named."""


class Board:
    """A log of scalars; its folder is made with the first of them.

    Args:
        folder: of the log, one for each run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._purge = folder, 0
        self._writer: SummaryWriter | None = None

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add the values of some scalars at a step."""
        for name, value in scalars.items():
            self._open().add_scalar(name, value, step)

    def go_back(self, step: int, scalars: Mapping[str, float]) -> None:
        """Forget all from a step on, when the next scalars come.

        Args:
            step: from which on.
            scalars: those of that step which hold nevertheless.
        """
        self.close()
        self._purge = step
        self.add(step, scalars)

    def flush(self) -> None:
        """Put on disk what was added."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """End the log for now; safe to repeat."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> SummaryWriter:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=self._purge)
        return self._writer


def check_board(options: argparse.Namespace) -> None:
    """Refuse `--tensorboard` where its package is missing.

    Raises:
        ConfigError: says what to install.
    """
    if options.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "--tensorboard needs the package tensorboard, which is not installed; "
            "pip install 'sft[tensorboard]', or leave the option out"
        )


def board_of(options: argparse.Namespace, run: Path) -> Board | None:
    """Return the log that `--tensorboard` asks for; None if it does not.

    Args:
        options: of the command line.
        run: the run's folder.
    """
    if not options.tensorboard:
        return None
    return Board(options.tensorboard if isinstance(options.tensorboard, Path) else run / FOLDER)


@contextmanager
def opened_board(options: argparse.Namespace, run: Path) -> Iterator[Board | None]:
    """Yield what `board_of` returns; it is closed when the block ends."""
    board = board_of(options, run)
    try:
        yield board
    finally:
        if board is not None:
            board.close()
