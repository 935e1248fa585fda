"""Updates that are clipped and noised, and what an accountant says of them."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm
from torch import Tensor

from sft_common.errors import ConfigError, SnapshotError, TrainingError
from sft_common.federation.plan import UpdatePrivacy
from sft_edge.federation.privacy import Accountant, fresh_noise, privatized

DELTA = 1e-5


def spec(clip: float = 1.0, sigma: float = 1.0, delta: float = DELTA) -> UpdatePrivacy:
    return UpdatePrivacy(clip=clip, noise=sigma, delta=delta)


class Silent(np.random.Generator):
    """Draws no noise, so that what is left is the clipped update."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def normal(self, *_: object, **__: object) -> np.ndarray:  # type: ignore[override]
        return np.zeros(())


def state(*numbers: float) -> dict[str, Tensor]:
    """Return two tensors of one number and of the others."""
    return {"prompts": torch.tensor(numbers[:1]), "tail": torch.tensor([list(numbers[1:])])}


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the L2 norm of the difference of two states."""
    return math.sqrt(sum((one[n].double() - other[n].double()).square().sum().item() for n in one))


def test_a_long_update_has_the_norm_of_the_clip_over_all_tensors_together() -> None:
    received = state(0.0, 0.0, 0.0)
    handed_in = privatized(state(3.0, 4.0, 12.0), received, spec(clip=6.5), Silent())
    assert [tensor.tolist() for tensor in handed_in.values()] == [[1.5], [[2.0, 6.0]]]


def test_a_short_update_stays_as_it_is() -> None:
    update, received = state(1.25, -2.5, 3.0), state(1.0, -2.0, 3.0)
    assert apart(update, received) < 1
    handed_in = privatized(update, received, spec(clip=1.0), Silent())
    assert all(torch.equal(handed_in[name], update[name]) for name in update)
    same = privatized(received, received, spec(), Silent())
    assert all(torch.equal(same[name], received[name]) for name in received)


numbers = st.floats(-1e6, 1e6, width=32)


@given(st.tuples(numbers, numbers, numbers), st.floats(1e-3, 1e3))
def test_no_update_is_longer_than_the_clip(moved: tuple[float, ...], clip: float) -> None:
    received = state(0.0, 0.0, 0.0)
    handed_in = privatized(state(*moved), received, spec(clip=clip), Silent())
    assert apart(handed_in, received) <= clip * (1 + 1e-6)  # rounded to float32 at the end


def test_noise_is_normal_and_independent_on_every_number() -> None:
    received = {"a": torch.full((300, 100), 2.0), "b": torch.zeros(30_000)}
    handed_in = privatized(received, received, spec(clip=0.5, sigma=3.0), np.random.default_rng(1))
    noise = torch.cat([(handed_in[n] - received[n]).flatten() for n in ("a", "b")]).double() / 1.5
    count = noise.numel()
    assert abs(noise.mean().item()) < 4 / math.sqrt(count)
    assert abs(noise.var().item() - 1) < 4 * math.sqrt(2 / count)
    for shift in (1, 100, count // 2):
        assert abs((noise[shift:] * noise[:-shift]).mean().item()) < 4 / math.sqrt(count - shift)
    for quantile in (0.01, 0.25, 0.5, 0.9):
        share = (noise < norm.ppf(quantile)).double().mean().item()
        assert abs(share - quantile) < 4 * math.sqrt(quantile * (1 - quantile) / count)


def test_noise_does_not_follow_the_runs_seed() -> None:
    received = {"a": torch.zeros(8)}
    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        drawn.append(privatized(received, received, spec(), fresh_noise())["a"])
    assert not torch.equal(*drawn)


def test_what_is_handed_in_is_float32_of_the_same_shapes() -> None:
    received = {"b": torch.zeros(2, 3), "a": torch.tensor(1.0), "none": torch.zeros(0, 4)}
    before = {name: tensor.clone() for name, tensor in received.items()}
    handed_in = privatized(received, received, spec(), np.random.default_rng(1))
    turned = dict(reversed(received.items()))
    again = privatized(turned, turned, spec(), np.random.default_rng(1))
    for name, tensor in received.items():
        assert handed_in[name].dtype == torch.float32 and handed_in[name].shape == tensor.shape
        assert torch.equal(handed_in[name], again[name])
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_update_that_is_no_number_is_not_handed_in(bad: float) -> None:
    with pytest.raises(TrainingError, match="nothing is handed in"):
        privatized(state(1.0, bad), state(0.0, 0.0), spec(), fresh_noise())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.0, 1.0, 0.1), "clip: 0 is outside 1e-12..1e.12"),
        ((1.0, -1.0, 0.1), "noise: -1 is outside"),
        ((1.0, math.nan, 0.1), "noise: nan is outside"),
        ((math.inf, 1.0, 0.1), "clip: inf is outside"),
        ((1.0, 1.0, 0.0), "delta: 0 is outside"),
        ((1.0, 1.0, 1.0), "delta: 1 is outside"),
    ],
)
def test_a_spec_out_of_range_is_refused(values: tuple[float, float, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        spec(*values)


def epsilon(sigma: float, releases: int, delta: float = DELTA) -> float:
    accountant = Accountant(spec(sigma=sigma, delta=delta))
    for _ in range(releases):
        accountant.count()
    assert accountant.releases == releases
    return accountant.epsilon()


def exact(sigma: float, releases: int) -> float:
    """Return the least epsilon of Gaussian mechanisms (Balle and Wang 2018, Theorem 8).

    Two updates of clip C are 2 C apart, and k releases are one with noise smaller by sqrt(k).
    """
    mu = 2 * math.sqrt(releases) / sigma

    def too_likely(e: float) -> float:
        tail = norm.logcdf(-e / mu - mu / 2)
        return float(norm.cdf(-e / mu + mu / 2) - math.exp(e + tail) - DELTA)

    return float(brentq(too_likely, 0, 5000))


def by_hand(sigma: float, releases: int) -> float:
    """Return the best of Rényi's bounds: of order a the mechanism's is a k / (2 (sigma / 2)^2)."""
    order = 1 + np.logspace(-4, 4, 200_001)
    renyi = 2 * order * releases / sigma**2
    bounds = renyi + np.log1p(-1 / order) - np.log(DELTA * order) / (order - 1)
    return float(bounds.min())


@pytest.mark.parametrize("sigma", [0.5, 1.0, 4.0, 20.0, 100.0])
@pytest.mark.parametrize("releases", [1, 20, 300])
def test_epsilon_is_the_closed_form_and_bounds_the_exact_value(sigma: float, releases: int) -> None:
    found = epsilon(sigma, releases)
    assert found == pytest.approx(by_hand(sigma, releases), rel=2e-3)
    assert exact(sigma, releases) <= found <= 1.25 * exact(sigma, releases)


def test_epsilon_grows_with_every_release_and_falls_with_noise_and_delta() -> None:
    assert epsilon(2.0, 0) == 0.0
    assert 0 < epsilon(2.0, 1) < epsilon(2.0, 2) < epsilon(1.0, 2)
    assert epsilon(2.0, 2, delta=1e-3) < epsilon(2.0, 2)
    assert 0 <= epsilon(1e9, 1) < 1e-3
    assert math.isfinite(epsilon(1e-3, 1000))


def test_four_releases_are_one_of_half_the_noise() -> None:
    assert epsilon(2.0, 4) == pytest.approx(epsilon(1.0, 1))


def test_a_restart_goes_on_counting_under_whatever_noise() -> None:
    first = Accountant(spec(sigma=1.0))
    first.count()
    first.count()
    kept = json.loads(json.dumps(first.state()))
    again = Accountant(spec(sigma=1.0), kept)
    assert (again.releases, again.epsilon(), again.state()) == (2, first.epsilon(), first.state())
    again.count()
    assert again.epsilon() == epsilon(1.0, 3)
    louder = Accountant(spec(sigma=8.0), kept)
    louder.count()
    assert louder.state() == {"releases": [[1.0, 2], [8.0, 1]]}
    assert epsilon(1.0, 2) < louder.epsilon() < epsilon(1.0, 3)


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"releases": 3},
        {"releases": [[1.0, 0]]},
        {"releases": [[0.0, 1]]},
        {"releases": [[1.0]]},
    ],
)
def test_a_state_that_is_none_is_refused(kept: dict[str, object]) -> None:
    with pytest.raises(SnapshotError, match="no epsilon can be said"):
        Accountant(spec(), kept)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    with pytest.raises(ConfigError, match=r"pip install 'sft\[privacy\]'"):
        Accountant(spec())
