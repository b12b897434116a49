"""Who was right, into a result and back."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsbench.errors import DataFileError
from capsbench.results.answers import Answers, packed_partners, unpacked_partners
from capsbench.results.pixels import packed


def test_the_bits_of_ten_answers_by_hand() -> None:
    answers = Answers(np.array([1, 0, 1, 0, 0, 0, 0, 1, 0, 1], bool), 5)
    assert base64.b64decode(answers.to_dict()["answers"]) == bytes([0b1010_0001, 0b0100_0000])
    assert answers.to_dict()["digits"] == 5
    assert answers.base.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.data())
def test_answers_come_back_through_json(correct: list[bool], data: st.DataObject) -> None:
    answers = Answers(np.array(correct), data.draw(st.integers(1, len(correct))))
    text = json.dumps({"correct": sum(correct), "total": len(correct), **answers.to_dict()})
    again = Answers.from_dict(json.loads(text))
    assert again.correct.tolist() == correct and again.digits == answers.digits


@pytest.mark.parametrize(
    ("base", "digits"),
    [
        ([0, 1, 2, 0, 1, 2], 3),
        ([0, 1, 2, 0, 1], 3),  # a count that cuts the last variants
        ([0, 1, 2], 3),
        ([0, 0], 1),
        ([0, 0, 1, 1], None),  # variant after variant
        ([1, 2, 3], None),
        ([0, 1, 3], None),
        ([5], None),
    ],
)
def test_only_samples_in_the_order_of_a_data_set_are_kept(base: list[int], digits: int | None) -> None:
    found = Answers.in_order(np.ones(len(base), bool), np.array(base, np.int32))
    assert (found and found.digits) == digits


@pytest.mark.parametrize(
    "damage",
    [
        {"answers": "gg"},
        {"answers": "gg==", "total": 9},
        {"answers": "!!!!"},
        {"answers": None},
        {"answers": "ggé="},
        {"answers": "ww=="},  # 0b11000011: two more bits than are correct
        {"answers": "oQ==", "correct": 3},  # a bit past the last answer
        {"digits": 0},
        {"digits": 8},
        {"digits": True},
        {"digits": "3"},
        {"total": 2**60},
        {"total": -1},
        {"correct": None},
    ],
)
def test_damaged_answers_are_refused(damage: dict[str, Any]) -> None:
    right = {"correct": 2, "total": 7, **Answers(np.array([1, 0, 0, 0, 0, 0, 1], bool), 7).to_dict()}
    assert Answers.from_dict(right).correct.sum() == 2
    with pytest.raises(DataFileError, match=r"(?i)answers"):
        Answers.from_dict(right | damage)


def test_partners_come_back_through_json() -> None:
    source = np.array([[0, 9], [1, 70_000], [2, 0]], np.int32)
    kept = json.loads(json.dumps(packed_partners(source)))
    assert unpacked_partners(kept).tolist() == [9, 70_000, 0]


def test_damaged_partners_are_refused() -> None:
    with pytest.raises(DataFileError, match="four bytes each"):
        unpacked_partners(packed(np.zeros((3, 2), np.uint8)))
    with pytest.raises(DataFileError, match="below 0"):
        unpacked_partners(packed(np.full((3, 4), 255, np.uint8)))
    with pytest.raises(DataFileError, match="missing"):
        unpacked_partners("AAAA")
