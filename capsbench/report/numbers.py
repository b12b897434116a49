"""Numbers of several seeds as a table shows them: means, deviations, percentages, and notes on the seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from capsbench.results.result import Result
from capsbench.statistics import Interval, interval_over_seeds, mean_and_deviation

BARS = "Bars: 95 % intervals over test digits and, of several, seeds; none: not measured."
"""What a chart says of the intervals of its points."""


def seeds_of(results: Sequence[Result]) -> list[int]:
    """The seeds that occur, in order."""
    return sorted({result.seed for result in results})


def seeds_of_each(results: Sequence[Result]) -> dict[str, list[int]]:
    """The seeds of each network, by its label."""
    labels = dict.fromkeys(result.label for result in results)
    return {label: seeds_of([one for one in results if one.label == label]) for label in labels}


def told_seeds(results: Sequence[Result]) -> str:
    """``seeds 0, 1, 2`` or ``one seed: 0``."""
    seeds = seeds_of(results)
    return f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"one seed: {seeds[0]}"


def seeds_note(results: Sequence[Result]) -> str:
    """The line of a chart about its seeds: ``Seed 0.`` or ``Means over seeds 0, 1, 2.``, or of each network's."""
    seeds = ", ".join(map(str, seeds_of(results)))
    if any(found != seeds_of(results) for found in seeds_of_each(results).values()):
        return f"Means over each network's seeds, of {seeds}."
    return f"Means over seeds {seeds}." if "," in seeds else f"Seed {seeds}."


def few_seeds_note(results: Sequence[Result]) -> list[str]:
    """A warning where networks have fewer than three seeds, else nothing."""
    each = seeds_of_each(results)
    few = [label for label, seeds in each.items() if len(seeds) < 3]
    if not few:
        return []
    whose = f" of {', '.join(few)}" if len(few) < len(each) else ""
    return [
        f"Fewer than three seeds{whose}: what another seed changes was not measured; a difference between networks may "
        "be no more than that."
    ]


def told_p(p: float) -> str:
    """A p with two digits; one too small for a float64 is not called 0."""
    return f"{p:.2g}" if p > 0 else "< 1e-300"


def spread(values: Sequence[float], *, digits: int) -> str:
    """``"98.1"`` for one value, ``"98.1 ± 0.3"`` for several: mean and standard deviation."""
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.{digits}f}" if deviation is None else f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def error_percent(points: Sequence[Mapping[str, Any]], *, digits: int = 1) -> str:
    """Errors in percent, as `percent` writes shares: 100 minus each share."""
    missing = [
        {"share": 1 - point["share"], "interval": [1 - end for end in reversed(point.get("interval", []))]}
        for point in points
    ]
    return percent(missing, digits=digits)


def percent(points: Sequence[Mapping[str, Any]], *, digits: int = 1) -> str:
    """Shares in percent: one with its interval, several with their mean and standard deviation over seeds."""
    shares = [100 * point["share"] for point in points]
    if len(points) > 1:
        return spread(shares, digits=digits)
    if not points[0].get("interval"):
        return f"{shares[0]:.{digits}f} (interval not measured)"
    low, high = points[0]["interval"]
    return f"{shares[0]:.{digits}f} ({100 * low:.{digits}f}..{100 * high:.{digits}f})"


def percent_over_seeds(points: Sequence[Mapping[str, Any]]) -> tuple[float, Interval | None]:
    """The mean share of several seeds in percent, and its interval over seeds and test digits, if each has one."""
    shares = [100 * point["share"] for point in points]
    mean, _ = mean_and_deviation(shares)
    intervals = [[100 * end for end in point.get("interval") or ()] for point in points]
    if not all(intervals):
        return mean, None
    low, high = interval_over_seeds(shares, [(low, high) for low, high in intervals])
    return mean, (max(0.0, low), min(100.0, high))
