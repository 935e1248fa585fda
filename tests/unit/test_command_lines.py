"""What is typed: help without torch, usage errors in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import sft_cloud.cli
import sft_edge.cli
from sft_common.completion import actions_of
from tests.processes import run

HEAVY = ("torch", "transformers", "grpc", "numpy", "datasets", "rich", "prometheus_client", "shtab")


@pytest.mark.parametrize("module", ["sft_edge.cli", "sft_cloud.cli"])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_comes_without_the_heavy_imports(module: str, arguments: list[str]) -> None:
    code = (
        f"import sys\nfrom {module} import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"
    assert "sft-" in done.stdout


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("sft-edge", [], "the following arguments are required: COMMAND"),
        ("sft-edge", ["train"], "the following arguments are required: --task"),
        ("sft-edge", ["train", "--task", "demo", "--epochs", "0"], "0 is outside 1.."),
        ("sft-edge", ["train", "--task", "demo", "--epochs", "many"], "'many' is not a whole"),
        ("sft-edge", ["train", "--task", "demo", "--learning-rate", "nan"], "nan is outside 0..1"),
        ("sft-edge", ["train", "--task", "demo", "--server", "here"], "'here' is not HOST:PORT"),
        ("sft-cloud", ["serve", "--gpu", "0", "--cpu"], "not allowed with argument"),
        ("sft-cloud", ["serve", "--port", "65536"], "65536 is outside 0..65535"),
        ("sft-cloud", ["serve", "--max-sessions", "0"], "0 is outside 1.."),
        ("sft-cloud", ["serve", "--metrics-port", "-1"], "-1 is outside 0..65535"),
        ("sft-cloud", ["serve", "--forget-after", "nan"], "nan is outside 0..36500"),
        ("sft-cloud", ["serve", "--log-format", "xml"], "invalid choice: 'xml'"),
        ("sft-cloud", ["sessions"], "the following arguments are required: ACTION"),
        ("sft-cloud", ["sessions", "delete", "--older-than", "-1"], "-1.0 is outside 0"),
        ("sft-cloud", ["status", "--save-dir", "a", "--admin-socket", "b"], "not allowed with"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    program: str, arguments: list[str], message: str
) -> None:
    done = run(program, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert "--help" in done.stderr


def test_every_option_is_documented_and_no_other() -> None:
    """In docs/options.md; what a command takes beside is said in its help."""
    text = (Path(__file__).parents[2] / "docs" / "options.md").read_text()
    tops = (sft_edge.cli.parser(), sft_cloud.cli.parser())
    options = {
        option
        for top in tops
        for action in actions_of(top)
        for option in action.option_strings
        if option not in ("-h", "--help", "--version")
    }
    assert options > {"--split-layer", "--older-than"}
    assert set(re.findall(r"--[a-z][a-z-]*", text)) - {"--help", "--logdir"} == options
