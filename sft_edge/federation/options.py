"""The options of `sft-edge join`."""

from __future__ import annotations

import secrets
from pathlib import Path

from sft_common.commandline import OneLineParser, number_in
from sft_edge.shared_options import (
    MANY,
    add_connection,
    add_data,
    add_largest_message,
    add_retrying,
    add_room,
)


def add_join_options(join: OneLineParser) -> None:
    """Add all options of a client."""
    what = join.add_argument_group("which federation, with what")
    what.add_argument("--federation", required=True, metavar="NAME", help="the one to take part in")
    what.add_argument("--task", required=True, help="what the data are, as for `train`")
    add_data(what)
    what.add_argument(
        "--client",
        default=f"client-{secrets.token_hex(4)}",
        metavar="NAME",
        help="name of this client; who joins again by the same name goes on (default: drawn)",
    )
    what.add_argument(
        "--model", metavar="DIR|ID", help="the federation's model (default: by its own name)"
    )
    count = number_in(1, MANY)
    what.add_argument("--train-examples", type=count, metavar="N", help="use only the first N")
    what.add_argument("--eval-examples", type=count, metavar="N", help="use only the first N")
    how = join.add_argument_group("how")
    how.add_argument("--device", default="cpu", help="where this client computes (default cpu)")
    how.add_argument(
        "--labels",
        choices=["cloud", "edge"],
        default="cloud",
        help="with splitfed: where the loss is computed; edge: labels stay here (default cloud)",
    )
    add_connection(how, default="localhost:50051", note="default %(default)s")
    add_largest_message(how)
    add_retrying(how)
    add_room(how, default=600.0)
    left = join.add_argument_group("what is left, what is shown")
    left.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="default %(default)s"
    )
    left.add_argument("--quiet", action="store_true", help="show errors only")
    left.add_argument("--json", action="store_true", help="print metrics.json instead of a line")
