"""Follows a training that the cloud runs alone, and fetches what comes of it.

However often the connection or the cloud is lost: what was heard is not asked for again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import transformers

from sft_common.errors import ProtocolError, RetryLaterError, UnreachableError
from sft_common.model.heads import HEAD_TABLE
from sft_common.rpc.access import Access
from sft_edge.board import check_board, opened_board
from sft_edge.calls import follow_training
from sft_edge.outcome import outcome
from sft_edge.recorder import Recorder
from sft_edge.remote import Finished, Judged, Stepped, TrainingEvent
from sft_edge.report.writing import report_at_end
from sft_edge.retrying import Retry, pause
from sft_edge.run_folder import RunFolder
from sft_edge.screen import make_screen, print_table
from sft_edge.tasks.batches import Batch
from sft_edge.tasks.data import validation_of
from sft_edge.tasks.kinds import Part
from sft_edge.tasks.scoring import Scorer
from sft_edge.traffic import Traffic
from sft_edge.trained import TrainedRun, read_run
from sft_edge.trainer import Evaluation, combined


def run_fetch(options: argparse.Namespace) -> None:
    """Fetch the result of a frozen edge's training with the options of `sft-edge fetch`.

    Raises:
        SftError: the run is none of those, or the cloud is not to be reached; says which.
    """
    transformers.logging.set_verbosity_error()
    check_board(options)
    folder = RunFolder.existing(options.run)
    with folder.locked():
        metrics = fetch(folder, options, options)
        report = report_at_end(folder.path)
    if options.json:
        print(json.dumps(metrics, indent=2))
    elif not options.quiet:
        print_table(metrics, str(folder.path), report)


def fetch(
    folder: RunFolder,
    options: argparse.Namespace,
    changed: argparse.Namespace | None = None,
    access: Access | None = None,
) -> dict[str, Any]:
    """Follow a training to its end, and write what came of it; returns what metrics.json holds.

    Args:
        folder: of the run.
        options: how patient and how talkative to be.
        changed: where cloud and model are to be found now; None: where they were.
        access: to the cloud, which was there a moment ago; None: as `changed` says.

    Raises:
        SessionLostError: the cloud knows nothing of the training any more.
        SftError: what the training ended with, or the cloud was not to be reached.
    """
    run = read_run(changed or _usual(folder.path), access)
    sent = run.facts.get("frozen")
    if sent is None:
        raise ProtocolError(f"{folder.path} is not the run of a frozen edge; nothing to fetch")
    traffic = Traffic(bytes_up=sent["bytes_up"], bytes_down=sent["bytes_down"])
    parts = validation_of(run.task, run.data, run.encoder, run.facts["eval_examples"])
    with (
        make_screen("frozen", sent["total_steps"], quiet=options.quiet) as screen,
        opened_board(options, folder.path) as board,
    ):
        recorder = Recorder(
            folder, screen, traffic, variant="split", log_every=options.log_every, board=board
        )
        events = _events(run, traffic, options, screen.say, patient=access is not None)
        evaluation, finished = _follow(run, parts, _retold(events, folder), recorder)
    recorder.padded_training_tokens = sent["padded_training_tokens"]
    seconds = {
        "edge": sent["edge_seconds"],
        "wire": sent["wire_seconds"],
        "cloud": finished.cloud_seconds,
    }
    seconds["total"] = sum(seconds.values())  # however long the edge was away
    metrics = outcome(run.facts["known"], recorder, evaluation, traffic, seconds)
    metrics["cloud_saved"] = finished.saved
    folder.save_metrics(metrics)
    folder.finish()
    return metrics


def _usual(path: Path) -> argparse.Namespace:
    return argparse.Namespace(run=path, server=None, model=None)


def _events(
    run: TrainedRun,
    traffic: Traffic,
    options: argparse.Namespace,
    say: Callable[[str], None],
    *,
    patient: bool,
) -> Iterator[TrainingEvent]:
    """Yield the events of a training, each once, through lost connections.

    Args:
        run: whose training it is.
        traffic: counts the messages.
        options: how long to try again.
        say: tells a person.
        patient: whether to try again though nothing was heard yet.
    """
    retry = Retry.of(options)
    again: type[UnreachableError] = UnreachableError if patient else RetryLaterError
    seen, pauses, begin = 0, retry.pauses(), None
    while True:
        try:
            for event in follow_training(run.access, run.session_id, traffic, seen):
                if begin is not None:
                    say("the cloud is back")
                seen, pauses, begin, again = seen + 1, retry.pauses(), None, UnreachableError
                yield event
            return
        except again as lost:
            now = time.monotonic()
            if begin is None:
                say(f"{lost}; trying again for {retry.for_seconds:g} s")
                begin = now
            if now - begin >= retry.for_seconds:
                raise
        again = UnreachableError
        pause(next(pauses))


def _retold(events: Iterator[TrainingEvent], folder: RunFolder) -> Iterator[TrainingEvent]:
    """Yield events; with the first of them the history begins anew."""
    for number, event in enumerate(events):
        if not number:
            folder.restart_history()
        yield event


def _follow(
    run: TrainedRun,
    parts: dict[str, Part],
    events: Iterator[TrainingEvent],
    recorder: Recorder,
) -> tuple[Evaluation, Finished]:
    """Follow a training to its end; returns its last evaluation and how it ended."""
    epoch, judging, evaluation = 0, _Judging(run, parts), None
    for event in events:
        match event:
            case Stepped():
                epoch = event.epoch
                recorder.followed(event.step, event.epoch, event.loss, event.learning_rate)
            case Judged():
                batch = judging.take(event)
                recorder.evaluating(batch, event.verdict)
                if (judged := judging.evaluation()) is not None:
                    evaluation = judged
                    recorder.evaluated(event.step, epoch, evaluation)
                    judging = _Judging(run, parts)
            case Finished() if evaluation is not None:
                return evaluation, event
    raise ProtocolError("the training ended without an evaluation")


class _Judging:
    """Puts the verdicts of one evaluation beside the labels, which never left the edge."""

    def __init__(self, run: TrainedRun, parts: dict[str, Part]) -> None:
        self._metric, self._suffixes = run.task.metric, list(parts)
        self._batches = {
            number: list(part.data.in_order(run.batch_size))
            for number, part in enumerate(parts.values(), start=1)
        }
        self._scorers: dict[int, Scorer] = {
            number: part.scorer() for number, part in enumerate(parts.values(), start=1)
        }
        self._head, self._classes = HEAD_TABLE[run.spec.head], run.spec.num_labels

    def take(self, judged: Judged) -> Batch:
        """Score a verdict; returns the batch that it is on."""
        if not self._batches.get(judged.part):
            raise ProtocolError(f"the cloud judged more of part {judged.part} than was stored")
        batch = self._batches[judged.part].pop(0)
        labelled = self._head.next_token
        expected = self._head.verdict_shape(batch.lengths, self._classes, labelled=labelled)
        if tuple(judged.verdict.shape) != expected:
            raise ProtocolError(
                f"verdict has shape {tuple(judged.verdict.shape)}, expected {expected}; are the "
                "validation data still those of the run?"
            )
        self._scorers[judged.part].add(batch, judged.verdict)
        return batch

    def evaluation(self) -> Evaluation | None:
        """Return the evaluation once every batch of every part is scored."""
        if any(self._batches.values()):
            return None
        scores = zip(self._suffixes, self._scorers.values(), strict=True)
        return combined({suffix: scorer.score() for suffix, scorer in scores}, self._metric)
