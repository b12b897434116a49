"""Measures on a GPU what no command of the project measures: ``python tools/gpu_figures.py STAGE=SECONDS ...``.

Each figure is a line of JSON in the file that $FIGURES names, written when it is measured. A measurement that fails
leaves a line with its error and costs nothing else; one that the file has already is not made again, so that a process
that died is started once more. tools/gpu_figures.sh runs the stages in their order, tools/gpu_results.py reads them.

With $TINY=1 every stage is short, and $DEVICE=cpu measures something on a machine without a GPU, for tests.
"""

import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import capsbench
from capsbench.contracts import Batch
from capsbench.errors import ParameterError
from capsbench.evaluation.inference import predict
from capsbench.models import build
from capsbench.models.routing.accuracy import Implementation, worst_error
from capsbench.models.routing.reference import route_reference
from capsbench.models.routing.route import IMPLEMENTATIONS
from capsbench.system.memory import peak
from capsbench.system.timing import finish, machine_rates, minima
from capsbench.training.step import TrainingStep, adam
from capsbench.version import VERSION

DEVICE = os.environ.get("DEVICE", "cuda")
TINY = os.environ.get("TINY", "0") == "1"
SPOILED = 3  # exit code: the device answers nothing any more, and only another process can go on

Found = dict[str, Any]
Job = tuple[Found, Callable[[], Found]]
"""What is measured, in words and sizes, and the function that measures it."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
J, O, D = 10, 16, 8  # the paper's output capsules, their dimensions, those of the input
ROUTING_SIZES = [(16, 64)] if TINY else [(1024, 1152), (1024, 4608), (128, 1152), (128, 4608), (32, 1152)]
"""Images and input capsules: 1,152 of 28x28, 4,608 of 40x40."""
EACH = 0.05 if TINY else 0.12  # seconds that a measurement of routing is repeated


def machine() -> Iterator[Job]:
    """Where and of what all else is measured."""

    def look() -> Found:
        facts: Found = {
            "date": datetime.now(UTC).date().isoformat(),
            "commit": os.environ.get("COMMIT") or _output("git", "rev-parse", "--short", "HEAD"),
            "capsbench": VERSION,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "cores": os.cpu_count(),
            "device": "cpu",
        }
        if DEVICE == "cuda":
            import triton

            one = torch.cuda.get_device_properties(0)
            driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").partition("\n")[0]
            facts |= {"device": one.name, "driver": driver, "triton": triton.__version__}
            facts["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
            facts["memory"] = one.total_memory
        return facts

    yield {}, look


def rates() -> Iterator[Job]:
    """What products of large matrices and copies reach."""
    for dtype in ["float32"] if TINY else DTYPES:
        yield {"dtype": dtype}, partial(_rates, DTYPES[dtype])


def _rates(dtype: torch.dtype) -> Found:
    return asdict(machine_rates(DEVICE, dtype, seconds=0.0 if TINY else 0.3))


def equality() -> Iterator[Job]:
    """The fused kernels against float64: small odd sizes as the tests do, then whole batches of the paper's sizes."""
    name = "fused" if DEVICE == "cuda" else "blocked"
    small = [(11, 291, J, O, D), (3, 50, 2, 5, 3), (2, 21, 16, 32, 32)]  # each needs kernels of its own
    large = [(1024, 1152), (128, 4608), (1024, 4608)]
    for sizes, most in [((3, 7, J, O, D), (3,))] if TINY else [(small[0], (3, 1, 5))]:
        yield from _small(name, sizes, most)
    for B, I in [(16, 64)] if TINY else large:
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


@dataclass(frozen=True)
class Case:
    """A training step: of what, and how; `tuned` is cudnn.benchmark, `last` channels_last."""

    model: str
    px: int
    batch: int = 128
    precision: str = "bf16"
    options: Found = field(default_factory=dict)
    graph: bool = True
    tuned: bool = False
    last: bool = False


REFERENCE = {"implementation": "reference"}
CASES = [
    Case("capsnet", 40),
    Case("cnn-pool", 40),
    Case("capsnet", 28),
    Case("capsnet", 28, 1024),
    Case("capsnet", 40, 1024),
    Case("capsnet", 28, options=REFERENCE),
    Case("capsnet", 40, options=REFERENCE),
    Case("capsnet", 28, 1024, options=REFERENCE),
    Case("capsnet", 40, 1024, options=REFERENCE),
    Case("capsnet", 40, tuned=True, last=True),
    Case("capsnet", 28, tuned=True, last=True),
    Case("capsnet", 28, 1024, tuned=True, last=True),
    Case("cnn-pool", 40, tuned=True, last=True),
    Case("capsnet", 36),
    Case("cnn-pair", 36),
    Case("cnn", 28, options={"padding": "same"}),
    Case("capsnet", 40, options={"gradient": "detached"}),
    Case("capsnet", 40, options={"implementation": "blocked"}),
    Case("capsnet", 28, precision="fp32"),
    Case("capsnet", 40, precision="fp32"),
    Case("capsnet", 28, graph=False),
    Case("capsnet", 40, graph=False),
    Case("cnn-pool", 40, graph=False),
]
TINY_NETWORKS: dict[str, Found] = {
    "capsnet": {"preset": "small", "channels": 4, "types": 1},
    "cnn-pool": {"preset": "small", "channels": [2, 4]},
}
TINY_CASES = [Case(name, 40, 8, options=options) for name, options in TINY_NETWORKS.items()]


def steps() -> Iterator[Job]:
    """Whole training steps of the networks at the paper's sizes."""
    for case in TINY_CASES if TINY else CASES:
        yield asdict(case), partial(_time_step, case)


