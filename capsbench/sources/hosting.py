"""A user's code as a guest of this process: what it draws, prints and sets is its own, and is put back afterwards."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any

from capsbench.sources.seeding import seeded

CUDNN = ("benchmark", "deterministic", "enabled")


@contextmanager
def hosted(seed: int, device: str = "cpu") -> Iterator[None]:
    """Inside it, a user's network or suite is built or run; the next one finds everything as this one did.

    What is drawn depends on the seed alone. What is printed goes to stderr, so that stdout has results alone. The
    global settings of torch and NumPy, and the filters of warnings, are afterwards what they were.

    Args:
        seed: 0..2**64-1.
        device: As `capsbench.sources.seeding.seeded` takes it.
    """
    import numpy as np

    kept = _torch_settings()
    try:
        with seeded(seed, device), redirect_stdout(sys.stderr), np.errstate(), warnings.catch_warnings():
            yield
    finally:
        for read, before, write in kept:
            if read() != before:
                write(before)


def _torch_settings() -> list[tuple[Callable[[], Any], Any, Callable[[Any], object]]]:
    """What reads each setting, its present value, and what sets it; none before torch is loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    cudnn = torch.backends.cudnn
    settings: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.get_default_dtype, torch.set_default_dtype),
        # A default device is asked for at every operation, so the CPU is set back by none.
        (torch.get_default_device, lambda device: torch.set_default_device(None if device.type == "cpu" else device)),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        *((partial(getattr, cudnn, name), partial(setattr, cudnn, name)) for name in CUDNN),
    ]
    return [(read, read(), write) for read, write in settings]
