"""The real affNIST beside ours: ink, transforms, and whether its transforms mean what ours do.

The author of affNIST does not state a complete convention of its transforms: signs, axes and their order are open. If
we have the digits of an imported file, we draw samples from them by our convention and compare their pixels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from capsbench.contracts import FloatArray, IndexArray, UInt8Array
from capsbench.data.digits import digits_of_spec
from capsbench.data.streaming import Stream, stream
from capsbench.errors import DataFileError, DigitsError
from capsbench.files.datafile import DataFile
from capsbench.files.inspection import MEASURED, PERCENTILES, array_batches, evenly_spread
from capsbench.geometry import WARP_CANVAS, WarpTable, ink_boxes, inverse_coefficients

REDRAWN = 300

FACTORS = (
    "rotation (degrees)", "shear", "scale, vertical", "scale, horizontal",
    "translation, vertical", "translation, horizontal",
)  # fmt: skip
INK = ("ink: top", "ink: left", "ink: height", "ink: width", "ink: to the edge")
"""Of the box of all pixels above 0, in pixels; the last is the smallest distance of its sides to the edges."""

PLAUSIBLE = np.array([180, 2, 4, 4, WARP_CANVAS, WARP_CANVAS], np.float64)
SMALLEST_SCALE = 0.25
"""Limits of the factors of a sample that is redrawn: the ranges that our affnist accepts."""


OURS = "ours"


@dataclass(frozen=True)
class Spread:
    """The distribution of a number over samples: mean, least, 5th, 50th and 95th percentile, greatest."""

    mean: float
    least: float
    percentiles: tuple[float, float, float]
    greatest: float


@dataclass(frozen=True)
class FactorComparison:
    """One number in both data sets.

    Attributes:
        name: The number and its unit.
        imported: Its spread over the imported samples.
        ours: Its spread over ours.
        distance: The two-sample distance of Kolmogorov and Smirnov: 0 for equal distributions, 1 for separate ones.
    """

    name: str
    imported: Spread
    ours: Spread
    distance: float


@dataclass(frozen=True)
class Redrawing:
    """Mean absolute differences, in grey levels, of imported samples from samples redrawn from the digits.

    Attributes:
        samples: How many were drawn.
        ours: With the transforms as our convention reads them.
        centred: Without a transform, for comparison.
        nearest: With the best reading of the transforms, among all signs, with axes swapped or not.
        reading: Which reading that is: ``"ours"``, or how it differs.
    """

    samples: int
    ours: float
    centred: float
    nearest: float
    reading: str


@dataclass(frozen=True)
class Agreement:
    """An imported file compared with our affnist.

    Attributes:
        samples: How many samples of each were compared.
        digits: The origin of our digits: ``"mnist"`` or ``"embedded"``.
        without_ink: How many imported samples are blank; they have no ink box.
        comparisons: Of every transform column and of the ink box.
        redrawing: None if it was not possible.
        not_redrawn: The reason, else empty.
    """

    samples: int
    digits: str
    without_ink: int
    comparisons: tuple[FactorComparison, ...]
    redrawing: Redrawing | None
    not_redrawn: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def measure_agreement(file: DataFile) -> Agreement:
    """Compares an imported file with affnist with its default ranges, the same split, seed 0, and as many samples.

    Raises:
        DataFileError: The contents of the file are not those of an imported one.
        DigitsError: The digits for our samples are damaged.
    """
    transform, shape = file.transform, (*file.labels.shape[1:], *file.images.shape[1:])
    if transform is None or shape != (WARP_CANVAS, WARP_CANVAS) or not np.isfinite(transform).all():
        raise DataFileError(f"{file.path}: its arrays are not those of an imported file.")
    chosen = evenly_spread(len(file), MEASURED)
    number = len(chosen)
    ours = stream("affnist", split=file.spec.split, count=number, digits=file.digits)
    theirs_seen, ours_seen = _seen(file, chosen), _seen(ours, np.arange(number))
    comparisons = [
        _compared(name, theirs_seen[name], ours_seen[name])
        for name in (*FACTORS, *INK)
        if theirs_seen[name].size and ours_seen[name].size
    ]
    redrawing = _redrawing(file)
    blank = number - len(theirs_seen[INK[0]])
    return Agreement(
        samples=number,
        digits=ours.recipe.digits.origin,
        without_ink=blank,
        comparisons=tuple(comparisons),
        redrawing=redrawing if isinstance(redrawing, Redrawing) else None,
        not_redrawn=redrawing if isinstance(redrawing, str) else "",
    )


def ink_margins(images: UInt8Array) -> FloatArray:
    """``[m, 5]``, as `INK` has it, of the ``[n, H, W]`` images that have ink."""
    inked: npt.NDArray[np.bool_] = np.logical_or.reduce(np.greater(images, 0), (1, 2))
    top, left, height, width = ink_boxes(images[inked]).T
    below, right = images.shape[1] - top - height, images.shape[2] - left - width
    edge = np.minimum(np.minimum(top, below), np.minimum(left, right))
    return np.stack([top, left, height, width, edge], 1).astype(np.float64)


def _seen(data: DataFile | Stream, chosen: IndexArray) -> Mapping[str, FloatArray]:
    """Every number of some samples, by name."""
    boxes, transforms = [], []
    for batch in array_batches(data, chosen):
        assert batch.transform is not None
        boxes.append(ink_margins(batch.images))
        transforms.append(batch.transform.astype(np.float64))
    columns = (*np.concatenate(transforms).T, *np.concatenate(boxes).T)
    return dict(zip((*FACTORS, *INK), columns, strict=True))


def _compared(name: str, imported: FloatArray, ours: FloatArray) -> FactorComparison:
    from scipy.stats import ks_2samp  # which takes half a second, and files are made without it

    distance = ks_2samp(imported, ours, method="asymp").statistic
    return FactorComparison(name, _spread(imported), _spread(ours), float(distance))


def _spread(values: FloatArray) -> Spread:
    low, middle, high = np.percentile(values, PERCENTILES).tolist()
    return Spread(float(values.mean()), float(values.min()), (low, middle, high), float(values.max()))


def _redrawing(file: DataFile) -> Redrawing | str:
    """Redraws some samples; or the reason why that is not possible."""
    assert file.transform is not None
    if not file.spec.digits_known:
        return "the digits of the file are unknown"
    try:
        digits = digits_of_spec(file.spec, file.digits)
    except DigitsError as error:
        return str(error).split("\n")[0]
    chosen = evenly_spread(len(file), REDRAWN)
    source, transform = file.source[chosen].astype(np.int64), file.transform[chosen].astype(np.float64)
    drawable = (np.abs(transform) <= PLAUSIBLE).all(1) & (transform[:, 2:4] >= SMALLEST_SCALE).all(1)
    drawable &= (source >= 0) & (source < len(digits))
    if not drawable.any():
        return "no sample has a transform that we can draw"
    table = WarpTable(digits.images[source[drawable]])
    images, transform = file.images[chosen[drawable]].astype(np.int16), transform[drawable]
    rows = np.arange(len(images))

    def apart(read: FloatArray) -> float:
        return float(np.abs(table.warp(rows, inverse_coefficients(read)) - images).mean())

    readings = {name: apart(read) for name, read in _readings(transform)}
    nearest = min(readings, key=lambda name: readings[name])  # ours, the first one, if others are equal
    still = np.broadcast_to(np.array([0.0, 0, 1, 1, 0, 0]), transform.shape)
    return Redrawing(len(images), readings[OURS], apart(still), readings[nearest], nearest)


def _readings(transform: FloatArray) -> Iterator[tuple[str, FloatArray]]:
    """Every reading of ``[n, 6]`` transforms that is tried, with its name, ours first."""
    turnable = (0, 1, 4, 5)  # a scale has no sign
    words = ("rotation", "shear", "vertical translation", "horizontal translation")
    for swapped, signs in product((False, True), product((1, -1), repeat=len(turnable))):
        read = transform[:, [0, 1, 3, 2, 5, 4]].copy() if swapped else transform.copy()
        read[:, turnable] *= signs
        other = ["vertical and horizontal swapped"] if swapped else []
        other += [f"{word} of the other sign" for word, sign in zip(words, signs, strict=True) if sign < 0]
        yield ", ".join(other) or OURS, read


def agreement_text(facts: Mapping[str, Any]) -> list[str]:
    """The lines of text for `Agreement.to_dict`."""
    rows = []
    for one in facts["comparisons"]:
        for name, data in ((one["name"], "imported"), ("", "ours")):
            spread = one[data]
            values = (spread["mean"], spread["least"], *spread["percentiles"], spread["greatest"])
            rows.append([name, data, *values, one["distance"] if name else None])
    headers = ["", "", "mean", "least", "5 %", "median", "95 %", "greatest", "distance"]
    table = tabulate(rows, headers, tablefmt="plain", floatfmt=".3f")
    lines = [
        f"  beside      {facts['samples']:,} samples of our affnist, seed 0, digits {facts['digits']} "
        "(distance: Kolmogorov and Smirnov's, 0 to 1)",
        *(f"    {line}" for line in table.split("\n")),
    ]
    if facts["without_ink"]:
        lines.append(f"  no ink      {facts['without_ink']:,} imported samples")
    return [*lines, *(f"  redrawn     {line}" for line in _redrawing_text(facts))]


def _redrawing_text(facts: Mapping[str, Any]) -> list[str]:
    found = facts["redrawing"]
    if found is None:
        return [f"not: {facts['not_redrawn']}"]
    summary = (
        f"{found['samples']:,} samples by our convention: {found['ours']:.2f} grey levels off a pixel on average; "
        f"digits left in the middle: {found['centred']:.2f}"
    )
    if found["reading"] == OURS:
        return [summary, "no other choice of signs and axes comes nearer"]
    return [summary, f"nearest, {found['nearest']:.2f} off, with: {found['reading']}"]
