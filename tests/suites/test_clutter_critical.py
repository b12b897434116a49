"""The critical clutter, worked by hand."""

from typing import Any

import numpy as np
import pytest

from capsbench.errors import DataFileError
from capsbench.results.answers import Answers
from capsbench.results.result import Result
from capsbench.suites.clutter_critical import critical_clutter, kept_up_to, measured_clutter, told_clutter

from ..report.measured import measured

DIGITS = 100


def right(number: int) -> Answers:
    return Answers(np.arange(DIGITS) < number, DIGITS)


def clutter(clean: int, **found: int) -> float:
    at, (low, high) = critical_clutter(right(clean), {int(name[1:]): right(one) for name, one in found.items()})
    assert low <= at <= high
    return at


def test_between_two_numbers_accuracy_runs_straight() -> None:
    assert clutter(100, _2=100, _4=80, _8=50) == pytest.approx(3)  # 90 is half way from 100 to 80
    assert clutter(80, _2=76, _4=68, _8=10) == pytest.approx(2 + 2 * 4 / 8)  # nine tenths of 80 are 72
    assert clutter(100, _2=95, _4=90, _8=89) == pytest.approx(4)


def test_it_lies_between_the_clean_canvas_and_the_first_number() -> None:
    assert clutter(100, _2=50, _4=20) == pytest.approx(0.4)
    assert clutter(100, _1=0) == pytest.approx(0.1)


def test_the_first_fall_counts() -> None:
    assert clutter(100, _2=80, _4=95, _8=70) == pytest.approx(1)


def test_past_the_tested_numbers_there_is_none() -> None:
    assert clutter(100, _2=95, _8=91) == np.inf


def test_who_knows_nothing_loses_nothing() -> None:
    assert clutter(0, _2=0, _8=0) == np.inf


@pytest.mark.parametrize(
    ("shares", "kept"),
    [({2: 0.95, 4: 0.9, 8: 0.89}, 4), ({2: 0.8, 4: 0.95}, 0), ({1: 0.99, 16: 0.9}, 16), ({1: 0.1}, 0)],
)
def test_the_most_tested_scraps_that_keep_nine_tenths(shares: dict[int, float], kept: int) -> None:
    assert kept_up_to(1.0, shares) == kept


def cell(clean: int, **found: int) -> Result:
    def point(number: int) -> dict[str, Any]:
        return {"correct": number, "total": DIGITS, **right(number).to_dict()}

    best = {"clean": point(clean), "scraps": {name[1:]: point(one) for name, one in found.items()}}
    return measured("capsnet", suite="clutter", metrics={"checkpoints": {"best": best}})


def test_what_the_table_shows() -> None:
    assert told_clutter(cell(100, _2=100, _8=0)) == "2.6"  # no digit differs from another
    assert told_clutter(cell(100, _2=100, _8=100)) == "> 8"
    shown = told_clutter(cell(100, _2=95, _8=88))
    assert shown.startswith("6.3 (") and shown.endswith("..> 8)")
    critical = measured_clutter(cell(100, _2=95, _8=88))
    assert critical is not None and critical.interval is not None
    assert critical.interval[0] < critical.value == pytest.approx(2 + 6 * 5 / 7) and critical.interval[1] == np.inf
    kept = cell(100, _2=60, _8=50)
    del kept.metrics["checkpoints"]["best"]["scraps"]["2"]["answers"]
    assert told_clutter(kept) == "not measured"
    assert measured_clutter(kept) is None


@pytest.mark.parametrize(("clean", "told"), [(0, "at chance"), (11, "at chance"), (12, "> 8")])
def test_a_network_at_chance_has_no_accuracy_to_keep(clean: int, told: str) -> None:
    knows_nothing = cell(clean, _2=clean, _8=clean)
    assert told_clutter(knows_nothing) == told
    assert (measured_clutter(knows_nothing) is None) == (told == "at chance")


def test_damaged_answers_are_refused_by_the_name_of_their_result() -> None:
    kept = cell(100, _2=60, _8=50)
    kept.metrics["checkpoints"]["best"]["clean"]["correct"] = 99
    with pytest.raises(DataFileError, match=r"^capsnet \(clutter, preset small, .* at best: .* are damaged"):
        measured_clutter(kept)
