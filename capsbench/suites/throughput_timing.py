"""How the suite throughput measures: its gate, and the rows of routing, of a network's parts and of its steps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cache, partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from capsbench.bench.bench import Bench
from capsbench.contracts import Say
from capsbench.errors import CapsbenchError, ModelError, UsageError, first_line
from capsbench.models.routing.accuracy import Implementation as Routing
from capsbench.models.routing.accuracy import largest_error, worst_error
from capsbench.models.routing.reference import route_reference
from capsbench.models.routing.route import GRADIENTS, IMPLEMENTATIONS, available
from capsbench.suites.throughput_kept import Condition, KeptRows
from capsbench.system import machine, memory
from capsbench.system.disk import human_bytes
from capsbench.system.timing import PROBE, Rates, Run, fit, machine_rates
from capsbench.training.profiling import DTYPES, Conditions, count_flops, part_rows, step_rows
from capsbench.training.rows import Row

STEP = 4  # times the weights: with their gradients and Adam's two averages

COMPILED = "compiled reference"
COMPILED_ITERATIONS = 3  # the paper's: each other number would be compiled again


def measure(bench: Bench, image_size: int) -> dict[str, Any]:
    """Times the cell's network; the metrics of the cell. What a run that was stopped has timed is not timed again.

    Args:
        bench: Of the cell; its settings say what is timed.
        image_size: Side of the images at which the implementations of routing are compared with float64.

    Raises:
        ModelError: An implementation of routing is less accurate than it must be, or the network's weights are too
            large for the memory at one of the sizes; then nothing is timed.
    """
    settings, device = bench.cell.settings, bench.cell.device
    for size in settings.image_sizes:
        _check_memory(bench, size)
    with _threads(settings.threads) as threads:
        model = bench.model(image_size)
        equality = _equality(model, settings.precisions, max(settings.iterations), device) if _routes(model) else {}
        kept = KeptRows(
            bench.folder / bench.cell.folder / f"{bench.cell.name}.jsonl",
            {"cell": bench.cell.id, "code": bench.cell.code, **machine.environment(device)},
            lambda: {precision: machine_rates(device, DTYPES[precision]) for precision in settings.precisions},
            since=bench.since,
        )
        rows = [asdict(row) for row in _rows(bench, kept)]
    return {
        "parameters": bench.count_parameters(model),
        "threads": threads,
        "rates": {precision: asdict(rate) for precision, rate in kept.rates.items()},
        "equality": equality,
        "rows": rows,
    }


def _check_memory(bench: Bench, size: int) -> None:
    """Refuses images at which the weights alone need more memory than there is; fewer images would not help.

    Raises:
        ModelError: It is so.
    """
    try:
        with torch.device("meta"):  # shapes without numbers
            model = bench.model(size)
    except CapsbenchError:
        raise
    except Exception:  # a user's network may need numbers
        return
    parameters = bench.count_parameters(model)
    weights = sum(one.nbytes for one in model.parameters())
    networks = 2 if callable(getattr(model, "routing", None)) else 1  # beside one with the reference's routing
    need, free = STEP * networks * weights, memory.available(bench.cell.device)
    if need > free:
        raise ModelError(
            f"{bench.cell.label} at {size}x{size} has {parameters:,} parameters. To time {networks} of it takes about "
            f"{human_bytes(need)} (weights, gradients and Adam's two averages), and {human_bytes(free)} are free. "
            "Nothing was timed. Take smaller image_sizes or a smaller network."
        )


def _rows(bench: Bench, kept: KeptRows) -> Iterator[Row]:
    """The rows of every condition, those of an earlier run first taken from what it kept."""
    settings = bench.cell.settings
    for size in settings.image_sizes:
        conditions = [Condition(size, *others) for others in product(settings.batches, settings.precisions)]
        if any(kept.of(one) is None for one in conditions):
            model = bench.model(size).to(bench.cell.device)
            networks = _networks(bench, size) if _routes(model) else {"": model}
        for one in conditions:
            rows = kept.of(one)
            told = "" if rows is None else ", timed by an earlier run"
            bench.report(f"{size}x{size}, {one.batch} images, {one.precision}{told}")
            if rows is None:
                rows = list(_timed(bench, model, networks, one, kept.rates[one.precision]))
                kept.add(one, rows)
            yield from rows


def _timed(
    bench: Bench, model: nn.Module, networks: Mapping[str, nn.Module], condition: Condition, rates: Rates
) -> Iterator[Row]:
    settings = bench.cell.settings
    conditions = Conditions(*condition, bench.cell.device, settings.seconds, rates)
    if _routes(model):
        yield from _routing_rows(model, conditions, settings.iterations, settings.compiled, bench.report)
    yield from part_rows(model, conditions)
    yield from step_rows(networks, conditions)


def _networks(bench: Bench, size: int) -> dict[str, nn.Module]:
    """The network with its routing and with the reference; where it leaves no choice, as it is."""
    device = bench.cell.device
    names = dict.fromkeys([bench.cell.parameters.get("implementation", "auto"), "reference"])
    try:
        return {name: bench.model(size, implementation=name).to(device) for name in names}
    except UsageError:
        return {"": bench.model(size).to(device)}


def _routes(model: Any) -> bool:
    """Whether a network has capsules whose routing can be timed alone: ``routing``, and a ``weight`` as it takes it."""
    weight = getattr(model, "weight", None)
    if not (callable(getattr(model, "routing", None)) and isinstance(weight, Tensor) and weight.dim() == 4):
        return False
    inputs, outputs, output_dim, input_dim = weight.shape
    with torch.no_grad(), suppress(Exception):  # a weight of another order of axes does not fit
        v = model.routing(torch.zeros(2, inputs, input_dim, device=weight.device, dtype=weight.dtype), weight, 1)
        return bool(v.shape == (2, outputs, output_dim))
    return False


def _leaky(model: Any) -> bool:
    """Whether the network's routing has an orphan category, as an attribute says."""
    return getattr(model, "leaky", False) is True


