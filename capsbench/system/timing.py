"""Speed: minima of alternating runs, what the machine could do at best, and durations in words."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from capsbench.system import memory
from capsbench.system.machine import without_tf32

if TYPE_CHECKING:
    import torch

MIN_ROUNDS = 3  # a minimum of fewer is luck
PROBE = 8  # images whose memory is measured before a batch is tried that might not fit
ENOUGH = 0.8  # share of the free memory that an estimate from a few images may fill
SCRATCH_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}  # of the copy; several times any cache
GEMM_SIDE = {"cpu": 2048, "cuda": 8192}  # of the largest matrices
FIRST_SIDE = 256  # of the first; without instructions for bfloat16, a product of 2048 takes a CPU 20 seconds
REPEATS = 10  # of what was recorded, in one turn

Name = TypeVar("Name", str, int)

Run = Callable[[], object]
"""Does the work that is timed, once."""


@dataclass(frozen=True)
class Rates:
    """The best speed that a machine reaches.

    Attributes:
        flops: Multiplications and additions a second, in a product of two large matrices: of the largest that the time
            allows.
        bytes: Bytes a second, read and written, in a copy of a large tensor.
    """

    flops: float
    bytes: float


@dataclass(frozen=True)
class Timed:
    """The result of one contestant.

    Attributes:
        batch: Images at a time that fitted into memory; 0 if not even one did.
        seconds: The shortest time; 0 if there is none.
        peak_bytes: The most bytes that tensors took, beyond those that were prepared.
        eager_seconds: The shortest time of a call, if `seconds` is that of a recording; else 0.
    """

    batch: int
    seconds: float
    peak_bytes: int
    eager_seconds: float = 0.0


def contest(
    contestants: Sequence[Callable[[int], Run]],
    *,
    batch: int,
    seconds: float,
    device: str,
    tried: Mapping[int, int] | None = None,
    capture: Callable[[Run], Run] | None = None,
) -> list[Timed]:
    """Times several functions beside one another, each on as many images as fit into memory.

    Args:
        contestants: Each prepares a function that works on so many images.
        batch: Images at a time; halved for a contestant that they are too many for.
        seconds: How long to go on.
        device: ``"cpu"`` or ``"cuda"``.
        tried: For the number of a contestant, a number of images that should fit, so that it is not tried with a few
            images first. Each number of images may cost it a compilation.
        capture: Records what a function does on a GPU, and returns a function that repeats it (see
            `capsbench.training.capture.capture`). On few images Python takes longer to launch kernels than the GPU
            takes to run them, so that calls measure Python. What cannot be recorded is timed by its calls.
    """
    known = tried or {}
    fitting = [
        fit(prepare, known.get(number, batch), device, probe=number not in known)
        for number, prepare in enumerate(contestants)
    ]
    ready = {number: run for number, (run, _, _) in enumerate(fitting) if run}
    share = seconds / 2 if capture else seconds
    eager = minima(ready, seconds=share, device=device)
    repeated = minima(_recorded(ready, capture), seconds=share, device=device) if capture else {}
    return [
        Timed(size, repeated[number] / REPEATS, peak, eager[number])
        if number in repeated
        else Timed(size, eager.get(number, 0.0), peak)
        for number, (_, size, peak) in enumerate(fitting)
    ]


def _recorded(ready: Mapping[int, Run], capture: Callable[[Run], Run]) -> dict[int, Run]:
    """What repeats each function `REPEATS` times; those that cannot be recorded are left out."""
    recorded: dict[int, Run] = {}
    for number, run in ready.items():
        with suppress(RuntimeError):  # it waits for the GPU, or memory does not suffice for one more recording
            recorded[number] = partial(_repeat, capture(run))
    return recorded


def _repeat(run: Run) -> None:
    for _ in range(REPEATS):  # all but the first are launched while the one before runs
        run()


def fit(prepare: Callable[[int], Run], batch: int, device: str, *, probe: bool = True) -> tuple[Run | None, int, int]:
    """The prepared function, its number of images, and the bytes that it takes; halves the images until they fit."""
    if probe and batch > PROBE:  # a system that runs out of memory may end the process instead of refusing
        each = _tried(prepare, PROBE, device)[1] / PROBE
        while batch > PROBE and each * batch > ENOUGH * memory.available(device):
            batch //= 2
    while batch:
        run, taken = _tried(prepare, batch, device)
        if run:
            return run, batch, int(taken)
        batch //= 2
    return None, 0, 0


def _tried(prepare: Callable[[int], Run], batch: int, device: str) -> tuple[Run | None, float]:
    """The function prepared for so many images and the bytes that it takes; None and infinity if they do not fit."""
    try:
        run = prepare(batch)
        run()  # memory that is kept, such as an optimizer's state, does not count
        return run, memory.peak(run, device)
    except Exception as error:
        if not memory.is_out_of_memory(error):
            raise
    return None, float("inf")


def minima(contestants: Mapping[Name, Run], *, seconds: float, device: str, rounds: int = 1000) -> dict[Name, float]:
    """The shortest time of each contestant in seconds; they take turns after a warm-up.

    Args:
        contestants: The functions to time.
        seconds: How long to go on; each has at least `MIN_ROUNDS` turns.
        device: ``"cpu"`` or ``"cuda"``; a turn lasts until the device is done.
        rounds: The largest number of turns.
    """
    for contestant in contestants.values():
        contestant()
    shortest = dict.fromkeys(contestants, float("inf"))
    if not shortest:
        return {}
    begun = time.perf_counter()
    for turn in range(rounds):
        if turn >= MIN_ROUNDS and time.perf_counter() - begun > seconds:
            break
        for name, contestant in contestants.items():
            shortest[name] = min(shortest[name], seconds_of(contestant, device))
    return shortest


def seconds_of(function: Run, device: str) -> float:
    """How long one call takes, until the device is done with it."""
    finish(device)
    begun = time.perf_counter()
    function()
    finish(device)
    return time.perf_counter() - begun


def finish(device: str) -> None:
    """Waits until the device has finished all its work."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def machine_rates(device: str, dtype: "torch.dtype", *, seconds: float = 1.0) -> Rates:
    """Measures what the machine reaches with the threads that torch has.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        dtype: Of the matrices; float32 is not rounded to TF32. The copy is of bytes.
        seconds: How long to measure each of the two; the smaller, the smaller are the matrices.
    """
    import torch

    source = torch.ones(SCRATCH_BYTES[device] // 8, dtype=torch.float64, device=device)
    target = torch.empty_like(source)

    with without_tf32() if dtype == torch.float32 else nullcontext():
        flops = _product_rate(device, dtype, seconds)
    copy = minima({"copy": lambda: target.copy_(source)}, seconds=seconds, device=device)["copy"]
    return Rates(flops=flops, bytes=2 * source.nbytes / copy)


def _product_rate(device: str, dtype: "torch.dtype", seconds: float) -> float:
    """Operations a second in products whose sides double for as long as eight times the work still fits."""
    import torch

    side = min(FIRST_SIDE, GEMM_SIDE[device])
    while True:
        left, right, product = (torch.randn(side, side, device=device).to(dtype) for _ in range(3))
        multiply = partial(torch.mm, left, right, out=product)
        largest = side == GEMM_SIDE[device]
        shortest = minima({"gemm": multiply}, seconds=seconds if largest else 0, device=device)["gemm"]
        if largest or 8 * shortest * MIN_ROUNDS > seconds:
            return 2 * side**3 / shortest
        side = min(2 * side, GEMM_SIDE[device])


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
