"""Follows a training: history, TensorBoard, progress, and what plain split learning would send."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sft_common.report.metrics import shown
from sft_edge.board import Board
from sft_edge.run_folder import RunFolder
from sft_edge.screen import Screen
from sft_edge.tasks.batches import Batch
from sft_edge.traffic import Traffic
from sft_edge.trainer import Evaluation

COUNTED = ("steps", "padded_training_tokens", "padded_evaluation_tokens", "verdict_numbers")
"""Counters that metrics.json is made of."""


class Recorder:
    """A `Watcher` that writes the history of a run and shows its progress.

    Args:
        folder: gets one history line for each logged step and each evaluation.
        screen: shows progress.
        traffic: the session's counters; None for a run without a wire.
        variant: "split" or "unsplit", as the history names it.
        log_every: steps between two logged ones; the first and those at evaluations are logged too.
        board: gets what the history gets; it begins anew. None: there is none.
    """

    def __init__(
        self,
        folder: RunFolder,
        screen: Screen,
        traffic: Traffic | None,
        *,
        variant: str,
        log_every: int,
        board: Board | None = None,
    ) -> None:
        self._folder, self._screen = folder, screen
        self._traffic = traffic
        self._variant, self._log_every = variant, log_every
        self._begin = time.perf_counter()
        self.steps = 0
        self.padded_training_tokens = 0
        self.padded_evaluation_tokens = 0
        self.verdict_numbers = 0
        self._training_bytes = 0
        self._seen_bytes = self._moved()
        self._board, self._scalars = board, (0, dict[str, float]())
        self._paced = (0, time.perf_counter())
        if board is not None:
            board.go_back(0, {})

    def state(self) -> dict[str, Any]:
        """Return its counters and the length of the history, as JSON can say it.

        What it has put on the board is on disk then.
        """
        counted = {name: getattr(self, name) for name in COUNTED}
        if self._board is not None:
            self._board.flush()
        step, scalars = self._scalars
        return counted | {
            "training_bytes": self._training_bytes,
            "seconds": self.seconds,
            "history_bytes": self._folder.history_bytes(),
            "scalars": scalars if step == self.steps else {},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned once; the history forgets what came after it.

        Seconds are those of this program, which has spent them, or of the one before it.
        """
        for name in COUNTED:
            setattr(self, name, state[name])
        self._begin -= max(0.0, state["seconds"] - self.seconds)
        self._training_bytes = state["training_bytes"]
        self._seen_bytes = self._moved()
        self._folder.cut_history(state["history_bytes"])
        self._paced = (self.steps, time.perf_counter())
        if self._board is not None:
            # An evaluation behind the step is done again; what the step itself gave is not.
            self._board.go_back(self.steps, state.get("scalars", {}))

    @property
    def seconds(self) -> float:
        """Seconds that the training has taken, whatever programs it went through."""
        return time.perf_counter() - self._begin

    def stepped(
        self, step: int, epoch: int, batches: Sequence[Batch], loss: float, rate: float
    ) -> None:
        """Count, log and show a training step."""
        self.steps = step
        lengths = [length for batch in batches for length in batch.lengths]
        self.padded_training_tokens += len(lengths) * max(lengths)
        self._training_bytes += self._moved() - self._seen_bytes
        self._seen_bytes = self._moved()
        if step == 1 or step % self._log_every == 0:
            self._log("step", step, epoch, loss=loss, learning_rate=rate)
            scalars = {"loss": loss, "learning_rate": rate, "steps_per_second": self._pace(step)}
            self._put(step, scalars)
        self._screen.advance(step, loss, self._training_bytes / step / 1e3)

    def followed(self, step: int, epoch: int, loss: float, rate: float) -> None:
        """Log and show a step that the cloud took alone."""
        self.steps = step
        if step == 1 or step % self._log_every == 0:
            self._log("step", step, epoch, loss=loss, learning_rate=rate)
            self._put(step, {"loss": loss, "learning_rate": rate})
        self._screen.advance(step, loss, None)

    def evaluating(self, batch: Batch, verdict: Tensor) -> None:
        """Count a batch that was evaluated."""
        self.padded_evaluation_tokens += batch.padded_tokens
        self.verdict_numbers += verdict.numel()

    def evaluated(self, step: int, epoch: int, evaluation: Evaluation) -> None:
        """Log and show an evaluation."""
        name, value = evaluation.metric, evaluation.value
        figure = shown(name, value)
        self._seen_bytes = self._moved()
        self._log("evaluation", step, epoch, loss=evaluation.loss, metric=name, value=value)
        judged = {"loss": evaluation.loss, **evaluation.metrics}
        self._put(step, {f"validation/{name}": value for name, value in judged.items()})
        self._paced = (step, time.perf_counter())
        self._screen.evaluated(
            f"{self._variant} epoch {epoch} step {step}: {name} {figure}, "
            f"validation loss {evaluation.loss:.4f}",
            f"{name} {figure}",
        )

    def split_learning_bytes(self, hidden: int) -> tuple[int, int]:
        """Return what plain split learning would have sent up and down, payload alone.

        Its activation and gradient have shape (B, M, N) in float32, padding included, where M is
        the padded length of each batch; an evaluation sends activations up and logits down.
        """
        per_token = hidden * torch.float32.itemsize
        up = (self.padded_training_tokens + self.padded_evaluation_tokens) * per_token
        logits = self.verdict_numbers * torch.float32.itemsize
        return up, self.padded_training_tokens * per_token + logits

    def _bytes(self) -> tuple[int, int]:
        return (self._traffic.bytes_up, self._traffic.bytes_down) if self._traffic else (0, 0)

    def _moved(self) -> int:
        return sum(self._bytes())

    def _pace(self, step: int) -> float:
        """Return the steps a second since the last logged one, or the evaluation behind it."""
        before, then = self._paced
        self._paced = (step, time.perf_counter())
        return (step - before) / max(self._paced[1] - then, 1e-9)

    def _put(self, step: int, scalars: dict[str, float]) -> None:
        """Put scalars on the board, with the bytes so far."""
        if self._board is None:
            return
        up, down = self._bytes()
        scalars |= {"bytes/up": float(up), "bytes/down": float(down)}
        self._scalars = (step, scalars)
        self._board.add(step, scalars)

    def _log(self, kind: str, step: int, epoch: int, **entry: float | str) -> None:
        up, down = self._bytes()
        self._folder.log(
            kind=kind,
            variant=self._variant,
            step=step,
            epoch=epoch,
            **entry,
            bytes_up=up,
            bytes_down=down,
            seconds=round(self.seconds, 4),
        )
