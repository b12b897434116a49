"""Crafted files that mean harm: refused in under a second, in little memory, and nothing that they name is opened."""

from collections.abc import Callable
from typing import Any


def test_every_hostile_file_is_refused_and_its_target_never_opened(campaign: Callable[..., dict[str, Any]]) -> None:
    counts = campaign("hostile")
    assert counts["refused"] == counts["hostile files"] == 26
    assert counts["targets that h5py opens"] == 8
    assert counts["targets opened"] == 0
