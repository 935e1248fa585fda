"""The edge's half of a script with an SFTOptimizer: opens the session, counts steps, tells updates.

It knows optimizers and sessions; what the model's forward becomes is in wrapped.py.

Legend: B batch, T real tokens, W width on the wire, C classes.
"""

from __future__ import annotations

import atexit
import math
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from sft_common.config import BASIS_CUTS, SessionSpec, SplitSpec
from sft_common.errors import ConfigError, SessionLostError, TrainingError
from sft_common.model.algorithms import described, settings_of
from sft_common.model.cuts import CUT_TABLE
from sft_common.model.families import shape_of
from sft_common.model.heads import HEAD_TABLE, classes_of, head_of
from sft_common.own_optimizer import GroupUpdate, Setting
from sft_common.rpc.access import Access
from sft_common.wire.codec import is_finite
from sft_edge.client import GrpcSession
from sft_edge.defaults import USUAL
from sft_edge.elsewhere import remote_logits, remote_loss
from sft_edge.login import VARIABLE
from sft_edge.remote import Rewound
from sft_edge.retrying import Retry
from sft_edge.script_basis import script_basis
from sft_edge.surrender import Surrender, dropout_of, identity_of
from sft_edge.wrapped import give_up, heeds_items

T = TypeVar("T")

USUAL_RETRY = Retry()
"""An hour, as the command line's."""


