"""What a data file holds: its classes, and its measures as its generator defines them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from capsbench.contracts import CLASSES, ArrayBatch, IndexArray
from capsbench.data.samples import Samples
from capsbench.errors import DataFileError
from capsbench.files.datafile import DataFile

MEASURED = 100_000  # samples at most, evenly spread
AT_ONCE = 4096  # samples that are read at a time
MANY = 2**20  # labels at a time
PERCENTILES = (5, 50, 95)


@dataclass(frozen=True)
class Measure:
    """One fact about the samples of a file.

    Attributes:
        name: The quantity and its unit.
        mean: Over the measured samples, like the percentiles.
        percentiles: The 5th, 50th and 95th.
        samples: How many were measured.
    """

    name: str
    mean: float
    percentiles: tuple[float, float, float]
    samples: int


def measure(file: DataFile) -> list[Measure]:
    """The measures of a file's samples, as its generator defines them; of at most 100,000 evenly spread ones.

    Raises:
        DigitsError: They need the digits, which were not found.
        DataFileError: This installation cannot draw the spec, or the samples are not its own.
    """
    if file.transform is not None and not np.isfinite(file.transform).all():
        raise DataFileError(f"{file.path}: a transform is not a number.")
    sampler = file.recipe().sampler
    chosen = evenly_spread(len(file), MEASURED)
    try:
        parts = [sampler.measures(batch) for batch in array_batches(file, chosen)]
    except IndexError:  # digests can be forged together with their data
        raise DataFileError(f"{file.path}: its samples have digits or shifts that its spec does not draw.") from None
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return [
        Measure(name, float(array.mean()), tuple(np.percentile(array, PERCENTILES).tolist()), len(chosen))
        for name, array in values.items()
    ]


def evenly_spread(count: int, most: int) -> IndexArray:
    """The indices of ``most`` of ``count`` samples, evenly spread; all of them if there are no more."""
    number = min(count, most)
    return np.arange(number) * count // number


def array_batches(data: Samples, indices: IndexArray) -> Iterator[ArrayBatch]:
    """Samples ``indices`` ``[n]`` of a file or a stream, in their order, `AT_ONCE` at a time."""
    for start in range(0, len(indices), AT_ONCE):
        yield data.batch(indices[start : start + AT_ONCE])


def classes(file: DataFile) -> dict[str, Any]:
    """The number of samples of each class; for pairs also of kinds, and of pairs with one class twice."""
    singles = np.zeros(CLASSES, np.int64)
    pairs = np.zeros((CLASSES, CLASSES), np.int64)  # by the lower and the higher class
    for start in range(0, len(file), MANY):
        labels = file.labels[start : start + MANY].astype(np.int64)
        singles += np.bincount(labels.ravel(), minlength=CLASSES)
        if labels.ndim == 2:
            kinds = CLASSES * labels.min(1) + labels.max(1)
            pairs += np.bincount(kinds, minlength=pairs.size).reshape(pairs.shape)
    counts: dict[str, Any] = {"classes": singles.tolist()}
    if file.labels.ndim == 2:
        counts["kinds of pairs"] = int(np.count_nonzero(pairs))
        counts["pairs of one class"] = int(pairs.trace())
    return counts
