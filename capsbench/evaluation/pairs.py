"""What is drawn of pairs of digits, by a network and without one: does it take them apart, is there what is not there.

Everything goes part by part, so that memory does not grow with the number of pairs.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from capsbench.contracts import CLASSES, ArrayBatch, FloatArray, IndexArray, UInt8Array
from capsbench.data.loading import Part, Samples
from capsbench.evaluation.inference import Predictions, reconstruct
from capsbench.evaluation.segmentation import SegmentationTally

PART = 1000  # pairs whose drawings are in memory at a time: 26 MB at 36x36
INK = 0.5  # of white

GIVEN = ("true labels", "found labels", "each layer alone")
"""What a network is given to take an image apart by; the last is shown each layer without the other."""


def measure_drawings(
    model: torch.nn.Module, test: Samples, answers: Predictions, *, device: str = "cpu"
) -> dict[str, Any]:
    """How well a network takes pairs apart by its reconstructions, and what it draws of digits that are not there.

    Args:
        model: The network; its mode is put back after.
        test: Pairs.
        answers: The network's, to these pairs.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        ``"segmentation"``, a `capsbench.evaluation.segmentation.Segmentation` for each of `GIVEN`, and ``"absent"``:
        for the
        pixels of ink in a drawing, for whether it has any, and for the score, the mean over digits that are there
        (``"present"``), over those that are not (``"absent"``), and how often one that is there has more (``"auc"``).
        Summed ink would say nothing: a decoder of zeros draws grey. Both are empty where a network does not
        reconstruct.
    """
    labels = answers.labels.astype(np.int64)
    absent = absent_digits(answers.labels)
    answered = answered_digits(answers)
    tallies = {given: SegmentationTally() for given in GIVEN}
    ink: list[npt.NDArray[np.int64]] = []  # [n, 3] pixels of both digits, and of the absent one
    for rows, batch, layers in _parts(test):
        asked = np.column_stack([labels[rows], absent[rows], answered[rows]])
        drawn = reconstruct(model, Part(test, rows), asked, device=device)
        if drawn is None:
            return {"segmentation": {}, "absent": {}}
        alone = [
            reconstruct(model, Part(test, rows, layer=k), labels[rows, k : k + 1], device=device)
            for k in range(labels.shape[1])
        ]
        shown = np.concatenate([one for one in alone if one is not None], 1)
        tallies["true labels"].add(drawn[:, :2], layers, batch.images)
        tallies["found labels"].add(drawn[:, 3:], layers, batch.images, answers.hits[rows])
        tallies["each layer alone"].add(shown, layers, batch.images)
        ink.append((drawn[:, :3] >= INK).sum((2, 3)))
    pixels = np.concatenate(ink)
    there, not_there = pixels[:, :2].ravel(), pixels[:, 2]
    scores = np.take_along_axis(answers.scores, np.column_stack([labels, absent]), 1)
    return {
        "segmentation": {given: tally.score().to_dict() for given, tally in tallies.items()},
        "absent": {
            "pixels of ink": _compared(there, not_there),
            "any ink": _compared(there > 0, not_there > 0),
            "score": _compared(scores[:, :2].ravel(), scores[:, 2]),
        },
    }


def references(test: Samples, means: FloatArray) -> dict[str, dict[str, float]]:
    """How well pairs are taken apart without a network; a weak decoder loses to some of these.

    Args:
        test: Pairs with shifts.
        means: ``[classes, 28, 28]`` 0..1, the mean image of each class.

    Returns:
        A name to a `capsbench.evaluation.segmentation.Segmentation` as plain JSON types.
    """
    tallies: dict[str, SegmentationTally] = {}
    for _, batch, layers in _parts(test):
        assert batch.shift is not None
        drawn = {
            "the image for both": np.repeat(batch.images[:, None] / 255, 2, axis=1),
            "class means, centred": placed(means, batch.labels, np.zeros_like(batch.shift), layers.shape[-1]),
            "class means, at the true places": placed(means, batch.labels, batch.shift, layers.shape[-1]),
            "the true layers": layers / 255,
        }
        for name, one in drawn.items():
            tallies.setdefault(name, SegmentationTally()).add(one, layers, batch.images)
    return {name: tally.score().to_dict() for name, tally in tallies.items()}


def absent_digits(labels: UInt8Array) -> IndexArray:
    """``[N]``, for pairs of labels ``[N, 2]``: one of the eight digits that are not there, the same at every call."""
    absent = np.random.default_rng(0).integers(0, CLASSES - 2, len(labels))
    for label in np.sort(labels, axis=1).T:  # the lower one first: what is not below it moves up by one
        absent += absent >= label
    return absent


def answered_digits(answers: Predictions) -> IndexArray:
    """``[N, 2]``: the two highest scores; what is right at the place of its label, the rest where there is room."""
    labels = answers.labels.astype(np.int64)
    highest = np.argsort(-answers.scores, axis=1, kind="stable")[:, :2]
    answered = np.where(answers.hits, labels, -1)
    for answer in highest.T:  # into the first place that is still free, unless it stands already
        free = (answered < 0) & (answer[:, None] != labels).all(1, keepdims=True)
        first = free & (np.cumsum(free, axis=1) == 1)
        answered = np.where(first, answer[:, None], answered)
    return answered


def placed(means: FloatArray, labels: UInt8Array, shift: npt.NDArray[np.int8], size: int) -> FloatArray:
    """``[N, 2, size, size]``: each digit's class mean ``[28, 28]``, its frame's corner at the margin plus (dy, dx)."""
    side = means.shape[-1]
    drawn = np.zeros((*labels.shape, size, size))
    for n, k in np.ndindex(*labels.shape):
        top, left = (size - side) // 2 + shift[n, k].astype(int)
        drawn[n, k, top : top + side, left : left + side] = means[labels[n, k]]
    return drawn


def _parts(test: Samples) -> Iterator[tuple[IndexArray, ArrayBatch, UInt8Array]]:
    """The rows of each part, its samples, and its layers."""
    for start in range(0, len(test), PART):
        rows = np.arange(start, min(start + PART, len(test)))
        yield rows, test.batch(rows), test.layers(rows)


def _compared(present: npt.NDArray[Any], absent: npt.NDArray[Any]) -> dict[str, float]:
    """Both means, and the AUC from Mann and Whitney's U; a tie counts half."""
    ranks = stats.rankdata(np.concatenate([present, absent]))  # float64, whatever is ranked
    above = ranks[: present.size].sum() - present.size * (present.size + 1) / 2
    auc = above / (present.size * absent.size)
    means = {"present": float(present.mean(dtype=np.float64)), "absent": float(absent.mean(dtype=np.float64))}
    return means | {"auc": float(auc)}
