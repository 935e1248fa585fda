"""What all clients of a federation do: frozen, checked. No tensors, no files, no RPC."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from sft_common.config import (
    BASIS_CUTS,
    MAX_LABELS,
    MAX_NAME,
    ModelIdentity,
    PartsSpec,
    SessionSpec,
    SplitSpec,
    TailSpec,
    check_encodings,
)
from sft_common.errors import ConfigError

METHODS = ("sfprompt", "splitfed", "splitfed-shared", "fedavg")
"""SFPrompt (Cao et al. 2024); SplitFed V1 and V2 (Thapa et al. 2022); FedAvg (McMahan et al. 2017).
"""

SPLIT_METHODS = ("splitfed", "splitfed-shared")
"""Methods that train net1 on the clients and net2 on the cloud."""

HEAD_OF_KIND = {
    "text": "sequence-classification",
    "similarity": "regression",
    "image": "image-classification",
}
"""Kinds of tasks that a federation can have -> what their models end in."""

SCORED_KINDS = ("text", "image")
"""Kinds with classes: EL2N scores need some (SFPrompt, Eq. 4)."""

MAX_ROUNDS = 1_000_000
MAX_CLIENTS = 10_000
"""Each has a stream open; and what a peer may make grow must have an end."""

MAX_SECONDS = 1e7

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of federations and clients: they are names of folders too."""


def check_name(what: str, name: str) -> None:
    """Refuse a name that could not be one of a folder.

    Raises:
        ConfigError: says which letters fit.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{what} {name[:80]!r}: a name has 1 to 64 letters, digits, '-', '_' or '.', and does "
            "not begin with a '.'"
        )


def _check_whole(what: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{what}: {value} is outside {least}..{most}")


def _check_real(what: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{what}: {value:g} is outside {least:g}..{most:g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Participation:
    """Who takes part in a round, and how long it is waited for."""

    per_round: int = 5
    """Clients that are drawn for a round; all, if fewer are there."""

    minimum: int = 5
    """Clients that must be there before a round begins; they may be more than are drawn."""

    quorum: int = 3
    """Updates without which a round counts for nothing; no more than are surely drawn."""

    round_seconds: float = 3600.0
    """A round ends after so long with what has come; a turn, where clients take turns."""

    patience_seconds: float = 60.0
    """So long a client may be away before it counts as gone."""

    def __post_init__(self) -> None:
        _check_whole("clients per round", self.per_round, 1, MAX_CLIENTS)
        _check_whole("minimum of clients", self.minimum, 1, MAX_CLIENTS)
        _check_whole("quorum", self.quorum, 1, min(self.per_round, self.minimum))
        _check_real("seconds of a round", self.round_seconds, 0.1, MAX_SECONDS)
        _check_real("seconds of patience", self.patience_seconds, 0.1, MAX_SECONDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalTraining:
    """What a client does in a round."""

    epochs: int = 1
    """Passes over its examples; with SFPrompt those of phase 1."""

    batch_size: int = 32
    """Examples of a step."""

    learning_rate: float = 1e-3
    """Of every step; it is constant."""

    dropout: float | None = None
    """Probability for every dropout layer that trains; None: the model's own."""

    max_length: int = 0
    """Tokens of an example; 0: as the task has it."""

    keep: float = 0.5
    """gamma, the share of examples that take part in phase 2, over 0 up to 1 (SFPrompt)."""

    prompts: int = 5
    """Soft prompts (SFPrompt)."""

    evaluate_every: int = 1
    """Rounds between two evaluations of the average by the clients; 0: only the last one is."""

    def __post_init__(self) -> None:
        _check_whole("local epochs", self.epochs, 1, 10_000)
        _check_whole("batch size", self.batch_size, 1, 100_000)
        _check_real("learning rate", self.learning_rate, 0, 1e6)
        _check_whole("longest example", self.max_length, 0, 2**20)
        _check_real("share to keep", self.keep, 1e-6, 1)
        _check_whole("prompts", self.prompts, 0, 1000)
        _check_whole("rounds between evaluations", self.evaluate_every, 0, MAX_ROUNDS)
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout {self.dropout} is outside [0, 1)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """A place where the model is cut, and what travels there."""

    split: SplitSpec
    """The place."""

    encoding: str = "float32"
    """How activations travel, one of `ENCODINGS`."""

    gradient_encoding: str = "float32"
    """How their gradients travel."""

    def __post_init__(self) -> None:
        check_encodings(self.encoding, self.gradient_encoding)

    def words(self) -> str:
        """Return it as people read it."""
        ways = dict.fromkeys((self.encoding, self.gradient_encoding))
        return f"{self.split.words()}, {' and '.join(ways)}"


def uncoded(split: SplitSpec) -> SplitSpec:
    """Return a cut in the same place of a block that codes nothing, of one that has a basis."""
    assert split.cut in BASIS_CUTS
    cut = "none-end" if split.cut == "stream-end" else "none"
    return SplitSpec(cut=cut, split_layer=split.split_layer)


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdatePrivacy:
    """Clipping and noise of what a client hands in (docs/privacy.md)."""

    clip: float
    """C, the largest Euclidean norm of an update's change; over 0."""

    noise: float
    """sigma: the noise has standard deviation sigma C; over 0."""

    delta: float = 1e-5
    """At which epsilon is told, in (0, 1)."""

    def __post_init__(self) -> None:
        _check_real("clip", self.clip, 1e-12, 1e12)
        _check_real("noise", self.noise, 1e-6, 1e12)
        _check_real("delta", self.delta, 1e-300, 1 - 1e-12)


