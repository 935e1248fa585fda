"""What is installed against what is asked for."""

from __future__ import annotations

from importlib import metadata

import pytest
from packaging.specifiers import SpecifierSet

from sft_edge.doctor import versions
from sft_edge.doctor.finding import Verdict
from sft_edge.doctor.versions import WATCHED, Asked, asked, check_versions


def test_what_is_installed_here_is_what_is_asked_for() -> None:
    findings = check_versions(asked())
    assert [finding.check for finding in findings] == ["sft", "python", *WATCHED]
    assert {finding.verdict for finding in findings} == {Verdict.OK}


def test_without_an_installed_package_the_source_tree_says_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    installed = asked()
    monkeypatch.setattr(versions.metadata, "metadata", nowhere)
    found = asked()
    assert found.python == installed.python
    assert {name: found.packages[name] for name in WATCHED} == {
        name: installed.packages[name] for name in WATCHED
    }


def test_other_versions_and_none_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "WATCHED", ("torch", "no-such-package", "grpcio"))
    needs = Asked(
        SpecifierSet(">=9"),
        {"torch": SpecifierSet("<1"), "no-such-package": SpecifierSet(">=2")},
    )
    _, python, torch, missing, unasked = check_versions(needs)
    assert {python.verdict, torch.verdict, missing.verdict} == {Verdict.WRONG}
    assert ">=9 is asked for" in python.found and "newer Python" in python.advice
    assert torch.advice == "pip install 'torch<1'"
    assert missing.found == "is not installed, >=2 is asked for"
    assert unasked.verdict is Verdict.SKIPPED
