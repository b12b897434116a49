"""What a suite measures: a network here; in `capsbench.judging` the scores of one that ran elsewhere."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from capsbench.contracts import IndexArray, ProgressBar, no_bar
from capsbench.data.samples import Samples, Subset
from capsbench.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from torch import nn

Tests = Mapping[str, Callable[[], Samples]]
"""What a suite tests on, by name; a set is opened when it is needed, so that few of many are in memory at a time."""

Images = npt.NDArray[np.float32]


class Subject(Protocol):
    """What is measured: it answers tests by their names."""

    @property
    def progress(self) -> ProgressBar:
        """Shows how far a test is."""

    def predict(self, name: str) -> Predictions:
        """The answers to all samples of a test."""

    def draw(self, name: str, rows: IndexArray, classes: IndexArray, layer: int | None = None) -> Images | None:
        """Reconstructions of some samples of a test; None where there are none.

        Args:
            name: The test.
            rows: ``[n]``, which samples.
            classes: ``[n, k]``, from which classes each is reconstructed.
            layer: Which digit of a pair the images show, without the other; None shows them as they are.

        Returns:
            ``[n, k, H, W]``, 0..1.
        """


@dataclass(frozen=True)
class NetworkSubject:
    """A network, which is run on the tests.

    Attributes:
        model: The network; its mode is put back after.
        tests: What it is tested on.
        device: ``"cpu"`` or ``"cuda"``.
        progress: Shows how far a test is.
    """

    model: "nn.Module"
    tests: Tests
    device: str = "cpu"
    progress: ProgressBar = no_bar

    def predict(self, name: str) -> Predictions:
        """See `capsbench.evaluation.inference.predict`."""
        from capsbench.evaluation.inference import predict  # needs torch, which the suites' modules do without

        with self.progress(f"test {name!r}, images") as report:
            return predict(self.model, self.tests[name](), device=self.device, report=report)

    def draw(self, name: str, rows: IndexArray, classes: IndexArray, layer: int | None = None) -> Images | None:
        """See `capsbench.evaluation.inference.reconstruct`."""
        from capsbench.evaluation.inference import reconstruct

        return reconstruct(self.model, Subset(self.tests[name](), rows, layer), classes, device=self.device)
