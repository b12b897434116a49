"""The critical spacing: from which distance of the flankers on a network keeps nine tenths of its accuracy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import CLASSES, FloatArray
from capsbench.report.headlines import Measured
from capsbench.results.answers import Answers
from capsbench.results.result import Result
from capsbench.statistics import Interval, digit_sums, resampled_sums

CRITICAL_SHARE = 0.9


def critical_spacing(alone: Answers, found: Mapping[int, Answers]) -> tuple[float, Interval]:
    """The smallest spacing in pixels with 90 % of the accuracy alone there and beyond, and its interval over digits.

    Between the tested spacings accuracy is taken to run straight. A digit that is drawn for the interval brings its
    answers at all spacings along.

    Args:
        alone: To lone targets.
        found: Spacing -> answers to the same targets between flankers.

    Returns:
        ``-inf`` stands for less than the least spacing, ``inf`` for more than the largest.
    """
    spacings = np.array(sorted(found), np.float64)
    conditions = [alone, *(found[int(spacing)] for spacing in spacings)]
    sums = [digit_sums(one.correct, one.unit) for one in conditions]
    right, images = np.stack([hits for hits, _ in sums]), np.stack([shown for _, shown in sums])
    (at,) = _crossings(spacings, right.sum(1)[None] / images.sum(1))
    drawn = _crossings(spacings, resampled_sums(right) / resampled_sums(images))
    low, high = np.percentile(drawn, [2.5, 97.5], method="nearest")  # which infinite ones allow
    return float(at), (float(low), float(high))


def at_chance(alone: Mapping[str, Any]) -> bool:
    """Whether nine tenths of an accuracy, as a result keeps it, may be no more than chance, which loses nothing.

    Then there is nothing to keep: a network that knows nothing would keep it at any spacing.
    """
    low = (alone.get("interval") or [alone["correct"] / alone["total"]])[0]
    return bool(CRITICAL_SHARE * low <= 1 / CLASSES)


def measured_spacing(cell: Result, kind: str) -> Measured | None:
    """The critical spacing between flankers of a kind, at best validation; None at chance, or without answers.

    Raises:
        DataFileError: The answers are damaged.
    """
    best = cell.metrics["checkpoints"]["best"]
    if missing_spacing(cell, kind):
        return None
    alone, *found = Answers.of_result(cell, [best["alone"], *best[kind].values()], "best")
    return Measured(*critical_spacing(alone, dict(zip(map(int, best[kind]), found, strict=True))))


def missing_spacing(cell: Result, kind: str) -> str:
    """Why a result has no critical spacing; empty where it has one."""
    best = cell.metrics["checkpoints"]["best"]
    if at_chance(best["alone"]):
        return "at chance"
    kept = all("answers" in one for one in (best["alone"], *best[kind].values()))
    return "" if kept else "not measured"


def told_spacing(cell: Result, kind: str) -> str:
    """`measured_spacing` with its interval, ``20.9 (19.8..22.4)``; one past those tested as such."""
    measured = measured_spacing(cell, kind)
    if measured is None or measured.interval is None:
        return missing_spacing(cell, kind)
    tested = sorted(map(int, cell.metrics["checkpoints"]["best"][kind]))
    shown = [_told(one, tested) for one in (measured.value, *measured.interval)]
    return shown[0] if len(set(shown)) == 1 else f"{shown[0]} ({shown[1]}..{shown[2]})"


def _told(spacing: float, tested: Sequence[int]) -> str:
    if np.isinf(spacing):
        return f"< {tested[0]}" if spacing < 0 else f"> {tested[-1]}"
    return f"{spacing:.1f}"


def _crossings(spacings: FloatArray, shares: FloatArray) -> npt.NDArray[np.float64]:
    """``[n]``: where accuracy last falls below the share of that alone, from ``[n, 1 + spacings]``, alone first."""
    above = shares[:, 1:] - CRITICAL_SHARE * shares[:, :1] + 1e-9  # of rounding
    below = above < 0
    last = spacings.size - 1 - below[:, ::-1].argmax(1)  # the largest spacing that is too small
    row = np.arange(len(above))
    following = np.minimum(last + 1, spacings.size - 1)
    missing, surplus = above[row, last], above[row, following]
    with np.errstate(invalid="ignore", divide="ignore"):
        between = spacings[last] + (spacings[following] - spacings[last]) * missing / (missing - surplus)
    found = np.where(last == spacings.size - 1, np.inf, between)
    return np.where(below.any(1), found, -np.inf)
