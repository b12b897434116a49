"""What a data file holds: its measures, its picture, and whether it is what its spec says."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import FloatArray, UInt8Array
from capsbench.durability import make_folder, storage_errors
from capsbench.errors import DigitsError
from capsbench.recipes import recipe_of
from capsbench.storage import DataFile

MEASURED = 100_000  # samples at most; evenly spread where there are more
CHUNK = 4096
PERCENTILES = (5, 50, 95)


@dataclass(frozen=True)
class Measure:
    """One fact about the samples of a file.

    Attributes:
        name: What is measured, and in which unit.
        mean: Over the samples that were looked at; the percentiles likewise.
        percentiles: The 5th, 50th and 95th.
        samples: How many were looked at.
    """

    name: str
    mean: float
    percentiles: tuple[float, float, float]
    samples: int


def measure(file: DataFile) -> list[Measure]:
    """The measures of a file's samples, as its generator defines them; of 100,000 evenly spread ones at most.

    Raises:
        DigitsError: They need the digits, which are not here.
    """
    sampler = recipe_of(file.spec, file.digits).sampler
    number = min(len(file), MEASURED)
    chosen = np.arange(number) * len(file) // number
    parts: list[Mapping[str, FloatArray]] = [
        sampler.measures(file.batch(chosen[start : start + CHUNK])) for start in range(0, number, CHUNK)
    ]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return [
        Measure(name, float(array.mean()), tuple(np.percentile(array, PERCENTILES).tolist()), number)
        for name, array in values.items()
    ]


def classes(file: DataFile) -> dict[str, Any]:
    """How many samples show each class and, for pairs, how many kinds of pairs there are and how many are of one class."""
    labels = np.asarray(file.labels)
    counts: dict[str, Any] = {"classes": np.bincount(labels.ravel(), minlength=10).tolist()}
    if labels.ndim == 2:
        low, high = labels.min(1).astype(int), labels.max(1).astype(int)
        counts["kinds of pairs"] = len(np.unique(10 * low + high))
        counts["pairs of one class"] = int((low == high).sum())
    return counts


def preview(file: DataFile, out: Path, *, rows: int = 4, columns: int = 12) -> int:
    """Draws a file's first samples with their labels, pairs with their two digits in two colours.

    Args:
        file: The file.
        out: The PNG to write; its folder is made.
        rows: Rows of samples.
        columns: Samples a row.

    Returns:
        How many samples were drawn.

    Raises:
        StorageError: The PNG cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    number = min(rows * columns, len(file))
    rows = -(-number // columns)
    pixels, drawn = _coloured(file, np.arange(number))
    height, width = file.images.shape[1:]
    figure = Figure(figsize=(columns, rows * (height / width + 0.25) + 0.5), dpi=100, layout="constrained")
    figure.suptitle(
        f"{file.spec.generator}, {file.spec.split}, seed {file.spec.seed}: samples 0 to {number - 1}{drawn}"
    )
    for index, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.set_axis_off()
        if index < number:
            label = np.atleast_1d(file.labels[index])
            axes.imshow(pixels[index], interpolation="nearest")
            axes.set_title(" + ".join(map(str, label)), fontsize=9, pad=2)
    make_folder(out.absolute().parent)
    with storage_errors(out):
        FigureCanvasAgg(figure).print_png(str(out))
    return number


ORANGE, BLUE = (230, 159, 0), (86, 180, 233)  # Okabe and Ito's, which colour-blind readers tell apart


def _coloured(file: DataFile, indices: npt.NDArray[np.int64]) -> tuple[UInt8Array, str]:
    """``[n, H, W, 3]`` uint8, and what the title says of the colours."""
    images = file.images[indices]
    grey = np.repeat(images[..., None], 3, 3)
    if file.labels.ndim == 1:
        return grey, ""
    try:
        layers = file.layers(indices).astype(np.float64)
    except DigitsError:
        return grey, " (in grey: its digits are not here)"
    colours = np.array([ORANGE, BLUE])
    mixed = np.einsum("nkhw,kc->nhwc", layers, colours) / 255
    return np.minimum(mixed, 255).astype(np.uint8), " (first digit orange, second blue)"
