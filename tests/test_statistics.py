"""Means by digit, and intervals over them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from capsbench.statistics import (
    digit_means,
    exact_interval,
    mcnemar,
    mean_and_deviation,
    paired_interval,
    resampled_interval,
    share_interval,
    unpaired_interval,
)


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


def answers(both: int, only_first: int, only_second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    first = np.repeat([True, True, False, False], [both, only_first, only_second, neither])
    return first, np.repeat([True, False, True, False], [both, only_first, only_second, neither])


def test_mcnemar_worked_by_hand() -> None:
    # Eight disagreements, one for the first: P(0 or 1 of 8 heads) = 9 / 256, twice that for both sides.
    assert mcnemar(*answers(100, 1, 7, 3)) == pytest.approx(18 / 256)


def test_mcnemar_of_agresti_is_as_small_as_in_the_book() -> None:
    # Agresti, Categorical Data Analysis, approval of a prime minister: 150 against 86 changed, z^2 = 17.36.
    p = mcnemar(*answers(794, 150, 86, 570))
    assert p == pytest.approx(stats.chi2(1).sf((150 - 86 - 1) ** 2 / (150 + 86)), rel=0.15)  # near the exact one
    assert p < 1e-4


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_symmetric_and_blind_to_agreement(only_first: int, only_second: int) -> None:
    p = mcnemar(*answers(10, only_first, only_second, 5))
    assert p == mcnemar(*answers(0, only_second, only_first, 900))
    assert 0 < p <= 1 and (p == 1 or only_first != only_second)


def test_a_paired_interval_worked_by_hand() -> None:
    # One digit of two is won by the second model, the other is a draw: the mean of two draws with replacement from
    # the differences {0, 1} is 0, 0.5 or 1 with probabilities 1/4, 1/2, 1/4, so both ends lie at the extremes.
    first, second = np.array([True, False]), np.array([True, True])
    assert paired_interval(first, second, np.array([0, 1], np.int32)) == (0.0, 1.0)
    assert paired_interval(second, first, np.array([0, 1], np.int32)) == (-1.0, 0.0)
    assert paired_interval(first, first, np.array([0, 1], np.int32)) == (0.0, 0.0)


def correlated(digits: int) -> tuple[np.ndarray, np.ndarray]:
    """Two models that fail on the same hard digits, the second a little less often."""
    draw = np.random.default_rng(3)
    hard = draw.random(digits) < 0.3
    return ~hard & (draw.random(digits) < 0.95), ~hard & (draw.random(digits) < 0.99)


def test_the_paired_interval_is_that_of_scipy() -> None:
    first, second = correlated(400)

    def difference(ours: np.ndarray, theirs: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(theirs.mean(axis=axis) - ours.mean(axis=axis))

    theirs = stats.bootstrap(
        (first.astype(float), second.astype(float)),
        difference,
        paired=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(5),
    ).confidence_interval
    ours = paired_interval(first, second, np.arange(400, dtype=np.int32))
    assert ours == pytest.approx(tuple(theirs), abs=0.004)


def test_pairing_narrows_the_interval_where_the_same_digits_are_hard() -> None:
    first, second = correlated(2000)
    low, high = paired_interval(first, second, np.arange(2000, dtype=np.int32))
    apart = np.sqrt(first.var() / 2000 + second.var() / 2000)  # the standard error of independent samples
    assert low < second.mean() - first.mean() < high
    assert high - low < 0.6 * 2 * 1.96 * apart
    eight = paired_interval(np.tile(first, 8), np.tile(second, 8), np.tile(np.arange(2000), 8).astype(np.int32))
    assert eight == pytest.approx((low, high))  # variants that tell nothing new do not narrow it


def test_an_unpaired_interval_is_that_of_newcombe() -> None:
    # Newcombe (1998), table II, column (a), method 10: 56 of 70 against 48 of 80, 0.0524 to 0.3339.
    def wilson(hits: int, total: int) -> tuple[float, tuple[float, float]]:
        found = stats.binomtest(hits, total).proportion_ci(method="wilson")
        return hits / total, (float(found.low), float(found.high))

    assert unpaired_interval(wilson(48, 80), wilson(56, 70)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert unpaired_interval(wilson(56, 70), wilson(48, 80)) == pytest.approx((-0.3339, -0.0524), abs=5e-5)


@pytest.mark.parametrize(("errors", "upper"), [(0, 0.0036821), (1, 0.0055589), (5, 0.0116290)])
def test_few_errors_have_the_exact_interval(errors: int, upper: float) -> None:
    # Clopper and Pearson: at the upper end so few errors are 2.5 % likely; scipy's binomial is the judge.
    correct = np.arange(1000) >= errors
    low, _ = share_interval(correct, np.arange(1000, dtype=np.int32))
    assert 1 - low == pytest.approx(upper, rel=1e-4)
    assert stats.binom(1000, 1 - low).cdf(errors) == pytest.approx(0.025)


def test_the_exact_interval_counts_digits_and_not_their_variants() -> None:
    correct = np.arange(100) >= 3
    source = np.arange(100, dtype=np.int32)
    once = share_interval(correct, source)
    assert share_interval(np.tile(correct, 8), np.tile(source, 8)) == once


def test_where_variants_of_a_digit_differ_digits_are_resampled() -> None:
    random = np.random.default_rng(3)
    correct, source = random.random(800) < 0.9, np.tile(np.arange(100, dtype=np.int32), 8)
    assert share_interval(correct, source) == resampled_interval(digit_means(correct, source))


@given(st.integers(0, 300), st.integers(0, 300))
def test_exact_interval_and_mcnemar_are_those_of_scipy(first: int, second: int) -> None:
    total = first + second
    if total:
        expected = stats.binomtest(first, total)
        low, high = expected.proportion_ci(0.95, "exact")
        assert exact_interval(first, total) == pytest.approx((low, high), abs=1e-9)
        assert mcnemar(*answers(3, first, second, 4)) == pytest.approx(expected.pvalue, rel=1e-9)


def test_the_bootstrap_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).choice([-1, 0, 0.25, 1], 333)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", batch=100, rng=np.random.default_rng(0)
    ).confidence_interval
    assert resampled_interval(values) == pytest.approx(tuple(expected), abs=1e-12)
