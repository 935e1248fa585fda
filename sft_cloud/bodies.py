"""Sessions with a frozen body: what they may be asked for, and the bodies that they share.

A frozen body has no state: nothing of it trains, and nothing of it is ever on a disk. It knows no
messages and no other sessions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Mapping
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from sft_cloud.admission import Need
from sft_cloud.bounds import ENVELOPE_BYTES, REPLY_BYTES, Bounds
from sft_cloud.engine import Engine
from sft_cloud.session import Session
from sft_common.config import SessionSpec
from sft_common.errors import MismatchError, ProtocolError
from sft_common.model.families import shape_of
from sft_common.model.heads import answer_of
from sft_common.model.identity import digest_of
from sft_common.model.loading import Pretrained
from sft_common.model.parting import Parting
from sft_common.model.parts import BodyPart
from sft_common.step_memory import memory_of

BYTES_OF_NUMBER = 4
"""A frozen weight has neither gradient nor moments."""

BATCHES_OF_STEP = 4
"""Whose answers fit into a step, which is one batch of an edge that ends each by itself."""

TAKES = ("forward", "backward", "apply", "evaluate", "park", "close")
"""Requests of a session with a frozen body, once it is open."""


PART_TAKES = (*TAKES, "step", "ask_norms")
"""Requests of a session whose net2 belongs to a federation: what is kept of it is the average."""


def check_takes(spec: SessionSpec, request: str | None) -> None:
    """Refuse what a frozen body, or a federation's net2, cannot be asked for.

    Raises:
        ProtocolError: says what it can be.
    """
    if spec.tail is not None and request not in TAKES:
        raise ProtocolError(
            f"request {request} came in a session with a frozen body, which trains and keeps "
            f"nothing; it takes: {', '.join(TAKES)}"
        )
    if spec.federation and request not in PART_TAKES:
        raise ProtocolError(
            f"request {request} came in a session of federation {spec.federation}, which alone "
            f"keeps what is trained; it takes: {', '.join(PART_TAKES)}"
        )


class Bodies:
    """The frozen bodies in memory: one for all sessions that mean the same, while there are any."""

    def __init__(self) -> None:
        self._held = WeakValueDictionary[str, BodyPart]()
        self._making = threading.Lock()

    def get(self, name: str, make: Callable[[], BodyPart]) -> BodyPart:
        """Return the body of a name, made if nobody holds it; for threads."""
        with self._making:
            body = self._held.get(name)
            if body is None:
                body = self._held[name] = make()
            return body


class BodyDesign:
    """A session with a frozen body that could be built; see `builder.Design`.

    Args:
        bodies: those in memory.
        pretrained: the model.
        spec: what the edge asked for.
        code: numbers of both cuts' codes by stock name.
        device: where the body runs.
        precision: of its matrix products.
        message_bytes: largest tensor that a message may carry.
        unannounced_bytes: for a step of a session that does not say how large its batches are.

    Raises:
        ConfigError, ModelError: the parts do not fit the model, or a code is missing.
    """

    def __init__(
        self,
        bodies: Bodies,
        pretrained: Pretrained,
        spec: SessionSpec,
        code: Mapping[str, Tensor],
        *,
        device: torch.device,
        precision: torch.dtype,
        message_bytes: int,
        unannounced_bytes: int,
    ) -> None:
        self._bodies, self._spec, self._shape = bodies, spec, shape_of(pretrained.config)
        self._device, self._precision = device, precision
        self._message_bytes = message_bytes
        self._parting = Parting(pretrained, spec.parts, code)
        parameters = sum(p.numel() for p in self._parting.blank_body().parameters())
        self._step_bytes, self._reply_bytes = self._step(unannounced_bytes)
        name, step = _name(pretrained, spec, code), self._step_bytes + self._reply_bytes
        self.need = Need(parameters * BYTES_OF_NUMBER, step, shared=name)

    def _step(self, unannounced: int) -> tuple[int, int]:
        """Return what the activations of a step, and its answers, may take."""
        spec, shape = self._spec, self._shape
        if not (spec.max_examples and spec.max_tokens):
            return unannounced, REPLY_BYTES
        longest = min(spec.max_tokens, shape.positions + spec.prompts)
        numbers = spec.max_examples * longest * 2 * shape.hidden  # rows down, then gradients
        answers = BATCHES_OF_STEP * (BYTES_OF_NUMBER * numbers + 2 * ENVELOPE_BYTES)
        activations = memory_of(spec, shape, spec.max_examples, longest, logits_per_token=False)
        return activations, min(answers, REPLY_BYTES)

    def build(
        self,
        session_id: str,
        basis: object,
        trained: object,
        *,
        edge_has: bool = False,
    ) -> tuple[Session, None]:
        """Return the session; it has nothing for the edge.

        Raises:
            ProtocolError: numbers for it came from the edge.
            MismatchError: the edge does not say which weights it means.
            ModelError: the model lacks a tensor.
        """
        spec = self._spec
        if basis is not None or trained is not None or edge_has:
            raise ProtocolError("a frozen body takes no basis, no trained_session and no known")
        if not spec.model.weights_digest:
            raise MismatchError(
                f"the edge does not say which weights of {spec.model.name} it means: it gives no "
                "digest of them"
            )
        head, _ = answer_of(spec, self._shape)
        engine = Engine(
            self._bodies.get(self.need.shared, lambda: self._parting.body(device=self._device)),
            head,
            spec.optimizer,
            seed=spec.seed,
            device=self._device,
            precision=self._precision,
        )
        bounds = Bounds(
            spec,
            self._shape,
            memory_bytes=self._step_bytes,
            reply_bytes=self._reply_bytes,
            message_bytes=self._message_bytes,
            logits_per_token=False,
        )
        return Session(session_id, spec, bounds, engine), None


def _name(pretrained: Pretrained, spec: SessionSpec, code: Mapping[str, Tensor]) -> str:
    """Return what is the same for sessions that may share a body, and for no others."""
    whole = hashlib.sha256()
    folder, digest = pretrained.checkpoint.folder, spec.model.weights_digest
    parts = dataclasses.replace(spec.parts, prompts=0)
    whole.update(repr((str(folder), digest, spec.head, parts)).encode())
    for name, numbers in sorted(code.items()):
        whole.update(name.encode() + digest_of(numbers))
    return whole.hexdigest()
