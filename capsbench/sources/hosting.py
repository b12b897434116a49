"""A user's code as a guest of this process: what it draws, prints and sets is its own, and is put back afterwards."""

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

from capsbench.sources.seeding import seeded

CUDNN = ("benchmark", "deterministic", "enabled", "allow_tf32")

Setting = tuple[Callable[[], Any], Callable[[Any], object]]
"""What reads it, and what sets it."""


class EndedError(Exception):
    """A guest called `sys.exit`, or raised another error that is no `Exception` and would have ended the process."""


@contextmanager
def hosted(seed: int, device: str = "cpu") -> Iterator[None]:
    """Inside it, a user's network or suite is built or run; the next one finds torch and NumPy as this one did.

    What is drawn depends on the seed alone. What Python code prints goes to stderr, so that stdout has results alone.
    Torch's settings (gradients, default type and device, threads, determinism, precision, autocast, cuDNN), NumPy's
    errors, the filters of warnings and the working folder are afterwards what they were.

    Args:
        seed: 0..2**64-1.
        device: As `capsbench.sources.seeding.seeded` takes it.

    Raises:
        EndedError: The guest would have ended the process.
    """
    import numpy as np

    with ExitStack() as kept:
        for read, write in [(os.getcwd, os.chdir), *_torch_settings()]:
            kept.callback(_put_back, read, write, _read(read))
        for context in (seeded(seed, device), printing_aside(), np.errstate(), warnings.catch_warnings()):
            kept.enter_context(context)
        try:
            yield
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise EndedError(f"{type(error).__name__}: {error}") from error


class _Aside:
    """How many are inside of `printing_aside`, in all threads, and the stdout that the last of them puts back."""

    lock = threading.Lock()
    inside = 0
    stdout: Any = None


@contextmanager
def printing_aside() -> Iterator[None]:
    """Inside it, in any thread, what Python code prints goes to stderr."""
    with _Aside.lock:
        if not _Aside.inside:
            _Aside.stdout, sys.stdout = sys.stdout, sys.stderr
        _Aside.inside += 1
    try:
        yield
    finally:
        with _Aside.lock:
            _Aside.inside -= 1
            if not _Aside.inside:
                sys.stdout = _Aside.stdout


def _torch_settings() -> list[Setting]:
    """Torch's settings for the whole process; none before it is loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    cudnn = torch.backends.cudnn
    return [
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.get_default_dtype, torch.set_default_dtype),
        # The CPU is set back by none: a default device is asked for at every operation, also where it is the CPU.
        (torch.get_default_device, lambda device: torch.set_default_device(None if device.type == "cpu" else device)),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        *(
            (partial(torch.is_autocast_enabled, kind), partial(torch.set_autocast_enabled, kind))
            for kind in ("cpu", "cuda")
        ),
        *((partial(getattr, cudnn, name), partial(setattr, cudnn, name)) for name in CUDNN),
    ]


def _read(read: Callable[[], Any]) -> Any:
    """A setting; None where it cannot be told: torch has two ways to set precision, and no answer where both were."""
    with suppress(RuntimeError, OSError):
        return read()
    return None


def _put_back(read: Callable[[], Any], write: Callable[[Any], object], before: Any) -> None:
    now = _read(read)
    # An equal device may be one that was set where none was.
    if before is not None and (now != before or type(now).__name__ == "device"):
        write(before)
