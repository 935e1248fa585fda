"""A federation as a TOML file that the cloud's owner writes; docs/federations.md shows one.

name, method, model, kind, labels, rounds, seed
[clients]   per_round, minimum, quorum, round_seconds, patience_seconds
[training]  epochs, batch_size, learning_rate, dropout, max_length, evaluate_every; of sfprompt
            keep and prompts
[cut]       cut, split_layer, rank, encoding, gradient_encoding; not of fedavg
[tail]      the same, of sfprompt alone
[privacy]   clip, noise, delta
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sft_common.config import CUTS, ENCODINGS, TAIL_CUTS, ModelShape, SplitSpec
from sft_common.errors import ConfigError, ModelError
from sft_common.federation.plan import (
    HEAD_OF_KIND,
    MAX_CLIENTS,
    MAX_ROUNDS,
    MAX_SECONDS,
    METHODS,
    FederationPlan,
    LocalTraining,
    Participation,
    Transfer,
    UpdatePrivacy,
)
from sft_common.model.families import shape_of
from sft_common.model.heads import HEAD_TABLE
from sft_common.model.loading import Pretrained
from sft_common.model.parting import pools_first
from sft_common.model.sources import Source
from sft_common.toml_file import Table, read_toml

OPTION = "--federation"

TABLES = {
    "clients": {field.name for field in dataclasses.fields(Participation)},
    "training": {field.name for field in dataclasses.fields(LocalTraining)},
    "cut": {"cut", "split_layer", "rank", "encoding", "gradient_encoding"},
    "privacy": {field.name for field in dataclasses.fields(UpdatePrivacy)},
}
TABLES["tail"] = TABLES["cut"]

SFPROMPT = {
    "image": LocalTraining(epochs=10, learning_rate=1e-3),
    "text": LocalTraining(epochs=1, learning_rate=1e-3),
    "similarity": LocalTraining(epochs=1, learning_rate=1e-3),
}
"""What SFPrompt does unless told otherwise, by kind: as published, but on texts ten passes past the
body teach the tail what the body then contradicts (docs/federations-measured.md)."""

FINE_TUNING = LocalTraining(epochs=1, learning_rate=5e-5)
"""What methods do that train whole blocks."""

RANK = 8
"""Of a cut that has one, unless told otherwise."""


class Written(NamedTuple):
    """A federation's file, and the model that it names."""

    plan: FederationPlan
    pretrained: Pretrained
    source: Source


def read_federation(path: Path, find: Callable[[str, Path], Source]) -> Written:
    """Return what a file says, with everything that it leaves out.

    Args:
        path: of the file.
        find: finds a model by its name, beside which folder.

    Raises:
        ConfigError: it is not to be read, or something is missing, unknown or out of its range.
        ModelError: the model is not to be had.
    """
    file = read_toml(OPTION, path)
    file.only({"name", "method", "model", "kind", "labels", "rounds", "seed", *TABLES})
    method, kind = file.choice("method", METHODS), file.choice("kind", HEAD_OF_KIND, "text")
    labels, training = _labels(file), _training(file, method, kind)
    try:
        source = find(file.text("model"), path.parent)
        pretrained = Pretrained(
            source.folder,
            num_labels=len(labels) or 1,
            head=HEAD_OF_KIND[kind],
            dropout=training.dropout,
            weights=source.weights,
        )
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    shape = shape_of(pretrained.config)
    if training.max_length > shape.positions:
        raise file.error(
            f"[training] max_length is {training.max_length}; the model takes {shape.positions} "
            "tokens; take fewer"
        )
    cut = _cut(file, method, shape, pretrained.prepared)
    tail = _tail(file, cut, shape) if method == "sfprompt" else None
    if tail is None and "tail" in file:
        raise file.error(f"[tail] is of sfprompt alone, not of {method}")
    try:
        plan = FederationPlan(
            name=file.text("name"),
            method=method,
            model=pretrained.identity(source.name, source.revision),
            kind=kind,
            labels=labels,
            rounds=file.whole("rounds", most=MAX_ROUNDS),
            seed=file.whole("seed", 0, least=0, most=2**63 - 1),
            clients=_clients(_table(file, "clients")),
            training=training,
            cut=cut,
            tail=tail,
            first_row=_first_row(tail, pretrained, shape),
            privacy=_privacy(_table(file, "privacy")) if "privacy" in file else None,
        )
        if plan.tail is not None:
            plan.parts.check(shape)
    except ConfigError as error:
        place = "" if str(error).startswith(str(path)) else f"{path}: "
        raise ConfigError(f"{place}{error}") from error
    return Written(plan, pretrained, source)


