"""The machine that something runs on: its device, and what a result says about it."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from capsbench.errors import UnknownNameError, UsageError
from capsbench.system.ranks import ranks
from capsbench.version import VERSION

DEVICES = ("auto", "cpu", "cuda")
DRIVER = Path("/proc/driver/nvidia/version")


def device(name: str) -> str:
    """``"cpu"`` or ``"cuda"``; ``"auto"`` is a GPU where there is one.

    Raises:
        UsageError: It is none of these, or torch sees no GPU.
    """
    import torch

    if name not in DEVICES:
        raise UnknownNameError("device", name, DEVICES)
    # NVIDIA's library knows it too. CUDA itself is not set up in a process that may only hand out work.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda needs a GPU, and torch sees none here. Leave it out, or use --device cpu.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    named = [one.strip() for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
    return named or [str(number) for number in range(torch.cuda.device_count())]


def threads() -> int:
    """How many threads torch computes with in this process."""
    import torch

    return torch.get_num_threads()


@contextmanager
def without_tf32() -> Iterator[None]:
    """On a GPU, nothing of float32 is rounded to TF32, neither in convolutions nor in products of matrices.

    Everywhere else torch's defaults hold, in training as in evaluation: cuDNN may round the inputs of float32
    convolutions to TF32 (10 bits of mantissa), which makes them about four times as fast; products of matrices are
    exact. `environment` says what holds.
    """
    import torch

    convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)


def environment(device: str) -> dict[str, Any]:
    """Where something is measured: machine, processor, device, versions, threads; of plain JSON types.

    On a GPU also the versions of its software, and how float32 is computed there.
    """
    import h5py
    import numpy
    import torch

    return {
        "capsbench": VERSION,
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # a class of its own
        "numpy": numpy.__version__,
        "h5py": h5py.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads(),
        **({"processes": ranks().size} if ranks().size > 1 else {}),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        **(_gpu() if device == "cuda" else {}),
    }


def _gpu() -> dict[str, Any]:
    import torch

    cudnn: Any = torch.backends.cudnn  # torch states no types for its parts
    return {
        "visible devices": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version(),
        "triton": _version("triton"),
        "tf32 in convolutions": cudnn.conv.fp32_precision == "tf32",
        "tf32 in products": torch.backends.cuda.matmul.fp32_precision == "tf32",
        "cudnn.benchmark outside training": cudnn.benchmark,  # training sets it for itself
    }


def _driver() -> str:
    """The version of NVIDIA's driver, as Linux says it; empty elsewhere."""
    try:
        found = re.search(r"\d+\.\d+[.\d]*", DRIVER.read_text())
    except OSError:
        return ""
    return found[0] if found else ""


def _version(package: str) -> str:
    """The version of an installed package; empty where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
