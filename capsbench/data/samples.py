"""The interface that a data file, a stream and a subset of either share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from capsbench.contracts import ArrayBatch, IndexArray, UInt8Array
from capsbench.spec import DataSpec


class Samples(Protocol):
    """A data file (`capsbench.files.datafile`), a stream or a subset, as training and evaluation use it."""

    @property
    def spec(self) -> DataSpec:
        """Everything that determines the samples."""

    def __len__(self) -> int: ...

    def batch(self, indices: IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]``."""

    def layers(self, indices: IndexArray) -> UInt8Array:
        """``[n, k, H, W]`` uint8: each digit alone."""


class SampleColumns(ABC):
    """The columns beside the images, and batches by slices, as a file and a stream both offer them."""

    @abstractmethod
    def batch(self, indices: "Sequence[int] | IndexArray | slice") -> ArrayBatch:
        """Samples ``indices`` ``[n]``."""

    def __getitem__(self, index: "slice | Sequence[int] | IndexArray") -> ArrayBatch:
        """Some samples, as `batch` gives them: ``data[10:20]``, ``data[[3, 1]]``.

        Raises:
            TypeError: It is one number, as torch's loader asks for: a sample has several arrays, not one value.
        """
        if isinstance(index, int | np.integer):
            raise TypeError(
                f"data[{index}] is not one value. An image and its label as tensors: "
                f"capsbench.SampleDataset(data)[{index}], also for DataLoader(capsbench.SampleDataset(data)); all "
                f"arrays of some samples: data.batch([{index}]) or data[{index}:{int(index) + 1}]."
            )
        return self.batch(index)

    @abstractmethod
    def _arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """The array of every sample, by column."""

    @property
    def labels(self) -> UInt8Array:
        """``[N]`` or ``[N, 2]`` uint8. The first use of this or of the next four draws every sample of a stream."""
        return self._arrays()["labels"]

    @property
    def source(self) -> npt.NDArray[np.int32]:
        """``[N]`` or ``[N, 2]`` int32, the index of each digit in its split."""
        return self._arrays()["source"]

    @property
    def shift(self) -> npt.NDArray[np.int8] | None:
        """``[N, 2]`` or ``[N, 2, 2]`` int8 (dy, dx), where the generator shifts."""
        return self._arrays().get("shift")

    @property
    def transform(self) -> npt.NDArray[np.float32] | None:
        """``[N, 6]`` float32 (rotation in degrees, shear, scale_y, scale_x, dy, dx), where the generator warps."""
        return self._arrays().get("transform")

    @property
    def scraps(self) -> UInt8Array | None:
        """``[N]`` uint8, how many pieces of other digits each image has, where the generator strews them."""
        return self._arrays().get("scraps")


@dataclass(frozen=True)
class Subset:
    """Some samples of a data set, with its interface.

    Attributes:
        data: The whole.
        rows: ``[n]`` int64, which of its samples.
        layer: Which digit the images show, without the others; None shows the images as they are.
    """

    data: Samples
    rows: IndexArray
    layer: int | None = None

    @property
    def spec(self) -> DataSpec:
        """That of the whole."""
        return self.data.spec

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]`` of the subset."""
        batch = self.data.batch(self.rows[indices])
        return batch if self.layer is None else replace(batch, images=self.layers(indices)[:, self.layer])

    def layers(self, indices: IndexArray) -> UInt8Array:
        """``[n, k, H, W]`` uint8: each digit alone."""
        return self.data.layers(self.rows[indices])

    @property
    def writers(self) -> npt.NDArray[np.int32] | None:
        """Who wrote each digit of the whole's split; see `writers_of`."""
        return writers_of(self.data)


def writers_of(samples: Samples) -> npt.NDArray[np.int32] | None:
    """``[digits]`` int32: who wrote each test digit, by the numbers in `Batch.source`.

    None where it is not known, which includes samples that a user made without ``writers``, and of digits to train
    with: a result keeps the writers of its test digits alone.
    """
    written: npt.NDArray[np.int32] | None = getattr(samples, "writers", None)
    return written if samples.spec.split == "test" else None


def checked_indices(indices: Sequence[int] | IndexArray | slice, count: int) -> IndexArray:
    """Indices of samples as an array ``[n]``, checked alike for files and streams.

    Args:
        indices: Whole numbers, in any order; they may repeat. Or a slice, as Python reads it.
        count: How many samples there are.

    Raises:
        TypeError: They are not a list of whole numbers: a mask or a fraction would quietly give other samples.
        IndexError: There is no such sample; a negative index does not count from the end.
    """
    chosen = np.arange(*indices.indices(count)) if isinstance(indices, slice) else np.asarray(indices)
    if chosen.size and chosen.dtype.kind not in "iu":  # an empty list is of float64
        way_out = "; for a mask use np.flatnonzero(mask)" if chosen.dtype.kind == "b" else ""
        raise TypeError(f"Indices of samples must be whole numbers, got {chosen.dtype}{way_out}.")
    if chosen.ndim != 1:
        raise TypeError(f"Indices of samples must be a list of whole numbers, got an array of shape {chosen.shape}.")
    if chosen.size and not 0 <= int(chosen.min()) <= int(chosen.max()) < count:
        raise IndexError(f"Indices of samples must be 0..{count - 1}, got {chosen.min()}..{chosen.max()}.")
    return chosen.astype(np.int64)
