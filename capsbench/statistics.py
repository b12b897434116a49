"""Means over seeds, and intervals that know that variants of one digit are not independent, nor digits of one writer.

What is resampled, and called a digit here, is a writer where `capsbench.results.writers.resampled_units` says so.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import FloatArray, IndexArray

Interval = tuple[float, float]
LEVEL = 0.95
NORMAL = 1.959964  # standard deviations on each side of the mean that hold 95 % of a normal distribution
RESAMPLES = 2000  # the ends of a 95 % interval then vary by about a fiftieth of its width
FLIPPED = 30_000  # what the exact distribution of a sum of random signs costs grows with its square: here half a second
SPARSE = 100  # numbers of digits for each image: counting more of them takes longer than sorting the images
TOGETHER = 10  # resamples at a time, so that they stay in the cache
CACHED = 100_000  # of their numbers at a time, for the same reason
EXACT = 2**24  # sums of whole numbers up to there are exact in float32, which takes half the time
KEPT_DIGITS = 20_000  # of so many digits the draws are kept, 40 MB: a table asks for the same ones a hundred times


def digit_sums(values: npt.NDArray[Any], source: npt.NDArray[np.integer[Any]]) -> tuple[FloatArray, FloatArray]:
    """Two ``[digits]`` float64, for the digits that occur: the sum of the values of each digit's images, and how many.

    Args:
        values: ``[N]`` numbers or bools.
        source: ``[N]`` the digit that each image shows.
    """
    if len(source) and not 0 <= source.min() <= source.max() < SPARSE * len(source):  # no numbers of a data set
        source = np.unique(source, return_inverse=True)[1].astype(np.int32)
    images = np.bincount(source)
    occurs = images > 0
    return np.asarray(np.bincount(source, weights=values)[occurs]), images[occurs].astype(np.float64)


def share_interval(correct: npt.NDArray[np.bool_], source: npt.NDArray[np.integer[Any]]) -> Interval:
    """The 95 % interval of a share of right answers, over base digits.

    Where a digit's variants are all right or all wrong, as where each has one, digits are independent draws of yes or
    no, and the interval is Clopper and Pearson's (1934): a bootstrap of few errors is too narrow, and of none has no
    width. Where some digits have more images than others, Kish's (1965) effective number of draws takes the place of
    the number of digits. Elsewhere base digits are resampled.

    Args:
        correct: ``[N]`` whether each answer was right.
        source: ``[N]`` the digit that each image shows.
    """
    right, images = digit_sums(correct, source)
    if ((right > 0) & (right < images)).any():
        return resampled_interval(right, images)
    draws = float(images.sum() ** 2 / np.square(images).sum())
    return exact_interval(draws * float(correct.mean()), draws)


def writers_interval(correct: npt.NDArray[np.bool_], writer: npt.NDArray[np.integer[Any]]) -> Interval:
    """The 95 % interval of a share of right answers to images of ten writers or more, of whom some are hard to read.

    Korn and Graubard's (1998): Clopper and Pearson's for as many independent draws as have the variance that is robust
    to clusters, fewer by the square of the normal against Student's quantile, and never more than images. A bootstrap
    of few errors is too narrow here, too. Where all answers are right, or all wrong, no variance is seen; then writers
    are the draws, as in `share_interval`.

    Args:
        correct: ``[N]`` whether each answer was right.
        writer: ``[N]`` who wrote the digit that each image shows.
    """
    from scipy import special

    right, images = digit_sums(correct, writer)
    share, writers = float(correct.mean()), len(right)
    if share in (0, 1):
        return share_interval(correct, writer)
    variance = writers / (writers - 1) * float(np.square(right - share * images).sum()) / len(correct) ** 2
    student = float(special.stdtrit(writers - 1, (1 + LEVEL) / 2))
    spread = variance * (student / NORMAL) ** 2
    draws = share * (1 - share) / max(spread, share * (1 - share) / len(correct))
    return exact_interval(share * draws, draws)


def exact_interval(number: float, total: float) -> Interval:
    """Clopper and Pearson's (1934) 95 % interval of a share, from ``number`` of ``total`` independent trials."""
    from scipy import special  # takes a quarter of a second to import

    outside = (1 - LEVEL) / 2
    low = special.betaincinv(number, total - number + 1, outside) if number > 0 else 0.0
    high = special.betaincinv(number + 1, total - number, 1 - outside) if number < total else 1.0
    return float(low), float(high)


