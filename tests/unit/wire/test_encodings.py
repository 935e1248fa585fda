"""Rows of numbers <-> rows of bytes: inverse, error bound, no bias, and what is not finite."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from sft_common.config import ENCODINGS
from sft_common.wire.encodings import ENCODING_TABLE, HUGE, TINY, Encoding

NAMES = list(ENCODING_TABLE)
ROUNDING = [name for name in NAMES if name != "float32"]

ROWS = {
    "ordinary": torch.randn(5, 8, generator=torch.Generator().manual_seed(0)),
    "an odd width": torch.randn(3, 7, generator=torch.Generator().manual_seed(1)),
    "one number": torch.tensor([[3.7], [-0.1]]),
    "zeros": torch.zeros(2, 3),
    "a constant": torch.full((2, 5), -1.3),
    "one outlier": torch.tensor([[1e-3, -2e-3, 1e4, 3e-3]]),
    "denormals": torch.tensor([[1e-40, -3e-42, 1e-45, 0.0]]),
    "denormals beside ordinary numbers": torch.tensor([[1e-40, 1.0, -1e-45]]),
    "small gradients": torch.randn(4, 6, generator=torch.Generator().manual_seed(2)) * 1e-7,
    "the largest": torch.tensor([[HUGE, 1.0, -2.0]]),
    "no rows": torch.zeros(0, 5),
}


def there_and_back(encoding: Encoding, rows: Tensor, generator: Generator | None = None) -> Tensor:
    coded = encoding.encode(rows, generator)
    assert coded.dtype == torch.uint8
    assert coded.shape == (len(rows), encoding.row_bytes(rows.shape[1]))
    back = encoding.decode(coded, rows.shape[1])
    assert (back.dtype, back.shape) == (torch.float32, rows.shape)
    return back


def bound(encoding: Encoding, rows: Tensor, share: float) -> Tensor:
    """Return so many spacings; what lies beyond a type's largest number becomes that."""
    most = {"float16": 65504.0, "bfloat16": 2.0**127 * (2 - 2**-7)}.get(encoding.name, math.inf)
    return encoding.spacing(rows) * (share + 2**-15) + TINY + (rows.abs() - most).clamp(min=0)


def numbers() -> st.SearchStrategy[list[list[float]]]:
    number = st.floats(-6e4, 6e4, width=32)
    return st.integers(1, 9).flatmap(
        lambda width: st.lists(
            st.lists(number, min_size=width, max_size=width), min_size=1, max_size=4
        )
    )


def test_every_encoding_that_can_be_asked_for_is_there() -> None:
    assert tuple(ENCODING_TABLE) == ENCODINGS
    assert all(encoding.name == name for name, encoding in ENCODING_TABLE.items())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_the_error_of_every_number_is_within_its_bound(name: str, rows: Tensor) -> None:
    encoding = ENCODING_TABLE[name]
    nearest = there_and_back(encoding, rows)
    assert ((nearest - rows).abs() <= bound(encoding, rows, 0.5)).all()
    drawn = there_and_back(encoding, rows, Generator().manual_seed(3))
    assert ((drawn - rows).abs() <= bound(encoding, rows, 1)).all()


@pytest.mark.parametrize("name", NAMES)
@given(rows=numbers(), seed=st.integers(0, 2**32))
def test_the_error_bound_holds_for_any_numbers(
    name: str, rows: list[list[float]], seed: int
) -> None:
    encoding, given_rows = ENCODING_TABLE[name], torch.tensor(rows)
    nearest = there_and_back(encoding, given_rows)
    assert ((nearest - given_rows).abs() <= bound(encoding, given_rows, 0.5)).all()
    drawn = there_and_back(encoding, given_rows, Generator().manual_seed(seed))
    assert ((drawn - given_rows).abs() <= bound(encoding, given_rows, 1)).all()


@pytest.mark.parametrize("name", NAMES)
@given(rows=numbers())
def test_what_was_rounded_once_stays(name: str, rows: list[list[float]]) -> None:
    encoding = ENCODING_TABLE[name]
    once = there_and_back(encoding, torch.tensor(rows))
    if name in ("int8", "int4"):  # the scale is rounded up: a largest number may shrink it
        again = there_and_back(encoding, once)
        assert ((again - once).abs() <= bound(encoding, once, 0.5)).all()
    else:
        assert torch.equal(there_and_back(encoding, once), once)


