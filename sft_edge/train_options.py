"""The options of `sft-edge train`: what to train, where to cut, how numbers travel, how long.

Other commands that say how to train take some of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sft_common.commandline import number_in, real_in
from sft_common.config import CUTS, ENCODINGS
from sft_edge.defaults import CUT, MICRO_BATCHES, USUAL
from sft_edge.pacing import AUTO
from sft_edge.shared_options import (
    MANY,
    add_board,
    add_connection,
    add_data,
    add_largest_message,
    add_retrying,
    add_room,
    add_shown,
)
from sft_edge.tasks.table import TASKS


def add_train_options(train: argparse.ArgumentParser) -> None:
    """Add all of them."""
    add_what(train)
    add_cut(train)
    _add_auto(train)
    add_wire(train)
    _add_edge(train)
    add_how_long(train)
    _add_safety(train)
    _add_output(train)


def add_what(train: argparse.ArgumentParser) -> None:
    """Add what is trained, on which data, with whom."""
    group = train.add_argument_group("what to train, and with whom")
    group.add_argument("--task", help=f"one of: {', '.join(TASKS)}")
    group.add_argument(
        "--model", metavar="DIR|ID", help="model folder or hub id (default: the task's)"
    )
    add_data(group)
    add_connection(group, default="localhost:50051", note="default %(default)s")
    group.add_argument("--device", default="cpu", help="where net1 runs (default %(default)s)")


def add_cut(train: argparse.ArgumentParser) -> None:
    """Add where to cut."""
    group = train.add_argument_group("where to cut")
    group.add_argument(
        "--cut",
        metavar="CUT",
        help=f"one of: {', '.join(CUTS)} (default: as the model was prepared, else {CUT}; sft: as "
        "in the paper; none: plain split learning)",
    )
    group.add_argument(
        "--split-layer",
        type=int,
        metavar="L",
        help="block to cut, 1 is the lowest (default: as prepared, else the last but one)",
    )
    group.add_argument(
        "--rank",
        type=int,
        metavar="R",
        help=f"numbers per token (default: as prepared, else for {CUT} cuts {USUAL[CUT].upper} in "
        f"the upper half of the blocks and {USUAL[CUT].lower} in the lower, {USUAL['sft'].upper} "
        "for others); cut none has none",
    )


def _add_auto(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("or: have the cut found (see `sft-edge plan`)")
    group.add_argument(
        "--auto",
        action="store_true",
        help="measure link and devices first, for a minute or two, and choose cut, block, rank, "
        "encoding and micro-batches, as far as none is named",
    )
    add_limits(group)


def add_limits(group: argparse._ArgumentGroup) -> None:
    """Add what a plan may cost."""
    group.add_argument(
        "--max-accuracy-loss",
        type=real_in(0, 100),
        default=1.0,
        metavar="POINTS",
        help="leave plans out that are not known to lose at most so much; 100 leaves none out "
        "(default %(default)g)",
    )
    group.add_argument(
        "--memory",
        type=real_in(0, 10**6),
        metavar="GB",
        help="what net1 and its training may take here (default: what is free)",
    )


def _micro_batches(text: str) -> int | str:
    return text if text == AUTO else number_in(1, MANY)(text)


def add_wire(train: argparse.ArgumentParser) -> None:
    """Add how numbers travel."""
    group = train.add_argument_group("how numbers travel")
    add_largest_message(group)
    group.add_argument(
        "--micro-batches",
        type=_micro_batches,
        metavar="N",
        help="cut a batch into N parts: while one travels, the next is computed; "
        f"{AUTO} tries a few numbers (default {MICRO_BATCHES}; frozen: 1)",
    )
    group.add_argument(
        "--encoding",
        choices=ENCODINGS,
        help=f"of activations (default: {USUAL[CUT].encoding} for {CUT} cuts, "
        f"{USUAL['sft'].encoding} for others)",
    )
    group.add_argument(
        "--grad-encoding",
        choices=ENCODINGS,
        help="of their gradients, rounded stochastically (default: as --encoding)",
    )


def _add_edge(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("what the edge does")
    add_labels(group)
    group.add_argument(
        "--edge",
        choices=("trained", "frozen"),
        default="trained",
        help="frozen: net1 keeps its numbers, every example is sent once, and the cloud trains "
        "alone (default %(default)s)",
    )
    group.add_argument(
        "--detach",
        action="store_true",
        help="with --edge frozen: leave when all is sent; `sft-edge fetch` gets the result",
    )


def add_labels(group: argparse._ArgumentGroup) -> None:
    """Add where the loss is computed."""
    group.add_argument(
        "--labels",
        choices=("cloud", "edge"),
        default="cloud",
        help="where the loss is computed. edge: labels do not leave this machine; logits come down "
        "and their gradient goes up, a second round trip a step (default %(default)s)",
    )


def add_how_long(train: argparse.ArgumentParser) -> None:
    """Add how to train, and how long."""
    group = train.add_argument_group("how to train (defaults: the task's, from the paper)")
    count, share = number_in(1, MANY), real_in(0, 0.999)
    group.add_argument("--epochs", type=count, metavar="N", help="passes over the training part")
    group.add_argument("--max-steps", type=count, metavar="N", help="stop after N steps")
    group.add_argument("--batch-size", type=count, metavar="N", help="examples of a step")
    group.add_argument(
        "--group-by-length",
        action="store_true",
        help="fill batches with examples of about one length: less padding to compute",
    )
    group.add_argument("--learning-rate", type=real_in(0, 1), metavar="RATE", help="its peak")
    group.add_argument("--max-length", type=count, metavar="TOKENS", help="cut longer examples")
    group.add_argument("--train-examples", type=count, metavar="N", help="use only the first N")
    group.add_argument("--eval-examples", type=count, metavar="N", help="use only the first N")
    group.add_argument(
        "--dropout",
        type=share,
        metavar="P",
        help="for every dropout layer (default: the model's own; none on the edge below a cut "
        "that sends a code)",
    )
    group.add_argument(
        "--seed", type=number_in(0, 2**63 - 1), default=0, metavar="N", help="default %(default)s"
    )
    group.add_argument(
        "--unsplit",
        action="store_true",
        help="afterwards train the same model in one process, for comparison",
    )


def _add_safety(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("what happens when something breaks")
    group.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="go on with a run that was stopped or killed, runs/NAME (default: the last in "
        "--runs-dir); its options need not be given again",
    )
    group.add_argument(
        "--snapshot-every",
        type=number_in(0, MANY),
        default=100,
        metavar="N",
        help="steps between two snapshots of both halves; 0: none (default %(default)s)",
    )
    group.add_argument(
        "--snapshots",
        type=number_in(1, 1000),
        default=2,
        metavar="N",
        help="snapshots of this half that are kept (default %(default)s)",
    )
    add_retrying(group)
    add_room(group, default=0.0)


def _add_output(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("what is left, what is shown")
    group.add_argument("--name", help="name of the run (default: task, cut and time)")
    group.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="default %(default)s"
    )
    add_board(group)
    add_shown(group)
