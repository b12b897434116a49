"""Accuracy against the factors of an affine map: where all of them vary at once, and where one varies alone."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import FloatArray, IndexArray
from capsbench.data.samples import Subset
from capsbench.evaluation.accuracy import accuracy
from capsbench.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from capsbench.data.streaming import Stream

EDGES: Mapping[str, Sequence[float]] = {
    "rotation": (-20, -15, -10, -5, 0, 5, 10, 15, 20),
    "shear": (-0.2, -0.15, -0.1, -0.05, 0, 0.05, 0.1, 0.15, 0.2),
    "scale_x": (0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2),
    "scale_y": (0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2),
    "translation": (0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5, 16.5),
}
"""The bins: affNIST's ranges in eight; of the translation some that whole pixels fall into."""


def factors(transform: npt.NDArray[np.float32]) -> dict[str, FloatArray]:
    """Each factor of a map ``[N]``, from ``[N, 6]`` (rotation, shear, scale_y, scale_x, dy, dx).

    Rotation in degrees, shear a ratio, the scales factors, translation as `displacement` has it.
    """
    rotation, shear, scale_y, scale_x, _, _ = transform.T.astype(np.float64)
    translation = displacement(transform[:, 4:])
    return {
        "rotation": rotation,
        "shear": shear,
        "scale_x": scale_x,
        "scale_y": scale_y,
        "translation": translation,
    }


def displacement(moves: npt.NDArray[Any]) -> FloatArray:
    """``[N]`` pixels, the larger of ``|dy|`` and ``|dx|``, of ``[N, 2]``."""
    largest: FloatArray = np.abs(moves.astype(np.float64)).max(1)
    return largest


def by_factor(predictions: Predictions, transform: npt.NDArray[np.float32]) -> dict[str, list[dict[str, Any]]]:
    """For each factor the accuracy in its bins, whatever the other factors are; see `binned`.

    Args:
        predictions: For N samples.
        transform: ``[N, 6]``, how each was drawn.
    """
    return {name: binned(predictions, values, EDGES[name]) for name, values in factors(transform).items()}


def binned(predictions: Predictions, values: FloatArray, edges: Sequence[float]) -> list[dict[str, Any]]:
    """The accuracy in each bin that has samples: its edges ``low`` and ``high`` beside its counts.

    The first and the last bin include the values beyond them.

    Args:
        predictions: For N samples.
        values: ``[N]`` what they are sorted by.
        edges: Ascending; a value on one falls into the bin above it.
    """
    bins = np.searchsorted(np.asarray(edges)[1:-1], values, side="right")
    points = []
    for number, (low, high) in enumerate(pairwise(edges)):
        inside = bins == number
        if inside.any():
            points.append({"low": float(low), "high": float(high), **_counted(predictions.among(inside))})
    return points


def near(stream: "Stream", reach: float) -> Subset:
    """Of each digit the first variant that is moved by no more than ``reach`` pixels; digits without one are left out.

    affnist moves a digit anywhere on the canvas, which hurts more than any other factor. A test of another factor must
    not depend on that; and of positions drawn evenly those within reach are even, too.
    """
    digits = len(stream.recipe.digits)
    rows = np.full(digits, -1)
    for variant in range(len(stream) // digits):  # most digits have one among the first
        left = np.flatnonzero(rows < 0)
        within = left[displacement(_transforms(stream, variant * digits + left)[:, 4:]) <= reach]
        rows[within] = variant * digits + within
    return Subset(stream, rows[rows >= 0])


def _transforms(stream: "Stream", indices: IndexArray) -> npt.NDArray[np.float32]:
    """How samples are warped, ``[n, 6]``; their images are drawn only where the sampler offers no other way."""
    offered: Any = getattr(stream.recipe.sampler, "transforms", None)
    transform: npt.NDArray[np.float32] | None = offered(indices) if offered else stream.batch(indices).transform
    assert transform is not None
    return transform


def one_at_a_time(
    predict: Callable[[str], Predictions], tests: Mapping[str, Mapping[float, str]]
) -> dict[str, list[dict[str, Any]]]:
    """For each factor the accuracy at each of its values, ``value`` beside its counts; a test is answered once.

    Args:
        predict: Answers a test by its name.
        tests: Factor -> value -> the test of it, of samples that are `near`; the neutral value of one factor is the
            same test as that of another.
    """
    known: dict[str, dict[str, Any]] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    for factor, members in tests.items():
        found[factor] = []
        for value, name in members.items():
            if name not in known:
                known[name] = _counted(predict(name))
            found[factor].append({"value": float(value), **known[name]})
    return found


def _counted(predictions: Predictions) -> dict[str, Any]:
    return accuracy(predictions).to_dict(answers=False)
