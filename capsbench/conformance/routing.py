"""Checks of a routing function; each is built so that it sees one kind of fault and no other.

The letters are those of `capsbench.contracts.Routing`: B images, I input capsules of D dimensions, J output capsules of
O. A check returns a line about what it found, or raises `FaultError`. Its inputs are always the same. A layer that says
that it has an orphan category is compared with procedure 1 with such a category.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from capsbench.contracts import Routing
from capsbench.errors import first_line

TOLERANCE = 1e-4
"""As a share of the largest value. Float32 rounds by less than 1e-6; the mildest fault in the tests is 8e-4."""

STEP = 1e-5
"""Of finite differences in float64: at the third root of its precision they are best, to some 1e-9."""

SHORT = 1e-25
"""A length whose square is 0 in float32."""

ITERATIONS = (1, 2, 3, 4)
MOST = max(ITERATIONS) + 2  # iterations that a wrong layer may have done in place of these
IMAGES = 16  # at a time: a layer may route few images in another way than many
USUAL_ITERATIONS = 3  # the paper's, for checks that need one number, and more than one iteration


class FaultError(Exception):
    """A layer or a network fails a check; the message says how."""


@dataclass(frozen=True)
class Layer:
    """A routing function under test.

    Attributes:
        routing: The function.
        leaky: Whether it says that its softmax has an orphan category, whose logit stays 0 and whose share is dropped.
    """

    routing: Routing
    leaky: bool = False

    def __call__(self, u: Tensor, weight: Tensor, iterations: int, /) -> Tensor:
        """Routes; what it returns is not checked."""
        return self.routing(u, weight, iterations)


def couplings(layer: Layer) -> str:
    """The coupling coefficients of an input capsule sum to 1 over the output capsules (equation 3).

    With an orphan category they sum to less, and to what procedure 1 with this category gives after some number of
    iterations: `iterations` finds out whether it is the right number.

    Of five input capsules only one has matrices that are not zero, so that ``s_j = c_j u_hat_j``, and squash can be
    undone: ``|s| = sqrt(|v| / (1 - |v|))``. All input capsules are alike, so that it does no harm to mix them up.
    """
    lengths = torch.tensor([1.0, 2.0, 3.0])  # of its votes: enough to drown the epsilon of anyone's squash
    if layer.leaky:
        lengths = lengths / 2  # else nothing is left for the orphan category after a few iterations
    weight = torch.zeros(5, 3, 6, 4)
    weight[2] = (lengths[:, None] * normalize(_random(3, 6, seed=4), dim=-1)).unsqueeze(-1) / 4  # for u = (1, 1, 1, 1)
    u = torch.ones(IMAGES, 5, 4)

    def sum_of(v: Tensor) -> float:
        length = v[0].norm(dim=-1).double()
        return float(((length / (1 - length)).sqrt() / lengths).sum())

    sums = []
    for iterations in ITERATIONS:
        with torch.no_grad():
            sums.append(sum_of(_routed(layer, u, weight, iterations)))
    found = f"sums over the outputs {_rounded(sums)} after {_listed(ITERATIONS)} iterations"
    if not layer.leaky:
        errors = [abs(one - 1) for one in sums]
        if not all(error <= TOLERANCE for error in errors):  # NaN fails, too
            way_out = "; a layer with an orphan category says so with leaky = True" if max(sums) < 1 else ""
            raise FaultError(f"{found}, expected 1{way_out}")
        return f"sums over the outputs within {max(errors):.1g} of 1"
    known = [sum_of(_procedure(u[:1], weight, number, leaky=True)) for number in range(1, MOST + 1)]
    errors = [min(abs(one - true) for true in known) for one in sums]
    if not all(error <= TOLERANCE for error in errors):
        raise FaultError(f"{found}, expected with an orphan category {_rounded(known[: len(ITERATIONS)])}")
    return f"sums over the outputs {_rounded(sums)}, less than 1 by an orphan category's share"


def batch(layer: Layer) -> str:
    """The output capsules of an image are the same alone and among others."""
    u, weight = (one.float() for one in _capsules(inputs=37))
    with torch.no_grad():
        together = _routed(layer, u, weight, USUAL_ITERATIONS)
        alone = torch.cat([_routed(layer, one[None], weight, USUAL_ITERATIONS) for one in u])
    error = relative_error(alone, together)
    expect_small(error, f"output capsules of an image alone and in a batch of {IMAGES} differ")
    return f"alone and in a batch of {IMAGES} within {error:.1g}"


def permutation(layer: Layer) -> str:
    """Input capsules in another order, their matrices with them, give the same output capsules."""
    u, weight = (one.float() for one in _capsules(inputs=37))  # 37 fills no kernel's blocks
    order = torch.randperm(37, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        before = _routed(layer, u, weight, USUAL_ITERATIONS)
        after = _routed(layer, u[:, order], weight[order], USUAL_ITERATIONS)
    error = relative_error(after, before)
    expect_small(error, "with input capsules and their matrices in another order, output capsules differ")
    return f"in another order within {error:.1g}"


def iterations(layer: Layer) -> str:
    """The number of iterations that are done, compared with procedure 1.

    Input capsule i votes ``a_(i-j)`` for output capsule j of a ring of five. Every row and every column of the logits
    then has the same values, so that a softmax over the wrong capsules gives the right couplings; and all input
    capsules are alike. Only the number of iterations and squash can then be wrong.
    """
    place = torch.arange(5)
    ring = _random(5, 6, seed=6)[(place[:, None] - place) % 5]  # [I, J, O]
    u = torch.ones(IMAGES, 5, 4, dtype=torch.float64)
    weight = 0.8 * ring.unsqueeze(-1).expand(5, 5, 6, 4) / 4  # each iteration then moves v by more than a tenth
    known = {number: _procedure(u, weight, number, leaky=layer.leaky) for number in range(1, MOST + 1)}
    done, errors = [], []
    for asked in ITERATIONS:
        with torch.no_grad():
            v = _routed(layer, u.float(), weight.float(), asked)
        errors.append(relative_error(v, known[asked]))
        done.append(next((number for number, true in known.items() if relative_error(v, true) <= TOLERANCE), "?"))
    if done != list(ITERATIONS):
        raise FaultError(f"with iterations {_listed(ITERATIONS)}, the results are those of {_listed(done)}")
    return f"iterations {_listed(ITERATIONS)} within {max(errors):.1g} of procedure 1"


def gradients(layer: Layer) -> str:
    """Gradients in float32 are those in float64, and these are the slopes of the layer itself.

    A layer may take the couplings of its last iteration as constants. Its gradients are then those of procedure 1 with
    such couplings, and no slopes.
    """
    inputs = dict(zip(("u", "weight"), _capsules(inputs=6, outputs=3), strict=True))
    of_loss = _random(IMAGES, 3, 6, seed=7)  # the gradient that arrives from above
    found = _gradients(layer, inputs, of_loss)
    in_float32 = _gradients(layer, {name: one.float() for name, one in inputs.items()}, of_loss)
    rounding = max(relative_error(in_float32[name], found[name]) for name in inputs)
    expect_small(rounding, "gradients in float32 and float64 differ")
    errors = {name: _slope_error(layer, inputs, name, found[name], of_loss) for name in inputs}
    worst = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name])
    if errors[worst] <= TOLERANCE:
        return f"exact, float32 within {rounding:.1g} of float64, float64 within {errors[worst]:.1g} of slopes"
    detached = _gradients(partial(_procedure, detached=True, leaky=layer.leaky), inputs, of_loss)
    if not all(relative_error(found[name], detached[name]) <= TOLERANCE for name in inputs):
        expect_small(errors[worst], f"gradients of {worst} in float64 and finite differences differ")
    return f"detached (couplings are constants), float32 within {rounding:.1g} of float64"


def zeros(layer: Layer) -> str:
    """Gradients are numbers where input capsules, or all votes for an output capsule, are zero.

    A black patch of an image gives zero capsules. The slope of a square root is infinite at 0, so that the usual way to
    write squash has a gradient of ``0 * inf`` there.
    """
    u, weight = (one.float() for one in _capsules(inputs=6, outputs=3))
    of_loss = _random(IMAGES, 3, 6, seed=7).float()
    silent = weight.clone()
    silent[:, 1] = 0
    some = u.clone()
    some[:, ::2] = 0
    cases = {
        "all input capsules are zero": (torch.zeros_like(u), weight),
        "half of the input capsules are zero": (some, weight),
        "all votes for an output capsule are zero": (u, silent),
        "all input capsules are too short for their squares": (u * SHORT, weight),
    }
    for name, (capsules, matrices) in cases.items():
        found = _gradients(layer, {"u": capsules, "weight": matrices}, of_loss)
        for whose, gradient in found.items():
            if not gradient.isfinite().all():
                raise FaultError(f"where {name}, the gradient of {whose} is not a number")
    return f"gradients are numbers in {len(cases)} cases of zero capsules"


def expect_small(error: float, what: str) -> None:
    """Raises `FaultError` if an error exceeds `TOLERANCE`."""
    if not error <= TOLERANCE:  # NaN fails, too
        raise FaultError(f"{what} by {error:.2g} of the largest value, expected at most {TOLERANCE:g}")


def relative_error(found: Tensor, true: Tensor) -> float:
    """The largest difference over the largest true value."""
    difference, largest = (found.double() - true.double()).abs().max(), true.abs().max().double()
    return float(difference / largest.clamp(min=torch.finfo(torch.float64).tiny))


def _capsules(inputs: int, outputs: int = 5) -> tuple[Tensor, Tensor]:
    """Input capsules ``[B, I, 4]`` and matrices ``[I, J, 6, 4]`` in float64, whose votes are some 1.5 long.

    That is enough for the couplings to move far from uniform. No two sizes are alike, so that none can be mixed up.
    """
    return _random(IMAGES, inputs, 4, seed=1) / 2, 0.6 * _random(inputs, outputs, 6, 4, seed=2)


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _routed(routing: Routing, u: Tensor, weight: Tensor, iterations: int) -> Tensor:
    """``v [B, J, O]`` of the layer under test, which gets copies: it may write into them."""
    asked = f"u {list(u.shape)}, weight {list(weight.shape)} of {u.dtype}, iterations={iterations}"
    try:
        v: object = routing(u.clone(), weight.clone(), iterations)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's code can fail in any way, and may even end the process
        raise FaultError(f"for {asked} it raises {first_line(error)}") from error
    expected = [len(u), *weight.shape[1:3]]
    if not isinstance(v, Tensor) or list(v.shape) != expected:
        found = list(v.shape) if isinstance(v, Tensor) else f"a {type(v).__name__}"
        raise FaultError(f"for {asked} it returns {found}, expected v {expected}")
    if not v.isfinite().all():
        raise FaultError(f"for {asked} it returns values that are not numbers")
    return v


def _gradients(routing: Callable[..., Tensor], inputs: dict[str, Tensor], of_loss: Tensor) -> dict[str, Tensor]:
    leaves = {name: one.detach().requires_grad_() for name, one in inputs.items()}
    loss = (_routed(routing, leaves["u"], leaves["weight"], USUAL_ITERATIONS) * of_loss).sum()
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


def _slope_error(routing: Routing, inputs: dict[str, Tensor], name: str, gradient: Tensor, of_loss: Tensor) -> float:
    """How far slopes along eight random directions of one input are from what its gradient says they are."""
    slopes, said = [], []
    for seed in range(8):
        direction = _random(*gradient.shape, seed=10 + seed)
        ends = []
        for step in (STEP, -STEP):
            moved = {**inputs, name: inputs[name] + step * direction}
            with torch.no_grad():
                ends.append((_routed(routing, moved["u"], moved["weight"], USUAL_ITERATIONS) * of_loss).sum())
        slopes.append((ends[0] - ends[1]) / (2 * STEP))
        said.append((gradient * direction).sum())
    return relative_error(torch.stack(said), torch.stack(slopes))


def _procedure(u: Tensor, weight: Tensor, iterations: int, *, detached: bool = False, leaky: bool = False) -> Tensor:
    """Routing by agreement (procedure 1), in its own few lines, because the bench knows no model."""
    votes = torch.einsum("bid,ijod->bijo", u, weight)
    logits = votes.new_zeros(votes.shape[:3])
    for _ in range(iterations - 1):
        v = _squash(torch.einsum("bij,bijo->bjo", _shares(logits, leaky), votes))
        logits = logits + torch.einsum("bijo,bjo->bij", votes, v)
    c = _shares(logits, leaky)
    return _squash(torch.einsum("bij,bijo->bjo", c.detach() if detached else c, votes))


def _shares(logits: Tensor, leaky: bool) -> Tensor:
    orphan = logits.new_zeros(*logits.shape[:2], int(leaky))
    return torch.cat([orphan, logits], dim=2).softmax(dim=2)[..., int(leaky) :]


def _squash(s: Tensor) -> Tensor:
    square = s.square().sum(dim=-1, keepdim=True)
    return s * square.sqrt() / (1 + square)  # equation 1


def _rounded(numbers: Sequence[float]) -> str:
    return ", ".join(f"{one:.4g}" for one in numbers)


def _listed(numbers: Sequence[Any]) -> str:
    return ", ".join(map(str, numbers))
