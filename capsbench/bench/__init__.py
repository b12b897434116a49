"""One cell of an experiment, and running many."""

from capsbench.bench.cells import Preset

__all__ = ["Preset"]
