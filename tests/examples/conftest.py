"""What the tests of the examples share."""

import shutil
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(autouse=True)
def repository() -> None:
    """The folder of the examples, beside which nothing else lies."""
    shutil.copytree(EXAMPLES, "examples")
