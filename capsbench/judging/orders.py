"""Scores in another order than they should be: classes from 1 on, or rows sorted by name, give answers near chance.

What is looked for: any other order of the classes; rows that are shifted by any number, reversed, sorted by class as
folders of classes are, sorted as text (0, 1, 10, 100, ...), or with the variants of a digit side by side.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from capsbench.contracts import CLASSES, FloatArray, IndexArray
from capsbench.evaluation.predictions import Predictions

FEWEST = 50  # images: of fewer, chance finds an order that fits
MANY = 0.01  # of the images: fewer ties change no figure by more than its interval
GAIN = 0.2  # of accuracy: an order that gains less is not worth a warning


def other_order(predictions: Predictions) -> str:
    """A sentence about another order in which the scores would be far better; nothing where there is none."""
    right = float(predictions.correct.mean())
    if len(predictions.scores) < FEWEST or right > 1 - GAIN:
        return ""
    found = [(float(ordered.correct.mean()), told) for told, ordered in _orders(predictions)]
    best, told = max(found, key=lambda one: one[0])
    return f"{right:.1%} of the answers are right; {told} it would be {best:.1%}." if best - right >= GAIN else ""


def ties(predictions: Predictions) -> str:
    """A sentence about answers that equal scores leave open, as where small numbers were rounded; nothing of few."""
    asked = predictions.labels.reshape(len(predictions.labels), -1).shape[1]  # two of pairs
    falling = -np.sort(-predictions.scores, axis=1)
    tied = int((falling[:, asked - 1] == falling[:, asked]).sum())
    if tied < MANY * len(falling):
        return ""
    return (
        f"{tied:,} of {len(falling):,} images have equal scores where the answer is decided; of equal ones the class "
        "with the lowest number is taken. Logits, or probabilities in float32 or float64, do not become equal."
    )


def _orders(predictions: Predictions) -> Iterator[tuple[str, Predictions]]:
    shown = _of_classes(predictions.labels.reshape(len(predictions.labels), -1))
    named = _of_classes(predictions.highest(predictions.labels.reshape(len(shown), -1).shape[1]))
    classes = _classes(named, shown)
    column = np.argsort(classes)  # of each class
    meant = ", ".join(map(str, classes.tolist()))
    yield f"if the columns stood for the classes {meant},", replace(predictions, scores=predictions.scores[:, column])
    for told, rows in _rows(predictions, named, shown):
        yield told, replace(predictions, scores=predictions.scores[rows])


def _of_classes(labels: npt.NDArray[np.integer]) -> FloatArray:
    """``[N, classes]``: 1 for each of an image's ``[N, k]``."""
    found = np.zeros((len(labels), CLASSES))
    np.put_along_axis(found, labels.astype(np.int64), 1, axis=1)
    return found


def _classes(named: FloatArray, shown: FloatArray) -> IndexArray:
    """``[classes]``: which class each column would stand for, so that most answers are right."""
    from scipy.optimize import linear_sum_assignment  # takes a while to import, and most scores are in order

    _, classes = linear_sum_assignment(named.T @ shown, maximize=True)
    return np.asarray(classes, np.int64)


def _rows(predictions: Predictions, named: FloatArray, shown: FloatArray) -> Iterator[tuple[str, IndexArray]]:
    """Orders of the rows: for each image, the row that would be its own."""
    count = len(named)
    every = np.arange(count)
    yield "if the rows were reversed", every[::-1]
    hits = np.fft.irfft((np.conj(np.fft.rfft(named, axis=0)) * np.fft.rfft(shown, axis=0)).sum(1), count)
    shift = int(hits.argmax())  # the row r is of image r + shift
    steps = shift if shift <= count // 2 else shift - count
    yield f"if each row were {abs(steps)} further {'down' if steps > 0 else 'up'}", (every - shift) % count
    first = predictions.labels.reshape(count, -1)[:, 0]
    yield "if the rows were sorted by class, as folders of classes are,", _place(np.argsort(first, kind="stable"))
    yield (
        "if the rows were sorted as text (0, 1, 10, 100, ...)",
        _place(np.array(sorted(every.tolist(), key=str), np.int64)),
    )
    digits = int(predictions.base.max()) + 1
    if 1 < digits < count and count % digits == 0:
        together = np.lexsort((every // digits, every % digits))
        yield "if the variants of a digit stood side by side", _place(together)


def _place(images: IndexArray) -> IndexArray:
    """For each image its row, from the image of each row."""
    place = np.empty_like(images)
    place[images] = np.arange(len(images))
    return place
