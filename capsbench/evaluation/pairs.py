"""Pairs of digits: how many are found, and whether a network's reconstructions take an image apart.

Reconstructions go part by part, so that memory does not grow with the number of pairs.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from capsbench.contracts import CLASSES, ArrayBatch, FloatArray, IndexArray, Progress, UInt8Array, silent
from capsbench.data.samples import Samples
from capsbench.evaluation.accuracy import Accuracy
from capsbench.evaluation.predictions import Predictions
from capsbench.evaluation.segmentation import SegmentationTally
from capsbench.evaluation.subjects import Images
from capsbench.results.answers import Answers
from capsbench.statistics import pair_interval

PART = 1000  # pairs whose reconstructions are in memory at a time: 26 MB at 36x36
INK = 0.5  # of white

GIVEN = ("true labels", "found labels", "each layer alone")
"""From which labels a network reconstructs the two digits; for the last it sees each layer without the other."""


class Draw(Protocol):
    """Reconstructs some samples ``[n]`` of a test from classes ``[n, k]``; see `capsbench.evaluation.subjects`."""

    def __call__(self, rows: IndexArray, classes: IndexArray, layer: int | None = None) -> Images | None:
        """``[n, k, H, W]``, 0..1; None where there are none."""


def pair_accuracies(predictions: Predictions) -> dict[str, Accuracy]:
    """Of pairs: how often both digits are found (``exact pair``, the paper's), each (``per digit``), at least one.

    Their intervals know that a digit, or one of its writer's, is in several pairs, as the first or as the second.
    """
    hits, unit = predictions.hits, predictions.unit
    counts = {"exact pair": np.asarray(hits.all(1)), "at least one": np.asarray(hits.any(1))}
    found = {
        name: Accuracy(
            int(right.sum()),
            len(right),
            pair_interval(right.astype(np.float64), unit),
            Answers.in_order(right, predictions.base, predictions.writers),
            predictions.mistakes if name == "exact pair" else None,
        )
        for name, right in counts.items()
    }
    return {**found, "per digit": Accuracy(int(hits.sum()), hits.size, pair_interval(np.asarray(hits.mean(1)), unit))}


def measure_reconstructions(
    draw: Draw, test: Samples, predictions: Predictions, report: Progress = silent
) -> dict[str, Any]:
    """How well pairs are taken apart by reconstructions, and what is reconstructed of absent digits.

    Args:
        draw: Reconstructs samples of the test.
        test: Pairs.
        predictions: The answers to these pairs.
        report: Gets the number of pairs done, and the number of all.

    Returns:
        ``"segmentation"``: a `Segmentation` for each of `GIVEN`; the last is left out where layers alone are not
        reconstructed. ``"absent"``: for the pixels of ink in a reconstruction, for whether it has any, and for the
        score, the mean over digits that are in the image (``"present"``), over one that is not (``"absent"``), and how
        often a present one has more (``"auc"``). Summed ink would say nothing: a decoder of zeros makes grey images.
        Both are empty where nothing is reconstructed.
    """
    labels = predictions.labels.astype(np.int64)
    absent = absent_digits(predictions.labels)
    predicted = predicted_digits(predictions)
    tallies: dict[str, SegmentationTally] = {}
    ink: list[npt.NDArray[np.int64]] = []  # [n, 3] pixels of both digits, and of the absent one
    for rows, batch, layers in _parts(test):
        images = draw(rows, np.column_stack([labels[rows], absent[rows], predicted[rows]]))
        if images is None:
            return {"segmentation": {}, "absent": {}}
        alone = [draw(rows, labels[rows, k : k + 1], k) for k in range(labels.shape[1])]
        shown = [one for one in alone if one is not None]
        tally = {given: tallies.setdefault(given, SegmentationTally()) for given in GIVEN[: 3 if shown else 2]}
        tally["true labels"].add(images[:, :2], layers, batch.images)
        tally["found labels"].add(images[:, 3:], layers, batch.images, predictions.hits[rows])
        if shown:
            tally["each layer alone"].add(np.concatenate(shown, 1), layers, batch.images)
        ink.append((images[:, :3] >= INK).sum((2, 3)))
        report(int(rows[-1]) + 1, len(test))
    pixels = np.concatenate(ink)
    present, missing = pixels[:, :2].ravel(), pixels[:, 2]
    scores = np.take_along_axis(predictions.scores, np.column_stack([labels, absent]), 1)
    return {
        "segmentation": {given: tally.score().to_dict() for given, tally in tallies.items()},
        "absent": {
            "pixels of ink": _compared(present, missing),
            "any ink": _compared(present > 0, missing > 0),
            "score": _compared(scores[:, :2].ravel(), scores[:, 2]),
        },
    }


def references(test: Samples, means: FloatArray) -> dict[str, dict[str, float]]:
    """How well pairs are taken apart without a network; a weak decoder loses to some of these.

    Args:
        test: Pairs with shifts.
        means: ``[classes, 28, 28]`` 0..1, the mean image of each class.

    Returns:
        A name to a `Segmentation` as plain JSON types.
    """
    tallies: dict[str, SegmentationTally] = {}
    for _, batch, layers in _parts(test):
        assert batch.shift is not None
        images = {
            "the image for both": np.repeat(batch.images[:, None] / 255, 2, axis=1),
            "class means, centred": placed(means, batch.labels, np.zeros_like(batch.shift), layers.shape[-1]),
            "class means, at the true places": placed(means, batch.labels, batch.shift, layers.shape[-1]),
            "the true layers": layers / 255,
        }
        for name, one in images.items():
            tallies.setdefault(name, SegmentationTally()).add(one, layers, batch.images)
    return {name: tally.score().to_dict() for name, tally in tallies.items()}


def absent_digits(labels: UInt8Array) -> IndexArray:
    """``[N]``, for pairs of labels ``[N, 2]``: one of the eight absent digits, the same at every call."""
    absent = np.random.default_rng(0).integers(0, CLASSES - 2, len(labels))
    for label in np.sort(labels, axis=1).T:  # the lower one first: digits from it on move up by one
        absent += absent >= label
    return absent


def predicted_digits(predictions: Predictions) -> IndexArray:
    """``[N, 2]``: the classes of the two highest scores, each that is right at the place of its label."""
    labels = predictions.labels.astype(np.int64)
    predicted = np.where(predictions.hits, labels, -1)
    for digit in predictions.highest(2).T:  # into the first place that is still free, unless it has its place already
        free = (predicted < 0) & (digit[:, None] != labels).all(1, keepdims=True)
        first = free & (np.cumsum(free, axis=1) == 1)
        predicted = np.where(first, digit[:, None], predicted)
    return predicted


def placed(means: FloatArray, labels: UInt8Array, shift: npt.NDArray[np.int8], size: int) -> FloatArray:
    """``[N, 2, size, size]``: each digit's class mean ``[28, 28]``, its frame's corner at the margin plus (dy, dx)."""
    side = means.shape[-1]
    images = np.zeros((*labels.shape, size, size))
    for n, k in np.ndindex(*labels.shape):
        top, left = (size - side) // 2 + shift[n, k].astype(int)
        images[n, k, top : top + side, left : left + side] = means[labels[n, k]]
    return images


def _parts(test: Samples) -> Iterator[tuple[IndexArray, ArrayBatch, UInt8Array]]:
    """The rows of each part, its samples, and its layers."""
    for start in range(0, len(test), PART):
        rows = np.arange(start, min(start + PART, len(test)))
        yield rows, test.batch(rows), test.layers(rows)


def _compared(present: npt.NDArray[Any], absent: npt.NDArray[Any]) -> dict[str, float]:
    """Both means, and the AUC from Mann and Whitney's U; a tie counts half."""
    from scipy import stats  # takes a second to import

    # scipy ranks float32 in float32 from 1.18 on, and sums of these ranks would be rounded.
    ranks = stats.rankdata(np.concatenate([present, absent], dtype=np.float64))
    above = ranks[: present.size].sum() - present.size * (present.size + 1) / 2
    auc = above / (present.size * absent.size)
    means = {"present": float(present.mean(dtype=np.float64)), "absent": float(absent.mean(dtype=np.float64))}
    return means | {"auc": float(auc)}