@pytest.mark.parametrize(("name", "bits", "least"), [("float16", 10, -14), ("bfloat16", 7, -119)])
def test_the_spacing_of_floating_numbers_is_that_of_the_format(
    name: str, bits: int, least: int
) -> None:
    """numerics.md, and next to it what torch itself says comes after a number."""
    for number, exponent in (
        (1.0, 0),
        (1.99, 0),
        (-2.0, 1),
        (0.3, -2),
        (2.0**-20, -20),
        (0.0, -999),
    ):
        found = ENCODING_TABLE[name].spacing(torch.tensor([[number]]))
        assert found.item() == 2.0 ** (max(exponent, least) - bits)
    dtype = getattr(torch, name)
    numbers = torch.tensor([[1.0, 5.5, 300.0, 0.01]], dtype=dtype)
    following = torch.nextafter(numbers, torch.full_like(numbers, torch.inf))
    apart = following.float() - numbers.float()
    assert torch.equal(ENCODING_TABLE[name].spacing(numbers.float()), apart)


@pytest.mark.parametrize(("name", "levels"), [("int8", 127), ("int4", 7)])
def test_the_spacing_of_scaled_numbers_is_the_largest_one_s_share(name: str, levels: int) -> None:
    largest = torch.tensor([[3.7], [1e-6], [2.0 * levels]])
    share = largest / levels
    found = ENCODING_TABLE[name].spacing(torch.cat([largest, -largest / 2], dim=1))
    assert torch.equal(found, found.bfloat16().float())
    assert ((share <= found) & (found <= share * (1 + 2**-7))).all()
    assert found[2].item() == 2.0


@pytest.mark.parametrize("name", NAMES)
def test_zero_stays_zero_where_denormals_are_flushed(name: str) -> None:
    rows = torch.tensor([[0.0, 1e-3], [0.0, 0.0]])
    torch.set_flush_denormal(True)
    try:
        for generator in (None, Generator().manual_seed(0)):
            back = there_and_back(ENCODING_TABLE[name], rows, generator)
            assert back.isfinite().all()
            assert torch.equal(back == 0, rows == 0)
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_does_not_depend_on_the_others(name: str) -> None:
    encoding, rows = ENCODING_TABLE[name], ROWS["ordinary"]
    assert torch.equal(encoding.encode(rows)[1:3], encoding.encode(rows[1:3].clone()))


@pytest.mark.parametrize(
    ("name", "width", "size"),
    [
        ("float32", 8, 32),
        ("float16", 8, 16),
        ("bfloat16", 8, 16),
        ("int8", 8, 10),
        ("int4", 8, 6),
        ("int4", 7, 6),
        ("int4", 64, 34),
    ],
)
def test_bytes_of_a_row(name: str, width: int, size: int) -> None:
    assert ENCODING_TABLE[name].row_bytes(width) == size


def test_float32_is_exact_to_the_bit() -> None:
    rows = torch.tensor([[math.nan, -0.0, math.inf, 1e-45]])
    assert torch.equal(
        there_and_back(ENCODING_TABLE["float32"], rows).view(torch.int32), rows.view(torch.int32)
    )


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_whole_levels_of_a_row_are_exact(name: str) -> None:
    levels = 127 if name == "int8" else 7
    rows = torch.arange(-levels, levels + 1.0)[None, :] * 0.5
    assert torch.equal(there_and_back(ENCODING_TABLE[name], rows), rows)


def test_numbers_beyond_float16_become_its_largest() -> None:
    rows = torch.tensor([[1e6, -1e6, 1.0]])
    assert there_and_back(ENCODING_TABLE["float16"], rows).tolist() == [[65504, -65504, 1]]


@pytest.mark.parametrize("generator", [None, Generator().manual_seed(0)], ids=["near", "drawn"])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_does_not_come_back_as_a_number(
    name: str, wrong: float, generator: Generator | None
) -> None:
    rows = torch.tensor([[1.0, wrong, 2.0], [1.0, 2.0, 3.0]])
    back = there_and_back(ENCODING_TABLE[name], rows, generator)
    assert not back[0].isfinite().all()
    assert back[1].isfinite().all()


@pytest.mark.parametrize("name", ROUNDING)
def test_stochastic_rounding_has_no_bias(name: str) -> None:
    encoding, rows = ENCODING_TABLE[name], ROWS["ordinary"]
    generator, draws = Generator().manual_seed(4), 4000
    many = torch.stack([there_and_back(encoding, rows, generator) for _ in range(draws)]).double()
    standard_error = many.std(dim=0) / math.sqrt(draws)
    off = (many.mean(dim=0) - rows).abs()
    assert (off <= 5 * standard_error + 1e-12).all()
    assert (standard_error > 0).float().mean() > 0.8, "nearly every number has two neighbours"


@pytest.mark.parametrize("name", ROUNDING)
def test_a_seed_repeats_its_draws(name: str) -> None:
    encoding, rows = ENCODING_TABLE[name], ROWS["ordinary"]
    first, again, other = (
        encoding.encode(rows, Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
