"""Routing by agreement as the paper writes it (section 2, procedure 1): the truth that faster ones are held against.

The letters: B images, I input capsules of D dimensions, J output capsules of O dimensions. ``u`` [B, I, D] are the
input capsules, ``weight`` [I, J, O, D] the transformation matrices ``W_ij``, ``votes`` [B, I, J, O] the prediction
vectors ``u_hat_j|i``, ``c`` [B, I, J] the coupling coefficients, ``v`` [B, J, O] the output capsules.
"""

import torch
import torch.nn.functional as F
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


def share(logits: Tensor, leaky: bool) -> Tensor:
    """Each input capsule's shares in the *output* capsules: a softmax over them (equation 3).

    Args:
        logits: ``[B, I, J]``.
        leaky: Whether there is one category more, whose logit is 0 and whose share goes nowhere, as in
            ``_leaky_routing`` of the authors' code.

    Returns:
        ``[B, I, J]``, positive; over J they sum to 1, or to less if leaky.
    """
    if not leaky:
        return logits.softmax(dim=2)
    return F.pad(logits, (0, 1)).softmax(dim=2)[..., :-1]


def couplings(votes: Tensor, iterations: int, bias: Tensor | None = None, leaky: bool = False) -> Tensor:
    """The coupling coefficients with which the last iteration sums the votes (procedure 1, lines 2 to 7).

    Args:
        votes: ``[B, I, J, O]``.
        iterations: At least 1; with 1 every coupling is ``1/J``, or ``1/(J + 1)`` if leaky.
        bias: ``[J, O]`` or None.
        leaky: See `share`.

    Returns:
        ``[B, I, J]``, as `share` returns them.
    """
    logits = votes.new_zeros(votes.shape[:3])
    for _ in range(iterations - 1):
        v = combine(share(logits, leaky), votes, bias)
        logits = logits + torch.einsum("bijo,bjo->bij", votes, v)  # agreement
    return share(logits, leaky)


def route_reference(
    u: Tensor, weight: Tensor, iterations: int, bias: Tensor | None, gradient: str, leaky: bool = False
) -> Tensor:
    """Routes; see `capsbench.models.routing.route`, which checks the arguments.

    Half-precision inputs are computed in float32 throughout.
    """
    dtype = torch.promote_types(u.dtype, torch.float32)
    votes = predict(u.to(dtype), weight.to(dtype))
    bias = None if bias is None else bias.to(dtype)
    with torch.set_grad_enabled(torch.is_grad_enabled() and gradient == "exact"):
        c = couplings(votes, iterations, bias, leaky)
    return combine(c, votes, bias)
