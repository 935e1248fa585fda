"""Net2 at work: forward, loss, backward, optimizer step. Pure torch: no session, no RPC.

Legend: B batch, M padded length, W width on the wire, C classes. Shapes of labels and logits are
those of the head (sft_common/model/heads.py).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from sft_cloud.device import check_computes
from sft_cloud.transfers import Transfers
from sft_common.autocast import dtype_of
from sft_common.config import OptimizerSpec
from sft_common.model.adamw import adamw, moments_of, set_learning_rate, set_moments
from sft_common.model.algorithms import built, checked, norm, norms, settings_of, update
from sft_common.model.heads import Head
from sft_common.model.partition import Net2
from sft_common.model.randomness import exclusive_randomness
from sft_common.own_optimizer import GroupUpdate, OwnOptimizer, Setting

Randomness = tuple[Tensor, Tensor | None]
"""The state of a random generator on the CPU, and of one on a CUDA device, if that is used."""


class Pass(NamedTuple):
    """A forward pass that waits for its backward."""

    activation: Tensor
    """Of the cut layer, a leaf, shape (B, M, W)."""

    rows: Tensor
    """The logits without padding, with their graph, (B, C) or (T, C)."""

    began: Randomness
    """Where the engine's randomness stood before it."""


class Engine:
    """Trains one net2 on one device (SFT, Algorithm 1, cloud side).

    Dropout draws from the engine's own random state, so that sessions side by side do not disturb
    each other's numbers.

    Args:
        net2: with its numbers, on the device.
        head: what it ends in.
        optimizer: how it is trained.
        seed: of dropout.
        device: where it runs.
        precision: of the matrix products; weights, their update and the loss are float32.
        bucket: net2 sees lengths that are a multiple of it.
        own_optimizer: how it is trained instead, by a script's optimizer.
    """

    def __init__(
        self,
        net2: Net2,
        head: Head,
        optimizer: OptimizerSpec,
        *,
        seed: int,
        device: torch.device,
        precision: torch.dtype = torch.float32,
        bucket: int = 1,
        own_optimizer: OwnOptimizer | None = None,
    ) -> None:
        self.device, self.transfers = device, Transfers(device)
        self._precision, self._bucket = precision, bucket
        self.net2 = net2
        self._algorithm = own_optimizer.algorithm if own_optimizer else ""
        self._optimizer = (
            built(net2.skeleton, own_optimizer) if own_optimizer else adamw(net2, optimizer)
        )
        self._head = head
        self._apart: dict[int, dict[str, Tensor]] = {}
        self._forked = [device] if device.type == "cuda" else []
        with exclusive_randomness(*self._forked):
            # Not the edge's own seed: both halves would drop the same positions.
            torch.manual_seed(seed ^ zlib.crc32(b"cloud"))
            self._random_state = self._get_random_state()

    @property
    def memory_bytes(self) -> int:
        """What net2, its gradients and the optimizer's two moments take."""
        return sum(
            weight.numel() * weight.element_size() * (4 if weight.requires_grad else 1)
            for weight in self.net2.parameters()
        )

    def step_apart(
        self,
        key: int,
        activation_BMW: Tensor,
        mask_BM: Tensor,
        labels: Tensor,
        autocast: str = "",
    ) -> tuple[Tensor, Tensor]:
        """Run `step`, but keep the gradients of net2 apart under a key until `join` or `apply`."""
        parameters = self.parameters()
        joined = {name: parameter.grad for name, parameter in parameters.items()}
        self._set_gradients({})
        found = self.step(activation_BMW, mask_BM, labels, autocast=autocast)
        self._apart[key] = self._gradients()
        self._set_gradients(joined)
        return found

    @torch.no_grad()
    def join(self, key: int, factor: float) -> None:
        """Add gradients that were kept apart, times a factor, to the others."""
        parameters = self.parameters()
        for name, gradient in self._apart.pop(key).items():
            if (joined := parameters[name].grad) is None:
                parameters[name].grad = gradient.mul_(factor) if factor != 1 else gradient
            else:
                joined.add_(gradient, alpha=factor)

    @property
    def apart(self) -> list[int]:
        """Keys of the gradients that are kept apart."""
        return [*self._apart]

    def drop(self, groups: Iterable[int]) -> None:
        """Forget the gradients so far of groups of the optimizer."""
        for number in groups:
            for parameter in self._optimizer.param_groups[number]["params"]:
                parameter.grad = None

    @property
    def groups(self) -> int:
        """How many groups the optimizer has."""
        return len(self._optimizer.param_groups)

    def _gradients(self) -> dict[str, Tensor]:
        return {n: p.grad for n, p in self.parameters().items() if p.grad is not None}

    def _set_gradients(self, gradients: Mapping[str, Tensor | None]) -> None:
        for name, parameter in self.parameters().items():
            parameter.grad = gradients.get(name)

    @torch.enable_grad()
    def step(
        self,
        activation_BMW: Tensor,
        mask_BM: Tensor,
        labels: Tensor,
        share: float = 1.0,
        *,
        autocast: str = "",
    ) -> tuple[Tensor, Tensor]:
        """Run forward, loss and backward, without waiting for the device; gradients add up.

        `apply` uses those of net2, as it does those of `backward`.

        Args:
            activation_BMW: activation of the cut layer, shape (B, M, W); float32, or as autocast
                has left it.
            mask_BM: True for real tokens, shape (B, M).
            labels: flat, int64 or, for a regression, float32.
            share: what the mean loss is multiplied with.
            autocast: what a script has matrix products computed in; empty: the engine's precision.

        Returns:
            The mean loss times the share, a scalar, and its gradient with respect to the
            activation, (B, M, W); both on the device.
        """
        activation = self.transfers.up(activation_BMW).requires_grad_()
        self.net2.train()
        with self._own_randomness():
            padded_BMW, mask_BM = self._padded(activation, self.transfers.up(mask_BM))
            logits = self._logits(padded_BMW, mask_BM, autocast)
            with self._computing(autocast):
                loss = share * self._head.loss(logits, self.transfers.up(labels), mask_BM)
            loss.backward()
        assert activation.grad is not None
        return loss.detach(), activation.grad

    @torch.enable_grad()
    def forward(
        self,
        activation_BMW: Tensor,
        mask_BM: Tensor,
        began: Randomness | None = None,
        *,
        training: bool = True,
        autocast: str = "",
    ) -> Pass:
        """Run forward, without waiting for the device; `backward` goes on.

        Args:
            activation_BMW: as of `step`.
            mask_BM: as of `step`.
            began: where the randomness of a pass stood that is run once more; that of the engine
                stays where it is.
            training: whether in training mode.
            autocast: as of `step`.
        """
        activation = self.transfers.up(activation_BMW).requires_grad_()
        self.net2.train(training)
        now = began or self._random_state
        with self._own_randomness(began):
            padded_BMW, mask_BM = self._padded(activation, self.transfers.up(mask_BM))
            rows = self._head.rows(self._logits(padded_BMW, mask_BM, autocast), mask_BM)
        return Pass(activation, rows, now)

    def backward(self, waiting: Pass, gradient: Tensor) -> Tensor:
        """Run backward of a pass, which then is used up; gradients add up.

        Args:
            waiting: the pass.
            gradient: of the loss with respect to its rows, of their shape.

        Returns:
            The gradient of the loss with respect to the activation, (B, M, W), on the device.
        """
        there = self.transfers.up(gradient).to(waiting.rows.dtype)
        torch.autograd.backward(waiting.rows, there)
        assert waiting.activation.grad is not None
        return waiting.activation.grad

    def apply(self, learning_rate: float, updates: Sequence[GroupUpdate] = ()) -> None:
        """Step the optimizer with the gradients that have added up since the last time.

        Args:
            learning_rate: of an optimizer of the project's own.
            updates: of one that a script made: what becomes of each of its groups.

        Raises:
            ConfigError: an update does not fit.
        """
        if self._algorithm:
            update(self._optimizer, self._algorithm, updates)
        else:
            set_learning_rate(self._optimizer, learning_rate)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._apart.clear()

    def norms(self) -> list[float]:
        """Return the Euclidean norm of the gradients so far, of each group of a script's optimizer.

        With the project's own optimizer it is one, of all gradients.
        """
        if self._algorithm:
            return norms(self._optimizer)
        return [norm(p.grad for p in self.net2.parameters())]

    @torch.no_grad()
    def evaluate(
        self,
        activation_BMW: Tensor,
        mask_BM: Tensor,
        labels: Tensor | None = None,
        *,
        every_token: bool = False,
        autocast: str = "",
    ) -> Tensor:
        """Return what the head says in evaluation mode: `Head.verdict`, or else `Head.rows`."""
        self.net2.eval()
        up = self.transfers.up
        padded_BMW, mask_BM = self._padded(up(activation_BMW), up(mask_BM))
        logits = self._logits(padded_BMW, mask_BM, autocast)
        if every_token:
            return self._head.rows(logits, mask_BM)
        return self._head.verdict(logits, mask_BM, labels)

    def weights(self) -> dict[str, Tensor]:
        """Return the parameters of net2 on the CPU, by their stock names."""
        return {name: p.detach().cpu() for name, p in self.parameters().items()}

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Return the parameters of net2 themselves, by their stock names."""
        return dict(self.net2.skeleton.named_parameters())

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return all that makes the next steps what they will be, by group and stock name.

        The tensors are the engine's own, not copies: those of weights and moments change with the
        next `apply`, gradients with the next `step`.
        """
        apart = {
            f"{key}:{name}": gradient
            for key, gradients in self._apart.items()
            for name, gradient in gradients.items()
        }
        cpu, cuda = self._random_state
        return {
            "weights": {**self.parameters()},
            "moments": moments_of(self._optimizer, self.net2.skeleton),
            "gradients": self._gradients(),
            "apart": apart,
            "randomness": {"cpu": cpu} if cuda is None else {"cpu": cpu, "cuda": cuda},
        }

    def settings(self) -> list[dict[str, Setting]]:
        """Return the settings of each group of a script's optimizer, which its steps change."""
        groups = self._optimizer.param_groups if self._algorithm else []
        return [settings_of(self._algorithm, group) for group in groups]

    @torch.no_grad()
    def restore(
        self,
        state: Mapping[str, Mapping[str, Tensor]],
        settings: Sequence[Mapping[str, Setting]] = (),
    ) -> None:
        """Go on from what `state` and `settings` returned once, on this device or another.

        It takes copies.
        """
        for group, known in zip(self._optimizer.param_groups, settings, strict=False):
            group.update(checked(self._algorithm, known, group))
        gradients, randomness = state.get("gradients", {}), state["randomness"]
        parameters = self.parameters()
        for name, parameter in parameters.items():
            parameter.copy_(state["weights"][name])
            gradient = gradients.get(name)
            parameter.grad = None if gradient is None else gradient.to(parameter, copy=True)
        self._apart.clear()
        for name, tensor in state.get("apart", {}).items():
            key, _, stock = name.partition(":")
            there = tensor.to(parameters[stock], copy=True)
            self._apart.setdefault(int(key), {})[stock] = there
        set_moments(self._optimizer, self.net2.skeleton, state.get("moments", {}))
        cuda = randomness.get("cuda", self._random_state[1]) if self._forked else None
        self._random_state = randomness["cpu"].clone(), cuda

    def _logits(self, activation_BMW: Tensor, mask_BM: Tensor, autocast: str) -> Tensor:
        """Return logits, float32 unless a script's autocast has left them otherwise."""
        with self._computing(autocast) if autocast else self._reduced():
            logits: Tensor = self.net2(activation_BMW, mask_BM)
        return logits if autocast else logits.float()

    def _reduced(self) -> torch.autocast:
        """Return the context in which net2 computes unless a script says otherwise."""
        reduced = self._precision != torch.float32
        return torch.autocast(self.device.type, self._precision, enabled=reduced)

    def _computing(self, autocast: str) -> AbstractContextManager[Any]:
        """Return the context in which a script computes; it need not have one.

        Raises:
            DeviceError: the device here cannot.
        """
        if not autocast:
            return nullcontext()
        check_computes(self.device, autocast)
        return torch.autocast(self.device.type, dtype_of(autocast))

    def _padded(self, activation_BMW: Tensor, mask_BM: Tensor) -> tuple[Tensor, Tensor]:
        more = -mask_BM.shape[1] % self._bucket
        if not more:
            return activation_BMW, mask_BM
        return pad(activation_BMW, (0, 0, 0, more)), pad(mask_BM, (0, more))

    @contextmanager
    def _own_randomness(self, began: Randomness | None = None) -> Iterator[None]:
        with exclusive_randomness(*self._forked):
            cpu, cuda = began or self._random_state
            torch.set_rng_state(cpu)
            if cuda is not None:
                torch.cuda.set_rng_state(cuda, self.device)
            yield
            if began is None:
                self._random_state = self._get_random_state()

    def _get_random_state(self) -> Randomness:
        cuda = torch.cuda.get_rng_state(self.device) if self._forked else None
        return torch.get_rng_state(), cuda
