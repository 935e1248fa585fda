"""What a client hands in, clipped and noised, and what all of that may have given away.

It knows named tensors, but no method and no cloud. docs/privacy.md: what it protects from whom.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sft_common.errors import ConfigError, SnapshotError, TrainingError
from sft_common.federation.plan import UpdatePrivacy

SENSITIVITY = 2.0
"""How far two clipped updates can be apart, in clips: neighbours are any two data sets at all."""

_ORDERS = [1 + 10 ** (place / 20) for place in range(-80, 81)]
"""Rényi orders among which the accountant seeks the best: 1.0001 to 10001, 12 % apart."""


def fresh_noise() -> np.random.Generator:
    """Return a source of noise that nobody can repeat: 128 bits of the system's own randomness.

    Not torch's: its generator for the CPU keeps 32 bits of a seed, so that whoever sees the noised
    numbers could try them all.
    """
    return np.random.default_rng()


def privatized(
    update: Mapping[str, Tensor],
    received: Mapping[str, Tensor],
    spec: UpdatePrivacy,
    generator: np.random.Generator,
) -> dict[str, Tensor]:
    """Return the update to be handed in: `received` plus the clipped difference plus noise.

    The difference is scaled down to an L2 norm of C, over all tensors together, if it is longer;
    noise of standard deviation sigma x C is added to each number of it. All is computed in float64
    and rounded once, at the end: a rounding of what is private already gives nothing away.

    Not defended: the gaps between floats that a Gaussian sampler can reach (Mironov 2012) and how
    long it takes. Noise of 53 bits leaves through 24, which hides most of the gaps but proves
    nothing; the stated epsilon is that of real numbers.

    Args:
        update: the state after training, float32 on the CPU.
        received: the state that the cloud sent: the same names and shapes.
        spec: how much.
        generator: of the noise, `fresh_noise()`; never one that the run's seed made.

    Raises:
        TrainingError: the update holds a number that is none.
    """
    assert update.keys() == received.keys()
    norm = _distance(update, received)
    if not math.isfinite(norm):
        raise TrainingError(
            "the update of this round holds a number that is none (NaN or infinity) and cannot be "
            "clipped; nothing is handed in: lower the learning rate"
        )
    factor = min(1.0, spec.clip / norm) if norm else 1.0
    scale = spec.noise * spec.clip
    handed_in = {}
    for name in sorted(received):  # the order of the noise must not hang on that of a mapping
        before = received[name]
        noise = torch.from_numpy(generator.normal(0.0, scale, tuple(before.shape)))
        moved = before.double() + factor * (update[name].double() - before.double()) + noise
        handed_in[name] = moved.to(before.dtype)
    return handed_in


def _distance(update: Mapping[str, Tensor], received: Mapping[str, Tensor]) -> float:
    """Return the L2 norm of the difference of all tensors together."""
    squares = (
        (update[name].double() - received[name].double()).square().sum().item()
        for name in sorted(received)
    )
    return math.sqrt(sum(squares))


class Accountant:
    """Counts what a client has handed in, and says what it may have given away: (epsilon, delta).

    Every release counts whole: whoever sees the updates knows who took part, so that no sampling of
    clients makes it less. A release is a draw of noise that leaves: count it, and have `state`
    on disk, before it does. The same bytes sent once more are no other release.

    Args:
        spec: of the releases to come; those before keep the noise multiplier that they had.
        state: what `state` said before a restart.

    Raises:
        ConfigError: the library is not installed.
        SnapshotError: the state is none.
    """

    def __init__(self, spec: UpdatePrivacy, state: Mapping[str, Any] | None = None) -> None:
        self._spec = spec
        self._rdp = _library()
        self._counts = {} if state is None else _counts(state)

    @property
    def releases(self) -> int:
        """How often something was handed in."""
        return sum(self._counts.values())

    def count(self) -> None:
        """Take note of one release under the spec."""
        sigma = self._spec.noise
        self._counts[sigma] = self._counts.get(sigma, 0) + 1

    def epsilon(self) -> float:
        """Return epsilon at the spec's delta, for all releases together; 0 before the first.

        An upper bound by Rényi differential privacy: of Gaussian noise alone it lies a few percent
        above the exact value.
        """
        if not self._counts:
            return 0.0
        accountant = self._rdp()
        accountant.history = [
            (sigma / SENSITIVITY, 1.0, count) for sigma, count in self._counts.items()
        ]
        with warnings.catch_warnings():
            # It warns where the best order is the last one: a bound all the same.
            warnings.simplefilter("ignore", UserWarning)
            found = accountant.get_epsilon(self._spec.delta, alphas=_ORDERS)
        return max(0.0, float(found))

    def state(self) -> dict[str, Any]:
        """Return what `Accountant` takes after a restart, as plain JSON."""
        return {"releases": [[sigma, count] for sigma, count in self._counts.items()]}


def _counts(state: Mapping[str, Any]) -> dict[float, int]:
    """Return how many releases there were of each noise multiplier."""
    match state:
        case {"releases": list(pairs)} if all(map(_is_count, pairs)):
            return {float(sigma): count for sigma, count in pairs}
    raise SnapshotError(
        f"what was handed in so far is not to be read from {str(state)[:80]}: no epsilon can be "
        "said for what comes; restore the file, or begin as a new client"
    )


def _is_count(pair: Any) -> bool:
    match pair:
        case [int() | float() as sigma, int(count)]:
            return 0 < sigma < math.inf and count > 0
    return False


def _library() -> Any:
    try:
        from opacus.accountants import RDPAccountant
    except ImportError as error:
        raise ConfigError(
            "privacy needs opacus, which counts what is given away: pip install 'sft[privacy]'"
        ) from error
    return RDPAccountant
