"""The cloud's half of a script with an SFTOptimizer: serves the script's edge, then ends it.

The same script runs on both machines; here its model is what net2 is made of, and its loop is never
reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

from sft_cloud.builder import ModelBuilder, ModelDesign
from sft_cloud.serve import run_server
from sft_cloud.serve_options import add_serve_options
from sft_common.commandline import OneLineParser
from sft_common.config import SessionSpec, SplitSpec
from sft_common.errors import ConfigError, MismatchError
from sft_common.model.heads import head_of
from sft_common.model.live import LiveModel
from sft_common.model.parting import NO_CODE
from sft_common.own_optimizer import ALGORITHMS, unknown_algorithm

IGNORED = frozenset(
    {"calibration", "encoding", "gradient_encoding", "labels", "seed", "access", "retry"}
)
"""Arguments of the edge's half, which the same script gives to both."""


def serve_script(
    optimizer: torch.optim.Optimizer,
    *,
    model: Any,
    server: str,
    split_layer: int,
    rank: int,
    cut: str = "sft",
    serve: Mapping[str, Any] | None = None,
    **more: Any,
) -> NoReturn:
    """Serve one session of the same script's edge, then end the script.

    Args:
        optimizer: its class must be the edge's; settings come from there.
        model: a stock transformers model with a head, of the same shape as the edge's.
        server: the "host:port" to listen on.
        split_layer: the block to cut.
        rank: R.
        cut: name of the cut.
        serve: options of `sft-cloud serve`, such as {"tls_cert": "server.pem", "gpu": 0}.
        more: what is the edge's, and of no meaning here.

    Raises:
        SystemExit: the edge is done, with 0; or the options are wrong.
        SftError: the port is in use, the device is not there, or model and optimizer do not fit.
    """
    if unknown := more.keys() - IGNORED:
        raise ConfigError(f"SFTOptimizer takes no {min(unknown)}")
    if (algorithm := type(optimizer).__name__) not in ALGORITHMS:
        raise unknown_algorithm(algorithm)
    split = SplitSpec(cut=cut, split_layer=split_layer, rank=rank)
    live = LiveModel(model, head_of(model), split)
    optimizer.param_groups.clear()  # else net1's parameters would stay in memory
    options = _options(server, serve or {})
    run_server(options, wrap=lambda builder: _ScriptBuilder(builder, live, split, algorithm))
    raise SystemExit(0)


class _ScriptBuilder:
    """Makes the one session of a script; a `Builder`.

    Args:
        usual: says where and how net2 computes.
        live: the script's model.
        split: as the script here says.
        algorithm: of its optimizer.
    """

    def __init__(
        self, usual: ModelBuilder, live: LiveModel, split: SplitSpec, algorithm: str
    ) -> None:
        self._usual, self._live = usual, live
        self._split, self._algorithm = split, algorithm

    def __call__(self, spec: SessionSpec, code: Mapping[str, Tensor] = NO_CODE) -> ModelDesign:
        """Return the design of what the edge asked for.

        Raises:
            MismatchError: the edge's script is another one.
        """
        self._live.check_same(spec.model)
        theirs = spec.own_optimizer.algorithm if spec.own_optimizer else "none of a script"
        for what, there, here in (
            ("cut", spec.split.words(), self._split.words()),
            ("head", spec.head, self._live.head),
            ("number of classes", spec.num_labels, self._live.classes),
            ("optimizer", theirs, self._algorithm),
        ):
            if there != here:
                raise MismatchError(
                    f"the script has another {what} on the edge ({there}) than here ({here}); run "
                    "the same script on both sides"
                )
        return self._usual.design(self._live, spec)


def _options(server: str, given: Mapping[str, Any]) -> Any:
    """Return the options of a server that listens where the script says.

    Raises:
        ConfigError: the place is none.
    """
    host, _, port = server.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"server {server!r} is no place to listen on; give host:port")
    parser = OneLineParser(prog="SFTOptimizer")
    add_serve_options(parser)
    line = ["--host", host.strip("[]"), "--port", port, "--max-sessions", "1"]
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        line += [option] if value is True else [option, str(value)]
    return parser.parse_args(line)
