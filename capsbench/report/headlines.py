"""The few figures by which a board compares networks: what each is, in which unit, and how it is found in a result."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from capsbench.errors import ParameterError, SuiteError, shown
from capsbench.report.differences import Question
from capsbench.report.suites import suite_of
from capsbench.results.result import Result
from capsbench.statistics import Interval, interval_over_seeds


@dataclass(frozen=True)
class Measured:
    """A figure of one network.

    Attributes:
        value: The figure; infinite where it lies outside of what was tested.
        interval: Its 95 % interval, over test digits or, of several seeds, over both; None where it is not known.
    """

    value: float
    interval: Interval | None = None

    def __post_init__(self) -> None:
        numbers = [self.value, *(() if self.interval is None else self.interval)]
        if len(numbers) not in (1, 3) or not all(isinstance(one, Real) for one in numbers):
            raise ParameterError(f"A figure is a number, with the two ends of its interval or None, got {self}.")


COUNTED = ("px", "scraps", "images/s")
"""Units whose figures are 0 or more."""

HEADLINE: dict[str, Any] = {
    "name": str,
    "unit": str,
    "measure": Callable,
    "decimals": int,
    "question": Question | None,
    "paper": Mapping,
    "missing": str | Callable,
    "missing_elsewhere": str,
    "caption": str,
    "elsewhere": str,
}
"""The type of each part of a headline."""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A figure that a board has for every network of a suite.

    Attributes:
        name: What the board calls it.
        unit: ``"%"``, ``"points"``, one of `COUNTED`, or nothing.
        measure: Finds it in a result; None where the result does not have it.
        decimals: How many of it are shown.
        larger_is_better: Whether the best network has the largest.
        question: The answers behind it, for paired tests; their share must be the figure, or 100 % minus the figure.
        paper: The paper's figure, by the label of the network.
        missing: What stands in place of a figure that a result does not have; a function of it, where there are several
            reasons.
        missing_elsewhere: The same for a network that was not trained here, if it differs.
        caption: A sentence for the caption, with the names of settings in braces, such as ``{target:.2%}``.
        elsewhere: What a board says of the figure of networks that were not trained here, if anything.
    """

    name: str
    unit: str
    measure: Callable[[Result], Measured | None]
    decimals: int = 1
    larger_is_better: bool = True
    question: Question | None = None
    paper: Mapping[str, str] = field(default_factory=dict)
    missing: str | Callable[[Result], str] = "not measured"
    missing_elsewhere: str = ""
    caption: str = ""
    elsewhere: str = ""

    def __post_init__(self) -> None:
        for name, wanted in HEADLINE.items():
            value = getattr(self, name)
            if not isinstance(value, wanted) or (name == "decimals" and value < 0):
                raise ParameterError(f"The {name} of the headline {shown(self.name)} must not be {shown(value)!r}.")

    def over_seeds(self, cells: Sequence[Result]) -> Measured | None:
        """The mean of a network's results, with an interval over seeds and test digits; None where there is none."""
        found = [self.measure(cell) for cell in cells]
        if not found or any(one is None for one in found):
            return None
        values = [one.value for one in found if one]
        intervals = [one.interval for one in found if one and one.interval and all(map(math.isfinite, one.interval))]
        if math.inf in values and -math.inf in values:
            return None  # they have no mean; `told` says so
        mean = float(np.mean(values))
        if not math.isfinite(mean) or (len(values) == 1 and not intervals):
            return Measured(mean)
        if len(intervals) < len(values):  # then only seeds are known to change it
            intervals = [(value, value) for value in values]
        low, high = interval_over_seeds(values, intervals)
        if self.unit == "%":
            low, high = max(0.0, low), min(100.0, high)
        elif self.unit in COUNTED:
            low = max(0.0, low)
        return Measured(mean, (low, high))

    def told(self, found: Measured | None, cells: Sequence[Result]) -> str:
        """A figure in words, ``73.0 (71.2..74.9)``; where there is none, why."""
        if found is None or math.isinf(found.value):
            return self._outside(cells)
        if found.interval is None:
            return self.number(found.value)
        low, high = map(self.number, found.interval)
        return f"{self.number(found.value)} ({low}..{high})"

    def _outside(self, cells: Sequence[Result]) -> str:
        """Why seeds have no mean: some lack the figure, or it lies outside of what was tested."""
        each = [self.measure(cell) for cell in cells]
        lacking = [cell for cell, one in zip(cells, each, strict=True) if one is None]
        if lacking:
            given = self.missing_elsewhere if all(cell.origin != "trained" for cell in cells) else ""
            some = f" by {len(lacking)} of {len(each)} seeds" if len(lacking) < len(each) else ""
            return (given or self.why_missing(lacking[0])) + some
        values = [one.value for one in each if one]
        sides = {"above": values.count(math.inf), "below": values.count(-math.inf)}
        told = [f"{side} for {number}" if number < len(each) else side for side, number in sides.items() if number]
        seeds = f" of {len(each)} seeds" if len(each) not in sides.values() else ""
        return f"{', '.join(told)}{seeds}" if seeds else f"{told[0]} what was tested"

    def why_missing(self, cell: Result) -> str:
        """What stands in place of the figure, which a result does not have."""
        return self.missing if isinstance(self.missing, str) else str(self.missing(cell))

    def number(self, value: float, *, signed: bool = False) -> str:
        """A number with the decimals of this figure; what rounds to nothing has no sign of its own."""
        return f"{round(value, self.decimals) + 0.0:{'+' * signed},.{self.decimals}f}"


def headlines_of(suite: str) -> Sequence[Headline]:
    """The headlines of a suite; none if it has none.

    Raises:
        SuiteError: They are something else.
    """
    found = getattr(suite_of(suite), "headlines", ())
    if not isinstance(found, tuple | list) or not all(isinstance(one, Headline) for one in found):
        raise SuiteError(
            f"The headlines of suite {suite!r} must be a sequence of capsbench.report.headlines.Headline, got "
            f"{shown(found)}."
        )
    return found


def share(point: Mapping[str, Any] | None, *, error: bool = False) -> Measured | None:
    """A share of right answers in percent, as a result keeps it, or with ``error`` of wrong ones."""
    if not point:
        return None
    ends = [100 * end for end in point.get("interval") or ()]
    value = 100 * point["share"]
    if error:
        value, ends = 100 - value, [100 - end for end in reversed(ends)]
    return Measured(value, (ends[0], ends[1]) if ends else None)
