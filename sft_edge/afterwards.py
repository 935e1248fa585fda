"""The `evaluate` and `predict` commands: a finished run, its net1 here, its net2 on the cloud."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import transformers
from rich.console import Console
from rich.table import Table
from torch import Tensor

from sft_common.errors import DataError, first_line
from sft_common.model.heads import HEAD_TABLE
from sft_common.report.metrics import shown
from sft_edge.client import GrpcSession
from sft_edge.learners import SplitLearner
from sft_edge.tasks.batches import Batch, Dataset
from sft_edge.tasks.data import validation_of
from sft_edge.tasks.predicting import (
    Answer,
    continuation_rows,
    continuation_set,
    predictor_for,
)
from sft_edge.trained import TrainedRun, read_run
from sft_edge.trainer import Evaluation, evaluate

CPU = torch.device("cpu")


def run_evaluation(options: argparse.Namespace) -> None:
    """Evaluate with the options of `sft-edge evaluate`.

    Raises:
        SftError: bad input, or the cloud refused or was lost; the message says which.
    """
    transformers.logging.set_verbosity_error()
    run = read_run(options)
    data = options.data or run.data
    encoder = dataclasses.replace(run.encoder, folder=data)
    parts = validation_of(run.task, data, encoder, options.eval_examples)
    session = run.open()
    try:
        evaluation = evaluate(
            _learner(run, session),
            parts,
            batch_size=run.batch_size,
            metric=run.task.metric,
            watcher=_Nobody(),
        )
        session.close()
    finally:
        session.abandon()
    _show(evaluation, sum(len(part.data) for part in parts.values()), as_json=options.json)


def run_prediction(options: argparse.Namespace) -> None:
    """Predict with the options of `sft-edge predict`; one line out for every line with text in.

    Raises:
        SftError: bad input, or the cloud refused or was lost; the message says which.
    """
    transformers.logging.set_verbosity_error()
    lines = _lines(options)
    run = read_run(options)
    session = run.open()
    try:
        learner = _learner(run, session)
        if run.task.kind == "language":
            answers = _continued(run, learner, lines, options.tokens)
        else:
            predictor = predictor_for(run.task, lines, run.encoder)
            answers = predictor.answers(list(_verdicts(run, learner, predictor.data)))
        session.close()
    finally:
        session.abandon()
    for line, answer in zip(lines, answers, strict=True):
        print(_said(line, answer, as_json=options.json))


class _Nobody:
    """A watcher that is told nothing."""

    def stepped(
        self, step: int, epoch: int, batches: Sequence[Batch], loss: float, rate: float
    ) -> None: ...

    def evaluating(self, batch: Batch, verdict: Tensor) -> None: ...

    def evaluated(self, step: int, epoch: int, evaluation: Evaluation) -> None: ...


def _learner(run: TrainedRun, session: GrpcSession) -> SplitLearner:
    return SplitLearner(
        run.net1,
        session,
        HEAD_TABLE[run.spec.head],
        run.spec.optimizer,
        CPU,
        keeps_labels=run.facts["known"].get("labels_on") == "edge",
    )


def _verdicts(run: TrainedRun, learner: SplitLearner, data: Dataset) -> Iterator[Tensor]:
    """Yield the verdict on each example: (C,), or (T, C) where the head has one for each token."""
    per_token = HEAD_TABLE[run.spec.head].per_token
    for batch, verdict in learner.predictions(data.in_order(run.batch_size)):
        yield from verdict.split(batch.lengths) if per_token else verdict


def _continued(
    run: TrainedRun, learner: SplitLearner, lines: list[str], tokens: int
) -> list[Answer]:
    """Go on with texts, each time with the likeliest token, to a number of tokens or an end."""
    tool = run.encoder.tool
    rows = continuation_rows(lines, run.encoder)
    starts, going = [len(row) for row in rows], set(range(len(rows)))
    for _ in range(tokens):
        order = sorted(going)
        data = continuation_set([rows[n] for n in order], run.encoder)
        batches = data.in_order(run.batch_size)
        verdicts = [verdict for _, verdict in learner.what_follows(batches)]
        following = torch.cat(verdicts).argmax(dim=-1)
        for n, token in zip(order, following.tolist(), strict=True):
            if token == tool.eos_token_id:
                going.discard(n)
            else:
                rows[n].append(token)
        if not going:
            break
    return [
        Answer(prediction=tool.decode(row[start:], skip_special_tokens=True))
        for row, start in zip(rows, starts, strict=True)
    ]


def _lines(options: argparse.Namespace) -> list[str]:
    """Return the examples: arguments, else a file, else standard input; empty lines are none."""
    if options.text and options.file:
        raise DataError("give texts as arguments or with --file, not both")
    try:
        text = Path(options.file).read_text("utf-8") if options.file else None
        if text is None:
            text = "\n".join(options.text) if options.text else sys.stdin.read()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {options.file or 'the input'}: {first_line(error)}"
        ) from error
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if not lines:
        raise DataError("there is nothing to predict: give a text, --file FILE, or lines in a pipe")
    return lines


def _said(line: str, answer: Answer, *, as_json: bool) -> str:
    if as_json:
        probability = {} if answer.probability is None else {"probability": answer.probability}
        facts = {"input": line, "prediction": answer.prediction, **probability}
        return json.dumps(facts, ensure_ascii=False)
    match answer.prediction:
        case list(tags):
            text = " ".join("-" if tag is None else tag for tag in tags)
        case float(number):
            text = f"{number:.4f}"
        case prediction:
            text = " ".join(str(prediction).split("\n"))
    return text if answer.probability is None else f"{text}\t{answer.probability:.4f}"


def _show(evaluation: Evaluation, examples: int, *, as_json: bool) -> None:
    if as_json:
        facts = {"metrics": evaluation.metrics, "loss": evaluation.loss, "examples": examples}
        print(json.dumps(facts, indent=2))
        return
    table = Table(show_header=False)
    for name, value in evaluation.metrics.items():
        table.add_row(name, shown(name, value))
    table.add_row("validation loss", f"{evaluation.loss:.4f}")
    table.add_row("examples", str(examples))
    Console().print(table)
