"""Blocked routing against the reference in float64, over odd sizes, in memory that held something else before."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from capsbench.errors import UsageError
from capsbench.models.routing import blocked, route
from capsbench.models.routing.accuracy import worst_error
from capsbench.models.routing.blocked import route_blocked
from capsbench.models.routing.reference import route_reference

Sizes = tuple[int, int, int, int, int]

SIZES: list[Sizes] = [(1, 1, 1, 1, 1), (1, 37, 3, 5, 2), (3, 100, 10, 16, 8), (17, 33, 2, 7, 3), (5, 129, 11, 4, 8)]
GRADIENTS = ["exact", "detached"]

U = torch.randn(9, 50, 8, generator=torch.Generator().manual_seed(0))
WEIGHT = 0.3 * torch.randn(50, 10, 16, 8, generator=torch.Generator().manual_seed(1))
BIAS = 0.1 * torch.randn(10, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All input capsules in one block, or blocks as small as they come, so that the last one is padded."""
    monkeypatch.setattr(blocked, "CPU_BLOCK", 1 << 30 if request.param == "one block" else 1)


@pytest.fixture
def draws(scale: Callable[[int, int], int]) -> int:
    """Of inputs, for `worst_error`. Of three none comes near to what is allowed; eight take three times as long."""
    return scale(3, 8)


@pytest.mark.usefixtures("blocks", "poisoned_memory")
@pytest.mark.parametrize(
    ("iterations", "gradient"),
    [
        (1, "exact"),
        *((2, gradient) for gradient in GRADIENTS),
        (3, "detached"),
        (4, "exact"),
        *(pytest.param(*case, marks=pytest.mark.campaign) for case in ((1, "detached"), (3, "exact"), (4, "detached"))),
    ],
)
@pytest.mark.parametrize("sizes", SIZES)
def test_error_is_that_of_the_reference(sizes: Sizes, iterations: int, gradient: str, draws: int) -> None:
    assert worst_error(route_blocked, sizes, iterations, gradient, bias=iterations != 4, draws=draws) <= 1


@pytest.mark.usefixtures("blocks", "poisoned_memory")
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize(("sizes", "iterations"), [(SIZES[0], 3), (SIZES[1], 2), (SIZES[2], 1), (SIZES[4], 4)])
def test_error_with_an_orphan_category(sizes: Sizes, iterations: int, gradient: str, draws: int) -> None:
    assert worst_error(route_blocked, sizes, iterations, gradient, bias=iterations != 4, leaky=True, draws=draws) <= 1


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype, gradient: str, leaky: bool, draws: int) -> None:
    assert worst_error(route_blocked, (3, 100, 10, 16, 8), 3, gradient, dtype=dtype, leaky=leaky, draws=draws) <= 1


def test_half_precision_sums_blocks_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    # 2,000 capsules that vote 1/256 for one output: sums of bfloat16 stand still at 1, the next number being 1 1/128.
    u = torch.ones(1, 2000, 1, dtype=torch.bfloat16)
    weight = torch.full((2000, 1, 1, 1), 1 / 256, dtype=torch.bfloat16)
    monkeypatch.setattr(blocked, "CPU_BLOCK", 1)
    for iterations in (1, 2):
        v = route_blocked(u, weight, iterations, None, "exact")
        s = 2000 / 256
        assert v.dtype == torch.float32
        assert v.item() == pytest.approx(s * s / (1 + s * s), rel=2**-8)


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_double_precision(gradient: str, leaky: bool) -> None:
    u, weight, bias = (tensor.double().requires_grad_() for tensor in (U, WEIGHT, BIAS))
    both = [implementation(u, weight, 3, bias, gradient, leaky) for implementation in (route_blocked, route_reference)]
    torch.testing.assert_close(*both, rtol=1e-13, atol=1e-13)
    gradients = [torch.autograd.grad(v.sum(), (u, weight, bias)) for v in both]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("leaky", [False, True])
def test_derivative_is_that_of_finite_differences(leaky: bool) -> None:
    u, weight, bias = (
        tensor.double().requires_grad_() for tensor in (U[:2, :3, :2], WEIGHT[:3, :4, :3, :2], BIAS[:4, :3])
    )
    assert torch.autograd.gradcheck(lambda u, w, b: route_blocked(u, w, 3, b, "exact", leaky), (u, weight, bias))


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_the_same_bits_each_time(gradient: str) -> None:
    def once() -> list[torch.Tensor]:
        u, weight = U.clone().requires_grad_(), WEIGHT.clone().requires_grad_()
        v = route_blocked(u, weight, 3, None, gradient)
        return [v, *torch.autograd.grad(v.sum(), (u, weight))]

    assert all(torch.equal(first, second) for first, second in zip(once(), once(), strict=True))


