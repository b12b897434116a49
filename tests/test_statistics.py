"""Means by digit, and intervals over them."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from capsbench import statistics
from capsbench.statistics import (
    FLIPPED,
    digit_sums,
    exact_interval,
    holm,
    interval_over_seeds,
    mean_and_deviation,
    p_over_seeds,
    pair_error,
    pair_interval,
    paired_by_pair,
    paired_gap,
    paired_interval,
    paired_p,
    resampled_interval,
    resampled_sums,
    share_interval,
    sign_flip_p,
    unpaired_interval,
    writers_interval,
)


def ones(values: np.ndarray) -> np.ndarray:
    return np.ones(len(values))


def test_variants_of_one_digit_are_added_up() -> None:
    correct = np.array([True, False, True, True, False])
    source = np.array([7, 7, 3, 3, 9], np.int32)
    right, images = digit_sums(correct, source)  # digits 3, 7, 9
    assert right.tolist() == [2, 1, 0] and images.tolist() == [2, 2, 1]


def test_numbers_of_digits_may_be_any() -> None:
    right, images = digit_sums(np.array([1, 0, 1]), np.array([-5, 2_000_000_000, -5], np.int32))
    assert right.tolist() == [2, 0] and images.tolist() == [2, 1]


@pytest.mark.parametrize("kept", [True, False], ids=["kept draws", "draws that are not kept"])
@pytest.mark.parametrize(
    "choices",
    [[0], [0, 1], [-1, 0, 32], [0.1, 0.7, 1e-9], [0, 2**22 + 1]],
    ids=["none differ", "answers", "whole", "any", "too large for float32"],
)
def test_resampled_sums_are_those_of_digits_drawn_one_by_one(
    choices: list[float], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "KEPT_DIGITS", 30 if kept else 29)
    values = np.random.default_rng(4).choice(choices, (2, 30))
    random = np.random.default_rng(0)
    drawn = np.concatenate([random.integers(0, 30, (10, 30)) for _ in range(200)])
    sums = resampled_sums(values.astype(np.float64))
    if np.all(values == np.rint(values)):
        assert np.array_equal(sums, values[:, drawn].sum(2).T)
    else:
        assert sums == pytest.approx(values[:, drawn].sum(2).T, rel=1e-14)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_the_interval_holds_the_mean_of_its_values(values: list[float]) -> None:
    low, high = resampled_interval(np.array(values), np.ones(len(values)))
    assert low - 1e-12 <= np.mean(values) <= high + 1e-12
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12


def test_the_interval_is_about_two_standard_errors_wide_on_each_side() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.1, 2000)
    low, high = resampled_interval(values, ones(values))
    error = values.std() / np.sqrt(len(values))
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)


def test_correlated_variants_do_not_narrow_the_interval() -> None:
    digits = np.random.default_rng(2).random(300) < 0.8
    once = resampled_interval(*digit_sums(digits, np.arange(300, dtype=np.int32)))
    eight = resampled_interval(*digit_sums(np.repeat(digits, 8), np.repeat(np.arange(300, dtype=np.int32), 8)))
    assert once == pytest.approx(eight)


def test_mean_and_standard_deviation_of_a_sample() -> None:
    assert mean_and_deviation([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == pytest.approx((5.0, (32 / 7) ** 0.5))
    assert mean_and_deviation([3.0]) == (3.0, None)
    with pytest.raises(ValueError, match=r"numbers, got \[\[\]\]"):
        mean_and_deviation([[]])  # type: ignore[list-item]  # as a result from elsewhere may have it


def answers(both: int, only_first: int, only_second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    first = np.repeat([True, True, False, False], [both, only_first, only_second, neither])
    return first, np.repeat([True, False, True, False], [both, only_first, only_second, neither])


def one_each(first: np.ndarray, second: np.ndarray) -> float:
    """The p where each image shows a digit of its own, so that it is that of McNemar's exact test."""
    return paired_p(first, second, np.arange(len(first), dtype=np.int32))


def test_mcnemar_worked_by_hand() -> None:
    # Eight disagreements, one for the first: P(0 or 1 of 8 heads) = 9 / 256, twice that for both sides.
    assert one_each(*answers(100, 1, 7, 3)) == pytest.approx(18 / 256)


