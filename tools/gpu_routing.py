"""How near to float64 routing is on a GPU, and how fast: stages of tools/gpu_figures.py."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from capsbench.models.routing.accuracy import Implementation, worst_error
from capsbench.models.routing.reference import route_reference
from capsbench.models.routing.route import IMPLEMENTATIONS
from capsbench.system.memory import peak
from capsbench.system.timing import finish, minima

DEVICE = os.environ.get("DEVICE", "cuda")
TINY = os.environ.get("TINY", "0") == "1"

Found = dict[str, Any]
Job = tuple[Found, Callable[[], Found]]
"""What is measured, in words and sizes, and the function that measures it."""

DTYPES = {"float32": torch.float32} if TINY else {"float32": torch.float32, "bfloat16": torch.bfloat16}
J, O, D = 10, 16, 8  # the paper's output capsules, their dimensions, those of the input
ROUTING_SIZES = [(8, 16)] if TINY else [(1024, 1152), (1024, 4608), (128, 1152), (128, 4608), (32, 1152)]
"""Images and input capsules: 1,152 of 28x28, 4,608 of 40x40."""
EACH = 0.05 if TINY else 0.12  # seconds that a measurement of routing is repeated


def equality() -> Iterator[Job]:
    """The fused kernels against float64: small odd sizes as the tests do, then whole batches of the paper's sizes."""
    name = "fused" if DEVICE == "cuda" else "blocked"
    small = [(11, 291, J, O, D), (3, 50, 2, 5, 3)]  # the second needs kernels of its own
    large = [(1024, 1152), (128, 4608), (1024, 4608)]
    for sizes, most in [((3, 7, J, O, D), (3,))] if TINY else [(small[0], (3, 1, 5))]:
        yield from _small(name, sizes, most)
    for B, I in [(8, 16)] if TINY else large:
        for dtype in DTYPES:
            for gradient in ("detached", "exact"):
                what = {"implementation": name, "B": B, "I": I, "dtype": dtype, "gradient": gradient}
                yield what, partial(_distance_from_float64, IMPLEMENTATIONS[name], B, I, DTYPES[dtype], gradient)
    for sizes in [] if TINY else small[1:]:
        yield from _small(name, sizes, (3,))


def _small(name: str, sizes: tuple[int, int, int, int, int], most: Sequence[int]) -> Iterator[Job]:
    for dtype in DTYPES:
        for gradient in ("exact", "detached"):
            for iterations in most:
                what = {"sizes": sizes, "dtype": dtype, "gradient": gradient, "iterations": iterations}
                measure = partial(_of_allowed, IMPLEMENTATIONS[name], sizes, iterations, gradient, DTYPES[dtype])
                yield {"implementation": name, **what}, measure


def _of_allowed(
    route: Implementation, sizes: tuple[int, int, int, int, int], iterations: int, gradient: str, dtype: torch.dtype
) -> Found:
    draws = 1 if TINY else 4
    return {
        "error_of_allowed": worst_error(route, sizes, iterations, gradient, dtype=dtype, device=DEVICE, draws=draws)
    }


def _distance_from_float64(route: Implementation, B: int, I: int, dtype: torch.dtype, gradient: str) -> Found:
    """Of v, du, dweight and dbias: the error's norm relative to the true one's, and whether a second run agrees."""
    leaves, upstream = _capsules(B, I, dtype)
    results = []
    for function, kind in ((route_reference, torch.float64), (route, dtype), (route, dtype)):
        given = [one.detach().to(kind).requires_grad_() for one in leaves]
        v = function(given[0], given[1], 3, given[2], gradient)
        results.append([one.detach() for one in (v, *torch.autograd.grad(v, given, upstream.to(v.dtype)))])
        del given, v
    true, ours, again = results
    errors = [float((one.double() - exact).norm() / exact.norm()) for one, exact in zip(ours, true, strict=True)]
    same = all(torch.equal(one, other) for one, other in zip(ours, again, strict=True))
    return {"relative": errors, "same_bits": same}


def routing() -> Iterator[Job]:
    """Routing alone: eager, and replayed from a CUDA graph, which is the time of the device."""
    for B, I in ROUTING_SIZES:
        for dtype in DTYPES:
            for gradient in ("detached", "exact", "forward"):
                for name, route in IMPLEMENTATIONS.items():
                    if (name == "fused" and DEVICE != "cuda") or (name == "blocked" and I > 1152):
                        continue  # where fused runs blocked is slower: one size is enough to show it
                    what = {"implementation": name, "B": B, "I": I, "dtype": dtype, "gradient": gradient}
                    yield what, partial(_time_routing, route, B, I, DTYPES[dtype], gradient)


