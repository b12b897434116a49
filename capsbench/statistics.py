"""Means over seeds, and intervals that know that variants of one digit are not independent."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from capsbench.contracts import FloatArray

Interval = tuple[float, float]
LEVEL = 0.95
RESAMPLES = 2000  # the ends of a 95 % interval then vary by about a fiftieth of its width
TOGETHER = 10  # resamples at a time, so that they stay in the cache


def digit_means(correct: npt.NDArray[np.bool_], source: npt.NDArray[np.int32]) -> FloatArray:
    """``[digits]`` float64: the share of right answers among each digit's variants, for the digits that occur."""
    digits, inverse = np.unique(source, return_inverse=True)
    counts = np.bincount(inverse, minlength=len(digits))
    return np.asarray(np.bincount(inverse, weights=correct, minlength=len(digits)) / counts)


def share_interval(correct: npt.NDArray[np.bool_], source: npt.NDArray[np.int32]) -> Interval:
    """The 95 % interval of a share of right answers, over base digits.

    Where a digit's variants are all right or all wrong, as where each has one, digits are independent draws of yes or
    no, and the interval is Clopper and Pearson's (1934): a bootstrap of few errors is too narrow, and of none has no
    width. Elsewhere base digits are resampled.

    Args:
        correct: ``[N]`` whether each answer was right.
        source: ``[N]`` the digit that each image shows.
    """
    means = digit_means(correct, source)
    if not np.isin(means, (0.0, 1.0)).all():
        return resampled_interval(means)
    return exact_interval(int(means.sum()), len(means))


def exact_interval(number: int, total: int) -> Interval:
    """Clopper and Pearson's (1934) 95 % interval of a share, from ``number`` of ``total`` independent trials."""
    from scipy import special  # takes a quarter of a second to import, and no report needs it

    outside = (1 - LEVEL) / 2
    low = special.betaincinv(number, total - number + 1, outside) if number else 0.0
    high = special.betaincinv(number + 1, total - number, 1 - outside) if number < total else 1.0
    return float(low), float(high)


def resampled_interval(values: FloatArray) -> Interval:
    """The 95 % percentile bootstrap interval of the mean of ``[n]`` independent values; the same at every call."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    random = np.random.default_rng(0)
    size = (TOGETHER, len(values))
    means = [values[random.integers(0, len(values), size)].mean(1) for _ in range(RESAMPLES // TOGETHER)]
    low, high = np.percentile(np.concatenate(means), [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def paired_interval(
    first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], source: npt.NDArray[np.int32]
) -> Interval:
    """The 95 % interval of how much more often the second of two models is right, over resampled base digits.

    A digit that is drawn brings both models' answers to all of its variants along, so what is hard for both cancels.

    Args:
        first: ``[N]`` whether the first model was right on each image.
        second: ``[N]`` the same of the second model, on the same images.
        source: ``[N]`` the digit that each image shows.
    """
    return resampled_interval(digit_means(second, source) - digit_means(first, source))


def unpaired_interval(first: tuple[float, Interval], second: tuple[float, Interval]) -> Interval:
    """The interval of second minus first where the two are independent, from the share and interval of each.

    Method 10 of Newcombe (1998), "Interval estimation for the difference between independent proportions".
    """
    (ours, (ours_low, ours_high)), (theirs, (theirs_low, theirs_high)) = first, second
    below = float(np.hypot(theirs - theirs_low, ours_high - ours))
    above = float(np.hypot(theirs_high - theirs, ours - ours_low))
    return theirs - ours - below, theirs - ours + above


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation of the sample (n - 1), which one value does not have."""
    array = np.asarray(values, np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None


def mcnemar(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """The exact two-sided p of McNemar's test (1947): whether two models are right on the same images equally often.

    Args:
        first: ``[n]`` whether the first model was right on each image; the images must be independent, so of one
            variant a digit.
        second: ``[n]`` the same of the second model.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    disagreements = only_first + only_second
    ways = tail = (
        1  # of the outcomes of so many coins, those with 0, 1, ... heads; whole numbers, so nothing is rounded
    )
    for heads in range(min(only_first, only_second)):
        ways = ways * (disagreements - heads) // (heads + 1)
        tail += ways
    return float(min(1.0, 2 * tail / 2**disagreements))
