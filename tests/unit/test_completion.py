"""The scripts for the Tab key, asked by a real bash, and by zsh and tcsh on a terminal.

Where one of the latter is not installed its tests skip, unless the environment says
SFT_SHELLS=required.
"""

from __future__ import annotations

import functools
import os
import pty
import shutil
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


READY = "ready> "

STARTS = {
    "zsh": (
        ".zshrc",
        f"PS1='{READY}'; fpath=($ZDOTDIR $fpath); autoload -U compinit; compinit -u -D; bindkey -e",
    ),
    "tcsh": (".tcshrc", f"set prompt='{READY}'; source sft-edge; source sft-cloud"),
}
"""Shell -> the file that it reads first, and what is to stand there."""

SAY = "\x01echo '<<\x05>>'\n"
"""Keys: make of a line as it stands one that says it."""


def typed(shell: str, place: Path, lines: list[str]) -> list[str]:
    """Return lines as they stand after their keys, in a shell on a terminal of its own."""
    if shutil.which(shell) is None:
        message = f"{shell} is not installed"
        pytest.fail(message) if os.environ.get("SFT_SHELLS") == "required" else pytest.skip(message)
    for program in ("sft-edge", "sft-cloud"):
        name = f"_{program}" if shell == "zsh" else program
        (place / name).write_text(script(program, shell))
    name, text = STARTS[shell]
    (place / name).write_text(f"{text}\n")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", shell, "-i"],
        cwd=place,
        env=os.environ | {"HOME": str(place), "ZDOTDIR": str(place), "TERM": "vt100"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        return [answer(ours, line) for line in lines]
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def answer(terminal: int, line: str) -> str:
    """Type a line when the shell is ready, and return what it has become."""
    read_until(terminal, READY)
    os.write(terminal, (line + SAY).encode())
    read_until(terminal, "\n<<")
    # A blank or a slash behind it goes as soon as something else is typed.
    return read_until(terminal, ">>").rstrip(" /")


def read_until(terminal: int, mark: str) -> str:
    """Return what comes before a mark; pytest's own timeout ends what never comes."""
    said = b""
    while not said.endswith(mark.encode()):
        said += os.read(terminal, 1)
    return said.decode(errors="replace").removesuffix(mark)


@pytest.mark.parametrize("shell", STARTS)
def test_tab_in_other_shells(tmp_path: Path, shell: str) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "text.txt").touch()
    lines = {
        "sft-edge tr\t": "sft-edge train",
        "sft-edge train --enc\t": "sft-edge train --encoding",
        "sft-edge train --quiet --task sq\t": "sft-edge train --quiet --task squad",
        "sft-edge train --cut stream-\t": "sft-edge train --cut stream-end",
        "sft-edge train --data ca\t": "sft-edge train --data cases",
        "sft-edge train --tls-ca te\t": "sft-edge train --tls-ca text.txt",
        "sft-edge completion b\t": "sft-edge completion bash",
        "sft-edge doctor --server here:1 --js\t": "sft-edge doctor --server here:1 --json",
        "sft-edge report ca\t": "sft-edge report cases",
        "sft-edge predict --run a word --js\t": "sft-edge predict --run a word --json",
        "sft-cloud serve --precision b\t": "sft-cloud serve --precision bfloat16",
        "sft-cloud sessions del\t": "sft-cloud sessions delete",
        "sft-cloud sessions delete --older\t": "sft-cloud sessions delete --older-than",
    }
    if shell == "zsh":  # tcsh completes the first of several
        lines["sft-edge report cases ca\t"] = "sft-edge report cases cases"
    assert typed(shell, tmp_path, list(lines)) == list(lines.values())
