"""The measure that fast implementations are held to, on implementations whose faults are known."""

from typing import Any

import pytest
import torch
from torch import Tensor

from capsbench.models.routing.accuracy import worst_error
from capsbench.models.routing.reference import route_reference

SIZES = (3, 20, 4, 5, 6)


def test_the_reference_uses_half_of_what_is_allowed_at_most() -> None:
    for gradient in ("exact", "detached"):
        assert 0 < worst_error(route_reference, SIZES, 3, gradient) <= 0.5


def wrong_value(*arguments: Any) -> Tensor:
    return route_reference(*arguments) * (1 + 1e-5)


def wrong_gradient_of_u(u: Tensor, *arguments: Any) -> Tensor:
    return route_reference(u * 0.999 + u.detach() * 0.001, *arguments)


def wrong_gradient_of_bias(u: Tensor, weight: Tensor, iterations: int, bias: Tensor | None, *options: Any) -> Tensor:
    return route_reference(u, weight, iterations, None if bias is None else 2 * bias - bias.detach(), *options)


def one_iteration_less(u: Tensor, weight: Tensor, iterations: int, *arguments: Any) -> Tensor:
    return route_reference(u, weight, iterations - 1, *arguments)


def not_a_number(*arguments: Any) -> Tensor:
    return route_reference(*arguments) * float("nan")


def doubles(u: Tensor, weight: Tensor, iterations: int, bias: Tensor | None, *options: Any) -> Tensor:
    return route_reference(u.double(), weight.double(), iterations, None if bias is None else bias.double(), *options)


@pytest.mark.parametrize(
    "implementation",
    [wrong_value, wrong_gradient_of_u, wrong_gradient_of_bias, one_iteration_less, not_a_number, doubles],
)
def test_what_is_wrong_is_seen(implementation: Any) -> None:
    assert worst_error(implementation, SIZES, 3, "exact") > 1


def test_a_missing_orphan_category_is_seen() -> None:
    def plain(*arguments: Any) -> Tensor:
        return route_reference(*arguments[:5])

    assert worst_error(plain, SIZES, 3, "exact", leaky=True) > 1
    assert worst_error(plain, SIZES, 3, "exact") <= 1


def test_half_precision_is_held_to_half_precision() -> None:
    assert worst_error(wrong_value, SIZES, 3, "exact", dtype=torch.bfloat16) <= 1
