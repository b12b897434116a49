"""Routing by agreement as the paper writes it (section 2, procedure 1): the truth that faster ones are held against.

The letters: B images, I input capsules of D dimensions, J output capsules of O dimensions. ``u`` [B, I, D] are the
input capsules, ``weight`` [I, J, O, D] the transformation matrices ``W_ij``, ``votes`` [B, I, J, O] the prediction
vectors ``u_hat_j|i``, ``c`` [B, I, J] the coupling coefficients, ``v`` [B, J, O] the output capsules.
"""

from typing import Any

import torch
from torch import Tensor


class Squash(torch.autograd.Function):
    """`squash`, written with the angle whose tangent is ``|s|``, so that no square of ``|s|`` is formed.

    With the unit vector ``e = s / |s|`` it is ``e sin^2``, and its derivative ``sin cos (1 + (cos^2 - sin^2) e e^T)``,
    written by hand because what autograd makes of the formula underflows for tiny vectors and is NaN at 0.
    """

    @staticmethod
    def forward(ctx: Any, s: Tensor) -> Tensor:
        """``[..., dimensions]`` to the same shape."""
        ctx.save_for_backward(s)
        unit, sine, _ = _polar(s)
        return unit * sine.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The derivative, which is symmetric, times the gradient; made of s anew, so that it has a derivative too."""
        (s,) = ctx.saved_tensors
        unit, sine, cosine = _polar(s)
        along = (unit * gradient).sum(dim=-1, keepdim=True) * unit
        return sine * cosine * (gradient + (cosine.square() - sine.square()) * along)


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


def predict(u: Tensor, weight: Tensor) -> Tensor:
    """Each input capsule's prediction of each output capsule, ``u_hat_j|i = W_ij u_i`` (equation 2).

    Args:
        u: ``[B, I, D]``.
        weight: ``[I, J, O, D]``.

    Returns:
        Votes ``[B, I, J, O]``.
    """
    return torch.einsum("bid,ijod->bijo", u, weight)


def combine(c: Tensor, votes: Tensor, bias: Tensor | None) -> Tensor:
    """Output capsules ``v_j = squash(sum_i c_ij u_hat_j|i + bias_j)`` (procedure 1, lines 5 and 6).

    Args:
        c: ``[B, I, J]``.
        votes: ``[B, I, J, O]``.
        bias: ``[J, O]``, or None for the paper's text, which has none.

    Returns:
        ``[B, J, O]``.
    """
    s = torch.einsum("bij,bijo->bjo", c, votes)
    return squash(s if bias is None else s + bias)


def couplings(votes: Tensor, iterations: int, bias: Tensor | None = None) -> Tensor:
    """The coupling coefficients with which the last iteration sums the votes (procedure 1, lines 2 to 7).

    They are a softmax over the *output* capsules (equation 3): each input capsule shares itself out among them.

    Args:
        votes: ``[B, I, J, O]``.
        iterations: At least 1; with 1 every coupling is ``1/J``.
        bias: ``[J, O]`` or None.

    Returns:
        ``[B, I, J]``, positive, summing to 1 over J.
    """
    logits = votes.new_zeros(votes.shape[:3])
    for _ in range(iterations - 1):
        v = combine(logits.softmax(dim=2), votes, bias)
        logits = logits + torch.einsum("bijo,bjo->bij", votes, v)  # agreement
    return logits.softmax(dim=2)


def route_reference(u: Tensor, weight: Tensor, iterations: int, bias: Tensor | None, gradient: str) -> Tensor:
    """Routes; see `capsbench.models.routing.route`, which checks the arguments.

    Half-precision inputs are computed in float32 throughout.
    """
    dtype = torch.promote_types(u.dtype, torch.float32)
    votes = predict(u.to(dtype), weight.to(dtype))
    bias = None if bias is None else bias.to(dtype)
    with torch.set_grad_enabled(torch.is_grad_enabled() and gradient == "exact"):
        c = couplings(votes, iterations, bias)
    return combine(c, votes, bias)
