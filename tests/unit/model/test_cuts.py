"""The factors of a split weight."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sft_common.model.cuts import Basis, balanced_basis, factor, principal_basis


def test_full_rank_gives_the_weight_back() -> None:
    weight = torch.randn(24, 40)
    u, sigma, v = factor(weight, 24)
    torch.testing.assert_close(u @ sigma @ v, weight, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
@pytest.mark.parametrize("rank", [1, 5, 23])
def test_the_error_is_the_tail_of_the_spectrum(shape: tuple[int, int], rank: int) -> None:
    """Eckart-Young: no matrix of that rank is nearer."""
    weight = torch.randn(shape)
    u, sigma, v = factor(weight, rank)
    assert (u.shape, sigma.shape, v.shape) == ((shape[0], rank), (rank, rank), (rank, shape[1]))
    tail = torch.linalg.svdvals(weight)[rank:].square().sum().sqrt()
    torch.testing.assert_close((weight - u @ sigma @ v).norm(), tail, rtol=1e-4, atol=1e-5)


def test_u_is_orthonormal_and_sigma_diagonal() -> None:
    u, sigma, _ = factor(torch.randn(24, 40), 6)
    torch.testing.assert_close(u.T @ u, torch.eye(6), rtol=0, atol=1e-6)
    assert torch.equal(sigma, torch.diag(sigma.diagonal()))


def test_principal_components_are_the_best_of_their_rank() -> None:
    """The reconstruction's error is the tail of the spectrum of the centred rows."""
    rows = torch.randn(200, 24) @ torch.randn(24, 24) + 3
    mean, encoder, decoder = principal_basis(rows, 5)
    again = (rows - mean) @ encoder @ decoder + mean
    tail = torch.linalg.svdvals(rows - rows.mean(0))[5:].square().sum().sqrt()
    torch.testing.assert_close((rows - again).norm(), tail, rtol=1e-4, atol=1e-4)
    code = (rows - mean) @ encoder
    torch.testing.assert_close(torch.cov(code.T), torch.eye(5), rtol=0, atol=1e-4)


def test_a_balanced_basis_keeps_as_much_and_makes_less_of_an_even_error() -> None:
    """Noise of one size on every number of the code, such as a scale of its row's makes."""
    rows = torch.randn(400, 24) @ torch.diag(torch.logspace(0, -2, 24)) @ torch.randn(24, 24) + 3
    white, balanced = principal_basis(rows, 12), balanced_basis(rows, 12)
    errors = {}
    for name, (mean, encoder, decoder) in (("white", white), ("balanced", balanced)):
        code = (rows - mean) @ encoder
        assert code.square().mean().item() == pytest.approx(1, abs=0.01)
        torch.testing.assert_close(
            code @ decoder, (rows - mean) @ white.encoder @ white.decoder, rtol=0, atol=1e-3
        )
        errors[name] = (torch.randn(code.shape) @ decoder).square().mean().item()
    code = (rows - balanced.mean) @ balanced.encoder
    assert code.std(dim=0).max() < 2 * code.std(dim=0).min()
    assert errors["balanced"] < 0.7 * errors["white"]


@pytest.mark.parametrize("find", [principal_basis, balanced_basis])
@pytest.mark.parametrize("rows", [torch.ones(9, 6), torch.eye(6)[:2], torch.zeros(2, 6)])
def test_a_stream_without_variance_gives_finite_numbers(
    rows: torch.Tensor, find: Callable[[torch.Tensor, int], Basis]
) -> None:
    basis = find(rows, 6)
    assert all(part.isfinite().all() for part in basis)
    again = (rows - basis.mean) @ basis.encoder @ basis.decoder + basis.mean
    torch.testing.assert_close(again, rows, rtol=0, atol=1e-4)