def test_inputs_need_not_be_contiguous() -> None:
    u = U.transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    weight = WEIGHT.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0).requires_grad_()
    assert not u.is_contiguous() and not weight.is_contiguous()
    v = route_blocked(u, weight, 3, BIAS, "exact")
    torch.testing.assert_close(v, route_reference(U, WEIGHT, 3, BIAS, "exact"))
    upstream = torch.linspace(-1, 1, 160).view(1, 10, 16).expand(9, 10, 16)  # as a sum's gradient comes
    ours = torch.autograd.grad(v, (u, weight), upstream)
    plain = torch.autograd.grad(route_reference(u, weight, 3, BIAS, "exact"), (u, weight), upstream)
    for gradient, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("trained", ["u", "weight", "bias"])
def test_one_gradient_alone(trained: str) -> None:
    tensors = {"u": U.clone(), "weight": WEIGHT.clone(), "bias": BIAS.clone()}
    leaf = tensors[trained].requires_grad_()
    u, weight, bias = tensors.values()
    (ours,) = torch.autograd.grad(route_blocked(u, weight, 3, bias, "exact").sum(), leaf)
    (plain,) = torch.autograd.grad(route_reference(u, weight, 3, bias, "exact").sum(), leaf)
    torch.testing.assert_close(ours, plain)


def test_zeros_have_zero_gradients() -> None:
    u, weight = torch.zeros(2, 3, 2, requires_grad=True), torch.zeros(3, 2, 4, 2, requires_grad=True)
    v = route_blocked(u, weight, 3, None, "exact")
    assert not v.any()
    assert not any(gradient.any() for gradient in torch.autograd.grad(v.sum(), (u, weight)))


def test_large_logits_saturate_instead_of_overflowing() -> None:
    v = route_blocked(U, 1e4 * WEIGHT, 3, None, "exact")
    assert v.isfinite().all()
    torch.testing.assert_close(v, route_reference(U.double(), 1e4 * WEIGHT.double(), 3, None, "exact").float())


def test_an_empty_batch_trains_nothing() -> None:
    weight = WEIGHT.clone().requires_grad_()
    v = route(U[:0], weight, bias=BIAS, implementation="blocked")
    assert v.shape == (0, 10, 16)
    assert not torch.autograd.grad(v.sum(), weight)[0].any()


def test_without_gradient_nothing_is_kept() -> None:
    with torch.no_grad():
        v = route_blocked(U.clone().requires_grad_(), WEIGHT, 3, None, "exact")
    assert v.grad_fn is None


@pytest.mark.parametrize("trained", ["u", "weight", "bias"])
def test_a_second_derivative_is_refused(trained: str) -> None:
    tensors = {"u": U.clone(), "weight": WEIGHT.clone(), "bias": BIAS.clone()}
    leaf = tensors[trained].requires_grad_()
    u, weight, bias = tensors.values()
    v = route(u, weight, bias=bias, implementation="blocked")
    (first,) = torch.autograd.grad(v.sum(), leaf, create_graph=True)
    with pytest.raises(UsageError, match=r"'blocked', which has only the first. Use implementation='reference'"):
        torch.autograd.grad(leaf.sum() + first.square().sum(), leaf)


def test_a_graph_can_be_walked_twice() -> None:
    u, weight = U.clone().requires_grad_(), WEIGHT.clone().requires_grad_()
    v = route_blocked(u, weight, 3, None, "exact").sum()
    first = torch.autograd.grad(v, (u, weight), retain_graph=True)
    assert all(torch.equal(*pair) for pair in zip(first, torch.autograd.grad(v, (u, weight)), strict=True))


def test_create_graph_alone_is_no_harm() -> None:
    u = U.clone().requires_grad_()
    kept = torch.autograd.grad(route_blocked(u, WEIGHT, 3, None, "exact").sum(), u, create_graph=True)[0]
    assert torch.equal(kept, torch.autograd.grad(route_blocked(u, WEIGHT, 3, None, "exact").sum(), u)[0])


@pytest.mark.parametrize("images", [1, 32, 128, 1024])
def test_products_on_a_gpu_are_short_enough_to_be_exact(images: int) -> None:
    u = torch.empty(images, 4608, 8, device="meta")  # any device but the CPU
    assert blocked._block_size(u, 10) * 8 <= 1024


def test_memory_stays_far_below_the_votes() -> None:
    # The votes of 32 images are 32 * 576 * 160 floats, 11 MiB. The reference keeps several copies of them.
    u, weight = torch.randn(32, 576, 8).requires_grad_(), torch.randn(576, 10, 16, 8).requires_grad_()

    def largest(implementation: Any) -> int:
        with torch.profiler.profile(profile_memory=True, acc_events=True) as profile:
            torch.autograd.grad(implementation(u, weight, 3, None, "exact").sum(), (u, weight))
        return max(int(event.self_cpu_memory_usage) for event in profile.events() or [])

    assert largest(route_blocked) < largest(route_reference) / 2