def _routing_rows(
    model: Any, conditions: Conditions, numbers: Sequence[int], with_compiled: bool, report: Say
) -> Iterator[Row]:
    dtype = DTYPES[conditions.precision]
    weight = model.weight.detach().to(dtype).requires_grad_()
    leaky = _leaky(model)
    inputs, outputs, output_dim, input_dim = weight.shape

    @cache
    def capsules(batch: int) -> tuple[Tensor, Tensor]:
        random = torch.Generator().manual_seed(0)
        u = (
            torch.rand(batch, inputs, input_dim, generator=random)
            .sub_(0.5)
            .to(conditions.device, dtype)
            .requires_grad_()
        )
        return u, torch.randn(batch, outputs, output_dim, generator=random).to(conditions.device)

    def prepare(routing: Routing, iterations: int, gradient: str, batch: int) -> Run:
        u, upstream = capsules(batch)

        def forward() -> object:
            with torch.no_grad():
                return routing(u, weight, iterations, None, "exact", leaky)

        def both() -> object:
            return torch.autograd.grad(routing(u, weight, iterations, None, gradient, leaky), (u, weight), upstream)

        return both if gradient else forward

    for iterations in numbers:
        routings: dict[str, Routing] = {name: IMPLEMENTATIONS[name] for name in available(capsules(PROBE)[0], weight)}
        tried: dict[str, int] = {}
        if with_compiled and iterations == COMPILED_ITERATIONS:
            # It takes as many images as the reference, which needs the most memory with its backward pass.
            whole = partial(prepare, route_reference, iterations, "exact")
            _, batch, _ = fit(whole, conditions.asked, conditions.device)
            forward = partial(prepare, iterations=iterations, gradient="", batch=batch)
            compiled = _compiled(forward, report) if batch else None
            if compiled:
                routings[COMPILED], tried[COMPILED] = compiled, batch
        for gradient in ("", *GRADIENTS):
            yield from conditions.rows(
                {name: partial(prepare, routing, iterations, gradient) for name, routing in routings.items()},
                flops=count_flops(prepare(route_reference, iterations, gradient, PROBE)),
                elements=inputs * input_dim + outputs * output_dim,
                weight_bytes=weight.nbytes,
                backward=bool(gradient),
                tried=tried,
                recorded=True,
                part="routing",
                what="forward + backward" if gradient else "forward",
                gradient=gradient,
                iterations=iterations,
            )


def _compiled(prepare: Callable[[Routing], Run], report: Say) -> Routing | None:
    """The reference, compiled by torch for one number of images; None where that fails, with a line that says why.

    A compilation takes seconds, and there are three: forward alone, and for each gradient forward and backward.
    """
    torch.compiler.reset()  # sizes of before would count against the limit of recompilations
    compiled: Routing = torch.compile(route_reference, dynamic=False)
    try:
        prepare(compiled)()
    except Exception as error:  # most often there is no C++ compiler
        report(f"torch.compile is not measured: {first_line(error)}")
        return None
    return compiled


def _equality(model: Any, precisions: Sequence[str], iterations: int, device: str) -> dict[str, float]:
    """The worst error of each implementation, dtype and gradient, as a multiple of what is allowed.

    Raises:
        ModelError: One is not as near to float64 as it must be.
    """
    inputs, outputs, output_dim, input_dim = model.weight.shape
    sizes = (PROBE + 3, min(inputs, 291), outputs, output_dim, input_dim)  # odd, so that no block is full
    found = {}
    for precision in precisions:
        dtype = DTYPES[precision]
        weight = model.weight.detach().to(device, dtype)
        names = available(torch.empty(1, *sizes[1::3], device=device, dtype=dtype), weight)
        for name in names:
            for gradient in GRADIENTS:
                error = worst_error(
                    IMPLEMENTATIONS[name],
                    sizes,
                    iterations,
                    gradient,
                    leaky=_leaky(model),
                    dtype=dtype,
                    device=device,
                )
                if error > largest_error(device):
                    raise ModelError(
                        f"Routing with implementation {name!r}, {gradient}, {precision}, has {error:.1f} times the "
                        f"allowed error against float64, at most {largest_error(device):g} is accepted; nothing was "
                        "timed."
                    )
                found[f"{name}, {gradient}, {precision}"] = error
    return found


@contextmanager
def _threads(number: int) -> Iterator[int]:
    """Torch's threads on the CPU, put back after; 0 leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield number or before
    finally:
        torch.set_num_threads(before)
