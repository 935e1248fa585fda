"""What a person types to describe a grid of runs, converted. It knows no order and no model.

Converters raise `argparse.ArgumentTypeError`, which the command line shows in one line.
"""

from __future__ import annotations

import argparse
import shlex

from benchmarks.grid import UNCUT, Cut, Limit
from sft_common.config import CUTS, ENCODINGS
from sft_edge.tasks.table import TASKS

FROZEN = "frozen"

OWN_OPTIONS = (
    *("--task", "--model", "--data", "--server", "--cut", "--split-layer", "--rank", "--edge"),
    *("--encoding", "--grad-encoding"),
    *(
        "--seed",
        "--epochs",
        "--train-examples",
        "--eval-examples",
        "--runs-dir",
        "--name",
        "--json",
    ),
)
"""Options of `sft-edge train` that the grid sets, so that --extra must not."""


def task_from(text: str) -> str:
    """Convert the name of a published task."""
    published = [name for name, task in TASKS.items() if task.hub]
    if text not in published:
        raise argparse.ArgumentTypeError(
            f"unknown task {text!r}; choose from: {', '.join(published)}"
        )
    return text


def cut_from(text: str) -> Cut:
    """Convert "uncut" or CUT:LAYER:RANK, with what `manner_from` takes behind it."""
    if text == UNCUT:
        return Cut()
    plain, edge, encoding = manner_from(text)
    name, *numbers = plain.split(":")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no cut; write {UNCUT} or CUT:LAYER:RANK[:ENCODING[/ENCODING]][:{FROZEN}],"
            " such as sft:5:8"
        )
    cutting = [cut for cut in CUTS if cut != "none"]
    if name not in cutting:
        raise argparse.ArgumentTypeError(
            f"unknown cut in {text!r}; choose {UNCUT} or one of: {', '.join(cutting)}"
        )
    layer, rank = map(int, numbers)
    return Cut(name=name, layer=layer, rank=rank, edge=edge, encoding=encoding)


def manner_from(text: str) -> tuple[str, str, str]:
    """Return a text without its ":ENCODING[/ENCODING]" and ":frozen", and what they say.

    The second is "trained" or "frozen", the third how numbers travel, as `Run.encoding`.
    """
    plain = text.removesuffix(f":{FROZEN}")
    edge = "trained" if plain == text else FROZEN
    head, _, last = plain.rpartition(":")
    if head and all(name in ENCODINGS for name in last.split("/")) and last.count("/") < 2:
        return head, edge, last
    return plain, edge, "float32"


def limit_from(text: str) -> tuple[str, Limit]:
    """Convert TASK=EXAMPLES:EPOCHS."""
    task, _, rest = text.partition("=")
    numbers = rest.split(":")
    if len(numbers) != 2 or not all(n.isdecimal() and int(n) for n in numbers):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no limit; write TASK=EXAMPLES:EPOCHS, such as sst2=12000:1"
        )
    return task_from(task), Limit(int(numbers[0]), int(numbers[1]))


def extra_from(text: str) -> str:
    """Convert further options of `sft-edge train`; refuses those that the grid sets."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    for word in words:
        if word.partition("=")[0] in OWN_OPTIONS:
            raise argparse.ArgumentTypeError(f"{word} is set by this benchmark, take it out")
    return shlex.join(words)
