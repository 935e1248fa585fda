"""Makes a session out of what an edge asked for: model, net2, engine. It knows no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from sft_cloud.bounds import Bounds
from sft_cloud.catalog import ModelCatalog
from sft_cloud.compiling import compile_blocks
from sft_cloud.device import memory_bytes
from sft_cloud.engine import Engine
from sft_cloud.session import Session
from sft_common.config import SessionSpec
from sft_common.model.families import shape_of
from sft_common.model.heads import HEAD_TABLE
from sft_common.model.loading import Pretrained
from sft_common.rpc.options import MAX_MESSAGE_BYTES

Basis = tuple[Tensor, Tensor]
"""mu (N,) and D (R, N), for the cuts that have a basis."""


class Builder(Protocol):
    """What a host makes sessions with; called on a thread for files."""

    def __call__(
        self,
        session_id: str,
        spec: SessionSpec,
        basis: Basis | None,
        trained: Mapping[str, Tensor] | None,
    ) -> tuple[Session, Tensor | None]:
        """Return a session, with the factor u for the edge if the cut has one.

        Args:
            session_id: its name.
            spec: what the edge asked for.
            basis: of its cut.
            trained: the weights of net2 to start from; None: the pre-trained ones.

        Raises:
            ConfigError, MismatchError, ModelError: the spec does not fit the model here.
        """


class ModelBuilder:
    """Makes sessions with models from disk or a hub.

    Args:
        catalog: the models that edges may ask for.
        device: where every net2 runs.
        precision: of its matrix products.
        compiled: whether its blocks are compiled.
        max_message_bytes: largest tensor that a message may carry.
    """

    def __init__(
        self,
        catalog: ModelCatalog,
        device: torch.device,
        *,
        precision: torch.dtype = torch.float32,
        compiled: bool = False,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._catalog, self._device = catalog, device
        self._precision, self._compiled = precision, compiled
        self._max_message_bytes = max_message_bytes

    def __call__(
        self,
        session_id: str,
        spec: SessionSpec,
        basis: Basis | None,
        trained: Mapping[str, Tensor] | None,
    ) -> tuple[Session, Tensor | None]:
        """Return a session, and the factor u for the edge; see `Builder`."""
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
        net2, u_NR = pretrained.net2(
            spec.split, seed=spec.seed, device=self._device, basis=basis, trained=trained
        )
        bucket = 1
        if self._compiled:
            bucket = compile_blocks(net2, pretrained.family, spec.split.split_layer)
        head = HEAD_TABLE[spec.head]
        engine = Engine(
            net2,
            head,
            spec.optimizer,
            seed=spec.seed,
            device=self._device,
            precision=self._precision,
            bucket=bucket,
        )
        bounds = Bounds(
            spec,
            shape_of(pretrained.config),
            memory_bytes=memory_bytes(self._device) // 2,
            message_bytes=self._max_message_bytes,
            logits_per_token=head.per_token or pretrained.family.causal,
        )
        return Session(session_id, spec, bounds, engine), u_NR
