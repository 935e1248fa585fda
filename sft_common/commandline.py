"""What both command lines share: one-line errors, ranges, exit codes. Standard library only."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn, TypeVar

from sft_common.errors import SftError

N = TypeVar("N", int, float)

INTERRUPTED = 130
"""Exit code of a command that was stopped, as shells have it for SIGINT."""


class Stopped(Exception):
    """A person stopped a command, which ended in good order; the text says what was kept."""


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that reports wrong usage in one line and exits with 2."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def number_in(low: int, high: int) -> Callable[[str], int]:
    """Return a converter for whole numbers from `low` to `high`."""
    return _within(int, "whole number", low, high)


def real_in(low: float, high: float) -> Callable[[str], float]:
    """Return a converter for numbers from `low` to `high`."""
    return _within(float, "number", low, high)


def _within(convert: Callable[[str], N], kind: str, low: N, high: N) -> Callable[[str], N]:
    def number(text: str) -> N:
        try:
            value = convert(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {kind}") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is outside {low}..{high}")
        return value

    return number


def address(text: str) -> str:
    """Convert nothing: return "host:port" if it is that."""
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as localhost:50051")
    return text


KEEPALIVE = (
    ("--keepalive", 10.0, 60.0, "try a silent connection after so long"),
    ("--keepalive-timeout", 1.0, 20.0, "give it up if that is not answered for so long"),
)
"""Waits that both sides of a connection have, as `add_waits` takes them."""


def add_waits(
    command: argparse._ActionsContainer, waits: Iterable[tuple[str, float, float, str]]
) -> None:
    """Add options in seconds.

    Args:
        command: gets them.
        waits: name, least and default of each, and what is waited for.
    """
    for option, low, default, what in waits:
        command.add_argument(
            option,
            type=real_in(low, 10**6),
            default=default,
            metavar="SECONDS",
            help=f"{what} (default %(default)g)",
        )


def hide_download_bars() -> None:
    """Keep the hub's clients from drawing progress bars; call before they are imported."""
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")


def run_command(program: str, command: Callable[[], None]) -> int:
    """Run a command and return its exit code; an SftError becomes one line on standard error."""
    # Threads of the math library that wait must not spin: two programs on one small machine train
    # twice as fast that way, one alone loses 5 % (docs/LOG.md). Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Failed handshakes are told in this software's own words; gRPC's stand in its C++ log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        command()
    except SftError as error:
        print(f"{program}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{program}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"{program}: {' '.join(str(stopped).split())}", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0
