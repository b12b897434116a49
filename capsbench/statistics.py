"""Means over seeds, and intervals that know that variants of one digit are not independent."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from capsbench.contracts import FloatArray

Interval = tuple[float, float]
LEVEL = 0.95
RESAMPLES = 2000  # the ends of a 95 % interval then vary by about a fiftieth of its width


def digit_means(correct: npt.NDArray[np.bool_], source: npt.NDArray[np.int32]) -> FloatArray:
    """``[digits]`` float64: the share of right answers among each digit's variants, for the digits that occur."""
    digits, inverse = np.unique(source, return_inverse=True)
    counts = np.bincount(inverse, minlength=len(digits))
    return np.asarray(np.bincount(inverse, weights=correct, minlength=len(digits)) / counts)


def resampled_interval(values: FloatArray) -> Interval:
    """The 95 % percentile bootstrap interval of the mean of ``[n]`` independent values; the same at every call."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    result = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(0),
        batch=100,
    )
    low, high = result.confidence_interval
    return float(low), float(high)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation of the sample (n - 1), which one value does not have."""
    array = np.asarray(values, np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None
