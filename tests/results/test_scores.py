"""Scores kept in a result: they come back bit by bit, are checked by the answers, and are summed as said."""

import json
from typing import Any

import numpy as np
import pytest

from capsbench.errors import DataFileError
from capsbench.results.answers import Answers
from capsbench.results.pixels import packed
from capsbench.results.scores import Scores, summed

LABELS = np.array([1, 0, 2], np.uint8)


def scores_of(*rows: dict[int, float]) -> Scores:
    scores = np.zeros((len(rows), 10), np.float32)
    for number, row in enumerate(rows):
        for label, score in row.items():
            scores[number, label] = score
    return Scores(scores, LABELS[: len(rows)])


def point_of(kept: Scores) -> dict[str, Any]:
    right = kept.scores.argmax(1) == kept.labels
    return {"correct": int(right.sum()), "total": len(right)} | Answers(right, len(right)).to_dict()


def test_scores_come_back_bit_by_bit() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(500, 10)).astype(np.float32) * np.float32(1e30)
    scores[0] = [0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, 1, 2, 3, 4]
    kept = Scores(scores, generator.integers(0, 10, 500).astype(np.uint8))
    content = json.loads(json.dumps(kept.to_dict()))
    found = Scores.from_dict(content, point_of(kept))
    assert found.scores.tobytes() == scores.tobytes() and np.array_equal(found.labels, kept.labels)
    assert len(json.dumps(content)) < 500 * 10 * 4 * 4 / 3 + 1500  # no more than the bytes in base64


def test_an_ensemble_answers_with_the_highest_sum() -> None:
    one = scores_of({1: 0.9}, {3: 0.6, 0: 0.5}, {2: 0.4, 7: 0.5})
    other = scores_of({1: 0.1}, {0: 0.2}, {2: 0.3, 7: 0.21})
    # The second image is 3 for one network, by 0.6 to 0.5, and 0 for both, by 0.7 to 0.6; the third 7 by 0.71 to 0.7.
    assert summed([one]).tolist() == [True, False, False]
    assert summed([one, other]).tolist() == [True, True, False]
    tie = scores_of({1: 1.0, 4: 1.0}, {0: 1.0, 5: 1.0}, {1: 1.0, 2: 1.0})
    assert summed([tie, tie]).tolist() == [True, True, False]  # of equal sums the lower class


def test_sums_do_not_round_away_a_small_score() -> None:
    large = scores_of({1: 1e8, 2: 1e8})
    small = scores_of({1: 1.0})
    assert summed([large, small]).tolist() == [True]
    assert summed([scores_of({0: 1e8, 1: 1e8}), small]).tolist() == [True]  # in float32 it would be a tie


@pytest.mark.parametrize(
    "change",
    [
        {"scores": None}, {"labels": None}, {"labels": packed(np.zeros(2, np.uint8))},
        {"labels": packed(np.full(3, 10, np.uint8))}, {"labels": packed(np.zeros(3, np.uint8))},
        {"scores": packed(np.zeros((4, 3, 9), np.uint8))}, {"scores": packed(np.full((4, 3, 10), 255, np.uint8))},
        {"scores": packed(np.zeros((4, 3, 10), np.uint8))},
    ],
    ids=str,
)  # fmt: skip
def test_damaged_scores_are_refused(change: dict[str, Any]) -> None:
    kept = scores_of({1: 0.9}, {3: 0.6}, {2: 0.4})
    Scores.from_dict(kept.to_dict(), point_of(kept))
    with pytest.raises(DataFileError, match="damaged"):
        Scores.from_dict(kept.to_dict() | change, point_of(kept))


def test_what_is_no_content_is_refused() -> None:
    with pytest.raises(DataFileError, match="damaged"):
        Scores.from_dict(None, point_of(scores_of({1: 1.0})))


def test_networks_of_other_images_are_no_ensemble() -> None:
    one = scores_of({1: 0.9}, {3: 0.6})
    with pytest.raises(DataFileError, match="other images"):
        summed([one, Scores(one.scores, LABELS[1:])])
