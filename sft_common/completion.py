"""Scripts that complete a command line in a shell, out of its parser. It knows no command."""

from __future__ import annotations

import argparse
import re
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
    script = str(shtab.complete(parser, shell=shell))
    return _mended(script, parser) if shell == "zsh" else script


_MANY = re.compile(r'^  "\(\*\)::?(.*:)([^:]*)"$', re.MULTILINE)
"""What shtab writes of an argument that may be repeated: its help, and what completes it."""


def _mended(script: str, parser: argparse.ArgumentParser) -> str:
    """Return a script for zsh without what shtab 1.13 gets wrong there.

    A colon in a metavar ends it for zsh; what is to be repeated was completed once; and where
    nothing completes an argument, zsh stopped at saying so, though an option would have fitted.
    """
    for name in {str(action.metavar) for action in actions_of(parser)}:
        script = script.replace(f"]:{name}:", "]:" + name.replace(":", r"\:") + ":")
    return _MANY.sub(lambda found: f'  "*:{found[1]}{found[2] or "()"}"', script)


def actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of all commands below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from actions_of(below)
