"""The command of a plan says what was asked for, and nothing of how the plan was shown."""

from __future__ import annotations

import shlex

from sft_edge.cli import parser
from sft_edge.planner.choice import Setting
from sft_edge.planner.showing import command_for


def test_the_command_is_what_was_asked_for_and_the_plan() -> None:
    asked = (
        "plan --task csv --server cloud:1 --tls-ca 'my ca.pem' --text-column a --text-column b "
        "--data 'a folder' --labels edge --group-by-length"
    )
    shown = ["--json", "--quiet", "--memory", "2", "--max-accuracy-loss", "3", "--top", "4"]
    options = parser().parse_args([*shlex.split(asked), *shown])
    line = command_for(Setting("stream", 3, 16, "int4", 2), vars(options), options.train_defaults())
    program, *words = shlex.split(line)
    wanted, found = (
        parser().parse_args(each) for each in (["train", *shlex.split(asked)[1:]], words)
    )
    changed = {n: v for n, v in vars(found).items() if not callable(v) and v != getattr(wanted, n)}
    assert program == "sft-edge" and changed == {
        "cut": "stream",
        "split_layer": 3,
        "rank": 16,
        "encoding": "int4",
        "micro_batches": 2,
    }