@dataclass(frozen=True, kw_only=True, slots=True)
class FederationPlan:
    """What a federation is about; both sides have the same."""

    name: str
    """What clients join."""

    method: str
    """One of `METHODS`."""

    model: ModelIdentity
    """The pre-trained model."""

    kind: str = "text"
    """Of the task, one of `HEAD_OF_KIND`."""

    labels: tuple[str, ...] = ()
    """Names of the classes in the order of their numbers; none for "similarity"."""

    rounds: int
    """At least 1."""

    seed: int = 0
    """Of everything random, 0 to 2**63 - 1."""

    clients: Participation = Participation()
    """Who takes part in a round."""

    training: LocalTraining = LocalTraining()
    """What a client does in a round."""

    cut: Transfer | None = None
    """Where the model is cut; None with "fedavg" alone."""

    tail: Transfer | None = None
    """Where the client's tail begins, with "sfprompt" alone."""

    first_row: bool = False
    """Whether of each example the first token's row alone comes down to the tail, which reads no
    other."""

    privacy: UpdatePrivacy | None = None
    """Noise on what is handed in; None: none."""

    def __post_init__(self) -> None:
        check_name("federation", self.name)
        if self.method not in METHODS:
            raise ConfigError(
                f"unknown method {self.method!r}; choose one of: {', '.join(METHODS)}"
            )
        self._check_kind()
        self._check_privacy()
        _check_whole("rounds", self.rounds, 1, MAX_ROUNDS)
        _check_whole("seed", self.seed, 0, 2**63 - 1)
        for what, there, wanted in (
            ("cut", self.cut, self.method != "fedavg"),
            ("tail", self.tail, self.method == "sfprompt"),
        ):
            if (there is not None) != wanted:
                raise ConfigError(
                    f"method {self.method} {'needs a' if wanted else 'takes no'} {what}"
                )

    def seed_of(self, round: int, number: int, client: str) -> int:
        """Return the seed of what a client does in a try at a round."""
        text = f"{self.seed}/{round}/{number}/{client}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1

    def _check_privacy(self) -> None:
        if self.privacy is None:
            return
        if self.method in SPLIT_METHODS:
            raise ConfigError(
                f"method {self.method} takes no privacy: net2 learns on the cloud, without noise; "
                "choose fedavg or sfprompt"
            )
        for _, at in self._transfers():
            if at.split.cut in BASIS_CUTS:
                raise ConfigError(
                    f"privacy goes with no {at.split.cut} cut: the moments that clients hand in "
                    "for its basis have no noise; choose another cut"
                )

    @property
    def parts(self) -> PartsSpec:
        """The three parts of the model, with "sfprompt"."""
        assert self.cut is not None and self.tail is not None
        return PartsSpec(
            first=self.cut.split,
            second=self.tail.split,
            prompts=self.training.prompts,
            first_row=self.first_row,
        )

    def session(
        self, seed: int, *, max_examples: int, max_tokens: int, calibrates: bool = False
    ) -> SessionSpec:
        """Return what a client opens a session with.

        Args:
            seed: of what is random in it.
            max_examples: of a batch.
            max_tokens: of an example, its prompts among them.
            calibrates: whether it is to find out what comes to the second cut, which then codes
                nothing.
        """
        assert self.cut is not None
        tail = self.tail
        if tail is not None and calibrates:
            tail = Transfer(split=uncoded(tail.split))
        return SessionSpec(
            prompts=self.training.prompts if tail else 0,
            tail=TailSpec(
                split=tail.split,
                encoding=tail.encoding,
                gradient_encoding=tail.gradient_encoding,
                first_row=self.first_row,
            )
            if tail
            else None,
            model=self.model,
            split=self.cut.split,
            head=self.head,
            num_labels=self.classes,
            seed=seed,
            dropout=self.training.dropout,
            encoding=self.cut.encoding,
            gradient_encoding=self.cut.gradient_encoding,
            max_examples=max_examples,
            max_tokens=max_tokens,
            federation=self.name,
        )

    @property
    def head(self) -> str:
        """What the model ends in, one of `sft_common.config.HEADS`."""
        return HEAD_OF_KIND[self.kind]

    @property
    def classes(self) -> int:
        """C, the classes of the head; 1 for a regression."""
        return len(self.labels) or 1

    def words(self) -> str:
        """Return method and cuts as people read them."""
        return "; ".join(filter(None, (self.method, self.cut_words())))

    def cut_words(self) -> str:
        """Return the cuts as people read them; empty if there are none."""
        return "; ".join(f"{name}: {at.words()}" for name, at in self._transfers())

    def _transfers(self) -> list[tuple[str, Transfer]]:
        return [(name, at) for name, at in (("cut", self.cut), ("tail", self.tail)) if at]

    def _check_kind(self) -> None:
        kinds = SCORED_KINDS if self.method == "sfprompt" else tuple(HEAD_OF_KIND)
        if self.kind not in kinds:
            raise ConfigError(
                f"kind {self.kind!r}: method {self.method} takes one of: {', '.join(kinds)}"
            )
        if self.kind == "similarity":
            if self.labels:
                raise ConfigError("kind 'similarity' has numbers to learn, no labels")
        elif not 2 <= len(self.labels) <= MAX_LABELS:
            raise ConfigError(
                f"{len(self.labels)} labels: kind {self.kind!r} takes 2 to {MAX_LABELS}"
            )
        elif len(set(self.labels)) < len(self.labels):
            raise ConfigError("a label stands twice among the labels")
        for label in self.labels:
            if not (0 < len(label) <= MAX_NAME and label.isprintable()):
                raise ConfigError(
                    f"label {label[:80]!r}: a label has 1 to {MAX_NAME} printable characters"
                )
