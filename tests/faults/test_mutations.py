"""Damaged files of every kind: refused in a line or two, or read as they were, without a crash or a hang."""

from collections.abc import Callable
from typing import Any

import pytest

from capsbench.errors import DataFileError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import repair_file

from .data_files import PATH, Contiguous, forged, seen
from .mutation import Draw

Campaign = Callable[..., dict[str, Any]]
Scale = Callable[[int, int], int]


@pytest.mark.parametrize(
    ("kind", "few", "many"),
    [
        ("data_files:Contiguous", 20, 2000),
        ("data_files:Packed", 15, 1000),
        ("digit_files:Idx", 40, 500),
        ("digit_files:Gz", 40, 500),
        ("digit_files:Vouched", 40, 500),
    ],
)
def test_a_damaged_file_is_refused_or_the_same(
    kind: str, few: int, many: int, campaign: Campaign, scale: Scale
) -> None:
    number = scale(few, many)
    counts = campaign("mutation", kind, number)
    assert counts["refused"] + counts.get("same", 0) == number
    assert counts["refused"] > number / 5


def test_what_the_campaign_is_made_of_is_seen_by_the_digests_alone() -> None:
    kind = Contiguous()
    for damage in kind.damages:
        PATH.write_bytes(damage(b"", Draw(1)))
        assert seen(open_dataset(PATH, verify=False)) not in kind.contents
        with pytest.raises(DataFileError):
            open_dataset(PATH)


def test_a_repair_does_not_take_for_right_what_the_root_digest_denies() -> None:
    kind = Contiguous()
    PATH.write_bytes(kind.damages[-1](b"", Draw(0)))
    assert forged(DataFile(PATH))
    repair_file(PATH)
    assert seen(open_dataset(PATH)) in kind.contents
