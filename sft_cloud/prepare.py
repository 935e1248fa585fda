"""The `prepare` command: a model healed for one cut, stored for both sides to take by --model."""

from __future__ import annotations

import argparse
import logging
import sys
import zlib
from collections.abc import Iterator
from gzip import open as open_gzip
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from sft_cloud.device import choose_device, describe
from sft_cloud.healing import Healer, Inputs
from sft_common.config import BASIS_CUTS, SplitSpec
from sft_common.errors import ConfigError, DataError, first_line
from sft_common.files import check_new, written_aside
from sft_common.model.calibration import calibration_rows
from sft_common.model.cuts import principal_basis
from sft_common.model.families import shape_of
from sft_common.model.joined import save_prepared
from sft_common.model.loading import Pretrained, set_basis, set_edge_factor
from sft_common.model.partition import Net1, Net2
from sft_common.model.sources import find_model
from sft_common.model.tokenizer import load_tokenizer

log = logging.getLogger(__name__)

HEAD = "sequence-classification"
"""Any head will do: none is trained, and a fresh one is not stored."""


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
    texts = read_texts(options.text)
    source = find_model(options.model)
    pretrained = Pretrained(
        source.folder, num_labels=2, head=HEAD, dropout=0.0, weights=source.weights
    )
    shape = shape_of(pretrained.config)
    split = SplitSpec(cut=options.cut, split_layer=options.split_layer, rank=options.rank)
    split.check(shape)
    if split.cut == "none":
        raise ConfigError("the cut none loses nothing: there is nothing to heal")
    tokenizer = load_tokenizer(source.folder, pretrained.config.vocab_size)
    longest = min(options.max_length, shape.positions)
    batches = Batches(texts, tokenizer, longest, options.batch_size, options.seed)
    torch.manual_seed(options.seed)
    net1, net2 = _halves(pretrained, split, batches, shape.hidden, options.seed, device)
    whole: Any = pretrained.whole(seed=options.seed)
    healer = Healer(
        whole, net1, net2, pretrained.family, split_layer=split.split_layer, device=device
    )
    log.info("healing %s of %s on %s", split.words(), source.name, describe(device))
    _heal(healer, batches, options)
    with written_aside(target.absolute()) as aside:
        aside.mkdir()
        save_prepared(aside, pretrained, net1, net2, split)
        tokenizer.save_pretrained(aside)
    print(f"the prepared model is in {target}; give it to both sides with --model")


def _halves(
    pretrained: Pretrained,
    split: SplitSpec,
    batches: Batches,
    hidden: int,
    seed: int,
    device: torch.device,
) -> tuple[Net1, Net2]:
    """Return both halves with the cut as fine-tuning would start from it."""
    net1 = pretrained.net1(split)
    pretrained.fill_net1(net1)
    basis: tuple[Tensor, Tensor] | None = None
    if split.cut in BASIS_CUTS:
        pairs = ((batch, batch["attention_mask"]) for batch in batches)
        rows_TN = calibration_rows(net1, pairs, hidden=hidden, device=device)
        found = principal_basis(rows_TN, split.rank)
        set_basis(net1, found)
        basis = (found.mean, found.decoder)
    net2, u = pretrained.net2(split, seed=seed, device=device, basis=basis)
    if u is not None:
        set_edge_factor(net1, u)
    return net1, net2


def _heal(healer: Healer, batches: Batches, options: argparse.Namespace) -> None:
    losses: list[float] = []
    every = max(1, options.steps // 20)
    work = islice(batches.forever(), options.steps)
    for loss in healer.heal(work, steps=options.steps, rate=options.learning_rate):
        losses.append(loss)
        if len(losses) % every == 0:
            recent = sum(losses[-every:]) / every
            log.info("step %d/%d relative error %.4f", len(losses), options.steps, recent)


class Batches:
    """Texts as padded batches of tokens in a seeded order, once or for ever.

    Args:
        texts: one example each.
        tokenizer: of the model.
        longest: tokens of an example; the rest is cut off.
        size: examples of a batch.
        seed: of the order.
    """

    def __init__(
        self, texts: list[str], tokenizer: Any, longest: int, size: int, seed: int
    ) -> None:
        self._texts, self._tokenizer = texts, tokenizer
        self._longest, self._size, self._seed = longest, size, seed
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    def __iter__(self) -> Iterator[Inputs]:
        return self._pass(0)

    def forever(self) -> Iterator[Inputs]:
        """Yield batches without end, each pass in another order."""
        number = 0
        while True:
            yield from self._pass(number)
            number += 1

    def _pass(self, number: int) -> Iterator[Inputs]:
        generator = torch.Generator().manual_seed(self._seed + number)
        order = torch.randperm(len(self._texts), generator=generator).tolist()
        for start in range(0, len(order), self._size):
            texts = [self._texts[n] for n in order[start : start + self._size]]
            yield dict(
                self._tokenizer(
                    texts,
                    truncation=True,
                    max_length=self._longest,
                    padding=True,
                    padding_side="right",
                    return_tensors="pt",
                )
            )


def read_texts(files: list[Path]) -> list[str]:
    """Return the lines of text files, plain or .gz, that hold any text.

    Raises:
        DataError: a file cannot be read, or there is too little text.
    """
    texts: list[str] = []
    for file in files:
        opened = open_gzip if file.suffix == ".gz" else open
        try:
            with opened(file, "rt", encoding="utf-8") as lines:
                texts += [line.strip() for line in lines if line.strip()]
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            raise DataError(f"cannot read {file}: {first_line(error)}") from error
    if len(texts) < 2:
        raise DataError(f"{', '.join(map(str, files))}: {len(texts)} lines of text are too few")
    return texts
