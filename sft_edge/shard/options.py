"""The options of `sft-edge shard`."""

from __future__ import annotations

from pathlib import Path

from sft_common.commandline import OneLineParser, number_in, real_in
from sft_edge.shared_options import MANY, add_data
from sft_edge.tasks.table import TASKS


def add_shard_options(shard: OneLineParser) -> None:
    """Add all of them."""
    shard.add_argument("--task", required=True, help=f"one of: {', '.join(TASKS)}")
    add_data(shard)
    shard.add_argument(
        "--clients",
        type=number_in(1, 10_000),
        required=True,
        metavar="N",
        help="how many folders to make of the training part",
    )
    shard.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="a folder that is not there yet"
    )
    shard.add_argument(
        "--dirichlet",
        type=real_in(1e-3, 1e6),
        metavar="ALPHA",
        help="draw the clients' shares of each class from Dirichlet(ALPHA); the smaller, the more "
        "the clients differ (default: they are alike)",
    )
    shard.add_argument(
        "--train-examples", type=number_in(1, MANY), metavar="N", help="use only the first N"
    )
    shard.add_argument(
        "--seed", type=number_in(0, 2**63 - 1), default=0, metavar="N", help="default %(default)s"
    )
