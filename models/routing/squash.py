"""The nonlinearity of a capsule: its length becomes a probability, its direction stays (equation 1)."""

from typing import Any

import torch
from torch import Tensor


class Squash(torch.autograd.Function):
    """`squash` with `squash_gradient`, because what autograd makes of the formula is NaN at 0."""

    @staticmethod
    def forward(ctx: Any, s: Tensor) -> Tensor:
        """``[..., dimensions]`` to the same shape."""
        ctx.save_for_backward(s)
        unit, sine, _ = _polar(s)
        return unit * sine.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Made of s anew, so that it has a derivative, too."""
        (s,) = ctx.saved_tensors
        return squash_gradient(s, gradient)


def squash(s: Tensor) -> Tensor:
    """Shrinks vectors to a length below 1 and keeps their direction (equation 1).

    ``v = |s|^2 / (1 + |s|^2) * s / |s|``, which is 0 at 0, with derivative 0 there. Value and derivative are accurate
    for every vector whose length is finite, tiny ones too; no epsilon is added.

    Args:
        s: ``[..., dimensions]`` float.

    Returns:
        The same shape and dtype.
    """
    v: Tensor = Squash.apply(s)
    return v


def squash_gradient(s: Tensor, gradient: Tensor) -> Tensor:
    """The derivative of `squash` at s, which is symmetric, times a gradient.

    Written with the angle whose tangent is ``|s|``, so that no square of ``|s|`` is formed and tiny vectors keep
    theirs: with the unit vector ``e = s / |s|`` squash is ``e sin^2`` and its derivative
    ``sin cos (1 + (cos^2 - sin^2) e e^T)``.

    Args:
        s: ``[..., dimensions]`` float, where it is taken.
        gradient: Of s's shape, with respect to ``squash(s)``.

    Returns:
        The same shape: the gradient with respect to s.
    """
    unit, sine, cosine = _polar(s)
    along = (unit * gradient).sum(dim=-1, keepdim=True) * unit
    return sine * cosine * (gradient + (cosine.square() - sine.square()) * along)


def _polar(s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The unit vector of s, or 0, and sine and cosine of the angle whose tangent is its length."""
    peak = _nonzero(s.detach().abs().amax(dim=-1, keepdim=True))
    scaled = s / peak  # squares of what is far below or above 1 would be lost
    norm: Tensor = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    tangent = peak * norm  # |s|
    hypotenuse = torch.hypot(tangent, torch.ones_like(tangent))
    return scaled / _nonzero(norm), tangent / hypotenuse, 1 / hypotenuse


def _nonzero(lengths: Tensor) -> Tensor:
    """Lengths to divide by: those of zero vectors are 1, which leaves the zeros as they are."""
    return torch.where(lengths > 0, lengths, 1.0)
