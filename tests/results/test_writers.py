"""Writers, into a result and back."""

from typing import Any

import numpy as np
import pytest

from capsbench.errors import DataFileError
from capsbench.results.answers import Answers
from capsbench.results.pixels import packed
from capsbench.results.writers import key_of_writers, packed_writers, resampled_units, unpacked_writers

WRITERS = np.array([0, 300, 2, 300, *range(1, 300)], np.int32)


def kept(writers: Any) -> dict[str, Any]:
    return {key_of_writers(writers): packed_writers(writers)}


def test_writers_come_back() -> None:
    assert unpacked_writers(kept(WRITERS), key_of_writers(WRITERS)).tolist() == WRITERS.tolist()


def test_answers_have_the_writers_of_their_digits() -> None:
    answers = Answers(np.arange(500) % 3 > 0, 250, WRITERS)
    point = {"correct": int(answers.correct.sum()), "total": 500, **answers.to_dict()}
    again = Answers.from_dict(point, kept(WRITERS))
    assert again.unit.tolist() == WRITERS[np.arange(500) % 250].tolist()
    assert Answers.from_dict(point).writers is None  # where nobody asks, nothing is unpacked
    del point["writers"]
    assert Answers.from_dict(point, kept(WRITERS)).unit.tolist() == again.base.tolist()


def damaged(name: str) -> tuple[dict[str, Any], Any]:
    key = key_of_writers(WRITERS)
    out_of_range = WRITERS + 100
    return {
        "missing": ({}, key),
        "another key": (kept(WRITERS), "0" * 64),
        "no key": (kept(WRITERS), ["x"]),
        "other writers": ({key: packed_writers(WRITERS[::-1])}, key),
        "three bytes each": ({key: packed(np.zeros((3, 9), np.uint8))}, key),
        "none": ({key: packed(np.zeros((4, 0), np.uint8))}, key),
        "no pixels": ({key: 7}, key),
        "numbers past their count": (kept(out_of_range), key_of_writers(out_of_range)),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "missing", "another key", "no key", "other writers", "three bytes each", "none", "no pixels",
        "numbers past their count",
    ],
)  # fmt: skip
def test_damaged_writers_are_refused(name: str) -> None:
    with pytest.raises(DataFileError, match="damaged"):
        unpacked_writers(*damaged(name))


def test_answers_to_more_digits_than_have_writers_are_refused() -> None:
    few = np.arange(10, dtype=np.int32)
    point = {"correct": 11, "total": 11, **Answers(np.ones(11, bool), 11, few).to_dict()}
    with pytest.raises(DataFileError, match="11 digits and writers of 10"):
        Answers.from_dict(point, kept(few))


def test_writers_are_what_is_resampled_where_enough_are_shown() -> None:
    writers = np.arange(40) // 2
    assert resampled_units(np.array([5, 0, 39] * 10), None).tolist() == [5, 0, 39] * 10
    assert resampled_units(np.array([], np.int32), writers).size == 0  # nothing is within reach
    assert resampled_units(np.arange(40), writers).tolist() == writers.tolist()
    assert resampled_units(np.arange(18), writers).tolist() == list(range(18))  # of nine writers
    for unknown in (-1, 40):
        strange = np.array([*range(39), unknown])
        assert resampled_units(strange, writers).tolist() == strange.tolist()
    pairs = np.column_stack([np.arange(20), np.arange(20, 40)])
    assert resampled_units(pairs, writers).tolist() == writers[pairs].tolist()
