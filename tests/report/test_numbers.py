"""Numbers as a table shows them."""

import numpy as np
import pytest

from capsbench.report.numbers import few_seeds_note, seeds_note, told_p
from capsbench.statistics import paired_p

from .measured import measured


@pytest.mark.parametrize(("p", "shown"), [(1.0, "1"), (0.034567, "0.035"), (2.3e-206, "2.3e-206")])
def test_a_p_has_two_digits(p: float, shown: str) -> None:
    assert told_p(p) == shown


def test_a_p_that_float64_cannot_hold_is_not_called_zero() -> None:
    right = np.ones(2000, np.bool_)
    p = paired_p(~right, right, np.arange(2000, dtype=np.int32))  # 2**-1999
    assert p == 0 and told_p(p) == "< 1e-300"


def test_seeds_are_those_of_each_network() -> None:
    one, two, three = ([measured(name, seed=seed) for seed in range(number)] for number, name in enumerate("abc", 1))
    assert (seeds_note(one), seeds_note(two)) == ("Seed 0.", "Means over seeds 0, 1.")
    assert seeds_note([*two, *one]) == "Means over each network's seeds, of 0, 1."
    assert seeds_note([*one, measured("d", seed=1)]) == "Means over each network's seeds, of 0, 1."
    assert few_seeds_note(three) == []
    (few,), (some,) = few_seeds_note([*one, *two]), few_seeds_note([*one, *two, *three])
    assert few.startswith("Fewer than three seeds: what") and some.startswith("Fewer than three seeds of a, b: what")
