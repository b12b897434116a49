"""Which files are the user's own."""

from pathlib import Path

import pytest

from capsbench.sources.places import is_own


@pytest.mark.parametrize("folder", ["mine.egg-info", "mine-1.0.dist-info"])
def test_what_an_installation_says_of_itself_is_not_the_users(folder: str) -> None:
    # Of what is installed in editable mode it lies in a checkout, and whether it is read depends on what was imported.
    assert not is_own(Path(folder) / "entry_points.txt")
    assert is_own(Path("mine") / "entry_points.txt")