def compiled() -> Iterator[Job]:
    """The reference as `torch.compile` makes it."""
    for B, I in [] if DEVICE == "cpu" else ROUTING_SIZES[:2]:
        for gradient in ("exact", "detached"):
            route = torch.compile(route_reference, dynamic=False)
            what = {"implementation": "compiled reference", "B": B, "I": I, "dtype": "float32", "gradient": gradient}
            yield what, partial(_time_routing, route, B, I, torch.float32, gradient)


def _time_routing(route: Implementation, B: int, I: int, dtype: torch.dtype, gradient: str) -> Found:
    run = _routing_run(route, B, I, dtype, gradient)
    begun = time.perf_counter()
    run()
    finish(DEVICE)
    found: Found = {"first_s": time.perf_counter() - begun}
    found["eager_ms"] = 1e3 * minima({"": run}, seconds=EACH, device=DEVICE)[""]
    found["peak_mb"] = peak(run, DEVICE) / 1e6
    if DEVICE == "cuda":
        found["device_ms"] = _replayed_ms(run)
    return found


def _replayed_ms(function: Callable[[], object]) -> float:
    """The median time of replays of a CUDA graph of what a function does, the L2 cache emptied before each."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        kept = function()
    flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begun < EACH:
        flush.zero_()
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        first.record()
        graph.replay()
        last.record()
        last.synchronize()
        times.append(first.elapsed_time(last))
    del kept
    return statistics.median(times)


def _routing_run(
    route: Implementation, B: int, I: int, dtype: torch.dtype, gradient: str
) -> Callable[[], Sequence[Tensor]]:
    leaves, upstream = _capsules(B, I, dtype)

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [route(leaves[0], leaves[1], 3, leaves[2], "exact")]

    def both() -> Sequence[Tensor]:
        return torch.autograd.grad(route(leaves[0], leaves[1], 3, leaves[2], gradient), leaves, upstream)

    return forward if gradient == "forward" else both


def _capsules(B: int, I: int, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """u, weight and bias of the size that networks have them, and the gradient of the output."""
    random = torch.Generator(DEVICE).manual_seed(0)
    shapes = [((B, I, D), 0.5), ((I, J, O, D), 4 / (I * D) ** 0.5), ((J, O), 0.1), ((B, J, O), 1.0)]
    *leaves, upstream = (scale * torch.randn(shape, generator=random, device=DEVICE) for shape, scale in shapes)
    return [one.to(dtype).requires_grad_() for one in leaves], upstream


def profile() -> Iterator[Job]:
    """How long each kernel of routing takes: microseconds and calls."""
    name = "fused" if DEVICE == "cuda" else "blocked"
    for B, I in ROUTING_SIZES[:3]:
        for dtype in DTYPES:
            for gradient in ("exact", "detached"):
                what = {"implementation": name, "B": B, "I": I, "dtype": dtype, "gradient": gradient}
                yield what, partial(_profiled, IMPLEMENTATIONS[name], B, I, DTYPES[dtype], gradient)


def _profiled(route: Implementation, B: int, I: int, dtype: torch.dtype, gradient: str, turns: int = 5) -> Found:
    kind = torch.profiler.ProfilerActivity.CUDA if DEVICE == "cuda" else torch.profiler.ProfilerActivity.CPU
    run = _routing_run(route, B, I, dtype, gradient)
    run()
    finish(DEVICE)
    with torch.profiler.profile(activities=[kind], acc_events=True) as told:
        for _ in range(turns):
            run()
        finish(DEVICE)
    spent = "self_device_time_total" if DEVICE == "cuda" else "self_cpu_time_total"
    kernels = sorted(told.key_averages(), key=lambda one: -getattr(one, spent))[:12]
    return {
        "us_and_calls": {one.key[:60]: [round(getattr(one, spent) / turns, 1), one.count / turns] for one in kernels}
    }


def compile_kernels(kind: str, gradient: str) -> None:
    """Compiles for the sizes of the paper into the caches on disk, so that several processes can share the work."""
    if kind == "compiled":
        for B, I in ROUTING_SIZES[:2]:
            _routing_run(torch.compile(route_reference, dynamic=False), B, I, torch.float32, gradient)()
    else:
        _routing_run(IMPLEMENTATIONS["fused"], 64, 64, getattr(torch, kind), gradient)()
    finish(DEVICE)
