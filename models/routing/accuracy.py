"""Whether an implementation is as near to the truth as the reference, which is what a fast one is held to."""

from typing import Protocol

import torch
from torch import Tensor

from capsbench.models.routing.reference import route_reference


class Implementation(Protocol):
    """An implementation of routing, which `capsbench.models.routing.route` calls with arguments that it has checked."""

    def __call__(
        self, u: Tensor, weight: Tensor, iterations: int, bias: Tensor | None, gradient: str, leaky: bool = False, /
    ) -> Tensor:
        """The output capsules ``[B, J, O]``."""


def largest_error(device: str) -> float:
    """The largest accepted `worst_error`: 1 on a CPU, 2 on a GPU, which rounds in its own way."""
    return 2.0 if device == "cuda" else 1.0


def worst_error(
    implementation: Implementation,
    sizes: tuple[int, int, int, int, int],
    iterations: int,
    gradient: str,
    *,
    bias: bool = True,
    leaky: bool = False,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    draws: int = 8,
) -> float:
    """How near to float64 an implementation is: its largest error, as a multiple of what is allowed.

    Of the output and of each gradient the largest error over all elements is taken, and of that the mean over some
    draws of the inputs, for a single one scatters. Allowed is twice the reference's own in the same dtype, or 4 eps of
    the dtype times the largest value, whichever is larger. Inputs are of the size that networks have, and the same each
    time.

    Args:
        implementation: A function of (u, weight, iterations, bias, gradient, leaky).
        sizes: B, I, J, O and D.
        iterations: Of routing.
        gradient: ``"exact"`` or ``"detached"``.
        bias: Whether there is one.
        leaky: Whether there is an orphan category.
        dtype: Of u, weight and bias.
        device: Where to compute; the truth is always computed on the CPU.
        draws: Of the inputs.

    Returns:
        At most 1 where all is well; infinite where a value is not a number.
    """
    eps = torch.finfo(dtype).eps
    totals: dict[int, tuple[float, float]] = {}
    for seed in range(draws):
        tensors = [tensor.to(dtype) for tensor in _draw(*sizes, seed)][: 4 if bias else 3]
        exact = _results(route_reference, [tensor.double() for tensor in tensors], iterations, gradient, leaky)
        there = [tensor.to(device) for tensor in tensors]
        plain, ours = (_results(one, there, iterations, gradient, leaky) for one in (route_reference, implementation))
        for number, (mine, other, true) in enumerate(zip(ours, plain, exact, strict=True)):
            error, allowed = totals.get(number, (0.0, 0.0))
            most = 4 * eps * true.abs().max().item()
            totals[number] = (
                error + _distance(mine, other, true),
                allowed + max(2 * _distance(other, other, true), most),
            )
    return max(error / allowed if allowed else float(error > 0) for error, allowed in totals.values())


def _draw(B: int, I: int, J: int, O: int, D: int, seed: int) -> list[Tensor]:
    """u, weight, the gradient of the output, and a bias."""
    random = torch.Generator().manual_seed(B * 1009 + I + 1_000_003 * seed)
    shapes = [(B, I, D), (I, J, O, D), (B, J, O), (J, O)]
    scales = [0.5, 4 / (I * D) ** 0.5, 1.0, 0.1]  # outputs are then neither short nor saturated
    return [scale * torch.randn(shape, generator=random) for shape, scale in zip(shapes, scales, strict=True)]


def _results(
    implementation: Implementation, tensors: list[Tensor], iterations: int, gradient: str, leaky: bool
) -> list[Tensor]:
    """The output, and the gradients with respect to u, weight and, where there is one, bias."""
    u, weight, upstream, *bias = (tensor.clone() for tensor in tensors)
    leaves = [leaf.requires_grad_() for leaf in (u, weight, *bias)]
    v = implementation(u, weight, iterations, bias[0] if bias else None, gradient, leaky)
    return [one.detach().cpu() for one in (v, *torch.autograd.grad(v, leaves, upstream.to(v.dtype)))]


def _distance(one: Tensor, like: Tensor, exact: Tensor) -> float:
    """The largest error; infinite where something is not a number, or not of the shape and dtype of ``like``."""
    if one.shape != like.shape or one.dtype != like.dtype or not one.isfinite().all():
        return float("inf")
    return (one.double() - exact).abs().max().item()
