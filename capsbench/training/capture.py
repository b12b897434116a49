"""Launching work on a GPU once and repeating it: CUDA graphs, and a search for what cannot be part of one."""

import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")


def on_side_stream(function: Callable[[], T]) -> T:
    """Runs a function on a stream of its own, as a capture does, between what was launched before and after it."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            return function()
    finally:
        torch.cuda.current_stream().wait_stream(stream)


@contextmanager
def waiting_refused() -> Iterator[None]:
    """Makes every operation that waits for the GPU an error, as far as torch finds them.

    Raises:
        RuntimeError: Something waited.
    """
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():  # torch warns that it does not find all of them; a capture finds the rest
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def place_of(error: BaseException) -> str:
    """The last line outside torch that an error came through: ``mine.py, line 12``."""
    torch_folder = str(Path(torch.__file__).parent)
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(torch_folder)]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}"


def capture(function: Callable[[], T]) -> Callable[[], T]:
    """Records what a function does on the GPU, without doing it.

    Args:
        function: Launches the work; it was called a few times before, so that libraries are set up.

    Returns:
        A function that does the recorded work. It returns the same tensors each time, with new values.

    Raises:
        RuntimeError: It cannot be recorded; streams, memory and random numbers are as they were before.
    """
    graph = torch.cuda.CUDAGraph()
    stream, device = torch.cuda.current_stream(), torch.cuda.current_device()
    pool = torch.cuda.graph_pool_handle()
    generator = torch.cuda.default_generators[device]
    randomness = generator.get_state()
    try:
        with torch.cuda.graph(graph, pool=pool):
            result = function()
    except RuntimeError:
        # A failed capture may leave its stream current, and the generator counting for a graph that no longer exists.
        torch.cuda.set_stream(stream)
        fresh = torch.Generator(device="cuda")
        fresh.set_state(randomness)
        generator.graphsafe_set_state(fresh)
        with suppress(RuntimeError):  # torch 2.11 also leaves its allocator in the capture; later versions refuse this
            torch._C._cuda_endAllocateToPool(device, pool)
        raise

    def replay() -> T:
        graph.replay()
        return result

    return replay