def resampled_interval(sums: FloatArray, counts: FloatArray) -> Interval:
    """The 95 % percentile bootstrap interval of a share, over digits; the same at every call.

    A digit that is drawn brings its images along, as many as it has: so the interval is of the share of all images,
    not of the mean of the digits' shares, which differ where some digits have more images than others.

    Args:
        sums: ``[digits]``, what is added up over the images of each digit; or ``[terms, digits]`` for a sum of shares,
            such as clean accuracy and, negative, accuracy under transformations.
        counts: The number of those images, of the same shape.
    """
    sums, counts = np.atleast_2d(sums), np.atleast_2d(counts)
    with np.errstate(invalid="ignore"):
        means = sums / counts
    if (np.nanmax(means, axis=1) == np.nanmin(means, axis=1)).all():
        always = float(np.nanmax(means, axis=1).sum())
        return always, always
    if (counts == counts[:, :1]).all():  # then all drawn have as many images
        return _ends((resampled_sums(sums) / counts.sum(1)).sum(1))
    drawn = resampled_sums(np.concatenate([sums, counts]))
    right, images = drawn[:, : len(sums)], drawn[:, len(sums) :]
    some = (images > 0).all(1)  # of very few digits, those drawn may have no image
    return _ends((right[some] / images[some]).sum(1))


