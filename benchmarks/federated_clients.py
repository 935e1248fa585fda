"""The clients of a federation, a process each, whose arithmetic is counted.

    python -m benchmarks.federated_clients JOB.json

They are forked from one process that has imported everything and computed nothing: ten programs
that each import for five seconds would be most of a small run. A client is `sft-edge join`, whole;
around what its method trains, evaluates or calibrates a FlopCounterMode counts. It counts the
products of matrices, convolutions and attention, forward and backward, and nothing else: no look-up
of embeddings, no elementwise work, no optimizer.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import torch
import transformers.models.bert.modeling_bert
import transformers.models.bert.tokenization_bert
import transformers.models.vit.image_processing_pil_vit
import transformers.models.vit.modeling_vit  # noqa: F401
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from benchmarks.programs import ended_by_signals
from sft_common.federation.said import Attempt, Finding
from sft_edge import cli
from sft_edge.federation import command
from sft_edge.federation.done import Done
from sft_edge.federation.material import Check
from sft_edge.federation.method import Method
from sft_edge.outcome import peak_rss_bytes

T = TypeVar("T")

Shape = Sequence[int]


def _forward(query: Shape, key: Shape, value: Shape, *more: Any, **named: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _backward(grad: Shape, query: Shape, key: Shape, value: Shape, *more: Any, **named: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))


ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}
"""What torch's own table of formulas lacks: attention without dropout, on a processor."""

FLOPS_FILE = "flops.json"
"""In a client's folder: memory of the libraries alone, and a line for each thing that was done."""


class Counted:
    """A method whose arithmetic is counted.

    Args:
        method: of a client.
        tally: gets a line for each thing that is done.
    """

    def __init__(self, method: Method, tally: list[dict[str, Any]]) -> None:
        self._method, self._tally = method, tally

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def train(self, at: Attempt, check: Check) -> Done:
        """Train as the method does."""
        return self._counted("train", at.round, lambda: self._method.train(at, check))

    def evaluate(self, check: Check) -> Finding:
        """Evaluate as the method does."""
        return self._counted("evaluate", 0, lambda: self._method.evaluate(check))

    def calibrate(self, duty: str, tensors: Any, check: Check) -> Done:
        """Calibrate as the method does."""
        return self._counted(duty, 0, lambda: self._method.calibrate(duty, tensors, check))

    def _counted(self, what: str, round: int, work: Callable[[], T]) -> T:
        flops, found = counted(work)
        self._tally.append({"what": what, "round": round, "flops": flops})
        return found


def counted(work: Callable[[], T]) -> tuple[int, T]:
    """Return the floating-point operations of some work, two for a product that is added up."""
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        found = work()
    return counter.get_total_flops(), found


def join(words: Sequence[str], flops: Path) -> None:
    """Be a client; ends the process."""
    tally: list[dict[str, Any]] = []
    libraries, made = peak_rss_bytes(), command.method_of

    def method_of(*given: Any) -> Any:
        return Counted(made(*given), tally)

    try:
        with patch.object(command, "method_of", method_of):
            cli.main(["join", *words])
    finally:
        flops.parent.mkdir(parents=True, exist_ok=True)
        flops.write_text(json.dumps({"libraries_rss_bytes": libraries, "done": tally}))


def forked(words: Sequence[str], flops: Path, log: Path) -> int:
    """Start a client; returns its number."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for output in (1, 2):
            os.dup2(file, output)
        join(words, flops)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(job: Path) -> None:
    """Run all clients of a job; exits with 1 if one failed."""
    known = json.loads(job.read_text())
    with ended_by_signals():
        running = {
            forked(client["words"], Path(client["flops"]), Path(client["log"]))
            for client in known["clients"]
        }
        failed = False
        try:
            while running:
                pid, status = os.wait()
                running.discard(pid)
                failed = failed or os.waitstatus_to_exitcode(status) != 0
        finally:
            for pid in running:
                os.kill(pid, signal.SIGKILL)  # SIGTERM asks a client for patience
    sys.exit(int(failed))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
