"""Memory of this machine and of its GPU: how much is left, how much a function takes, and whether it ran out."""

import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
"""Where Linux says how much memory can be had without swapping."""

WORDS = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
"""What errors that have no class of their own say when memory runs out: torch's on the CPU, CUDA, cuBLAS and cuDNN."""


def available(device: str = "cpu") -> int:
    """Bytes that can still be taken; where the system does not say, half of what is built in.

    On a CPU a system may grant more than that, and end the process later.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
    """
    if device == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info()
        return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = MEMINFO.read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the CPU or on a GPU."""
    import torch

    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(word in str(error) for word in WORDS)


def release() -> None:
    """Gives the memory of a GPU that torch keeps for later back, so that others can have it."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def peak(function: Callable[[], object], device: str) -> int:
    """Bytes that tensors take at most during a call, beyond those that are there before it.

    What libraries below torch take for themselves is not counted.
    """
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it logs to stderr that there is no GPU
    activities = [torch.profiler.ProfilerActivity.CPU]
    with warnings.catch_warnings():
        # With acc_events torch parses all events, for much longer than the call takes; without it torch 2.11 warns.
        warnings.filterwarnings("ignore", message=".*acc_events=True")
        with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
            function()
    assert profile.profiler is not None and profile.profiler.kineto_results is not None
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    taken = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        taken += event.nbytes()
        highest = max(highest, taken)
    return highest
