"""The one door to routing: checks what comes in and chooses the implementation."""

import torch
from torch import Tensor

from capsbench.errors import ParameterError, UsageError
from capsbench.models.routing import fused
from capsbench.models.routing.accuracy import Implementation
from capsbench.models.routing.blocked import route_blocked
from capsbench.models.routing.reference import route_reference
from capsbench.parameters import check_choice, check_truth, check_whole

IMPLEMENTATIONS: dict[str, Implementation] = {
    "reference": route_reference,
    "blocked": route_blocked,
    "fused": fused.route_fused,
}
"""Functions of (u, weight, iterations, bias, gradient, leaky) with arguments that are already checked."""

FEW_IMAGES = 8
"""Below it the reference wins on a CPU: blocked routing begins by putting the matrices into another order.

How many times as fast blocked is, forward and backward, exact, one thread, 10 x 16 outputs of 8-D inputs: with 1 image
0.8 of 8 input capsules and 0.3 of 1,152; with 4 images 0.9 and 0.8; with 16 images 1.0 and 2.3; with 64, 1.3 and 5.0.
"""

GRADIENTS = ("exact", "detached")


def route(
    u: Tensor,
    weight: Tensor,
    iterations: int = 3,
    *,
    bias: Tensor | None = None,
    gradient: str = "exact",
    leaky: bool = False,
    implementation: str = "auto",
) -> Tensor:
    """Routes input capsules to output capsules by agreement (section 2, procedure 1).

    ``u_hat_ij = W_ij u_i``; then, starting from ``b_ij = 0``, each iteration takes ``c_i = softmax_j(b_i)``,
    ``s_j = sum_i c_ij u_hat_ij + bias_j``, ``v_j = squash(s_j)`` and ``b_ij += u_hat_ij . v_j``. The update of b after
    the last iteration would change nothing and is left out. Sums over capsules are of float32 at least. Under autocast
    u and weight may differ in dtype; on a GPU they are rounded to autocast's, on a CPU, where that gains nothing, they
    take the wider of the two.

    Args:
        u: ``[B, I, D]`` float, the input capsules.
        weight: ``[I, J, O, D]`` of u's dtype and device, the transformation matrices.
        iterations: At least 1; the paper takes 3.
        bias: ``[J, O]`` of u's dtype or float32, on u's device, added in each iteration as in the authors' code; None
            adds nothing.
        gradient: ``"exact"`` differentiates through every iteration, as the authors' code does; ``"detached"`` takes
            the couplings of the last iteration as constants, which is cheaper. The result is the same.
        leaky: Whether each softmax has one category more, an orphan category as in the authors' code (``leaky`` there):
            its logit is 0 in every iteration, and its share goes to no output capsule. The couplings of an input
            capsule then sum to less than 1, those of the first iteration to ``J / (J + 1)``.
        implementation: A key of `IMPLEMENTATIONS`, or ``"auto"``, the fastest that fits. Only ``"reference"`` has a
            second derivative.

    Returns:
        ``[B, J, O]``, the output capsules, of length below 1; u's dtype, but float32 for half precision.

    Raises:
        ParameterError: A shape, dtype, device or number of iterations that does not fit; ``leaky`` is no truth value.
        UnknownNameError: No such gradient or implementation.
        UsageError: ``"fused"`` was asked for where it cannot run.
    """
    check_options(iterations, gradient, implementation, leaky)
    if torch.is_autocast_enabled(u.device.type):
        u, weight = _cast(u, weight)
    _check_tensors(u, weight, bias)
    if not u.numel():  # nothing to be fast about
        implementation = "reference"
    elif implementation == "auto":
        implementation = choose(u, weight)
    elif implementation == "fused" and (reason := fused.refusal(u, weight)):
        raise UsageError(f"Routing with implementation='fused' was asked for, but it cannot: {reason}. Use 'auto'.")
    with torch.autocast(u.device.type, enabled=False):
        return IMPLEMENTATIONS[implementation](u, weight, iterations, bias, gradient, leaky)


def _cast(u: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What autocast makes of both: one comes out of a convolution in half precision, the other is a parameter."""
    dtype = torch.promote_types(u.dtype, weight.dtype)
    if u.is_cuda and dtype == torch.float32:
        dtype = torch.get_autocast_dtype("cuda")
    return u.to(dtype), weight.to(dtype)


def choose(u: Tensor, weight: Tensor) -> str:
    """The fastest implementation that fits: what ``"auto"`` is.

    On a GPU that is the fused one wherever it can run. On an NVIDIA H200, with 1,024 images, it takes a sixth of the
    reference's time in float32 and a ninth in bfloat16, forward and backward.

    Args:
        u: ``[B, I, D]``, the input capsules.
        weight: ``[I, J, O, D]``.
    """
    if u.is_cuda and u.numel() and fused.refusal(u, weight) is None:
        return "fused"
    return "reference" if len(u) < FEW_IMAGES else "blocked"


def available(u: Tensor, weight: Tensor) -> list[str]:
    """The implementations that can route such capsules here."""
    return [name for name in IMPLEMENTATIONS if name != "fused" or fused.refusal(u, weight) is None]


def check_options(iterations: int, gradient: str, implementation: str, leaky: bool) -> None:
    """Refuses options that `route` would refuse, so that a network can do so when it is built."""
    check_whole("iterations", iterations)
    check_choice("gradient of routing", gradient, GRADIENTS)
    check_choice("implementation of routing", implementation, ["auto", *IMPLEMENTATIONS])
    check_truth("leaky", leaky)


def _check_tensors(u: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if u.dim() != 3 or weight.dim() != 4 or (u.shape[1], u.shape[2]) != (weight.shape[0], weight.shape[3]):
        raise ParameterError(
            f"route needs u [B, I, D] and weight [I, J, O, D], got u {list(u.shape)} and weight {list(weight.shape)}."
        )
    if bias is not None and bias.shape != weight.shape[1:3]:
        raise ParameterError(f"route needs bias [J, O] = {list(weight.shape[1:3])}, got {list(bias.shape)}.")
    if not weight.shape[1:3].numel():
        raise ParameterError(f"route needs output capsules of a dimension or more, got weight {list(weight.shape)}.")
    if not u.is_floating_point():
        raise ParameterError(f"route needs floating-point capsules, got u of {u.dtype}.")
    for name, tensor in {"weight": weight, "bias": bias}.items():
        dtypes = (u.dtype, torch.float32) if name == "bias" else (u.dtype,)
        if tensor is not None and (tensor.dtype not in dtypes or tensor.device != u.device):
            raise ParameterError(
                f"route needs {name} of u's dtype and device, got u {u.dtype} on {u.device} "
                f"and {name} {tensor.dtype} on {tensor.device}."
            )