def test_mcnemar_of_agresti_is_as_small_as_in_the_book() -> None:
    # Agresti, Categorical Data Analysis, approval of a prime minister: 150 against 86 changed, z^2 = 17.36.
    p = one_each(*answers(794, 150, 86, 570))
    assert p == pytest.approx(stats.chi2(1).sf((150 - 86 - 1) ** 2 / (150 + 86)), rel=0.15)  # near the exact one
    assert p < 1e-4


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_symmetric_and_blind_to_agreement(only_first: int, only_second: int) -> None:
    p = one_each(*answers(10, only_first, only_second, 5))
    assert p == one_each(*answers(0, only_second, only_first, 900))
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


def test_a_difference_of_gaps_worked_by_hand() -> None:
    # Two digits, a clean image and two transformed ones of each. The second model wins both transformed images of the
    # first digit: its gap there is 1 smaller, 0.5 on the average. Of two draws with replacement both ends are extremes.
    clean, moved = np.zeros(2, np.int8), np.array([1, 0, 1, 0], np.int8)
    interval, p = paired_gap(clean, np.arange(2), moved, np.arange(4) % 2)
    assert interval == (-1.0, 0.0) and p == 1.0  # one digit that differs has either sign
    assert paired_gap(np.array([1, 1], np.int8), np.arange(2), np.ones(4, np.int8), np.arange(4) % 2) == ((0, 0), 1)


def test_a_difference_of_gaps_is_that_of_each_digits_own_gap() -> None:
    draw = np.random.default_rng(4)
    clean = draw.integers(-1, 2, 3 * 200).astype(np.int8)  # three clean images of each digit, eight transformed ones
    moved = (draw.random(8 * 200) < 0.3).astype(np.int8)
    interval, p = paired_gap(clean, np.arange(600) % 200, moved, np.arange(1600) % 200)
    own = clean.reshape(3, 200).mean(0) - moved.reshape(8, 200).mean(0)
    theirs = stats.bootstrap(
        (own,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert interval == pytest.approx(tuple(theirs), abs=0.01)
    assert p == sign_flip_p(np.rint(24 * own).astype(np.int64))
    few = paired_gap(clean, np.arange(600) % 200, np.zeros(1600, np.int8), np.arange(1600) % 200)
    flips = np.random.default_rng(6).choice([-1, 1], (4000, 200)) @ clean.reshape(3, 200).sum(0)
    assert few[1] == pytest.approx((np.abs(flips) >= abs(int(clean.sum()))).mean(), abs=0.03)


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
    assert share_interval(correct, source) == resampled_interval(*digit_sums(correct, source))


@given(st.integers(0, 300), st.integers(0, 300))
def test_exact_interval_and_mcnemar_are_those_of_scipy(first: int, second: int) -> None:
    total = first + second
    if total:
        expected = stats.binomtest(first, total)
        low, high = expected.proportion_ci(0.95, "exact")
        assert exact_interval(first, total) == pytest.approx((low, high), abs=1e-9)
        assert one_each(*answers(3, first, second, 4)) == pytest.approx(expected.pvalue, rel=1e-9)


def test_the_bootstrap_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).choice([-1, 0, 0.25, 1], 333)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", batch=100, rng=np.random.default_rng(0)
    ).confidence_interval
    assert resampled_interval(values, ones(values)) == pytest.approx(tuple(expected), abs=1e-12)


def test_of_unequal_digits_the_interval_is_of_the_share_of_all_images() -> None:
    # A digit with four images, all wrong, and many with one, most right: the mean of the digits' shares is another.
    images = np.tile([4.0, 1.0, 1.0, 1.0], 100)
    right = np.tile([0.0, 1.0, 1.0, 0.0], 100)
    low, high = resampled_interval(right, images)
    assert low < right.sum() / images.sum() < high < (right / images).mean()
    assert (low + high) / 2 == pytest.approx(right.sum() / images.sum(), abs=0.003)
    # The ratio's standard error by the delta method.
    error = np.sqrt(np.square(right - images * right.sum() / images.sum()).sum()) / images.sum()
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)


