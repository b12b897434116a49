"""The door to routing: what it passes on, and what it refuses."""

from typing import Any

import pytest
import torch

from capsbench.errors import CapsbenchError, ParameterError, UnknownNameError, UsageError
from capsbench.models.routing import fused, route
from capsbench.models.routing.reference import route_reference
from capsbench.models.routing.route import IMPLEMENTATIONS, available, choose

GENERATOR = torch.Generator().manual_seed(0)
U = torch.randn(2, 6, 3, generator=GENERATOR)
WEIGHT = torch.randn(6, 4, 5, 3, generator=GENERATOR)
BIAS = torch.randn(4, 5, generator=GENERATOR)


@pytest.mark.parametrize("implementation", ["auto", "reference", "blocked"])
@pytest.mark.parametrize("gradient", ["exact", "detached"])
def test_route_is_the_reference(implementation: str, gradient: str) -> None:
    v = route(U, WEIGHT, 2, bias=BIAS, gradient=gradient, implementation=implementation)
    torch.testing.assert_close(v, route_reference(U, WEIGHT, 2, BIAS, gradient))


@pytest.mark.parametrize("implementation", ["auto", "reference", "blocked"])
def test_an_orphan_category_reaches_every_implementation(implementation: str) -> None:
    v = route(U, WEIGHT, bias=BIAS, leaky=True, implementation=implementation)
    torch.testing.assert_close(v, route_reference(U, WEIGHT, 3, BIAS, "exact", leaky=True))
    assert (v - route(U, WEIGHT, bias=BIAS)).abs().max() > 0.01


def test_three_iterations_by_default() -> None:
    torch.testing.assert_close(route(U, WEIGHT), route_reference(U, WEIGHT, 3, None, "exact"))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_result_is_float32_at_least(dtype: torch.dtype, expected: torch.dtype) -> None:
    u, weight = U.to(dtype, copy=True).requires_grad_(), WEIGHT.to(dtype)
    v = route(u, weight)
    assert v.dtype == expected
    assert torch.autograd.grad(v.sum(), u)[0].dtype == dtype


def test_half_precision_of_the_reference_is_computed_in_float32() -> None:
    u, weight = U.bfloat16(), WEIGHT.bfloat16()
    torch.testing.assert_close(route(u, weight), route(u.float(), weight.float()))


def test_autocast_mixes_what_a_layer_gives_with_a_parameter() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        u = torch.nn.functional.linear(U, torch.eye(3))  # bfloat16
        assert u.dtype == torch.bfloat16
        mixed = route(u, WEIGHT, bias=BIAS)
    assert torch.equal(mixed, route(u.float(), WEIGHT, bias=BIAS))


@pytest.mark.parametrize("implementation", ["auto", *IMPLEMENTATIONS])
@pytest.mark.parametrize(("inputs", "input_dim"), [(0, 8), (5, 0)])
def test_nothing_comes_of_nothing(implementation: str, inputs: int, input_dim: int) -> None:
    v = route(torch.rand(16, inputs, input_dim), torch.rand(inputs, 10, 16, input_dim), implementation=implementation)
    assert v.shape == (16, 10, 16) and not v.any()


def test_autocast_changes_nothing() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        inside = route(U, WEIGHT, bias=BIAS)
    assert torch.equal(inside, route(U, WEIGHT, bias=BIAS))


@pytest.mark.parametrize("implementation", ["auto", *IMPLEMENTATIONS])
def test_empty_batch_passes(implementation: str) -> None:
    assert route(U[:0], WEIGHT, implementation=implementation).shape == (0, 4, 5)


@pytest.mark.parametrize(("images", "chosen"), [(1, "reference"), (7, "reference"), (8, "blocked"), (128, "blocked")])
def test_choice_on_a_cpu(images: int, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(torch.empty(images, 6, 3), WEIGHT) == chosen
    monkeypatch.setitem(IMPLEMENTATIONS, chosen, lambda u, *rest: u.new_tensor(42))
    assert route(torch.empty(images, 6, 3), WEIGHT) == 42


def test_choice_on_a_gpu_is_fused_where_it_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGPU(torch.Tensor):
        is_cuda = True

    u = torch.empty(128, 6, 3).as_subclass(OnGPU)
    assert choose(u, WEIGHT) == "blocked"
    monkeypatch.setattr(fused, "refusal", lambda u, weight: None)
    assert choose(u, WEIGHT) == "fused"


def test_fused_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert available(U, WEIGHT) == ["reference", "blocked"]
    with pytest.raises(UsageError, match=r"'fused' was asked for, but it cannot: it needs a CUDA device"):
        route(U, WEIGHT, implementation="fused")


@pytest.mark.parametrize(
    ("u", "weight", "options", "error", "message"),
    [
        (U[0], WEIGHT, {}, ParameterError, r"got u \[6, 3\] and weight \[6, 4, 5, 3\]"),
        (U, WEIGHT[0], {}, ParameterError, r"got u \[2, 6, 3\] and weight \[4, 5, 3\]"),
        (U[:, 1:], WEIGHT, {}, ParameterError, r"needs u \[B, I, D\] and weight \[I, J, O, D\], got u \[2, 5, 3\]"),
        (U[..., 1:], WEIGHT, {}, ParameterError, r"got u \[2, 6, 2\]"),
        (U, WEIGHT, {"bias": BIAS[1:]}, ParameterError, r"needs bias \[J, O\] = \[4, 5\], got \[3, 5\]"),
        (U, WEIGHT[:, :0], {}, ParameterError, r"output capsules of a dimension or more, got weight \[6, 0, 5, 3\]"),
        (U, WEIGHT[:, :, :0], {}, ParameterError, r"got weight \[6, 4, 0, 3\]"),
        (U.int(), WEIGHT.int(), {}, ParameterError, "floating-point capsules, got u of torch.int32"),
        (U.bfloat16(), WEIGHT, {}, ParameterError, "got u torch.bfloat16 on cpu and weight torch.float32 on cpu"),
        (U, WEIGHT, {"bias": BIAS.double()}, ParameterError, "bias torch.float64 on cpu"),
        (U, WEIGHT.to("meta"), {}, ParameterError, "weight torch.float32 on meta"),
        (U, WEIGHT, {"iterations": 0}, ParameterError, "iterations must be a whole number of at least 1, got 0"),
        (U, WEIGHT, {"iterations": 2.0}, ParameterError, "iterations must be a whole number of at least 1, got 2.0"),
        (U, WEIGHT, {"leaky": "yes"}, ParameterError, "leaky must be True or False, got yes"),
        (U, WEIGHT, {"gradient": "detach"}, UnknownNameError, "Did you mean 'detached'?"),
        (U, WEIGHT, {"implementation": "ref"}, UnknownNameError, "No implementation of routing is called 'ref'"),
    ],
)
def test_refusals(
    u: torch.Tensor, weight: torch.Tensor, options: dict[str, Any], error: type[CapsbenchError], message: str
) -> None:
    with pytest.raises(error, match=message):
        route(u, weight, **options)
