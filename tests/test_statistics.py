"""Means by digit, and intervals over them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsbench.statistics import digit_means, mean_and_deviation, resampled_interval


def test_variants_of_one_digit_count_as_one_mean() -> None:
    correct = np.array([True, False, True, True, False])
    source = np.array([7, 7, 3, 3, 9], np.int32)
    assert digit_means(correct, source).tolist() == [1.0, 0.5, 0.0]  # digits 3, 7, 9


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_the_interval_holds_the_mean_of_its_values(values: list[float]) -> None:
    low, high = resampled_interval(np.array(values))
    assert low - 1e-12 <= np.mean(values) <= high + 1e-12
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12


def test_the_interval_is_about_two_standard_errors_wide_on_each_side() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.1, 2000)
    low, high = resampled_interval(values)
    error = values.std() / np.sqrt(len(values))
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)


def test_correlated_variants_do_not_narrow_the_interval() -> None:
    digits = np.random.default_rng(2).random(300) < 0.8
    once = resampled_interval(digit_means(digits, np.arange(300, dtype=np.int32)))
    eight = resampled_interval(digit_means(np.repeat(digits, 8), np.repeat(np.arange(300, dtype=np.int32), 8)))
    assert once == pytest.approx(eight)


def test_mean_and_standard_deviation_of_a_sample() -> None:
    assert mean_and_deviation([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == pytest.approx((5.0, (32 / 7) ** 0.5))
    assert mean_and_deviation([3.0]) == (3.0, None)
