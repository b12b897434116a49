"""Routing by agreement as the paper writes it (section 2, procedure 1): the truth that faster ones are held against.

The letters: B images, I input capsules of D dimensions, J output capsules of O dimensions. ``u`` [B, I, D] are the
input capsules, ``weight`` [I, J, O, D] the transformation matrices ``W_ij``, ``votes`` [B, I, J, O] the prediction
vectors ``u_hat_j|i``, ``c`` [B, I, J] the coupling coefficients, ``v`` [B, J, O] the output capsules.
"""

import torch
from torch import Tensor

from capsbench.models.routing.squash import squash


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
