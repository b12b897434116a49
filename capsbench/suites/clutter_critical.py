"""The critical clutter: up to how many scraps a network keeps nine tenths of its accuracy on clean canvases."""

from collections.abc import Mapping

from capsbench.report.headlines import Measured
from capsbench.results.answers import Answers
from capsbench.results.result import Result
from capsbench.statistics import Interval
from capsbench.suites.crowding_spacing import CRITICAL_SHARE, at_chance, critical_spacing


def critical_clutter(clean: Answers, found: Mapping[int, Answers]) -> tuple[float, Interval]:
    """The most scraps with 90 % of the clean accuracy there and with any fewer, and its interval over digits.

    Between the tested numbers accuracy is taken to run straight. It is the critical spacing of crowding with the axis
    turned round: there the nearest flankers harm most, here the most scraps.

    Args:
        clean: To targets without scraps.
        found: Number of scraps -> answers to the same targets among them.

    Returns:
        ``inf`` stands for more than the most scraps tested.
    """
    at, (low, high) = critical_spacing(clean, {0: clean, **{-scraps: answers for scraps, answers in found.items()}})
    return -at, (-high, -low)


def measured_clutter(cell: Result) -> Measured | None:
    """The critical clutter at best validation; None at chance, or where a result keeps no answers.

    Raises:
        DataFileError: The answers are damaged.
    """
    best = cell.metrics["checkpoints"]["best"]
    if missing_clutter(cell):
        return None
    clean, *found = Answers.of_result(cell, [best["clean"], *best["scraps"].values()], "best")
    return Measured(*critical_clutter(clean, dict(zip(map(int, best["scraps"]), found, strict=True))))


def missing_clutter(cell: Result) -> str:
    """Why a result has no critical clutter; empty where it has one."""
    best = cell.metrics["checkpoints"]["best"]
    if at_chance(best["clean"]):
        return "at chance"
    return "" if all("answers" in one for one in (best["clean"], *best["scraps"].values())) else "not measured"


def told_clutter(cell: Result) -> str:
    """`measured_clutter` with its interval, ``2.4 (2.2..2.7)``; one past those tested as such."""
    measured = measured_clutter(cell)
    if measured is None or measured.interval is None:
        return missing_clutter(cell)
    most = max(map(int, cell.metrics["checkpoints"]["best"]["scraps"]))
    shown = [f"> {most}" if one > most else f"{one:.1f}" for one in (measured.value, *measured.interval)]
    return shown[0] if len(set(shown)) == 1 else f"{shown[0]} ({shown[1]}..{shown[2]})"


def kept_up_to(clean: float, shares: Mapping[int, float]) -> int:
    """The most tested scraps with 90 % of the clean accuracy, there and with any fewer; 0 if there is none.

    Args:
        clean: Share of right answers 0..1 without scraps.
        shares: Number of scraps -> the share among them.
    """
    critical = 0
    for scraps in sorted(shares):
        if shares[scraps] < CRITICAL_SHARE * clean - 1e-9:  # of rounding
            break
        critical = scraps
    return critical
