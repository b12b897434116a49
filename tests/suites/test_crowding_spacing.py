"""The critical spacing, worked by hand, and by simulation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from capsbench.results.answers import Answers
from capsbench.suites.crowding_spacing import critical_spacing, told_spacing

DIGITS = 100


def right(number: int) -> Answers:
    return Answers(np.arange(DIGITS) < number, DIGITS)


def spacing(alone: int, **found: int) -> float:
    at, (low, high) = critical_spacing(right(alone), {int(name[1:]): right(one) for name, one in found.items()})
    assert low <= at <= high
    return at


def test_between_two_spacings_accuracy_runs_straight() -> None:
    assert spacing(100, _14=50, _16=80, _18=100) == pytest.approx(17)  # 90 is half way from 80 to 100
    assert spacing(80, _14=50, _16=68, _18=80) == pytest.approx(16 + 2 * 4 / 12)  # nine tenths of 80 are 72
    assert spacing(100, _14=89, _16=90, _18=95) == pytest.approx(16)


def test_the_last_fall_counts() -> None:
    assert spacing(100, _14=95, _16=80, _18=100) == pytest.approx(17)


def test_past_the_tested_spacings_there_is_no_number() -> None:
    assert spacing(100, _14=95, _16=99) == -np.inf
    assert spacing(100, _14=50, _16=89) == np.inf


def checkpoint(alone: int, **found: int) -> dict[str, Any]:
    def point(number: int) -> dict[str, Any]:
        return {"correct": number, "total": DIGITS, **right(number).to_dict()}

    return {"alone": point(alone), "digits": {name[1:]: point(one) for name, one in found.items()}}


def test_what_the_table_shows() -> None:
    assert told_spacing(checkpoint(100, _14=0, _28=100), "digits") == "26.6"  # no digit differs from another
    assert told_spacing(checkpoint(100, _14=100, _28=100), "digits") == "< 14"
    assert told_spacing(checkpoint(100, _14=0, _28=10), "digits") == "> 28"
    shown = told_spacing(checkpoint(100, _14=60, _20=88, _28=91), "digits")
    assert shown.startswith("25.3 (") and shown.endswith("..> 28)")
    kept = checkpoint(100, _14=60, _28=96)
    del kept["digits"]["14"]["answers"]
    assert told_spacing(kept, "digits") == "not measured"


def test_the_interval_holds_the_truth_as_often_as_it_says(scale: Callable[[int, int], int]) -> None:
    tests, digits, held = scale(40, 1000), 400, 0
    tested = np.arange(14, 29, 2)
    random = np.random.default_rng(0)
    shares = stats.norm.cdf(2.0 - 4 * np.exp(-(tested - 10) / 5) - 0.05)
    easy = stats.norm.cdf(2.0)
    above = shares - 0.9 * easy
    last = int(np.flatnonzero(above < 0).max())
    truth = tested[last] + 2 * above[last] / (above[last] - above[last + 1])
    for _ in range(tests):
        hardness = random.normal(0, np.sqrt(0.5), digits)  # shared by all spacings
        drawn = hardness + random.normal(0, np.sqrt(0.5), (len(tested) + 1, digits))
        limits = np.append(stats.norm.ppf(shares), 2.0)
        answers = [Answers(one < limit, digits) for one, limit in zip(drawn, limits, strict=True)]
        _, (low, high) = critical_spacing(answers[-1], dict(zip(tested.tolist(), answers[:-1], strict=True)))
        held += low <= truth <= high
    assert stats.binom(tests, 0.95).cdf(held) > 0.001
