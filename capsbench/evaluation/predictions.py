"""A network's answers to a data set: its scores, beside the labels, and whether they are right."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import IndexArray, UInt8Array
from capsbench.results.writers import resampled_units


@dataclass(frozen=True)
class Predictions:
    """A model's answers to all samples of a data set.

    Attributes:
        scores: ``[N, classes]`` float32 or float64.
        labels: ``[N]`` or ``[N, 2]`` uint8.
        source: ``[N]`` or ``[N, 2]`` int32, the digits that each sample shows.
        writers: ``[digits]`` int32, who wrote each digit of the split; None where it is not known.
    """

    scores: npt.NDArray[np.floating[Any]]
    labels: UInt8Array
    source: npt.NDArray[np.int32]
    writers: npt.NDArray[np.int32] | None = None

    def highest(self, k: int) -> IndexArray:
        """``[N, k]`` int64: the classes of the k highest scores, the highest first; of equal ones the lower class."""
        return np.argsort(-self.scores, axis=1, kind="stable")[:, :k]

    @property
    def hits(self) -> npt.NDArray[np.bool_]:
        """``[N, k]`` whether each of an image's k digits is among its k highest scores."""
        labels = self.labels.reshape(len(self.labels), -1)
        return np.asarray((labels[:, :, None] == self.highest(labels.shape[1])[:, None]).any(2))

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """``[N]`` whether all digits of an image were found: of a pair, whether its two are the two highest scores.

        That is the authors' metric; half of a pair is wrong.
        """
        return np.asarray(self.hits.all(1))

    @property
    def mistakes(self) -> str:
        """For each sample that is not right, in order: its labels, then its answers, as many; a digit each."""
        labels = self.labels.reshape(len(self.labels), -1)
        wrong = np.column_stack([labels, self.highest(labels.shape[1])])[~self.correct]
        return "".join(map(str, wrong.ravel().tolist()))

    @property
    def base(self) -> npt.NDArray[np.int32]:
        """``[N]`` the digit that an image was made for, which its variants share; of a pair, the first."""
        return self.source.reshape(len(self.source), -1)[:, 0]

    @property
    def unit(self) -> npt.NDArray[np.integer[Any]]:
        """``[N]`` or ``[N, 2]``: what intervals resample, see `capsbench.results.writers.resampled_units`."""
        return resampled_units(self.source, self.writers)

    def among(self, rows: npt.NDArray[np.bool_]) -> "Predictions":
        """The answers to some of the samples, ``[N]`` bool."""
        return Predictions(self.scores[rows], self.labels[rows], self.source[rows], self.writers)