def test_the_interval_of_shares_where_digits_agree_with_themselves_holds_the_share() -> None:
    source = np.repeat(np.arange(40, dtype=np.int32), np.tile([1, 4], 20))
    correct = source != 1  # four of a hundred images, one of 40 digits
    low, high = share_interval(correct, source)
    assert low < 0.96 < high < 1
    even, whole = share_interval(np.arange(40) != 1, np.arange(40, dtype=np.int32))
    assert high - low > whole - even  # uneven digits tell less than as many even ones


def test_the_sign_flips_worked_by_hand() -> None:
    # Of 3, -1, 1 the signs give 5, 3, 3, 1 and their opposites: six of eight are as far from 0 as 3 or further.
    assert sign_flip_p(np.array([3, -1, 0, 1])) == pytest.approx(6 / 8)
    assert sign_flip_p(np.array([3, 1, 1])) == pytest.approx(2 / 8)
    assert sign_flip_p(np.array([0, 0])) == 1


@given(st.lists(st.integers(-4, 4), min_size=2, max_size=9))
def test_the_sign_flips_are_those_of_scipy(differences: list[int]) -> None:
    expected = stats.permutation_test(
        (np.array(differences, float),), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    assert sign_flip_p(np.array(differences)) == pytest.approx(expected.pvalue)


def test_very_many_sign_flips_are_near_the_exact_ones() -> None:
    random = np.random.default_rng(0)
    some = random.integers(-8, 9, 4000)
    assert np.abs(some).sum() < FLIPPED
    some[:25] = 8  # a p of about 0.01
    near = float(2 * stats.norm.sf(abs(some.sum()) / np.sqrt(np.square(some).sum())))
    assert sign_flip_p(some) == pytest.approx(near, rel=0.05)
    many = np.tile(some, 4)
    assert sign_flip_p(many) == pytest.approx(
        float(2 * stats.norm.sf(abs(many.sum()) / np.sqrt(np.square(many).sum())))
    )


def test_the_tail_of_many_flips_is_not_lost() -> None:
    for all_one_way in (np.ones(900, np.int64), np.full(900, 3)):
        assert sign_flip_p(all_one_way) == pytest.approx(2.0**-899, rel=1e-9)


def test_variants_that_tell_nothing_new_leave_p_as_it_is() -> None:
    first, second = correlated(400)
    once = paired_p(first, second, np.arange(400, dtype=np.int32))
    assert paired_p(np.tile(first, 8), np.tile(second, 8), np.tile(np.arange(400, dtype=np.int32), 8)) == once


def test_of_equal_networks_one_in_twenty_differs_at_five_percent(scale: Callable[[int, int], int]) -> None:
    # Digits are hard or easy for both, a digit's variants have much in common, and neither network is better.
    tests, digits, variants = scale(300, 2000), 300, 4
    random = np.random.default_rng(4)
    source = np.tile(np.arange(digits, dtype=np.int32), variants)
    found = []
    for _ in range(tests):
        hardness = random.normal(1, 1.5, digits) + random.normal(0, 1, (2, digits))
        ours, theirs = (np.tile(one, variants) + random.normal(0, 1, digits * variants) > 0 for one in hardness)
        found.append(paired_p(ours, theirs, source))
    low, high = stats.binom(tests, 0.05).ppf([0.001, 0.999]) / tests
    assert low <= np.mean(np.array(found) < 0.05) <= high


def loop_error(values: np.ndarray, pairs: np.ndarray) -> float:
    """The standard error by its definition: the products of all pairs of pairs that share a digit."""
    residuals = values - values.mean()
    together = [
        [bool(set(one.tolist()) & set(other.tolist())) for other in pairs] for one in pairs
    ]  # a pair shares its digits with itself
    return float(np.sqrt((np.outer(residuals, residuals) * together).sum()) / len(values))


def test_the_error_of_pairs_counts_all_that_share_a_digit() -> None:
    random = np.random.default_rng(0)
    hardness = random.normal(0, 1, 12)
    pairs = np.array([(one, other) for one in range(12) for other in random.permutation(12)[:4] if one != other])
    pairs = np.concatenate([pairs, pairs[:3, ::-1]])  # the same two digits again
    values = (hardness[pairs].sum(1) + random.normal(0, 0.5, len(pairs)) > 0).astype(float)
    assert pair_error(values, pairs) == pytest.approx(loop_error(values, pairs))


def test_numbers_of_digits_from_elsewhere_need_no_memory_of_their_size() -> None:
    values, pairs = np.array([1.0, 0, 1, 1]), np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
    assert pair_error(values, pairs * (2**30)) == pytest.approx(pair_error(values, pairs))


def test_pairs_without_a_digit_in_common_are_independent() -> None:
    values = np.array([1.0, 0, 1, 1, 0, 1, 1, 1])
    pairs = np.arange(16).reshape(8, 2)
    assert pair_error(values, pairs) == pytest.approx(np.sqrt(values.var() / 8))
    wilson = stats.binomtest(6, 8).proportion_ci(0.95, "wilson")
    assert pair_interval(values, pairs) == pytest.approx((wilson.low, wilson.high))


def test_pairs_that_are_all_found_have_the_interval_of_half_as_many_digits() -> None:
    low, high = pair_interval(np.ones(60), np.column_stack([np.arange(60) % 20, (np.arange(60) + 1) % 20]))
    exact = stats.binomtest(10, 10).proportion_ci(0.95, "exact")
    assert (low, high) == pytest.approx((exact.low, 1))


def drawn_pairs(digits: int, variants: int, random: np.random.Generator) -> np.ndarray:
    """Pairs as `multimnist` has them: every digit is the first of as many, and the second of any number."""
    base = np.tile(np.arange(digits), variants)
    return np.column_stack([base, (base + random.integers(1, digits, len(base))) % digits])


def test_an_interval_over_pairs_holds_the_truth_as_often_as_it_says(scale: Callable[[int, int], int]) -> None:
    # Some digits are easy and some are hard, whichever place they have; a pair is found if both together are easy.
    tests, digits, variants, easy = scale(600, 4000), 400, 5, 0.8
    truth = stats.norm.cdf(easy / np.sqrt(2 * 0.7**2 + 1))
    random = np.random.default_rng(6)
    held = held_by_first = 0
    for _ in range(tests):
        pairs = drawn_pairs(digits, variants, random)
        found = easy + random.normal(0, 0.7, digits)[pairs].sum(1) + random.normal(0, 1, len(pairs)) > 0
        low, high = pair_interval(found.astype(float), pairs)
        held += low < truth < high
        means = digit_sums(found, pairs[:, 0].astype(np.int32))[0] / variants
        held_by_first += abs(means.mean() - truth) < 1.96 * means.std() / np.sqrt(digits)
    slack = 3 * np.sqrt(0.95 * 0.05 / tests)
    assert 0.94 - slack < held / tests < 0.96 + slack
    assert held_by_first / tests < 0.92  # as if a digit did not come back as the partner of others


def test_of_equal_networks_one_in_twenty_differs_on_pairs(scale: Callable[[int, int], int]) -> None:
    tests, digits, variants = scale(400, 2000), 400, 5
    random = np.random.default_rng(7)
    small = 0
    for _ in range(tests):
        pairs = drawn_pairs(digits, variants, random)
        shared, own = random.normal(0, 0.7, digits), random.normal(0, 0.5, (2, digits))
        ours, theirs = (1 + (shared + one)[pairs].sum(1) + random.normal(0, 1, len(pairs)) > 0 for one in own)
        (low, high), p = paired_by_pair(ours, theirs, pairs)
        assert (p < 0.05) == (low > 0 or high < 0)
        small += p < 0.05
    assert 0.04 - 0.025 * (400 / tests) ** 0.5 < small / tests < 0.06 + 0.025 * (400 / tests) ** 0.5


def test_equal_answers_to_pairs_do_not_differ() -> None:
    found = np.array([True, False, True])
    assert paired_by_pair(found, found, np.array([[0, 1], [1, 2], [2, 0]])) == ((0, 0), 1)


def test_the_interval_over_seeds_adds_both_parts() -> None:
    assert interval_over_seeds([0.5], [(0.4, 0.7)]) == (0.4, 0.7)
    equal = interval_over_seeds([0.5, 0.5, 0.5], [(0.4, 0.6)] * 3)
    assert equal == pytest.approx((0.4, 0.6))  # the same test digits: more seeds do not narrow it
    sure = interval_over_seeds([1.0, 2.0, 6.0], [(1.0, 1.0), (2.0, 2.0), (6.0, 6.0)])
    assert sure == pytest.approx(stats.t.interval(0.95, 2, loc=3, scale=stats.sem([1, 2, 6])))
    low, high = interval_over_seeds([1.0, 3.0], [(0.0, 2.0), (2.0, 4.0)])
    assert high - 2 == pytest.approx(2 - low) == pytest.approx(np.hypot(1, stats.t.ppf(0.975, 1)))


def test_the_interval_over_seeds_holds_what_new_seeds_and_digits_would_give(scale: Callable[[int, int], int]) -> None:
    tests, digits, held = scale(400, 4000), 300, 0
    random = np.random.default_rng(8)
    for _ in range(tests):
        hardness = random.normal(0, 1, digits)
        answers = [random.normal(0, 0.1) + hardness + random.normal(0, 1, digits) for _ in range(3)]
        spans = [tuple(one.mean() + np.array([-1.96, 1.96]) * one.std() / np.sqrt(digits)) for one in answers]
        low, high = interval_over_seeds([float(one.mean()) for one in answers], spans)
        held += low < 0 < high
    assert held / tests > 0.94 - 3 * np.sqrt(0.95 * 0.05 / tests)


def test_p_over_seeds_of_either_part_alone() -> None:
    sure = [(one, one) for one in (1.0, 2.0, 6.0)]
    assert p_over_seeds([1.0, 2.0, 6.0], sure) == pytest.approx(stats.ttest_1samp([1, 2, 6], 0).pvalue)
    equal = p_over_seeds([-0.5] * 3, [(-0.9, -0.2)] * 3)  # 0 lies above, so that the upper end counts
    assert equal == pytest.approx(2 * stats.norm.sf(0.5 / (0.3 / 1.959964)))
    assert p_over_seeds([0.5] * 3, [(0.5, 0.5)] * 3) == 0
    assert p_over_seeds([-1.0, 1.0], [(-2.0, 0.0), (0.0, 2.0)]) == 1


@given(
    st.lists(st.tuples(*[st.floats(-1, 1), *[st.floats(1e-3, 1)] * 2]), min_size=2, max_size=5),
)
def test_p_over_seeds_is_below_a_twentieth_where_the_interval_does_not_hold_0(drawn: list[tuple[float, ...]]) -> None:
    values = [value for value, _, _ in drawn]
    intervals = [(value - below, value + above) for value, below, above in drawn]
    low, high = interval_over_seeds(values, intervals)
    assume(min(abs(low), abs(high)) > 1e-6)
    assert (p_over_seeds(values, intervals) < 0.05) == (not low <= 0 <= high)


def test_holm_worked_by_hand() -> None:
    # Of four: 0.01 times 4, 0.015 times 3, 0.04 times 2 and 0.3; none less than one before it.
    assert holm([0.3, 0.01, 0.04, 0.015]) == pytest.approx([0.3, 0.04, 0.08, 0.045])
    assert holm([0.6, 0.01, 0.02]) == pytest.approx([0.6, 0.03, 0.04])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_of_writers_with_an_image_each_all_is_as_of_images() -> None:
    first, second = correlated(400)
    images = np.arange(400, dtype=np.int32)
    writers = 3 * images + 1
    # 399 draws, for the variance is estimated, and these fewer by the square of 1.966, of Student's t, over 1.960.
    draws = 399 * (stats.norm.ppf(0.975) / stats.t(399).ppf(0.975)) ** 2
    assert writers_interval(first, writers) == pytest.approx(exact_interval(draws * first.mean(), draws), abs=1e-6)
    assert paired_interval(first, second, writers) == paired_interval(first, second, images)
    assert paired_p(first, second, writers) == paired_p(first, second, images)


def test_writers_whose_images_all_agree_count_once() -> None:
    # 25 equal answers tell no more than one: the design effect is 25, so that intervals are 5 times as wide.
    first, second = correlated(400)
    once = np.arange(400, dtype=np.int32)
    writers = np.repeat(once, 25)
    ours, theirs, images = np.repeat(first, 25), np.repeat(second, 25), np.arange(10_000, dtype=np.int32)
    assert writers_interval(ours, writers) == pytest.approx(writers_interval(first, once))
    assert paired_interval(ours, theirs, writers) == pytest.approx(paired_interval(first, second, once))
    assert paired_p(ours, theirs, writers) == pytest.approx(paired_p(first, second, once))
    for by_writer, by_image in (
        (writers_interval(ours, writers), share_interval(ours, images)),
        (paired_interval(ours, theirs, writers), paired_interval(ours, theirs, images)),
    ):
        assert np.diff(by_writer) / np.diff(by_image) == pytest.approx(5, rel=0.05)


def test_an_interval_over_writers_without_an_error_counts_writers_and_with_one_images() -> None:
    source = np.repeat(np.arange(20), 50)
    right = np.ones(1000, np.bool_)
    assert writers_interval(right, source) == pytest.approx((0.025 ** (1 / 20), 1))
    assert writers_interval(~right, source) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))
    right[7] = False  # a bootstrap would end at 0.997
    low, high = writers_interval(right, source)
    assert low < exact_interval(999, 1000)[0] and 0.9999 < high < 1
    half = np.arange(1000) % 2 > 0  # of every writer: fewer draws than images are never seen to be more
    assert writers_interval(half, source) == pytest.approx(exact_interval(500, 1000))


