"""How often a network is right, with the interval over base digits; and the gap between two data sets."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.evaluation.predictions import Predictions
from capsbench.results.answers import Answers
from capsbench.results.writers import resampled_units
from capsbench.statistics import (
    Interval,
    digit_sums,
    pair_interval,
    resampled_interval,
    share_interval,
    unpaired_interval,
    writers_interval,
)


@dataclass(frozen=True)
class Accuracy:
    """How often a model was right.

    Attributes:
        correct: Number of right answers.
        total: Number of samples.
        interval: 95 % interval of the share, over resampled base digits, or their writers where they are known.
        answers: Which samples it was right on, where those come in the order of a data set.
        mistakes: What it said instead, see `Predictions.mistakes`.
    """

    correct: int
    total: int
    interval: Interval
    answers: Answers | None = field(default=None, compare=False, repr=False)
    mistakes: str | None = field(default=None, compare=False, repr=False)

    @property
    def share(self) -> float:
        """Right answers over samples, 0..1."""
        return self.correct / self.total

    def to_dict(self, *, answers: bool = True) -> dict[str, Any]:
        """As plain JSON types; with ``answers`` comes what `capsbench.report.comparison` pairs, where it is known."""
        counts = {"share": self.share, "correct": self.correct, "total": self.total, "interval": list(self.interval)}
        if not (self.answers and answers):
            return counts
        return counts | self.answers.to_dict() | ({} if self.mistakes is None else {"mistakes": self.mistakes})


def accuracy(predictions: Predictions) -> Accuracy:
    """How often all digits of an image are named right; of pairs the interval takes both digits for units."""
    correct = predictions.correct
    interval = interval_of(correct, predictions.source, predictions.writers)
    answers = Answers.in_order(correct, predictions.base, predictions.writers)
    return Accuracy(int(correct.sum()), len(correct), interval, answers, predictions.mistakes)


def interval_of(
    correct: npt.NDArray[np.bool_],
    source: npt.NDArray[np.integer[Any]],
    writers: npt.NDArray[np.integer[Any]] | None,
) -> Interval:
    """The 95 % interval of a share of right answers, over the digits of images, or over their writers.

    Args:
        correct: ``[N]`` whether each answer was right.
        source: ``[N]`` or ``[N, 2]`` the digits that each image shows.
        writers: ``[digits]`` who wrote each; None where it is not known.
    """
    unit = resampled_units(source, writers)
    if unit.ndim == 2:
        return pair_interval(correct.astype(np.float64), unit)
    return share_interval(correct, unit) if unit is source else writers_interval(correct, unit)


def gap(clean: Predictions, transformed: Predictions) -> dict[str, Any]:
    """Clean minus transformed accuracy, with its interval over resampled base digits or writers, which both share.

    Where the transformed set shows a part of the digits only, nothing is paired.
    """
    if not np.array_equal(np.unique(clean.base), np.unique(transformed.base)):
        return unpaired_gap(clean, transformed)
    share = float(clean.correct.mean() - transformed.correct.mean())
    (right, shown), (still_right, transformed_shown) = (
        digit_sums(one.correct, resampled_units(one.base, clean.writers)) for one in (clean, transformed)
    )
    interval = resampled_interval(np.stack([right, -still_right]), np.stack([shown, transformed_shown]))
    return {"share": share, "interval": list(interval)}


def unpaired_gap(clean: Predictions, transformed: Predictions) -> dict[str, Any]:
    """Clean minus transformed accuracy of sets that show other digits, with the interval of two independent shares."""
    ours, theirs = accuracy(clean), accuracy(transformed)
    interval = unpaired_interval((theirs.share, theirs.interval), (ours.share, ours.interval))
    return {"share": ours.share - theirs.share, "interval": list(interval)}
