"""Scripts that complete a command line in a shell, out of its parser. It knows no command."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

SHELLS = ("bash", "zsh", "tcsh")


def add_shells(command: argparse._ActionsContainer) -> None:
    """Add the argument that says for which shell."""
    command.add_argument("shell", choices=SHELLS, help="the shell that is to complete")


def script_for(
    shell: str, parser: argparse.ArgumentParser, choices: Mapping[str, Iterable[str]]
) -> str:
    """Return a script that completes commands, options, their choices, files and folders.

    Args:
        shell: one of `SHELLS`.
        parser: of all commands; it completes files afterwards.
        choices: name of an option's value, as `task` -> what it may be, where the parser leaves
            the check to others.
    """
    import shtab

    for action in actions_of(parser):
        if action.choices is None and action.dest in choices:
            action.choices = list(choices[action.dest])
        elif action.type is Path:
            is_folder = "DIR" in str(action.metavar)
            action.complete = shtab.DIRECTORY if is_folder else shtab.FILE  # type: ignore[attr-defined]
        elif str(action.metavar).startswith("DIR|"):
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell=shell))


def actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of all commands below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from actions_of(below)
