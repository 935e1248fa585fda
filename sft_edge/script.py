"""The edge's half of a script with an SFTOptimizer: opens the session, counts steps, tells updates.

It knows optimizers and sessions; what the model's forward becomes is in wrapped.py.

Legend: B batch, T real tokens, W width on the wire, C classes.
"""

from __future__ import annotations

import atexit
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from sft_common.autocast import Autocast
from sft_common.config import BASIS_CUTS, SessionSpec, SplitSpec
from sft_common.errors import ConfigError, SessionLostError, SftError, TrainingError, first_line
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
from sft_edge.gradients import Gradients
from sft_edge.login import VARIABLE
from sft_edge.remote import Rewound
from sft_edge.retrying import Retry
from sft_edge.script_basis import script_basis
from sft_edge.states import State, check_kept, new_state
from sft_edge.surrender import Surrender, dropout_of, identity_of
from sft_edge.wrapped import give_up, heeds_items

T = TypeVar("T")

STEPS = "net2_steps"
"""A number in the model's own state: of which step it is."""

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
        self._reach = partial(GrpcSession, access, spec, shape, retry=retry)
        self._session = self._reach(net2=partial(whole.net2, find))
        self._state = State(steps=0, name=self._session.beginning)
        self._stands_there = True
        self._every_token = HEAD_TABLE[head].next_token
        self._anchor = torch.zeros((), requires_grad=True)
        net1, self._stand_ins = whole.surrender(optimizer)
        self._gradients = Gradients(self._stand_ins, lambda: self._guarded(self._session.norms))
        self._begin(1)
        model.register_buffer(STEPS, torch.zeros((), dtype=torch.int64))
        ask_loss = None if labels == "edge" else self._ask_loss
        give_up(model, net1, head, self._ask, ask_loss, spared=CUT_TABLE[cut].narrow, heeds=heeds)

    def _begin(self, step: int) -> None:
        """Begin with a step of a session that is open; nothing has come of it."""
        self._session.stream.say = _say
        atexit.unregister(self._leave)
        atexit.register(self._leave)
        self._step, self._exchanges, self._closed = step, 0, False
        self._gradients.begin()

    def state(self) -> dict[str, int | str]:
        """Have the cloud keep its half as it is, if it has changed; returns where.

        Raises:
            ConfigError: the session is closed.
            SnapshotError: the cloud's disk does not take it.
        """
        if not self._stands_there:
            if self._closed:
                raise ConfigError("the session with the cloud is closed; take the state before")
            self._state = self._guarded(new_state, self._session, self._step - 1)
            self._stands_there = True
        return self._state.facts()

    def go_to(self, facts: Mapping[str, Any]) -> None:
        """Have the cloud go back to a state, maybe of another session; raises before it does.

        Raises:
            ConfigError: it is no state of both halves.
            SftError: the cloud does not have it, or it is of another training.
        """
        state = State.of(facts)
        if self._stands_there and state == self._state and not self._closed:
            return
        check_kept(state)
        try:
            session = self._reach(
                takes_up=state.session, state=state.name, replaces=self._session.session_id
            )
        except SftError as error:
            raise type(error)(
                f"the state of step {state.steps} cannot be loaded: {error}"
            ) from error
        self._session.abandon()
        self._session, self._state, self._stands_there = session, state, True
        self._begin(state.steps + 1)
        self._told = [{} for _ in self._told]  # whatever the cloud had then
        for group in self._wrapped.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def step(self) -> None:
        """Step both halves; without a backward pass since the last step neither changes.

        Raises:
            TrainingError: a gradient of the logits was no number; neither half steps.
        """
        if self._gradients.any:
            if not self._gradients.finite:
                raise TrainingError(
                    "the gradient of the logits held a number that is not finite; neither half has "
                    "stepped: a torch.amp.GradScaler passes such steps over, and so does zero_grad"
                )
            self._apply([self._update(number) for number in range(len(self._stand_ins))])
        self._wrapped.step()

    def _apply(self, updates: list[GroupUpdate]) -> None:
        self._guarded(self._session.apply, self._step, exchanges=self._exchanges, updates=updates)
        for told, update in zip(self._told, updates, strict=True):
            told.update(update.settings)
        self._step, self._exchanges, self._stands_there = self._step + 1, 0, False
        self._gradients.begin()
        self._model.get_buffer(STEPS).fill_(self._step - 1)

    def close(self) -> None:
        """End the session: the cloud keeps its half; safe to repeat."""
        atexit.unregister(self._leave)
        if not self._closed:
            self._closed = True
            self._guarded(self._session.close)

    def _leave(self) -> None:
        """End the session with the script; a cloud that has gone is not waited for."""
        self._session.stream.stopped = lambda: True
        try:
            self.close()
        except SftError as error:
            _say(f"the session {self._session.session_id} was not closed: {first_line(error)}")

    def forward(self, activation_TW: Tensor, lengths: list[int]) -> tuple[Tensor, int, int]:
        """Return logits that wait for a gradient, their step and their place in it."""
        self._heed_forgotten()
        place = self._next_exchange()
        self._gradients.waiting.add(place)
        self._guarded(
            self._session.begin_forward,
            self._step,
            activation_TW.float().cpu(),
            lengths,
            exchange=place,
            training=self._model.training,
            autocast=Autocast.around(activation_TW),
        )
        return self._guarded(self._session.end_forward), self._step, place

    def backward(self, gradient: Tensor, step: int, forward: int, tokens: int) -> Tensor:
        """Return the gradient of the activation, (T, W).

        Raises:
            ConfigError: the forward pass is used up, or the optimizer has stepped since.
        """
        self._check_waiting(step, forward)
        self._heed_forgotten()
        self._gradients.finite &= is_finite(gradient)
        self._guarded(
            self._session.begin_backward,
            step,
            gradient.float().contiguous().cpu(),
            forward=forward,
            tokens=tokens,
            exchange=self._next_exchange(),
        )
        gradient_TW = self._guarded(self._session.end_backward)
        self._gradients.came(forward)
        return gradient_TW

    def loss(
        self, activation_TW: Tensor, lengths: list[int], labels: list[float]
    ) -> tuple[float, Tensor, int, int]:
        """Return a loss and its gradient, (T, W), that wait for `count`; and as `forward` does."""
        self._heed_forgotten()
        place = self._next_exchange()
        self._gradients.waiting.add(place)
        self._guarded(
            self._session.begin_step,
            self._step,
            activation_TW.float().cpu(),
            lengths,
            labels,
            exchange=place,
            apart=True,
            autocast=Autocast.around(activation_TW),
        )
        return *self._guarded(self._session.end_step), self._step, place

    def count(self, factor: float, step: int, exchange: int) -> None:
        """Have a loss count, times a factor; raises as `backward`.

        Raises:
            TrainingError: the factor is no number.
        """
        self._check_waiting(step, exchange)
        if not math.isfinite(factor):
            raise TrainingError(f"the gradient of the loss is {factor}")
        self._heed_forgotten()
        self._guarded(self._session.factor, step, exchange, factor)
        self._gradients.came(exchange)

    def _check_waiting(self, step: int, exchange: int) -> None:
        if step != self._step:
            raise ConfigError(
                f"backward came for a forward pass of step {step}, but step {self._step} is under "
                "way: the cloud has dropped what it computed then; call backward before step"
            )
        self._gradients.check_waiting(exchange)

    def _heed_forgotten(self) -> None:
        """Have the cloud forget gradients that the script has set to nothing since they came."""
        if not (groups := self._gradients.forgotten()):
            return
        if self._gradients.is_all(groups):  # a step of nothing frees what the cloud keeps of it
            self._apply([GroupUpdate(settings={}, skipped=True) for _ in self._stand_ins])
            return
        self._guarded(self._session.drop, self._step, self._gradients.drops, groups)
        self._gradients.forget(groups)

    def _next_exchange(self) -> int:
        place, self._exchanges = self._exchanges, self._exchanges + 1
        self._stands_there = False
        return place

    def _update(self, number: int) -> GroupUpdate:
        """Return what becomes of a group in this step."""
        factor_of = self._stand_ins[number].factor
        if factor_of is None:
            return GroupUpdate(settings={}, skipped=True)
        now = settings_of(self._algorithm, self._wrapped.param_groups[number])
        told = self._told[number]
        changed = {name: values for name, values in now.items() if told.get(name) != values}
        return GroupUpdate(settings=changed, scale=factor_of)

    def _check_of_one_step(self) -> None:
        """Refuse a model whose own state was loaded without the optimizer's, or the other way.

        Raises:
            ConfigError: shows both steps.
        """
        mine = int(self._model.get_buffer(STEPS))
        if mine != self._step - 1:
            raise ConfigError(
                f"the model is of step {mine}, the cloud's half of step {self._step - 1}; load the "
                "states of model and optimizer that were saved together"
            )

    def _ask(self, activation_TW: Tensor, lengths: list[int]) -> Tensor:
        self._check_of_one_step()
        if torch.is_grad_enabled():
            return remote_logits(activation_TW, self._anchor, self, lengths)
        ask = self._session.begin_evaluation
        self._guarded(
            ask,
            activation_TW.float().cpu(),
            lengths,
            every_token=self._every_token,
            autocast=Autocast.around(activation_TW),
        )
        return self._guarded(self._session.end_evaluation)

    def _ask_loss(self, activation_TW: Tensor, lengths: list[int], labels: list[float]) -> Tensor:
        self._check_of_one_step()
        return remote_loss(activation_TW, self._anchor, self, lengths, labels)

    def _guarded(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Do something with the session.

        Raises:
            SessionLostError: the cloud has lost steps, and this script has them.
        """
        try:
            return work(*args, **kwargs)
        except (Rewound, SessionLostError) as lost:
            self._closed = True
            raise SessionLostError(
                f"{lost}, and this script has come to step {self._step}; have both halves go back "
                "to a state that was saved (load_state_dict), or start it anew"
            ) from lost


def _say(line: str) -> None:
    """Tell whoever runs the script."""
    print(f"SFTOptimizer: {line}", file=sys.stderr, flush=True)
