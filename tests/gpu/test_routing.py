"""Routing on a GPU at the sizes of the paper's networks: as near to float64 as the reference, and the same bits."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from capsbench.models.routing.accuracy import Implementation
from capsbench.models.routing.reference import route_reference
from capsbench.models.routing.route import IMPLEMENTATIONS, choose, route

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]

J, O, D = 10, 16, 8
GRADIENTS = ["exact", "detached"]
DTYPES = [torch.float32, torch.bfloat16]
CASES = [(128, 1152), (64, 4608), (1024, 1152)]
"""Images and input capsules; a network has 1,152 of 28x28 images, 4,608 of 40x40."""

ALLOWED = 2.0
"""Times the reference's error or 4 eps, whichever is more, as in tests/models/routing: a GPU rounds in its own way."""

FUSED = IMPLEMENTATIONS["fused"]


def draw(B: int, I: int, dtype: torch.dtype = torch.float32, *, seed: int = 0, device: str = "cuda") -> list[Tensor]:
    """u, weight, bias and the gradient of the output, of the size that they have in networks."""
    random = torch.Generator(device).manual_seed(seed)
    shapes = [((B, I, D), 0.5), ((I, J, O, D), 4 / (I * D) ** 0.5), ((J, O), 0.1), ((B, J, O), 1.0)]
    tensors = [scale * torch.randn(shape, generator=random, device=device) for shape, scale in shapes]
    return [tensor.to(dtype) for tensor in tensors]


def results(implementation: Implementation, tensors: Sequence[Tensor], gradient: str = "exact") -> list[Tensor]:
    """The output and the gradients of u, weight and bias after three iterations."""
    *leaves, upstream = (tensor.detach() for tensor in tensors)
    leaves = [leaf.requires_grad_() for leaf in leaves]
    v = implementation(leaves[0], leaves[1], 3, leaves[2], gradient)
    return [v.detach(), *torch.autograd.grad(v, leaves, upstream.to(v.dtype))]


def truth(tensors: Sequence[Tensor], gradient: str) -> list[Tensor]:
    return results(route_reference, [tensor.double() for tensor in tensors], gradient)


def largest(tensor: Tensor) -> float:
    return float(tensor.double().abs().max())


def assert_same_bits(ours: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for mine, other in zip(ours, expected, strict=True):
        assert torch.equal(mine.cpu(), other.cpu())


def captured(function: Callable[[], list[Tensor]]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        found = function()
    return graph, found


def test_fused_is_chosen_where_it_runs() -> None:
    u, weight, *_ = draw(8, 16)
    assert choose(u, weight) == "fused"


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)], ids=str)
def test_the_reference_is_near_float64(dtype: torch.dtype, error: float, gradient: str) -> None:
    """Of one product in tf32, float32 would be some 3e-4 off."""
    tensors = draw(128, 1152, dtype)
    for ours, exact in zip(results(route_reference, tensors, gradient), truth(tensors, gradient), strict=True):
        assert (ours.double() - exact).norm() <= error * exact.norm()


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", CASES, ids=str)
@pytest.mark.parametrize("name", ["blocked", "fused"])
def test_errors_are_those_of_the_reference(
    name: str, sizes: tuple[int, int], dtype: torch.dtype, gradient: str
) -> None:
    tensors = draw(*sizes, dtype)
    ours, plain = (results(one, tensors, gradient) for one in (IMPLEMENTATIONS[name], route_reference))
    for mine, other, exact in zip(ours, plain, truth(tensors, gradient), strict=True):
        assert mine.dtype == other.dtype and mine.shape == other.shape and mine.isfinite().all()
        allowed = max(2 * largest(other - exact), 4 * torch.finfo(dtype).eps * largest(exact))
        assert largest(mine - exact) <= ALLOWED * allowed


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_same_bits_each_time_and_from_a_graph(dtype: torch.dtype, gradient: str) -> None:
    tensors, others = draw(1024, 1152, dtype), draw(1024, 1152, dtype, seed=1)
    first, other = results(FUSED, tensors, gradient), results(FUSED, others, gradient)
    assert_same_bits(results(FUSED, tensors, gradient), first)
    graph, found = captured(lambda: results(FUSED, tensors, gradient))
    graph.replay()
    assert_same_bits(found, first)
    for tensor, new in zip(tensors, others, strict=True):
        tensor.copy_(new)
    graph.replay()
    assert_same_bits(found, other)


def test_more_numbers_than_32_bits_count() -> None:
    """Couplings of two iterations are 2.3 thousand million here: images at either end come out as they do alone."""
    images, capsules = 24_576, 4_608
    assert 2 * J * capsules * images > 2**31
    if torch.cuda.mem_get_info()[0] < 40e9:
        pytest.skip("this needs 40 GB of the GPU")
    tensors = draw(images, capsules)
    v, du, _, _ = results(FUSED, tensors)
    u, weight, bias, upstream = tensors
    for part in (slice(0, 64), slice(images - 64, images)):
        alone = results(FUSED, [u[part], weight, bias, upstream[part]])
        for ours, expected in zip((v[part], du[part]), alone, strict=False):
            assert (ours - expected).norm() <= 1e-5 * expected.norm()


def test_inputs_need_not_be_contiguous() -> None:
    u, weight, bias, upstream = draw(128, 1152)
    plain = results(FUSED, [u, weight, bias, upstream])
    views = [
        u.transpose(0, 1).contiguous().transpose(0, 1),
        weight.mT.contiguous().mT,
        bias.mT.contiguous().mT,
        upstream.transpose(0, 1).contiguous().transpose(0, 1),
    ]
    assert not any(view.is_contiguous() for view in views)
    assert_same_bits(results(FUSED, views), plain)


def test_two_streams_do_not_disturb_one_another() -> None:
    inputs = [draw(128, 1152, seed=seed) for seed in (0, 1)]
    alone = [results(FUSED, tensors) for tensors in inputs]
    streams = [torch.cuda.Stream() for _ in inputs]  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    found: list[list[list[Tensor]]] = [[], []]
    for _ in range(10):
        for stream, tensors, mine in zip(streams, inputs, found, strict=True):
            with torch.cuda.stream(stream):
                mine.append(results(FUSED, tensors))
    torch.cuda.synchronize()
    for mine, expected in zip(found, alone, strict=True):
        for one in mine:
            assert_same_bits(one, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is no second GPU")
def test_a_device_that_is_not_the_current_one() -> None:
    tensors = draw(128, 1152)
    there = [tensor.to("cuda:1") for tensor in tensors]
    found = results(FUSED, there)
    assert all(one.device == torch.device("cuda:1") for one in found)
    for ours, expected in zip(found, results(FUSED, tensors), strict=True):
        assert (ours.cpu() - expected.cpu()).norm() <= 1e-5 * expected.cpu().norm()  # it may be of another kind


def test_autocast_rounds_to_bfloat16() -> None:
    u, weight, bias, _ = draw(128, 1152)
    with torch.autocast("cuda", torch.bfloat16):
        v = route(u, weight, bias=bias)
    assert torch.equal(v, route(u.bfloat16(), weight.bfloat16(), bias=bias))
