"""The machine that something runs on: its device, and what a result says about it."""

import os
import platform
from pathlib import Path
from typing import Any

from capsbench.errors import UnknownNameError, UsageError
from capsbench.version import VERSION

DEVICES = ("auto", "cpu", "cuda")


def device(name: str) -> str:
    """``"cpu"`` or ``"cuda"``; ``"auto"`` is a GPU where there is one.

    Raises:
        UsageError: It is none of these, or torch sees no GPU.
    """
    import torch

    if name not in DEVICES:
        raise UnknownNameError("device", name, DEVICES)
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda needs a GPU, and torch sees none here. Leave it out, or use --device cpu.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def environment(device: str) -> dict[str, Any]:
    """Where something is measured: machine, processor, device, versions, threads; of plain JSON types."""
    import h5py
    import numpy
    import torch

    return {
        "capsbench": VERSION,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "h5py": h5py.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