def _time_step(case: Case) -> Found:
    pairs = case.px == 36
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = case.tuned
    network = build(case.model, image_size=case.px, pairs=pairs, **case.options).to(DEVICE).train()
    if case.last:
        network = network.to(memory_format=torch.channels_last)
    images = torch.rand(case.batch, 1, case.px, case.px, device=DEVICE)
    labels = torch.arange(case.batch, device=DEVICE) % 10
    layers = images.expand(-1, 2, -1, -1).contiguous() if pairs else None
    batch = Batch(images=images, labels=torch.stack([labels, (labels + 1) % 10], 1) if pairs else labels, layers=layers)
    told: list[str] = []
    step = TrainingStep(
        network, adam(network, 1e-3), precision=case.precision, device=DEVICE,
        graph=case.batch if case.graph and DEVICE == "cuda" else 0, report=told.append,
    )  # fmt: skip
    for _ in range(2 if TINY else 6):  # a graph is captured after three
        step(batch)
    count, begun = 0, time.perf_counter()
    finish(DEVICE)
    while time.perf_counter() - begun < (0.05 if TINY else 0.5):
        for _ in range(1 if TINY else 10):
            loss = step(batch)
            count += 1
        finish(DEVICE)
    seconds = (time.perf_counter() - begun) / count
    if not math.isfinite(loss):
        raise ParameterError(f"the loss became {float(loss)}")
    return {"ms": 1e3 * seconds, "images_per_s": case.batch / seconds, "parts": step.micro_batches, "told": told}


def answers() -> Iterator[Job]:
    """How fast a data set is tested, as `capsbench.evaluation` does it."""
    for model in ("capsnet", "cnn-pool"):
        yield {"model": model, "px": 40}, partial(_time_answers, model)


def _time_answers(model: str) -> Found:
    stream = capsbench.stream("padded", split="validation", digits="embedded", variants=1 if TINY else 20)
    options = TINY_NETWORKS[model] if TINY else {}
    network = build(model, image_size=40, **options).to(DEVICE)
    predict(network, stream, device=DEVICE)
    begun = time.perf_counter()
    predict(network, stream, device=DEVICE)
    return {"images_per_s": len(stream) / (time.perf_counter() - begun)}


def streams() -> Iterator[Job]:
    """How many images one thread of the host draws."""
    for data in ("padded", "multimnist", "affnist"):
        yield {"data": data}, partial(_time_stream, data, layers=data == "multimnist")


def _time_stream(data: str, *, layers: bool) -> Found:
    stream = capsbench.stream(data, split="train", digits="embedded", variants=30)
    order = np.random.default_rng(0).permutation(len(stream))
    begun, drawn = time.perf_counter(), 0
    while time.perf_counter() - begun < (0.05 if TINY else 0.5):
        rows = order[drawn % 65536 : drawn % 65536 + 1024]
        stream.batch(rows)
        if layers:
            stream.layers(rows)
        drawn += len(rows)
    return {"images_per_s": drawn / (time.perf_counter() - begun)}


STAGES = {
    stage.__name__: stage
    for stage in (machine, rates, equality, routing, compiled, profile, steps, answers, streams)
}  # fmt: skip


def measure(stage: str, seconds: float, figures: Path) -> None:
    """Runs what is left of a stage, for so many seconds at most, and writes down what comes of it."""
    lines = figures.read_text().splitlines() if figures.exists() else []
    known = {_name(json.loads(line)["what"]) for line in lines if json.loads(line)["stage"] == stage}
    begun = time.perf_counter()
    for what, job in STAGES[stage]():
        if _name(what) in known:
            continue
        if time.perf_counter() - begun > seconds:
            print(f"{stage}: {seconds:g} s are over", flush=True)
            return
        try:
            found = job()
        except Exception as error:  # one measurement must not cost the rest
            found = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        line = json.dumps({"stage": stage, "what": what, "found": _rounded(found)})
        with figures.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)
        _release("error" in found)


def _release(failed: bool) -> None:
    """Gives back what a measurement took; ends the process where the device does not answer any more."""
    gc.collect()  # a captured step holds on to itself
    if DEVICE == "cuda":
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError:
            if failed:
                sys.exit(SPOILED)
            raise


def _name(what: Found) -> str:
    return json.dumps(what, sort_keys=True)


def _rounded(value: Any) -> Any:
    """Six digits are more than any figure is good for; what is no number is told as text, which JSON can hold."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return {key: _rounded(one) for key, one in value.items()} if isinstance(value, dict) else value


def _output(*command: str) -> str:
    """What a command prints; nothing where it is not there or fails."""
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return ""


def compile_kernels(kind: str, gradient: str) -> None:
    """Compiles for the sizes of the paper into the caches on disk, so that several processes can share the work."""
    if kind == "compiled":
        for B, I in ROUTING_SIZES[:2]:
            _routing_run(torch.compile(route_reference, dynamic=False), B, I, torch.float32, gradient)()
    else:
        _routing_run(IMPLEMENTATIONS["fused"], 64, 64, DTYPES[kind], gradient)()
    finish(DEVICE)


def main() -> None:
    """Runs the stages that are named, each with its seconds; ``compile:float32:exact`` compiles."""
    figures = Path(os.environ["FIGURES"])
    for argument in sys.argv[1:]:
        if argument.startswith("compile:"):
            compile_kernels(*argument.split(":")[1:])
            continue
        stage, _, seconds = argument.partition("=")
        measure(stage, float(seconds), figures)


if __name__ == "__main__":
    main()
