"""capsbench: robustness of capsule and equivariant networks on digits, exact and reproducible.

    capsbench.generate("multimnist", out="data", split="test")   makes HDF5 files
    capsbench.open_dataset("data/multimnist-test.h5")            opens and verifies one
    capsbench.stream("affnist", split="train", variants=32)      the same samples without a file
    capsbench.BatchDataset(data, shuffle=True)                   batches of tensors from either
    capsbench.run("affine", models=["capsnet"])                  runs a suite
    capsbench.tests("affine", out="tests")                       writes what a network elsewhere must answer
    capsbench.judge("affine", "tests", label="mine")             makes a result of its scores
    capsbench.load_results("runs")                               reads what it measured
    capsbench.compare("runs/a.json", "runs/b.json")              tells how two results differ on the same images
    capsbench.check("layer.py:routing")                           checks a capsule layer against the paper
    capsbench.models.build("capsnet", image_size=40)             builds a network

What is named here is loaded when it is first used, so that the command line starts at once.
"""

import importlib
from typing import Any

from capsbench import version

__version__ = version.VERSION

PLACES = {
    "BatchDataset": "capsbench.data.loading",
    "Output": "capsbench.contracts",
    "SampleDataset": "capsbench.data.loading",
    "check": "capsbench.conformance.check",
    "compare": "capsbench.report.shown",
    "export": "capsbench.bench.exporting",
    "generate": "capsbench.files.generation",
    "judge": "capsbench.judging.judge",
    "load_network": "capsbench.bench.exporting",
    "load_results": "capsbench.report.shown",
    "open_dataset": "capsbench.files.datafile",
    "run": "capsbench.bench.running",
    "stream": "capsbench.data.streaming",
    "tests": "capsbench.judging.tests",
}

__all__ = [
    "BatchDataset",
    "Output",
    "SampleDataset",
    "__version__",
    "check",
    "compare",
    "export",
    "generate",
    "judge",
    "load_network",
    "load_results",
    "open_dataset",
    "run",
    "stream",
    "tests",
]


def __getattr__(name: str) -> Any:
    if name in PLACES:
        return getattr(importlib.import_module(PLACES[name]), name)
    if name in ("generators", "models"):
        return importlib.import_module(f"capsbench.{name}")
    raise AttributeError(f"module 'capsbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "generators", "models"})
