"""The critical spacing, worked by hand, and by simulation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from capsbench.errors import DataFileError
from capsbench.results.answers import Answers
from capsbench.results.result import Result
from capsbench.suites.crowding_spacing import critical_spacing, measured_spacing, told_spacing

from ..report.measured import measured

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


def cell(alone: int, **found: int) -> Result:
    def point(number: int) -> dict[str, Any]:
        return {"correct": number, "total": DIGITS, **right(number).to_dict()}

    best = {"alone": point(alone), "digits": {name[1:]: point(one) for name, one in found.items()}}
    return measured("capsnet", suite="crowding", metrics={"checkpoints": {"best": best}})


def test_what_the_table_shows() -> None:
    assert told_spacing(cell(100, _14=0, _28=100), "digits") == "26.6"  # no digit differs from another
    assert told_spacing(cell(100, _14=100, _28=100), "digits") == "< 14"
    assert told_spacing(cell(100, _14=0, _28=10), "digits") == "> 28"
    shown = told_spacing(cell(100, _14=60, _20=88, _28=91), "digits")
    assert shown.startswith("25.3 (") and shown.endswith("..> 28)")
    kept = cell(100, _14=60, _28=96)
    del kept.metrics["checkpoints"]["best"]["digits"]["14"]["answers"]
    assert told_spacing(kept, "digits") == "not measured"


@pytest.mark.parametrize(("alone", "told"), [(0, "at chance"), (10, "at chance"), (11, "at chance"), (12, "< 14")])
def test_a_network_at_chance_has_no_accuracy_to_keep(alone: int, told: str) -> None:
    knows_nothing = cell(alone, _14=alone, _28=alone)
    assert told_spacing(knows_nothing, "digits") == told
    assert (measured_spacing(knows_nothing, "digits") is None) == (told == "at chance")


def test_at_chance_is_what_the_interval_may_be() -> None:
    surely, perhaps = cell(20, _14=20, _28=20), cell(20, _14=20, _28=20)
    surely.metrics["checkpoints"]["best"]["alone"]["interval"] = [0.12, 0.3]
    perhaps.metrics["checkpoints"]["best"]["alone"]["interval"] = [0.11, 0.3]
    assert told_spacing(surely, "digits") == "< 14" and told_spacing(perhaps, "digits") == "at chance"


def test_damaged_answers_are_refused_by_the_name_of_their_result() -> None:
    kept = cell(100, _14=60, _28=96)
    kept.metrics["checkpoints"]["best"]["digits"]["14"]["correct"] = 61
    with pytest.raises(DataFileError, match=r"^capsnet \(crowding, preset small, .* at best: .* are damaged"):
        told_spacing(kept, "digits")


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


def test_writers_of_more_or_fewer_digits_are_resampled_whole() -> None:
    random = np.random.default_rng(8)
    sizes = random.integers(1, 9, 200)
    writers = np.repeat(np.arange(200), sizes)
    easy = random.normal(0, 1, 200)
    answers = {at: np.repeat(easy + shift > -1, sizes) for at, shift in {0: 2.0, 14: -0.5, 20: 0.5, 28: 2.0}.items()}
    alone, *between = (Answers(one, len(writers), writers) for one in answers.values())
    _, ends = critical_spacing(alone, dict(zip([14, 20, 28], between, strict=True)))
    by_writer = {distance: np.bincount(writers, weights=one) for distance, one in answers.items()}
    found = []
    for _ in range(1000):  # an independent bootstrap: 14 to 20 or 20 to 28 is where nine tenths are crossed
        drawn = random.integers(0, 200, 200)
        shares = {distance: one[drawn].sum() / sizes[drawn].sum() for distance, one in by_writer.items()}
        found.append(np.interp(0.9 * shares[0], [shares[14], shares[20], shares[28]], [14, 20, 28]))
    assert ends == pytest.approx(np.percentile(found, [2.5, 97.5]), abs=0.3)
    plain = {distance: Answers(one, len(writers)) for distance, one in answers.items()}
    _, of_digits = critical_spacing(plain.pop(0), plain)
    assert ends[1] - ends[0] > 1.5 * (of_digits[1] - of_digits[0])
