"""Imports against damaged MATLAB files: each ends, with an error of two lines or with a file of what is there."""

from collections.abc import Callable
from typing import Any

Campaign = Callable[..., dict[str, Any]]
Scale = Callable[[int, int], int]


def test_damaged_matlab_files_end_in_an_error_or_are_read_as_they_are(campaign: Campaign, scale: Scale) -> None:
    number = scale(8, 1000)
    counts = campaign("mutation", "mat_files:Mat", number)
    assert counts["mutated files"] == counts["refused"] + counts["same"] == number
    assert counts["refused"] >= number / 3


def test_the_same_in_a_child_of_its_own(campaign: Campaign, scale: Scale) -> None:
    number = scale(1, 60)
    counts = campaign("mutation", "mat_files:MatApart", number, 5003)
    assert counts.get("refused", 0) + counts.get("same", 0) == number