class EdgeHalf:
    """Net1 with the script's optimizer, and a session in which the cloud does the same with net2.

    Args:
        optimizer: over the model's parameters, not stepped yet; gives up those of net2, for which
            one number of each group stands in.
        model: a stock transformers model with a head; gives up net2.
        server: the cloud's "host:port".
        split_layer: the block to cut, 1 is the lowest.
        rank: R.
        cut: "none", one with factors ("sft", "sft-output", "svd-residual") or one with a basis
            ("stream", "stream-end").
        calibration: batches of what the model is called with, such as the training's data loader
            (`script_basis`), of which the first few are drawn; for cuts with a basis.
        encoding: how activations travel, one of `ENCODINGS`; None: as usual with the cut, which is
            "int4" for those with a basis and "float32" for all others.
        gradient_encoding: how their gradients travel; None: as `encoding`.
        labels: where the loss is computed of a model that is called with them in training: on the
            "cloud" in one exchange, then without logits, or on the "edge".
        seed: of dropout on the cloud.
        access: how to reach the cloud; None: at `server`, with the token of the environment.
        retry: how long to try again when the connection is lost.
        serve: the cloud's, when the same script runs there; of no meaning here.

    Raises:
        ConfigError: model, optimizer or cut do not fit.
        SftError: the cloud is not to be reached, or refuses.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        model: Any,
        server: str,
        split_layer: int,
        rank: int,
        cut: str = "sft",
        calibration: Iterable[Any] | None = None,
        encoding: str | None = None,
        gradient_encoding: str | None = None,
        labels: str = "cloud",
        seed: int = 0,
        access: Access | None = None,
        retry: Retry = USUAL_RETRY,
        serve: Mapping[str, Any] | None = None,
    ) -> None:
        if optimizer.state:
            raise ConfigError("the optimizer has stepped already; wrap it before its first step")
        if labels not in ("cloud", "edge"):
            raise ConfigError(f"labels are on the {labels!r}; choose one of: cloud, edge")
        if cut in BASIS_CUTS and calibration is None:
            raise ConfigError(
                f"cut {cut} needs a basis, which is found in a few batches: give calibration=, an "
                "iterable of what the model is called with, such as the training's data loader"
            )
        self._model, self._wrapped = model, optimizer
        split = SplitSpec(cut=cut, split_layer=split_layer, rank=rank)
        head, config = head_of(model), model.config
        shape = shape_of(config)
        split.check(shape)
        heeds = heeds_items(model, head)
        whole = Surrender(model, split, head)
        names = whole.groups_of(optimizer)
        own = described(optimizer, names)
        self._algorithm = own.algorithm
        self._told: list[dict[str, Setting]] = [dict(group.settings) for group in own.groups]
        encoding = encoding or USUAL[cut].encoding
        spec = SessionSpec(
            model=identity_of(model, server),
            split=split,
            own_optimizer=own,
            head=head,
            num_labels=classes_of(config, head),
            seed=seed,
            dropout=dropout_of(config),
            encoding=encoding,
            gradient_encoding=gradient_encoding or encoding,
        )
        access = access or Access(server=server, token=os.environ.get(VARIABLE, ""))
        batches = calibration if cut in BASIS_CUTS else None
        find = partial(script_basis, model, spec, batches) if batches is not None else None
        net2 = partial(whole.net2, find)
        self._session = GrpcSession(access, spec, shape, retry=retry, net2=net2)
        atexit.register(self.close)
        self._step, self._exchanges, self._closed = 1, 0, False
        self._norms: list[float] | None = None
        self._every_token = HEAD_TABLE[head].next_token
        self._anchor = torch.zeros((), requires_grad=True)
        net1, self._stand_ins = whole.surrender(optimizer)
        ask_loss = None if labels == "edge" else self._ask_loss
        give_up(model, net1, head, self._ask, ask_loss, spared=CUT_TABLE[cut].narrow, heeds=heeds)

    @property
    def steps(self) -> int:
        """Steps that both halves have taken."""
        return self._step - 1

    def step(self) -> None:
        """Step both halves; without a backward pass since the last step neither changes."""
        updates = [self._update(number) for number in range(len(self._stand_ins))]
        if any(not update.skipped for update in updates):
            self._guarded(
                self._session.apply, self._step, exchanges=self._exchanges, updates=updates
            )
            self._step, self._exchanges = self._step + 1, 0
        for stand_in in self._stand_ins:
            stand_in.grad = None
        self._wrapped.step()

    def close(self) -> None:
        """End the session: the cloud keeps its half; safe to repeat."""
        atexit.unregister(self.close)
        if not self._closed:
            self._closed = True
            self._guarded(self._session.close)

    def forward(self, activation_TW: Tensor, lengths: list[int]) -> tuple[Tensor, int, int]:
        """Return logits that wait for a gradient, their step and their place in it."""
        place = self._next_exchange()
        self._guarded(
            self._session.begin_forward,
            self._step,
            activation_TW,
            lengths,
            exchange=place,
            training=self._model.training,
        )
        return self._guarded(self._session.end_forward), self._step, place

    def backward(self, gradient: Tensor, step: int, forward: int, tokens: int) -> Tensor:
        """Return the gradient of the activation, (T, W).

        Raises:
            ConfigError: the optimizer has stepped since the forward pass.
            TrainingError: the gradient is no number.
        """
        self._check_under_way(step)
        if not is_finite(gradient):
            raise TrainingError("the gradient of the logits holds a number that is not finite")
        self._guarded(
            self._session.begin_backward,
            step,
            gradient.contiguous().cpu(),
            forward=forward,
            tokens=tokens,
            exchange=self._next_exchange(),
        )
        gradient_TW = self._guarded(self._session.end_backward)
        self._came()
        return gradient_TW

    def loss(
        self, activation_TW: Tensor, lengths: list[int], labels: list[float]
    ) -> tuple[float, Tensor, int, int]:
        """Return a loss and its gradient, (T, W), that wait for `count`; and as `forward` does."""
        place = self._next_exchange()
        self._guarded(
            self._session.begin_step,
            self._step,
            activation_TW,
            lengths,
            labels,
            exchange=place,
            apart=True,
        )
        return *self._guarded(self._session.end_step), self._step, place

    def count(self, factor: float, step: int, exchange: int) -> None:
        """Have a loss count, times a factor; raises as `backward`."""
        self._check_under_way(step)
        if not math.isfinite(factor):
            raise TrainingError(f"the gradient of the loss is {factor}")
        self._guarded(self._session.factor, step, exchange, factor)
        self._came()

    def _check_under_way(self, step: int) -> None:
        if step != self._step:
            raise ConfigError(
                f"backward came for a forward pass of step {step}, but step {self._step} is under "
                "way: the cloud has dropped what it computed then; call backward before step"
            )

    def _came(self) -> None:
        """Note that the cloud has gradients, or more of them."""
        self._norms = None
        for number, stand_in in enumerate(self._stand_ins):
            stand_in.backward_came(partial(self._norm, number))

    def _next_exchange(self) -> int:
        place, self._exchanges = self._exchanges, self._exchanges + 1
        return place

    def _norm(self, number: int) -> float:
        """Return the norm of the cloud's gradients of a group; asks once after each backward."""
        if self._norms is None:
            self._norms = self._guarded(self._session.norms)
        return self._norms[number]

    def _update(self, number: int) -> GroupUpdate:
        """Return what becomes of a group in this step, and note that it was told."""
        factor_of = self._stand_ins[number].factor
        if factor_of is None:
            return GroupUpdate(settings={}, skipped=True)
        now = settings_of(self._algorithm, self._wrapped.param_groups[number])
        told = self._told[number]
        changed = {name: values for name, values in now.items() if told[name] != values}
        self._told[number] = now
        return GroupUpdate(settings=changed, scale=factor_of)

    def _ask(self, activation_TW: Tensor, lengths: list[int]) -> Tensor:
        if torch.is_grad_enabled():
            return remote_logits(activation_TW, self._anchor, self, lengths)
        ask = self._session.begin_evaluation
        self._guarded(ask, activation_TW, lengths, every_token=self._every_token)
        return self._guarded(self._session.end_evaluation)

    def _ask_loss(self, activation_TW: Tensor, lengths: list[int], labels: list[float]) -> Tensor:
        return remote_loss(activation_TW, self._anchor, self, lengths, labels)

    def _guarded(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Do something with the session.

        Raises:
            SessionLostError: the cloud has gone back, where a script cannot follow.
        """
        try:
            return work(*args, **kwargs)
        except Rewound as rewound:
            self._closed = True
            raise SessionLostError(
                f"the cloud has gone back to step {rewound.step}, and this script has come to "
                f"step {self._step}; start it again from a checkpoint of its own"
            ) from rewound
