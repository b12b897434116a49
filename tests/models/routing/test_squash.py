"""Squash against its equation, by hand and by autograd, at every length that floats have."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from capsbench.models.routing.squash import squash

EPS = torch.finfo(torch.float64).eps


def squash_list(s: list[float]) -> list[float]:
    """Equation 1 in plain floats."""
    length = math.hypot(*s)
    if length == 0:
        return list(s)
    square = length * length
    factor = 1 / (1 + 1 / square) if length > 1 else square / (1 + square)
    return [factor * (value / length) for value in s]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_squash_of_zero_is_zero_and_flat(dtype: torch.dtype) -> None:
    s = torch.zeros(2, 3, dtype=dtype, requires_grad=True)
    v = squash(s)
    (gradient,) = torch.autograd.grad(v.sum(), s)
    assert not v.any() and not gradient.any()


@settings(deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=8))
def test_squash_keeps_the_direction_and_bounds_the_length(s: list[float]) -> None:
    v = squash(torch.tensor(s, dtype=torch.float64)).tolist()
    expected = squash_list(s)
    assert math.hypot(*v) <= 1 + 8 * EPS
    for ours, exact in zip(v, expected, strict=True):
        assert abs(ours - exact) <= 16 * EPS * abs(exact) + 1e-320  # subnormal numbers have few digits


@settings(deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=5))
def test_squash_is_eq_1(s: list[float]) -> None:
    vector = torch.tensor(s, dtype=torch.float64)
    square = vector.square().sum()
    if square > 1e-200:
        torch.testing.assert_close(squash(vector), square / (1 + square) * vector / square.sqrt())


@pytest.mark.parametrize("exponent", [-36, -30, -20, -10, -3, 0, 3, 10])
def test_squash_has_its_derivative_at_every_length(exponent: int) -> None:
    # dv/ds = f I + f' s s^T / |s| with f = |s| / (1 + |s|^2) and f' = (1 - |s|^2) / (1 + |s|^2)^2.
    s = torch.tensor([0.6, -0.8, 0.0]).mul_(10.0**exponent)
    exact = s.double()
    length = exact.norm()
    f, slope = length / (1 + length**2), (1 - length**2) / (1 + length**2) ** 2
    expected = f * torch.eye(3).double() + slope * torch.outer(exact, exact) / length
    v = squash(s.requires_grad_())
    jacobian = torch.stack([torch.autograd.grad(row, s, retain_graph=True)[0] for row in v]).double()
    assert (jacobian - expected).abs().max() <= 16 * torch.finfo(torch.float32).eps * expected.abs().max()


def test_squash_has_two_derivatives() -> None:
    s = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    assert torch.autograd.gradcheck(squash, s)
    assert torch.autograd.gradgradcheck(squash, s)