USUAL, RARE = (9, 1), (32, 0.032)  # of ten images one is misread, or of a thousand, more of some writers than of others


def written(
    random: np.random.Generator, writers: int, hands: tuple[float, float] = USUAL
) -> tuple[np.ndarray, np.ndarray]:
    """Answers, and the writer of each image: 20 to 60 images of each, of whom some are hard to read."""
    source = np.repeat(np.arange(writers), random.integers(20, 61, writers)).astype(np.int32)
    return random.random(len(source)) < random.beta(*hands, writers)[source], source


def test_the_interval_over_writers_is_as_wide_as_the_error_that_is_robust_to_clusters() -> None:
    correct, source = written(np.random.default_rng(5), 500)
    residuals = correct - correct.mean()
    error = np.sqrt(np.square(np.bincount(source, weights=residuals)).sum()) / len(correct)  # Liang and Zeger 1986
    assert np.diff(writers_interval(correct, source)) == pytest.approx(2 * stats.norm.ppf(0.975) * error, rel=0.05)
    assert error > 1.5 * np.sqrt(correct.var() / len(correct))


@pytest.mark.parametrize("hands", [USUAL, RARE])
def test_intervals_over_writers_hold_the_truth(hands: tuple[float, float], scale: Callable[[int, int], int]) -> None:
    tests, truth = scale(200, 2000), hands[0] / sum(hands)
    random = np.random.default_rng(6)
    held = np.zeros(3)
    for _ in range(tests):
        correct, source = written(random, 80, hands)
        found = (
            writers_interval(correct, source),
            share_interval(correct, source),
            share_interval(correct, np.arange(len(source), dtype=np.int32)),
        )
        held += [low <= truth <= high for low, high in found]
    assert stats.binom(tests, 0.95).cdf(held[0]) > 0.001
    assert held[1:].min() / tests < 0.93  # images taken for independent, or of few errors a bootstrap


def test_the_error_of_pairs_takes_one_writer_of_both_digits_once() -> None:
    random = np.random.default_rng(7)
    writers = np.arange(60) // 4
    pairs = random.integers(0, 60, (50, 2))
    pairs[:8, 1] = pairs[:8, 0] // 4 * 4 + (pairs[:8, 0] + 1) % 4  # of the same writer
    values = (random.normal(0, 1, 15)[writers[pairs]].sum(1) > 0).astype(float)
    assert (writers[pairs[:, 0]] == writers[pairs[:, 1]]).sum() >= 8
    assert pair_error(values, writers[pairs]) == pytest.approx(loop_error(values, writers[pairs]))
