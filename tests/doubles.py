"""A CloudSession in memory, for fast tests only: the cloud's own session without a wire."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sft_cloud.engine import Engine
from sft_cloud.session import Session
from sft_common.config import ModelIdentity, SessionSpec, SplitSpec
from sft_common.model.families import shape_of
from sft_common.model.heads import HEAD_TABLE
from sft_common.model.loading import Pretrained
from sft_edge.remote import Closing
from sft_edge.traffic import Traffic

CPU = torch.device("cpu")


def open_session(
    folder: Path,
    split: SplitSpec,
    *,
    seed: int = 0,
    dropout: float | None = None,
    head: str = "sequence-classification",
    num_labels: int = 2,
) -> tuple[Session, Tensor | None]:
    """Return the cloud's side of a session and the edge's factor."""
    spec = SessionSpec(
        model=ModelIdentity(name="tiny"),
        split=split,
        head=head,
        num_labels=num_labels,
        seed=seed,
        dropout=dropout,
    )
    pretrained = Pretrained(folder, num_labels=num_labels, head=head, dropout=dropout)
    net2, u = pretrained.net2(split, seed=seed, device=CPU)
    engine = Engine(net2, HEAD_TABLE[head], spec.optimizer, seed=seed, device=CPU)
    shape = shape_of(pretrained.config)
    return Session("ab12", spec, shape, engine, memory_bytes=10**9), u


class LocalSession:
    """Hands every call straight to a session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.traffic = Traffic()

    def step(
        self, step: int, activation_TW: Tensor, lengths: Sequence[int], labels: Sequence[int]
    ) -> tuple[float, Tensor]:
        return self.session.step(step, activation_TW.clone(), lengths, labels)

    def apply(self, step: int, learning_rate: float) -> None:
        self.session.apply(step, learning_rate)

    def evaluate(
        self, activation_TW: Tensor, lengths: Sequence[int], labels: Sequence[int] = ()
    ) -> Tensor:
        return self.session.evaluate(activation_TW, lengths, labels)

    def close(self) -> Closing:
        return Closing(steps=self.session.applied, saved=False)
