"""A CloudSession in memory, for fast tests only: the cloud's own session without a wire."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sft_cloud.admission import NOTHING
from sft_cloud.bounds import Bounds
from sft_cloud.engine import Engine
from sft_cloud.session import Session
from sft_common.config import ModelIdentity, OptimizerSpec, SessionSpec, SplitSpec
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
    precision: torch.dtype = torch.float32,
    optimizer: OptimizerSpec = OptimizerSpec(),
    bucket: int = 1,
    encoding: str = "float32",
    device: torch.device = CPU,
    message_bytes: int = 2**26,
) -> tuple[Session, Tensor | None]:
    """Return the cloud's side of a session and the edge's factor."""
    spec = SessionSpec(
        model=ModelIdentity(name="tiny"),
        split=split,
        head=head,
        num_labels=num_labels,
        seed=seed,
        dropout=dropout,
        optimizer=optimizer,
        encoding=encoding,
    )
    pretrained = Pretrained(folder, num_labels=num_labels, head=head, dropout=dropout)
    net2, u = pretrained.net2(split, seed=seed, device=device)
    engine = Engine(
        net2,
        HEAD_TABLE[head],
        spec.optimizer,
        seed=seed,
        device=device,
        precision=precision,
        bucket=bucket,
    )
    bounds = Bounds(
        spec,
        shape_of(pretrained.config),
        memory_bytes=10**9,
        message_bytes=message_bytes,
        logits_per_token=False,
    )
    return Session("ab12", spec, bounds, engine), u


class LocalSession:
    """Hands every call straight to a session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.traffic = Traffic()
        self._steps: deque[tuple[float, Tensor]] = deque()
        self._passes: deque[Tensor] = deque()
        self._verdicts: deque[Tensor] = deque()

    def begin_step(
        self,
        step: int,
        activation_TW: Tensor,
        lengths: Sequence[int],
        labels: Sequence[int],
        *,
        exchange: int = 0,
        share: float = 1.0,
    ) -> None:
        loss, gradient_TW = self.session.step(
            step, activation_TW.clone(), lengths, labels, exchange=exchange, share=share
        )
        self._steps.append((loss.item(), gradient_TW))

    def end_step(self) -> tuple[float, Tensor]:
        return self._steps.popleft()

    def begin_forward(
        self, step: int, activation_TW: Tensor, lengths: Sequence[int], *, exchange: int = 0
    ) -> None:
        rows = self.session.forward(step, activation_TW.clone(), lengths, exchange=exchange)
        self._passes.append(rows)

    def end_forward(self) -> Tensor:
        return self._passes.popleft().clone()

    def begin_backward(
        self, step: int, gradient: Tensor, *, forward: int, tokens: int, exchange: int = 1
    ) -> None:
        gradient_TW = self.session.backward(step, gradient, forward=forward, exchange=exchange)
        assert len(gradient_TW) == tokens
        self._passes.append(gradient_TW)

    def end_backward(self) -> Tensor:
        return self._passes.popleft()

    def answered(self) -> bool:
        return True

    def apply(self, step: int, learning_rate: float, *, exchanges: int = 1) -> None:
        self.session.apply(step, learning_rate, exchanges=exchanges)

    def begin_evaluation(
        self,
        activation_TW: Tensor,
        lengths: Sequence[int],
        labels: Sequence[int] = (),
        *,
        every_token: bool = False,
    ) -> None:
        self._verdicts.append(
            self.session.evaluate(activation_TW, lengths, labels, every_token=every_token)
        )

    def end_evaluation(self) -> Tensor:
        return self._verdicts.popleft()

    def close(self) -> Closing:
        return Closing(steps=self.session.applied, saved=False)

    def abandon(self) -> None:
        self._steps.clear()


class ReadyMade:
    """A host's builder, and its design of anything.

    Args:
        make: makes the session.
    """

    need = NOTHING

    def __init__(self, make: Callable[[], Session]) -> None:
        self._make = make

    def __call__(self, spec: SessionSpec, code: object = None) -> ReadyMade:
        return self

    def build(
        self, session_id: str, basis: object, trained: object, *, edge_has: bool = False
    ) -> tuple[Session, None]:
        session = self._make()
        session.session_id = session_id
        return session, None
