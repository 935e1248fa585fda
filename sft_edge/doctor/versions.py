"""Whether what is installed here is what this software asks for. It imports none of it."""

from __future__ import annotations

import platform
import tomllib
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import sft_common
from sft_common import PROTOCOL_VERSION, __version__
from sft_edge.doctor.finding import Finding, ok, skipped, wrong

WATCHED = ("torch", "transformers", "grpcio", "protobuf")
"""Packages that are looked at."""


class Asked(NamedTuple):
    """What this software asks for."""

    python: SpecifierSet
    packages: dict[str, SpecifierSet]


def asked() -> Asked:
    """Return what the installed package asks for, or pyproject.toml beside a source tree.

    Raises:
        OSError: there is neither.
    """
    try:
        python = metadata.metadata("sft")["Requires-Python"]
        lines = metadata.requires("sft") or []
    except metadata.PackageNotFoundError:
        file = Path(sft_common.__file__).parents[1] / "pyproject.toml"
        project = tomllib.loads(file.read_text("utf-8"))["project"]
        python, lines = project["requires-python"], project["dependencies"]
    needs = [Requirement(line) for line in lines]
    packages = {need.name: need.specifier for need in needs if need.marker is None}
    return Asked(SpecifierSet(python or ""), packages)


def check_versions(needs: Asked) -> list[Finding]:
    """Return a finding for this software, for Python and for each watched package."""
    own = ok("sft", f"{__version__}, protocol version {PROTOCOL_VERSION}")
    python = _compared("python", platform.python_version(), needs.python)
    return [own, python, *(_package(name, needs.packages.get(name)) for name in WATCHED)]


def _package(name: str, specifier: SpecifierSet | None) -> Finding:
    if specifier is None:
        return skipped(name, "is not asked for")
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return wrong(
            name, f"is not installed, {specifier} is asked for", f"pip install '{name}{specifier}'"
        )
    return _compared(name, version, specifier)


def _compared(name: str, version: str, specifier: SpecifierSet) -> Finding:
    found = f"{version}, {specifier} is asked for"
    if specifier.contains(version, prereleases=True):
        return ok(name, found)
    if name == "python":
        return wrong(name, found, "make a virtual environment with a newer Python")
    return wrong(name, found, f"pip install '{name}{specifier}'")
