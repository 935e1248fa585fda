"""The scripts for the Tab key, asked by a real bash."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import pytest

from tests.processes import run

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
"_shtab_${1//-/_}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""Asks for what completes the last of the words, as readline does."""


@functools.cache
def script(program: str, shell: str = "bash") -> str:
    done = run(program, "completion", shell)
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout


def completed(place: Path, *words: str) -> list[str]:
    """Return what completes the last word of a line in bash."""
    file = place / "completion.bash"
    file.write_text(script(words[0]))
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK, "bash", file, *words],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("program", ["sft-edge", "sft-cloud"])
def test_bash_takes_the_script(program: str) -> None:
    done = subprocess.run(
        ["bash", "-n"], input=script(program), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    registered = script(program).splitlines()[-1]
    assert registered.startswith("complete ") and registered.endswith(program)


@pytest.mark.parametrize("program", ["sft-edge", "sft-cloud"])
def test_other_shells_get_theirs(program: str) -> None:
    assert script(program, "zsh").startswith(f"#compdef {program}")
    assert program in script(program, "tcsh")


@pytest.mark.parametrize(
    ("line", "answers"),
    [
        ("sft-edge d", ["doctor"]),
        ("sft-edge completion ", ["bash", "zsh", "tcsh"]),
        ("sft-edge train --enc", ["--encoding"]),
        ("sft-edge train --quiet --tens", ["--tensorboard"]),
        ("sft-edge train --encoding int", ["int8", "int4"]),
        ("sft-edge train --task sq", ["squad"]),
        ("sft-edge train --cut stream-", ["stream-end"]),
        ("sft-edge doctor --server here:1 --js", ["--json"]),
        ("sft-cloud serve --precision b", ["bfloat16"]),
        ("sft-cloud sessions del", ["delete"]),
        ("sft-cloud sessions delete --older", ["--older-than"]),
        ("sft-cloud prepare --cut no", []),
    ],
)
def test_what_tab_gives(tmp_path: Path, line: str, answers: list[str]) -> None:
    assert completed(tmp_path, *line.split(" ")) == answers


def test_files_and_folders_are_completed(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "case.pem").touch()
    assert completed(tmp_path, "sft-edge", "train", "--data", "cas") == ["cases"]
    found = completed(tmp_path, "sft-edge", "train", "--tls-ca", "cas")
    assert sorted(found) == ["case.pem", "cases"]