def _ends(found: FloatArray) -> Interval:
    low, high = np.percentile(found, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def resampled_sums(values: FloatArray) -> FloatArray:
    """``[RESAMPLES, terms]``: sums over digits drawn with replacement, from ``[terms, digits]``; always the same."""
    digits = values.shape[1]
    draws = [_kept_draws(digits)] if digits <= KEPT_DIGITS else (block.T for block in _draws(digits))
    # Most digits have the same value, such as no error: as all are drawn `digits` times, only the others are added up.
    usual = np.partition(values, digits // 2)[:, digits // 2, None]
    others = np.flatnonzero((values != usual).any(0))
    differences = (values - usual)[:, others]
    if (differences == np.rint(differences)).all() and digits * np.abs(differences).max(initial=0) < EXACT:
        differences = differences.astype(np.float32)
    return np.concatenate([(digits * usual + _weighted(differences, block, others)).T for block in draws])


def _weighted(values: npt.NDArray[Any], draws: npt.NDArray[np.uint8], some: IndexArray) -> FloatArray:
    """``[terms, resamples]``: sums of ``[terms, some]`` values of some digits, ``[digits, resamples]`` times each."""
    found = np.zeros((len(values), draws.shape[1]))
    together = CACHED // draws.shape[1]
    for start in range(0, len(some), together):
        rows = slice(start, start + together)
        # A product of matrices would start threads that spin while they wait, in all ten times the work.
        found += np.einsum("td,dr->tr", values[:, rows], draws[some[rows]].astype(values.dtype))
    return found


def _draws(digits: int) -> Iterable[npt.NDArray[np.uint8]]:
    """How often each digit is drawn, ``[TOGETHER, digits]`` at a time, `RESAMPLES` in all."""
    random = np.random.default_rng(0)
    place = np.arange(TOGETHER)[:, None] * digits
    for _ in range(RESAMPLES // TOGETHER):
        drawn = random.integers(0, digits, (TOGETHER, digits))
        drawn += place
        # Where 255 would not do, no digit is drawn nearly as often: each once on the average.
        yield np.bincount(drawn.ravel(), minlength=TOGETHER * digits).reshape(TOGETHER, digits).astype(np.uint8)


@lru_cache(maxsize=2)
def _kept_draws(digits: int) -> npt.NDArray[np.uint8]:
    kept = np.empty((digits, RESAMPLES), np.uint8)
    for number, block in enumerate(_draws(digits)):
        kept[:, number * TOGETHER : (number + 1) * TOGETHER] = block.T
    return kept


def paired_interval(
    first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], source: npt.NDArray[np.integer[Any]]
) -> Interval:
    """The 95 % interval of how much more often the second of two models is right, over resampled base digits.

    A digit that is drawn brings both models' answers to all of its variants along, so what is hard for both cancels.

    Args:
        first: ``[N]`` whether the first model was right on each image.
        second: ``[N]`` the same of the second model, on the same images.
        source: ``[N]`` the digit that each image shows.
    """
    return resampled_interval(*digit_sums(more_often_right(first, second), source))


def paired_p(
    first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], source: npt.NDArray[np.integer[Any]]
) -> float:
    """The two-sided p of the sign-flip test over base digits, of the answers that `paired_interval` resamples.

    If neither model is better, the difference that a digit makes, summed over its variants, has either sign with the
    same chance. With one image a digit this is the exact test of McNemar (1947).

    Args:
        first: ``[N]`` whether the first model was right on each image.
        second: ``[N]`` the same of the second model, on the same images.
        source: ``[N]`` the digit that each image shows.
    """
    differences, _ = digit_sums(more_often_right(first, second), source)
    return sign_flip_p(differences.astype(np.int64))


def paired_gap(
    clean: npt.NDArray[np.int8],
    clean_source: npt.NDArray[np.integer[Any]],
    moved: npt.NDArray[np.int8],
    moved_source: npt.NDArray[np.integer[Any]],
) -> tuple[Interval, float]:
    """How much larger the gap of the second of two models is: its 95 % interval and the p of the sign-flip test.

    A gap is the share of right answers to clean images minus that to transformed ones. Both sets show the same digits,
    and a digit that is drawn, or whose sign is flipped, brings its images of both along.

    Args:
        clean: ``[N]`` 1 where the second model alone is right on a clean image, -1 where the first alone is, else 0.
        clean_source: ``[N]`` the digit that each shows.
        moved: ``[M]`` the same of transformed images.
        moved_source: ``[M]`` the digit that each shows.
    """
    (ours, shown), (theirs, moved_shown) = digit_sums(clean, clean_source), digit_sums(moved, moved_source)
    interval = resampled_interval(np.stack([ours, -theirs]), np.stack([shown, moved_shown]))
    each = len(moved) * ours.astype(np.int64) - len(clean) * theirs.astype(np.int64)  # shares, times N and M
    return interval, sign_flip_p(each // max(1, int(np.gcd.reduce(each))))


def more_often_right(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> npt.NDArray[np.int8]:
    """``[N]``: 1 where the second alone is right, -1 where the first alone is."""
    return second.astype(np.int8) - first.astype(np.int8)


def holm(chances: Sequence[float]) -> list[float]:
    """Each p of several tests, corrected so that any at all falls below 0.05 by chance in 5 %: Holm's (1979) method."""
    order = np.argsort(chances, kind="stable")
    larger = np.asarray(chances, np.float64)[order] * np.arange(len(chances), 0, -1)
    corrected = np.empty(len(chances))
    corrected[order] = np.minimum(np.maximum.accumulate(larger), 1.0)
    return [float(one) for one in corrected]


def sign_flip_p(differences: npt.NDArray[np.int64]) -> float:
    """How often whole numbers add up to as much or more, of either sign, if each had its sign by a coin.

    Exact, to twelve digits; of numbers whose sizes add up to more than `FLIPPED`, by the normal distribution.

    Args:
        differences: ``[n]``.
    """
    sizes, numbers = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    total, observed = int((sizes * numbers).sum()), abs(int(differences.sum()))
    if observed == 0:
        return 1.0
    if total > FLIPPED:
        return math.erfc(observed / math.sqrt(2 * float((sizes**2 * numbers).sum())))
    chances = np.ones(1)  # of the sum of the sizes whose coin shows heads: 0, 1, ...
    for size, number in zip(sizes.tolist(), numbers.tolist(), strict=True):
        apart = np.zeros(size * number + 1)
        apart[::size] = _heads(number)
        chances = np.convolve(chances, apart)  # sums of positive numbers: as exact in the tails as in the middle
    return min(1.0, 2 * float(chances[: (total - observed) // 2 + 1].sum()))


def _heads(coins: int) -> FloatArray:
    """``[coins + 1]``: the chances of 0, 1, ... heads."""
    middle = coins // 2
    steps = np.arange(middle, coins)
    upper = np.cumprod((coins - steps) / (steps + 1))  # beside the chance in the middle, the largest
    chances = np.concatenate([upper[coins % 2 :][::-1], [1.0], upper])
    return np.asarray(chances / chances.sum())


def pair_interval(found: FloatArray, pairs: npt.NDArray[np.integer]) -> Interval:
    """The 95 % interval of a share over pairs of digits, where a digit is in several pairs, first or second.

    Wilson's (1927) for as many independent draws as have the variance that `pair_error` finds. Where all pairs are
    found, or none, there is none to be seen; then it is the exact interval of as many pairs as can share no digit.

    Args:
        found: ``[N]`` 0..1, how much of each pair was found.
        pairs: ``[N, 2]`` the digits that each image shows.
    """
    share, error = float(found.mean()), pair_error(found, pairs)
    if not error:
        apart = max(1, len(np.unique(pairs)) // 2)
        return exact_interval(share * apart, apart)
    draws, normal = share * (1 - share) / error**2, NORMAL**2
    middle = (share + normal / (2 * draws)) / (1 + normal / draws)
    half = NORMAL / (1 + normal / draws) * math.sqrt(error**2 + normal / (4 * draws**2))
    return middle - half, middle + half


def pair_error(values: FloatArray, pairs: npt.NDArray[np.integer]) -> float:
    """The standard error of a mean over pairs of digits, where pairs that share a digit, in either place, may depend.

    The products of the residuals of all such pairs, added up (Fafchamps and Gubert 2007): the square of the sum of each
    digit counts them all, those of one and the same two digits twice. It is never taken to be less than what those of
    the same digits alone give.

    Args:
        values: ``[N]``.
        pairs: ``[N, 2]`` the digits of each, or their writers: one person may have written both.
    """
    residuals = np.asarray(values, np.float64) - np.mean(values)
    _, digit = np.unique(pairs.ravel(), return_inverse=True)  # a file from elsewhere may have any number
    two = pairs[:, 0] != pairs[:, 1]
    each = np.column_stack([residuals, np.where(two, residuals, 0)])  # one writer of both is one
    digits = np.square(np.bincount(digit, weights=each.ravel())).sum()
    ordered = np.sort(pairs.astype(np.int64), axis=1)
    _, same = np.unique(ordered[:, 0] * (int(pairs.max()) + 1) + ordered[:, 1], return_inverse=True)
    twice = np.square(np.bincount(same, weights=np.where(two, residuals, 0))).sum()
    together = np.square(np.bincount(same, weights=residuals)).sum()
    return math.sqrt(max(digits - twice, together)) / len(values)


def paired_by_pair(
    first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], pairs: npt.NDArray[np.integer]
) -> tuple[Interval, float]:
    """What `paired_interval` and `paired_p` are, of answers to pairs of digits: both from one standard error.

    Args:
        first: ``[N]`` whether the first model was right on each image.
        second: ``[N]`` the same of the second model, on the same images.
        pairs: ``[N, 2]`` the digits that each image shows.
    """
    more = more_often_right(first, second)
    middle, error = float(more.mean()), pair_error(more.astype(np.float64), pairs)
    p = math.erfc(abs(middle) / error / math.sqrt(2)) if error else 1.0
    return (middle - NORMAL * error, middle + NORMAL * error), p


def unpaired_interval(first: tuple[float, Interval], second: tuple[float, Interval]) -> Interval:
    """The interval of second minus first where the two are independent, from the share and interval of each.

    The square-and-add method, which recovers variances from the two intervals (Zou and Donner 2008); with Wilson's
    intervals it is method 10 of Newcombe (1998), ours are Clopper and Pearson's or resampled.
    """
    (ours, (ours_low, ours_high)), (theirs, (theirs_low, theirs_high)) = first, second
    below = float(np.hypot(theirs - theirs_low, ours_high - ours))
    above = float(np.hypot(theirs_high - theirs, ours - ours_low))
    return theirs - ours - below, theirs - ours + above


def interval_over_seeds(values: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """The 95 % interval of the mean over seeds, which other seeds and other test digits would move.

    The seeds' part is Student's t interval. The test digits are the same for all seeds, so their part, the mean of the
    seeds' own intervals, does not shrink with the number of seeds. Both are independent; their squares add up.

    Args:
        values: One for each seed.
        intervals: The interval of each over test digits.
    """
    array, ends = np.asarray(values, np.float64), np.asarray(intervals, np.float64)
    mean, (below, above) = float(array.mean()), np.abs(ends - array[:, None]).mean(0)
    if len(array) == 1:
        return float(ends[0, 0]), float(ends[0, 1])
    from scipy import special

    student = float(special.stdtrit(len(array) - 1, (1 + LEVEL) / 2))
    seeds = student * float(array.std(ddof=1)) / math.sqrt(len(array))
    return mean - math.hypot(below, seeds), mean + math.hypot(above, seeds)


def p_over_seeds(values: Sequence[float], intervals: Sequence[Interval]) -> float:
    """The two-sided p that belongs to `interval_over_seeds` of differences: below 0.05 where that does not hold 0.

    It is one minus the largest level whose interval, made in the same way, does not hold 0; to be so made at any level,
    the part of the test digits is taken for normal.

    Args:
        values: Two or more differences, one for each seed.
        intervals: The 95 % interval of each over test digits.
    """
    from scipy import special

    array, ends = np.asarray(values, np.float64), np.asarray(intervals, np.float64)
    mean = float(array.mean())
    nearer = float(np.abs(ends[:, 0 if mean > 0 else 1] - array).mean())  # the side on which 0 lies
    digits, seeds = nearer / NORMAL, float(array.std(ddof=1)) / math.sqrt(len(array))

    def beyond(logarithm: float) -> float:
        """How far an interval reaches past 0, by the logarithm of one minus its level."""
        tail = math.exp(logarithm) / 2
        student = float(special.stdtrit(len(array) - 1, tail))
        return math.hypot(digits * float(special.ndtri(tail)), seeds * student) - abs(mean)

    if mean == 0:
        return 1.0
    low, high = -300.0, 0.0  # of logarithms: from below 1e-130 to 1
    if beyond(low) <= 0:
        return 0.0
    for _ in range(60):  # halves the span until it is a rounding error; scipy.optimize takes half a second to import
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) > 0 else (low, middle)
    return math.exp(high)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation of the sample (n - 1), which one value does not have.

    Raises:
        ValueError: A value is a list: results come from anywhere.
    """
    return mean(values), float(np.std(values, ddof=1)) if len(values) > 1 else None


def mean(values: Sequence[float]) -> float:
    """The mean of at least one number.

    Raises:
        ValueError: A value is a list: results come from anywhere.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"values must be numbers, got {values!r:.60}")
    return float(array.mean())
