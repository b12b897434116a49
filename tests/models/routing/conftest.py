"""What a fast implementation is held to: float64, as closely as the reference comes to it in the same dtype."""

from collections.abc import Callable, Iterator
from typing import Protocol

import pytest
import torch
from torch import Tensor

from capsbench.models.routing.reference import route_reference

Implementation = Callable[[Tensor, Tensor, int, Tensor | None, str], Tensor]


class WorstError(Protocol):
    """See `worst_error`."""

    def __call__(
        self,
        implementation: Implementation,
        sizes: tuple[int, int, int, int, int],
        iterations: int,
        gradient: str,
        *,
        bias: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> float: ...


@pytest.fixture
def worst_error() -> WorstError:
    """The largest error of output and gradients against float64, as a multiple of what is allowed.

    Allowed is twice the reference's own error in the same dtype, or 4 eps of the dtype times the largest value. Sizes
    are B, I, J, O, D; the values are of the size that a network has them.
    """

    def measure(
        implementation: Implementation,
        sizes: tuple[int, int, int, int, int],
        iterations: int,
        gradient: str,
        *,
        bias: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> float:
        tensors = [tensor.to(dtype) for tensor in draw(*sizes)][: None if bias else 3]
        exact = results(route_reference, [tensor.double() for tensor in tensors], iterations, gradient)
        plain = results(route_reference, tensors, iterations, gradient)
        ours = results(implementation, tensors, iterations, gradient)
        return max(_share(*three, torch.finfo(dtype).eps) for three in zip(ours, plain, exact, strict=True))

    return measure


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Memory that nobody has written to holds NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()  # which deterministic algorithms bring along
    yield
    torch.use_deterministic_algorithms(False)


def draw(B: int, I: int, J: int, O: int, D: int) -> list[Tensor]:
    """u, weight, the gradient of the output, and a bias."""
    random = torch.Generator().manual_seed(B * 1009 + I)
    shapes = [(B, I, D), (I, J, O, D), (B, J, O), (J, O)]
    scales = [0.5, 4 / (I * D) ** 0.5, 1.0, 0.1]  # outputs are then neither short nor saturated
    return [scale * torch.randn(shape, generator=random) for shape, scale in zip(shapes, scales, strict=True)]


def results(implementation: Implementation, tensors: list[Tensor], iterations: int, gradient: str) -> list[Tensor]:
    """The output, and the gradients with respect to u, weight and, where there is one, bias."""
    u, weight, upstream, *bias = (tensor.clone() for tensor in tensors)
    leaves = [leaf.requires_grad_() for leaf in (u, weight, *bias)]
    v = implementation(u, weight, iterations, bias[0] if bias else None, gradient)
    return [v.detach(), *torch.autograd.grad(v, leaves, upstream.to(v.dtype))]


def _share(ours: Tensor, plain: Tensor, exact: Tensor, eps: float) -> float:
    assert ours.shape == plain.shape and ours.dtype == plain.dtype
    if not ours.isfinite().all():
        return float("inf")
    allowed = max(2 * _distance(plain, exact), 4 * eps * exact.abs().max().item())
    return _distance(ours, exact) / allowed if allowed else float(_distance(ours, exact) > 0)


def _distance(one: Tensor, exact: Tensor) -> float:
    return (one.double() - exact).abs().max().item()
