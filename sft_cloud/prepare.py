"""The `prepare` command: a model healed for one cut, stored for both sides to take by --model."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import statistics
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sft_cloud.device import PRECISIONS, choose_device, describe
from sft_cloud.healing import Healer, Inputs
from sft_cloud.texts import Example, encoded, read_texts
from sft_common.config import BASIS_CUTS, DECODER_LAYERS, SCALED_ENCODINGS, SplitSpec
from sft_common.errors import ConfigError
from sft_common.files import check_new, written_aside
from sft_common.model.calibration import calibrate
from sft_common.model.families import shape_of
from sft_common.model.joined import save_prepared
from sft_common.model.loading import Pretrained, set_edge_factor
from sft_common.model.partition import Net1, Net2
from sft_common.model.sources import find_model
from sft_common.model.tokenizer import check_length, load_tokenizer, padding_of
from sft_common.plan import Plan, planned_steps
from sft_common.wire.encodings import ENCODING_TABLE

log = logging.getLogger(__name__)

HEAD = "sequence-classification"
"""Any head will do: none is trained, and a fresh one is not stored."""

REPORTS = 20
"""Lines about the error on the way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """Batches of text in the order of a plan, each with its learning rate; may be walked again."""

    examples: list[Example]
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    plan: Plan

    def __iter__(self) -> Iterator[tuple[Inputs, float]]:
        characters = [sum(map(len, texts)) for texts in self.examples]
        for step in planned_steps(self.plan, characters):
            texts = [self.examples[row] for row in step.rows]
            yield encoded(texts, self.tokenizer, self.max_length), step.learning_rate


def run_prepare(options: argparse.Namespace) -> None:
    """Heal a model with the options of `sft-cloud prepare`; its folder appears whole or not at all.

    Raises:
        SftError: bad input; the message says which.
        OSError: the disk does not take the folder.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    transformers.logging.set_verbosity_error()
    target: Path = options.to
    check_new(target)
    device = choose_device(options.gpu, cpu=options.cpu)
    examples = read_texts(options.text)
    source = find_model(options.model)
    pretrained = Pretrained(
        source.folder, num_labels=2, head=HEAD, dropout=0.0, weights=source.weights
    )
    if pretrained.prepared is not None:
        raise ConfigError(
            f"{source.name} was prepared already, for {pretrained.prepared.words()}; "
            "give the model that it was made of"
        )
    shape = shape_of(pretrained.config)
    split = _split(options)
    split.check(shape)
    if split.cut == "none":
        raise ConfigError("the cut none loses nothing: there is nothing to heal")
    tokenizer = load_tokenizer(source.folder, pretrained.config.vocab_size)
    pretrained.padding = padding_of(tokenizer)
    max_length = min(options.max_length, shape.positions)
    pairs = any(len(texts) > 1 for texts in examples)
    check_length(max_length, tokenizer, shape.positions, model=source.name, pairs=pairs)
    course = Course(
        examples=examples,
        tokenizer=tokenizer,
        max_length=max_length,
        plan=_plan(options),
    )
    balanced = options.encoding in SCALED_ENCODINGS
    net1, net2 = _halves(pretrained, split, course, shape.hidden, balanced, device)
    whole: Any = pretrained.whole(seed=options.seed)
    healer = Healer(
        whole,
        net1,
        net2,
        pretrained.family,
        split_layer=split.split_layer,
        device=device,
        precision=PRECISIONS[options.precision],
        encoding=ENCODING_TABLE[options.encoding],
    )
    log.info("healing %s of %s on %s", split.words(), source.name, describe(device))
    error = _heal(healer, course, options.local_steps)
    healing = {
        "model": source.name,
        "texts": len(examples),
        "local_steps": options.local_steps,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "precision": options.precision,
        "encoding": options.encoding,
        "seed": options.seed,
        "relative_error": round(error, 4),
    }
    with written_aside(target.absolute()) as aside:
        aside.mkdir()
        save_prepared(aside, pretrained, net1, net2, split, healing)
        tokenizer.save_pretrained(aside)
    print(f"the prepared model is in {target}; give it to both sides with --model")


def _split(options: argparse.Namespace) -> SplitSpec:
    layers = options.decoder_layers
    if layers is None:
        layers = DECODER_LAYERS if options.cut in BASIS_CUTS else 0
    return SplitSpec(
        cut=options.cut,
        split_layer=options.split_layer,
        rank=options.rank,
        decoder_layers=layers,
    )


def _plan(options: argparse.Namespace) -> Plan:
    steps = options.local_steps + options.steps
    return Plan(
        epochs=steps,  # at least a step each: the steps alone say when it ends
        max_steps=steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=options.seed,
        group_by_length=True,
    )


def _halves(
    pretrained: Pretrained,
    split: SplitSpec,
    course: Course,
    hidden: int,
    balanced: bool,
    device: torch.device,
) -> tuple[Net1, Net2]:
    """Return both halves with the cut as fine-tuning would start from it."""
    net1 = pretrained.net1(split)
    pretrained.fill_net1(net1)
    basis: tuple[Tensor, Tensor] | None = None
    if split.cut in BASIS_CUTS:
        once = dataclasses.replace(course.plan, epochs=1, max_steps=None, group_by_length=False)
        mixed = dataclasses.replace(course, plan=once)
        pairs = ((inputs, inputs["attention_mask"]) for inputs, _ in mixed)
        found = calibrate(
            net1,
            pairs,
            rank=split.rank,
            hidden=hidden,
            balanced=balanced,
            device=device,
            source="the text",
        )
        basis = (found.mean, found.decoder)
    net2, u = pretrained.net2(split, seed=course.plan.seed, device=device, basis=basis)
    if u is not None:
        set_edge_factor(net1, u)
    return net1, net2


def _heal(healer: Healer, course: Course, local_steps: int) -> float:
    """Walk the course, at first in the cut block alone.

    Returns:
        The mean relative error of the last few steps.
    """
    steps = course.plan.total_steps(len(course.examples))
    every = max(1, steps // REPORTS)
    recent: deque[float] = deque(maxlen=every)
    with ExitStack() as local:
        local.enter_context(healer.cut_block_alone())
        for number, (inputs, rate) in enumerate(course, start=1):
            if number == local_steps + 1:
                local.close()
                recent.clear()
            recent.append(healer.step(inputs, rate))
            if number % every == 0 or number in (local_steps, steps):
                where = "in the cut block" if number <= local_steps else "in it and those above"
                error = statistics.fmean(recent)
                log.info("step %d/%d relative error %s %.4f", number, steps, where, error)
    return error
