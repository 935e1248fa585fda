"""A frozen edge: each activation is sent once, the cloud trains alone, the result is fetched later.

Net1 and its share of the cut keep their numbers and have no dropout, so the activation of an
example is the same in every epoch, and no gradient has to come back.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from sft_common.errors import ProtocolError, SessionLostError
from sft_common.model.heads import HEAD_TABLE
from sft_common.plan import planned_steps
from sft_common.rpc.access import Access
from sft_common.wire.packing import pack
from sft_edge.calls import follow_training
from sft_edge.client import GrpcSession
from sft_edge.job import Job
from sft_edge.opening import open_session
from sft_edge.outcome import outcome
from sft_edge.recorder import Recorder
from sft_edge.remote import Finished, Judged, Rewound, Stepped, TrainingEvent
from sft_edge.run_folder import RunFolder
from sft_edge.screen import make_screen, print_table
from sft_edge.tasks.batches import Batch, Dataset
from sft_edge.tasks.data import validation_of
from sft_edge.tasks.kinds import Part
from sft_edge.tasks.scoring import Scorer
from sft_edge.traffic import Traffic
from sft_edge.trained import TrainedRun, job_facts, read_run
from sft_edge.trainer import Evaluation, combined


def train_frozen(job: Job) -> bool:
    """Send every example once and let the cloud train; returns whether to wait for the result.

    A cloud that lost what it had before the training began gets everything once more.
    """
    session = _open(job)
    try:
        job.folder.create()
        begin = time.perf_counter()
        while True:
            try:
                total = _sent_and_begun(job, session)
                break
            except SessionLostError as lost:
                _say(job, f"{lost}; sending all examples again")
                session.abandon()
                session = _open(job, replaces=session.session_id)
        wire_seconds = session.traffic.wire_seconds
        edge_seconds = time.perf_counter() - begin - wire_seconds
        facts = job_facts(job, session)
        facts["frozen"] = {
            "edge_seconds": edge_seconds,
            "wire_seconds": wire_seconds,
            "bytes_up": session.traffic.bytes_up,
            "bytes_down": session.traffic.bytes_down,
            "padded_training_tokens": _padded_tokens(job),
            "total_steps": total,
        }
        job.folder.save_job(facts)
        job.folder.save_edge(dict(job.net1.skeleton.named_parameters()))
    finally:
        session.abandon()
        job.folder.discard_if_empty()
    if job.options.detach and not job.options.quiet:
        print(
            f"all examples are sent; the cloud goes on alone for {total} steps. "
            f"Come back for the result with: sft-edge fetch --run {job.folder.path}"
        )
    return not job.options.detach


def run_fetch(options: argparse.Namespace) -> None:
    """Fetch the result of a frozen edge's training with the options of `sft-edge fetch`.

    Raises:
        SftError: the run is none of those, or the cloud is not to be reached; says which.
    """
    transformers.logging.set_verbosity_error()
    folder = RunFolder.existing(options.run)
    metrics = fetch(folder, options, options)
    if options.json:
        print(json.dumps(metrics, indent=2))
    elif not options.quiet:
        print_table(metrics, str(folder.path))


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
        access: to the cloud; None: as `changed` says.
    """
    run = read_run(changed or _usual(folder.path), access)
    sent = run.facts.get("frozen")
    if sent is None:
        raise ProtocolError(f"{folder.path} is not the run of a frozen edge; nothing to fetch")
    traffic = Traffic(bytes_up=sent["bytes_up"], bytes_down=sent["bytes_down"])
    folder.restart_history()
    parts = validation_of(run.task, run.data, run.encoder, run.facts["eval_examples"])
    with make_screen("frozen", sent["total_steps"], quiet=options.quiet) as screen:
        recorder = Recorder(folder, screen, traffic, variant="split", log_every=options.log_every)
        events = follow_training(run.access, run.session_id, traffic)
        evaluation, finished = _follow(run, parts, events, recorder)
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
    return metrics


def _usual(path: Path) -> argparse.Namespace:
    return argparse.Namespace(run=path, server=None, model=None)


def _open(job: Job, replaces: str = "") -> GrpcSession:
    return open_session(job, replaces=replaces, say=partial(_say, job))


def _say(job: Job, line: str) -> None:
    if not job.options.quiet:
        print(line, file=sys.stderr)


def _sent_and_begun(job: Job, session: GrpcSession) -> int:
    """Send what the cloud has not got yet, whatever breaks, and begin; returns its steps."""
    done = 0
    while True:
        try:
            _send(job, session, done)
            return session.run(job.plan)
        except Rewound as rewound:
            done = rewound.stored


@torch.no_grad()
def _send(job: Job, session: GrpcSession, done: int) -> None:
    """Send all batches of examples but those that are done."""
    net1 = job.net1.to(job.device).eval()
    labelled = HEAD_TABLE[job.spec.head].next_token
    parts: list[tuple[int, Dataset, bool]] = [
        (0, job.data.train, True),
        *(
            (number, part.data, labelled)
            for number, part in enumerate(job.data.validation.values(), start=1)
        ),
    ]
    batches = sum(-(-len(data) // job.plan.batch_size) for _, data, _ in parts)
    with make_screen("sending", batches, quiet=job.options.quiet, unit="batch") as screen:
        count = 0
        for number, data, with_labels in parts:
            for batch in data.in_order(job.plan.batch_size):
                count += 1
                if count <= done:
                    continue
                activation = net1({n: t.to(job.device) for n, t in batch.inputs.items()})
                labels = batch.labels if with_labels else []
                session.store(number, pack(activation, batch.mask), batch.lengths, labels)
                screen.advance(count, None, session.traffic.bytes_up / count / 1e3)


def _padded_tokens(job: Job) -> int:
    """Return the tokens, padding included, that plain split learning would send in training."""
    lengths = job.data.train.all_lengths()
    return sum(
        len(step.rows) * max(lengths[row] for row in step.rows)
        for step in planned_steps(job.plan, lengths)
    )


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
