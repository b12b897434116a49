"""What the tests of the examples share."""

import shutil

import pytest

from .sections import ROOT


@pytest.fixture(autouse=True)
def repository() -> None:
    """The folder of the examples, beside which nothing else lies."""
    shutil.copytree(ROOT / "examples", "examples")
