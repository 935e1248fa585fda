"""The options of `sft-cloud serve`: what a cloud gives, to how many, for how long."""

from __future__ import annotations

from pathlib import Path

from sft_cloud.door_options import add_door_options
from sft_cloud.fairness import QUEUES
from sft_cloud.operations_options import SAVE_DIR, add_operations_options
from sft_common.commandline import KEEPALIVE, OneLineParser, add_waits, number_in, real_in
from sft_common.rpc.options import MAX_MESSAGE_MB, MOST_MESSAGE_MB


def add_serve_options(serve: OneLineParser) -> None:
    """Add all options of a server."""
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default %(default)s: this machine only; 0.0.0.0: everyone)",
    )
    add_door_options(serve)
    serve.add_argument(
        "--port", type=number_in(0, 65535), default=50051, help="default %(default)s; 0: a free one"
    )
    device = serve.add_mutually_exclusive_group()
    device.add_argument("--gpu", type=number_in(0, 1023), metavar="N", help="run on CUDA device N")
    device.add_argument("--cpu", action="store_true", help="run on the CPU")
    add_precision(serve)
    serve.add_argument(
        "--compile",
        action="store_true",
        help="compile net2's blocks; the first steps of a session take minutes",
    )
    serve.add_argument(
        "--max-sessions",
        type=number_in(1, 10_000),
        default=8,
        metavar="N",
        help="sessions open at once (default %(default)s)",
    )
    serve.add_argument(
        "--scheduling",
        choices=list(QUEUES),
        default="fair",
        help="who gets the device next: who has had the least of it, whose work came first, or "
        "whose edge takes longest by itself for a step (default %(default)s)",
    )
    serve.add_argument(
        "--memory",
        type=real_in(0.001, 10**6),
        metavar="GB",
        help="of the device, for all sessions (default: four fifths of it)",
    )
    serve.add_argument(
        "--max-batch",
        type=number_in(1, 2**31 - 1),
        default=4096,
        metavar="N",
        help="most examples of a batch (default %(default)s)",
    )
    serve.add_argument(
        "--max-tokens",
        type=number_in(1, 2**31 - 1),
        default=2**20,
        metavar="N",
        help="most tokens of an example (default: what the model takes)",
    )
    serve.add_argument(
        "--max-message",
        type=number_in(1, MOST_MESSAGE_MB),
        default=MAX_MESSAGE_MB,
        metavar="MB",
        help="largest tensor of a request or an answer (default %(default)s)",
    )
    serve.add_argument(
        "--model",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a model folder that edges may name by its last part; may be repeated",
    )
    serve.add_argument(
        "--federation",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="lead the federation that FILE describes; may be repeated",
    )
    serve.add_argument(
        "--save-dir",
        type=Path,
        default=SAVE_DIR,
        metavar="DIR",
        help="keep snapshots of sessions, and at their end the trained cloud half, in DIR/SESSION "
        "(default %(default)s)",
    )
    serve.add_argument(
        "--no-save", action="store_true", help="keep nothing: a session ends with this process"
    )
    serve.add_argument(
        "--snapshots",
        type=number_in(1, 1000),
        default=2,
        metavar="N",
        help="snapshots of each session that are kept (default %(default)s)",
    )
    serve.add_argument(
        "--park-after",
        type=real_in(0.1, 10**7),
        default=300.0,
        metavar="SECONDS",
        help="put a session away to disk after so long without a request (default %(default)g)",
    )
    serve.add_argument(
        "--allow-export",
        action="store_true",
        help="let edges fetch the trained cloud half of a session whose name they know",
    )
    serve.add_argument(
        "--cache-limit",
        type=real_in(0.001, 2**20),
        default=16.0,
        metavar="GB",
        help="activations of a frozen edge taken in all, on disk (default %(default)g)",
    )
    serve.add_argument(
        "--snapshot-seconds",
        type=real_in(0.01, 10**7),
        default=60.0,
        metavar="SECONDS",
        help="between two snapshots of a training that goes on without its edge; others are "
        "taken when their edges ask for them (default %(default)g)",
    )
    serve.add_argument(
        "--grace",
        type=number_in(0, 86_400),
        default=30,
        metavar="SECONDS",
        help="time to put sessions away after SIGTERM (default %(default)s)",
    )
    opening = ("--open-timeout", 0.1, 60.0, "end a stream that does not say by then what it wants")
    add_waits(serve, (opening, *KEEPALIVE))
    serve.add_argument(
        "--port-file", type=Path, metavar="FILE", help="write the port here once listening"
    )
    add_operations_options(serve)


def add_precision(command: OneLineParser) -> None:
    """Add the option of how exactly net2 computes."""
    command.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="of matrix products; bfloat16 is faster where the device has it (default %(default)s)",
    )
