"""Makes a session out of what an edge asked for: model, net2, engine. It knows no others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sft_cloud.admission import Need
from sft_cloud.bodies import Bodies, BodyDesign
from sft_cloud.bounds import Bounds
from sft_cloud.catalog import ModelCatalog
from sft_cloud.compiling import compile_blocks
from sft_cloud.engine import Engine
from sft_cloud.session import Session
from sft_common.config import SessionSpec
from sft_common.errors import LimitError, MismatchError
from sft_common.model.families import shape_of
from sft_common.model.heads import HEAD_TABLE
from sft_common.model.live import LiveModel
from sft_common.model.loading import Pretrained
from sft_common.model.parting import NO_CODE
from sft_common.model.partition import cloud_half
from sft_common.rpc.options import MAX_MESSAGE_BYTES
from sft_common.snapshots import Snapshot
from sft_common.step_memory import BYTES_OF_PARAMETER, memory_of

Basis = tuple[Tensor, Tensor]
"""mu (N,) and D (R, N), for the cuts that have a basis."""


class Design(Protocol):
    """A session that could be built: all was looked at that can be without its numbers."""

    @property
    def need(self) -> Need:
        """What it will take of the device."""

    def build(
        self,
        session_id: str,
        basis: Basis | None,
        trained: Mapping[str, Tensor] | None,
        *,
        edge_has: bool = False,
    ) -> tuple[Session, Tensor | None]:
        """Return the session, with the factor u for the edge if the cut has one.

        Args:
            session_id: its name.
            basis: of its cut.
            trained: the weights of net2 to start from; None: the pre-trained ones.
            edge_has: whether the edge has all of net2 and sends what is not known here.

        Raises:
            ModelError, ProtocolError: the model lacks a tensor, or the basis does not fit.
        """


class Builder(Protocol):
    """What a host makes sessions with; called on a thread for files, as its designs are."""

    def __call__(self, spec: SessionSpec, code: Mapping[str, Tensor] = NO_CODE) -> Design:
        """Return the design of what the edge asked for.

        Args:
            spec: what it asked for.
            code: numbers of the codes of a frozen body by stock name.

        Raises:
            ConfigError, MismatchError, ModelError: the spec does not fit the model here.
            LimitError: the batches announced are larger than this cloud takes.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLimits:
    """The largest batch of any session."""

    examples: int = 4096
    """B."""

    tokens: int = 2**20
    """M; the model's own limit holds too."""

    def check(self, spec: SessionSpec) -> None:
        """Refuse a session that announces larger batches.

        Raises:
            LimitError: shows both sizes.
        """
        for what, asked, limit, option in (
            ("examples", spec.max_examples, self.examples, "--batch-size"),
            ("tokens", spec.max_tokens, self.tokens, "--max-length"),
        ):
            if asked > limit:
                raise LimitError(
                    f"batches of up to {asked} {what} were announced, this cloud takes {limit}; "
                    f"choose a smaller {option}"
                )