def _table(file: Table, name: str) -> Table:
    table = file.table(name, missing=True)
    table.only(TABLES[name])
    return table


def _labels(file: Table) -> tuple[str, ...]:
    labels = file.values.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise file.wrong("labels", labels, 'a list of names, such as ["negative", "positive"]')
    return tuple(labels)


def _clients(table: Table) -> Participation:
    usual = Participation()
    per_round = table.whole("per_round", usual.per_round, most=MAX_CLIENTS)
    minimum = table.whole("minimum", per_round, most=MAX_CLIENTS)
    return Participation(
        per_round=per_round,
        minimum=minimum,
        quorum=table.whole("quorum", min(per_round, minimum) // 2 + 1, most=MAX_CLIENTS),
        round_seconds=table.number("round_seconds", usual.round_seconds, most=MAX_SECONDS),
        patience_seconds=table.number("patience_seconds", usual.patience_seconds, most=MAX_SECONDS),
    )


def _training(file: Table, method: str, kind: str) -> LocalTraining:
    table = _table(file, "training")
    usual = SFPROMPT[kind] if method == "sfprompt" else FINE_TUNING
    if method != "sfprompt":
        for name in ("keep", "prompts"):
            if name in table:
                raise table.error(f"[training] {name} is of sfprompt alone, not of {method}")
    try:
        return LocalTraining(
            epochs=table.whole("epochs", usual.epochs),
            batch_size=table.whole("batch_size", usual.batch_size),
            learning_rate=table.number("learning_rate", usual.learning_rate),
            dropout=table.number("dropout") if "dropout" in table else None,
            max_length=table.whole("max_length", usual.max_length, least=0),
            keep=table.number("keep", usual.keep),
            prompts=table.whole("prompts", usual.prompts, least=0),
            evaluate_every=table.whole("evaluate_every", usual.evaluate_every, least=0),
        )
    except ConfigError as error:
        raise error if "[training]" in str(error) else table.error(f"[training] {error}") from error


def _cut(
    file: Table, method: str, shape: ModelShape, prepared: SplitSpec | None
) -> Transfer | None:
    if method == "fedavg":
        if "cut" in file:
            raise file.error("[cut] is not of fedavg: its clients have the whole model")
        return None
    table = _table(file, "cut")
    usual = SplitSpec(cut="none", split_layer=min(2, max(1, shape.blocks - 2)))
    if method != "sfprompt":
        usual = SplitSpec(cut="sft", split_layer=max(1, shape.blocks - 1), rank=RANK)
    return _transfer(table, prepared or usual, CUTS, shape)


def _tail(file: Table, cut: Transfer | None, shape: ModelShape) -> Transfer:
    """Return where the tail begins; unless told otherwise the last block is in it.

    A head alone learns too little of the body on texts (docs/federations-measured.md).
    """
    assert cut is not None
    lowest = max(shape.blocks - 1, cut.split.split_layer + 1)
    usual = SplitSpec(cut="none-end", split_layer=min(lowest, shape.blocks))
    return _transfer(_table(file, "tail"), usual, TAIL_CUTS, shape)


def _first_row(tail: Transfer | None, pretrained: Pretrained, shape: ModelShape) -> bool:
    """Return whether a tail reads the first token's row alone."""
    if tail is None or tail.split.split_layer != shape.blocks:
        return False
    return pools_first(pretrained.family, HEAD_TABLE[pretrained.head])


def _transfer(table: Table, usual: SplitSpec, cuts: tuple[str, ...], shape: ModelShape) -> Transfer:
    cut = table.choice("cut", cuts, usual.cut)
    encoding = table.choice("encoding", ENCODINGS, "float32")
    split = SplitSpec(
        cut=cut,
        split_layer=table.whole("split_layer", usual.split_layer, most=shape.blocks),
        rank=table.whole("rank", usual.rank),
        decoder_layers=usual.decoder_layers if cut == usual.cut else 0,
    )
    try:
        split.check(shape, cuts)
    except ConfigError as error:
        raise table.error(f"{table.label} {error}") from error
    return Transfer(
        split=split,
        encoding=encoding,
        gradient_encoding=table.choice("gradient_encoding", ENCODINGS, encoding),
    )


def _privacy(table: Table) -> UpdatePrivacy:
    return UpdatePrivacy(
        clip=table.number("clip"),
        noise=table.number("noise"),
        delta=table.number("delta", 1e-5),
    )
