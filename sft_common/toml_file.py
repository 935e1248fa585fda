"""A TOML file that a person wrote: its tables, and one clear line for what is not as it must be.

It knows no names of any file. Standard library only.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from sft_common.errors import ConfigError, first_line
from sft_common.files import read_named

LARGEST = 1e12
"""Of any number; what is larger measures nothing, and its sums are no numbers."""

MAX_SHOWN = 80
"""Characters of a wrong value in a message."""


class Table:
    """One table of a file; the file itself is one too.

    Args:
        place: the file, for messages.
        name: as it stands in the file, "edge.base"; empty for the file itself.
        values: what it holds.
    """

    def __init__(self, place: str, name: str, values: Mapping[str, Any]) -> None:
        self._place, self._name, self.values = place, name, values

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"[{self._name}]" if self._name else "the file"

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def only(self, names: Iterable[str]) -> None:
        """Refuse names that nobody reads.

        Raises:
            ConfigError: shows the first of them, and all that could stand there.
        """
        known = set(names)
        if unknown := self.values.keys() - known:
            raise self.error(
                f"{self.label} has {min(unknown)!r}; it takes {', '.join(sorted(known))}"
            )

    def table(self, name: str, *, missing: bool = False) -> Table:
        """Return a table in this one.

        Args:
            name: of it.
            missing: whether it may be missing, and is empty then.

        Raises:
            ConfigError: there is none.
        """
        inner = f"{self._name}.{name}" if self._name else name
        values = self.values.get(name, {} if missing else None)
        if not isinstance(values, Mapping):
            raise self.error(f"{self._of()}has no table [{inner}]")
        return Table(self._place, inner, values)

    def number(
        self, name: str, default: float | None = None, *, least: float = 0.0, most: float = LARGEST
    ) -> float:
        """Return a number.

        Raises:
            ConfigError: it is none, out of its range, or missing without a default.
        """
        value = self.values.get(name, default)
        if not (is_number(value) and least <= value <= most):
            raise self.wrong(name, value, f"a number from {least:g} to {most:g}")
        return float(value)

    def whole(
        self, name: str, default: int | None = None, *, least: int = 1, most: int = int(LARGEST)
    ) -> int:
        """Return a whole number; raises as `number`."""
        value = self.values.get(name, default)
        if not is_whole(value, most, least=least):
            raise self.wrong(name, value, f"a whole number from {least} to {most}")
        return int(value)

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text; raises as `number`."""
        value = self.values.get(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, value, "a text")
        return value

    def choice(self, name: str, choices: Iterable[str], default: str | None = None) -> str:
        """Return one of some words; raises as `number`."""
        value, known = self.values.get(name, default), tuple(choices)
        if value not in known:
            raise self.wrong(name, value, f"one of {', '.join(known)}")
        return str(value)

    def switch(self, name: str, default: bool) -> bool:
        """Return true or false; raises as `number`."""
        value = self.values.get(name, default)
        if type(value) is not bool:
            raise self.wrong(name, value, "true or false")
        return value

    def wrong(self, name: str, value: object, wanted: str) -> ConfigError:
        """Return what to say of a value that is not what it must be; None: it is missing."""
        said = "is missing" if value is None else f"is {_short(value)}"
        return self.error(f"{self._of()}{name} {said}; it must be {wanted}")

    def error(self, said: str) -> ConfigError:
        """Return an error that names the file."""
        return ConfigError(f"{self._place}: {said}")

    def _of(self) -> str:
        return f"[{self._name}] " if self._name else ""


def read_toml(option: str, path: Path) -> Table:
    """Return a file that an option names.

    Raises:
        ConfigError: it is not to be read, or no TOML.
    """
    try:
        known = tomllib.loads(read_named(option, path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{option} {path} is no TOML: {first_line(error)}") from error
    return Table(str(path), "", known)


def is_number(value: Any) -> bool:
    """Return whether a value is a number, and neither negative nor beyond measure."""
    return isinstance(value, int | float) and type(value) is not bool and 0 <= value <= LARGEST


def is_whole(value: object, most: int, *, least: int = 1) -> TypeGuard[int]:
    """Return whether a value is a whole number of a range."""
    return isinstance(value, int) and type(value) is not bool and least <= value <= most


def _short(value: object) -> str:
    try:
        return (repr(value) if isinstance(value, str) else str(value))[:MAX_SHOWN]
    except ValueError:  # an integer of thousands of digits
        return "a number of thousands of digits"