class ModelBuilder:
    """Makes sessions with models from disk or a hub.

    Args:
        catalog: the models that edges may ask for.
        device: where every net2 runs.
        precision: of its matrix products.
        compiled: whether its blocks are compiled, but for frozen bodies.
        max_message_bytes: largest tensor that a message may carry.
        unannounced_bytes: for a step of a session that does not say how large its batches are.
        batches: the largest that are taken.
    """

    def __init__(
        self,
        catalog: ModelCatalog,
        device: torch.device,
        *,
        precision: torch.dtype = torch.float32,
        compiled: bool = False,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        unannounced_bytes: int = 2**30,
        batches: BatchLimits = BatchLimits(),
    ) -> None:
        self._catalog, self.device = catalog, device
        self.precision, self.compiled = precision, compiled
        self.max_message_bytes = max_message_bytes
        self.unannounced_bytes, self._batches = unannounced_bytes, batches
        self._bodies = Bodies()

    def __call__(self, spec: SessionSpec, code: Mapping[str, Tensor] = NO_CODE) -> Design:
        """Return the design of what the edge asked for; see `Builder`."""
        source = self._catalog.find(spec.model.name, spec.model.revision)
        pretrained = Pretrained(
            source.folder,
            num_labels=spec.num_labels,
            head=spec.head,
            dropout=spec.dropout,
            weights=source.weights,
        )
        pretrained.check_same(spec.model, source.revision)
        pretrained.check_classes(spec.num_labels)
        if spec.tail is None:
            return self.design(pretrained, spec)
        self._batches.check(spec)
        return BodyDesign(
            self._bodies,
            pretrained,
            spec,
            code,
            device=self.device,
            precision=self.precision,
            message_bytes=self.max_message_bytes,
            unannounced_bytes=self.unannounced_bytes,
        )

    def design(self, model: Pretrained | LiveModel, spec: SessionSpec) -> ModelDesign:
        """Return the design of a session with a model that fits.

        Raises:
            LimitError: its batches are larger than this cloud takes.
        """
        self._batches.check(spec)
        return ModelDesign(self, model, spec)


class ModelDesign:
    """A session with a model from disk or a hub.

    Args:
        builder: says how it is to be built.
        pretrained: the model.
        spec: what the edge asked for.
    """

    def __init__(
        self, builder: ModelBuilder, pretrained: Pretrained | LiveModel, spec: SessionSpec
    ) -> None:
        self._builder, self._pretrained, self._spec = builder, pretrained, spec
        self._shape, self._head = shape_of(pretrained.config), HEAD_TABLE[spec.head]
        self._logits_per_token = self._head.logits_per_token(pretrained.family)
        half = cloud_half(pretrained.config, spec.split, spec.head)
        parameters = sum(p.numel() for p in half.skeleton.parameters())
        self.need = Need(parameters * BYTES_OF_PARAMETER, self._step_bytes())

    def _step_bytes(self) -> int:
        spec = self._spec
        if not (spec.max_examples and spec.max_tokens):
            return self._builder.unannounced_bytes
        longest = min(spec.max_tokens, self._shape.positions)
        return memory_of(
            spec,
            self._shape,
            spec.max_examples,
            longest,
            logits_per_token=self._logits_per_token,
        )

    def build(
        self,
        session_id: str,
        basis: Basis | None,
        trained: Mapping[str, Tensor] | None,
        *,
        edge_has: bool = False,
    ) -> tuple[Session, Tensor | None]:
        """Return the session, and the factor u for the edge; see `Design`."""
        builder, spec = self._builder, self._spec
        if not (edge_has or trained or spec.model.weights_digest):
            raise MismatchError(
                f"the edge does not say which weights of {spec.model.name} it means: it gives "
                "neither their digest nor its own parameters of net2"
            )
        net2, u_NR = self._pretrained.net2(
            spec.split,
            seed=spec.seed,
            device=builder.device,
            basis=basis,
            trained=trained,
            edge_has=edge_has,
        )
        bucket = 1
        if builder.compiled:
            bucket = compile_blocks(net2, self._pretrained.family, spec.split.split_layer)
        engine = Engine(
            net2,
            self._head,
            spec.optimizer,
            seed=spec.seed,
            device=builder.device,
            precision=builder.precision,
            bucket=bucket,
            own_optimizer=spec.own_optimizer,
        )
        bounds = Bounds(
            spec,
            self._shape,
            memory_bytes=self.need.step,
            message_bytes=builder.max_message_bytes,
            logits_per_token=self._logits_per_token,
        )
        return Session(session_id, spec, bounds, engine), u_NR


def rebuilt(design: Design, session_id: str, snapshot: Snapshot) -> Session:
    """Return a session as it was when a snapshot of it was taken."""
    session, _ = design.build(session_id, None, snapshot.tensors["weights"])
    session.restore(snapshot)
    return session
