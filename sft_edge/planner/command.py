"""`sft-edge plan`, and `--auto` of `sft-edge train`: from options to a choice."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import transformers

from sft_common.config import SessionSpec, SplitSpec
from sft_common.errors import ConfigError
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained, read_config
from sft_common.model.sources import find_model
from sft_common.report.figures import bytes_said, seconds_said
from sft_edge.device import device_named
from sft_edge.job import Job, name_for, prepare, recut, split_of
from sft_edge.login import edge_access
from sft_edge.planner.choice import Choice, choose
from sft_edge.planner.forecasting import Forecast
from sft_edge.planner.measuring import Subject, measure_scene
from sft_edge.planner.sample import DataSample, InventedSample
from sft_edge.planner.setting import Asked
from sft_edge.planner.showing import command_for, facts_of, plan_facts, print_plans
from sft_edge.planner.written import read_scene, scene_text
from sft_edge.tasks.table import find_task

EXAMPLES, TOKENS = 32, 128
"""Of a batch, where neither a task nor a size is named."""


def run_plan(options: argparse.Namespace) -> None:
    """Plan with the options of `sft-edge plan`.

    Raises:
        SftError: bad input, or the cloud refused or was lost; the message says which.
        OSError: this system does not say what memory is free, or --save is not to be written.
    """
    transformers.logging.set_verbosity_error()
    say = _silent if options.quiet or options.json else _on_stderr
    asked = _asked(options)
    if options.from_file:
        scene = read_scene(options.from_file)
        if options.task:
            find_task(options.task)
    else:
        subject = _subject(options)
        scene = measure_scene(subject, asked, say)
    if options.save:
        options.save.write_text(scene_text(scene), "utf-8")
    choice = choose(scene, asked)
    best = _best(choice, asked)
    command = command_for(best.setting, _said(options), options.train_defaults())
    if options.json:
        print(json.dumps(facts_of(scene, choice, command), indent=2))
        return
    print_plans(scene, choice, most=options.top, max_loss=asked.max_loss)
    print(command)


def planned(job: Job) -> Job:
    """Return a job with the cut, rank, encoding and micro-batches that `--auto` finds for it.

    Raises:
        SftError: the cloud is not to be reached, or no plan fits.
    """
    options, subject = job.options, _subject_of(job)
    say = _silent if options.quiet else _on_stderr
    asked = _asked(options)
    scene = measure_scene(subject, asked, say)
    best = _best(choose(scene, asked), asked)
    if not options.quiet:
        _on_stderr(_said_of(best))
    setting = best.setting
    options.cut, options.split_layer = setting.cut, setting.split_layer
    options.rank, options.encoding = setting.rank or None, setting.encoding
    options.micro_batches, options.auto = setting.micro_batches, False
    options.forecast = plan_facts(best)
    return recut(job)


def _subject(options: argparse.Namespace) -> Subject:
    """Return what the options of `sft-edge plan` are about."""
    if options.task:
        if options.tokens:
            raise ConfigError("--tokens is for a plan without a --task, whose data has tokens")
        return _subject_of(prepare(options))
    if not options.model:
        raise ConfigError("--model or --task is needed: what is to be planned for?")
    source = find_model(options.model)
    images = hasattr(read_config(source.folder, num_labels=2), "image_size")
    head = "image-classification" if images else "sequence-classification"
    pretrained = Pretrained(source.folder, num_labels=2, head=head, weights=source.weights)
    shape = shape_of(pretrained.config)
    if pretrained.prepared:  # says what is wrong where another cut was named
        pretrained.net1(split_of(options, shape, pretrained.prepared))
    tokens = shape.positions if images else min(options.tokens or TOKENS, shape.positions)
    examples = options.batch_size or EXAMPLES
    return Subject(
        name=source.name,
        pretrained=pretrained,
        spec=SessionSpec(
            model=pretrained.identity(name_for(options.server, source), source.revision),
            split=SplitSpec(split_layer=1),
            head=head,
            num_labels=2,
            max_examples=examples,
            max_tokens=tokens,
        ),
        sample=InventedSample(pretrained.config, examples, tokens),
        access=edge_access(options, options.server),
        device=device_named(options.device),
        keeps_labels=options.labels == "edge",
        max_message_bytes=options.max_message * 2**20,
        wait_seconds=options.wait,
    )


def _subject_of(job: Job) -> Subject:
    return Subject(
        name=job.source.name,
        pretrained=job.pretrained,
        spec=job.spec,
        sample=DataSample(job.data.train, job.plan),
        access=job.access,
        device=job.device,
        keeps_labels=job.options.labels == "edge",
        max_message_bytes=job.options.max_message * 2**20,
        wait_seconds=job.options.wait,
    )


def _asked(options: argparse.Namespace) -> Asked:
    """Return what the options hold the choice to."""
    if options.grad_encoding not in (None, options.encoding):
        raise ConfigError(
            f"--grad-encoding {options.grad_encoding} and --encoding {options.encoding or 'free'}: "
            "plans have one encoding for both ways; say --encoding alone"
        )
    micro = options.micro_batches
    return Asked(
        cut=options.cut,
        split_layer=options.split_layer,
        rank=options.rank,
        encoding=options.encoding,
        micro_batches=micro if isinstance(micro, int) else None,
        labels=options.labels,
        max_loss=options.max_accuracy_loss,
        memory_bytes=None if options.memory is None else round(options.memory * 1e9),
        task=options.task,
    )


def _best(choice: Choice, asked: Asked) -> Forecast:
    """Return the plan to carry out.

    Raises:
        ConfigError: none fits, or none is known to be accurate enough.
    """
    if choice.best is not None:
        return choice.best
    if choice.too_risky:
        known = [plan for plan in choice.too_risky if plan.risk.points is not None]
        least = min((plan.risk.points or 0.0 for plan in known), default=None)
        found = "none is known" if least is None else f"the least known is {least:.1f}"
        raise ConfigError(
            f"no plan is known to lose at most {asked.max_loss:g} points of accuracy ({found}); "
            "say --max-accuracy-loss 100 to see those of which nothing is known"
        )
    where = "the cloud's memory" if choice.too_large_there == choice.too_large else "memory"
    raise ConfigError(
        f"none of {choice.too_large} plans fits into {where}; take a smaller --batch-size or "
        "--max-length"
    )


def _said(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the command of the best plan says of other things."""
    told = dict(vars(options))
    if options.from_file and not told["model"]:
        told["model"] = read_scene(options.from_file).sizes.name
    told["task"] = told["task"] or "TASK"
    return told


def _said_of(plan: Forecast) -> str:
    setting = plan.setting
    rank = f" at rank {setting.rank}" if setting.rank else ""
    return (
        f"planned: cut {setting.cut} in block {setting.split_layer}{rank}, {setting.encoding}, "
        f"{setting.micro_batches} micro-batches: {seconds_said(plan.seconds)} a step, "
        f"{bytes_said(plan.bytes_up + plan.bytes_down)} up and down"
    )


def _on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    """Say nothing."""
