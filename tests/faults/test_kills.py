"""Generation against kills: the final name is absent or whole, and the next run ends with the same bytes."""

from collections.abc import Callable
from typing import Any

import pytest

Campaign = Callable[..., dict[str, Any]]
Scale = Callable[[int, int], int]


@pytest.mark.parametrize(("workers", "few"), [(1, 6), (2, 3)])
def test_a_run_killed_anywhere_and_started_again_ends_with_the_same_bytes(
    workers: int, few: int, campaign: Campaign, scale: Scale
) -> None:
    kills = scale(few, 200)
    counts = campaign("kills", kills, workers)
    assert counts["kills"] >= kills
    assert counts["unfinished after a kill"] >= kills / 8  # the others had the file renamed, or made it to its end
    assert len([what for what in counts if what.startswith("killed at")]) >= scale(2, 8)
    # A matter of time, where the kills are few.
    assert counts.get("killed at a worker alone", 0) >= (scale(0, 20) if workers > 1 else 0)


def test_a_run_killed_before_each_of_its_system_calls_ends_with_the_same_bytes(
    campaign: Campaign, scale: Scale
) -> None:
    counts = campaign("kills:every_call", scale(5, 1))
    assert counts["killed calls"] > scale(15, 60)
    assert counts["unfinished after a kill"] > scale(10, 40)
