"""Accuracies and gaps worked out by hand, and who was right of whom."""

from dataclasses import replace

import numpy as np
import pytest

from capsbench.evaluation.accuracy import accuracy, gap, unpaired_gap
from capsbench.evaluation.pairs import pair_accuracies
from capsbench.evaluation.predictions import Predictions
from capsbench.results.answers import Answers
from capsbench.statistics import pair_interval, resampled_interval, share_interval, writers_interval


def predictions(answers: list[int], labels: list[int], source: list[int]) -> Predictions:
    return Predictions(np.eye(10, dtype=np.float32)[answers], np.array(labels, np.uint8), np.array(source, np.int32))


def test_the_gap_is_clean_minus_transformed() -> None:
    clean = predictions([1, 2, 3, 4], [1, 2, 3, 5], [0, 1, 2, 3])  # 3 of 4
    turned = predictions([1, 0, 0, 4], [1, 2, 3, 5], [0, 1, 2, 3])  # 1 of 4
    found = gap(clean, turned)
    assert found["share"] == 0.5
    low, high = found["interval"]
    assert 0 <= low <= 0.5 <= high <= 1


def test_a_gap_between_other_digits_is_not_paired() -> None:
    # All 20 right against 10 of 20: Newcombe's square-and-add of two exact intervals, not a bootstrap of differences.
    clean = predictions([1] * 20, [1] * 20, list(range(20)))
    half = predictions([1] * 10 + [2] * 10, [1] * 20, list(range(5, 25)))
    for found in (gap(clean, half), unpaired_gap(clean, half)):
        assert found["share"] == 0.5
        (ours_low, ours_high), (low, high) = accuracy(clean).interval, accuracy(half).interval
        expected = (0.5 - np.hypot(high - 0.5, 1 - ours_low), 0.5 + np.hypot(ours_high - 1, 0.5 - low))
        assert found["interval"] == pytest.approx(expected)
    paired = gap(clean, predictions([1] * 10 + [2] * 10, [1] * 20, list(range(20))))
    assert paired["interval"] != found["interval"]


def test_an_accuracy_keeps_who_was_right_where_samples_are_in_order() -> None:
    kept = accuracy(predictions([1, 2, 3, 4], [1, 2, 3, 5], [0, 1, 0, 1])).to_dict()  # the last is wrong
    assert (kept["digits"], kept["answers"]) == (2, "4A==")  # 0b1110_0000
    assert Answers.from_dict(kept).correct.tolist() == [True, True, True, False]
    for source in ([1, 0, 1, 0], [0, 0, 1, 1]):
        assert set(accuracy(predictions([1] * 4, [1] * 4, source)).to_dict()) == {
            "share", "correct", "total", "interval"
        }  # fmt: skip


def test_known_writers_are_what_accuracies_and_gaps_resample() -> None:
    random = np.random.default_rng(0)
    writers = (np.arange(200) * 7 % 20).astype(np.int32)
    hard = writers < 4  # whose digits are mostly missed
    clean, turned = (
        Predictions(
            np.eye(10, dtype=np.float32)[np.where(random.random(400) < np.tile(np.where(hard, ours, 0.95), 2), 1, 2)],
            np.ones(400, np.uint8),
            np.tile(np.arange(200, dtype=np.int32), 2),
            writers,
        )
        for ours in (0.5, 0.2)
    )
    found = accuracy(clean)
    assert found.interval == writers_interval(clean.correct, np.tile(writers, 2))
    assert found.answers is not None and found.answers.unit.tolist() == np.tile(writers, 2).tolist()
    by_writer = gap(clean, turned)
    right, shown = (np.bincount(np.tile(writers, 2), weights=one) for one in (clean.correct, np.ones(400)))
    still = np.bincount(np.tile(writers, 2), weights=turned.correct)
    assert by_writer["interval"] == list(resampled_interval(np.stack([right, -still]), np.stack([shown, shown])))
    by_digit = gap(*(replace(one, writers=None) for one in (clean, turned)))
    assert np.diff(by_writer["interval"]) > 1.3 * np.diff(by_digit["interval"])
    some = np.arange(400) < 12  # of as many writers
    assert accuracy(clean.among(some)).interval == writers_interval(clean.correct[some], writers[:12])
    assert accuracy(clean.among(np.arange(400) < 2)).interval == share_interval(clean.correct[:2], np.arange(2))


def test_pairs_take_the_writers_of_both_digits_for_units() -> None:
    random = np.random.default_rng(1)
    writers = np.repeat(np.arange(12), 5).astype(np.int32)
    source = random.integers(0, 60, (90, 2)).astype(np.int32)
    pairs = Predictions(random.random((90, 10)), np.tile(np.array([1, 2], np.uint8), (90, 1)), source, writers)
    found = pair_interval(pairs.correct.astype(float), writers[source])
    assert accuracy(pairs).interval == pair_accuracies(pairs)["exact pair"].interval == found
    by_digit = pair_interval(pairs.hits.mean(1), writers[source])
    assert pair_accuracies(pairs)["per digit"].interval == by_digit != pair_interval(pairs.hits.mean(1), source)
