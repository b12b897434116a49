"""The source digits that every test of a generator draws from."""

import pytest

from capsbench.contracts import Digits
from capsbench.data.digits import load_digits


@pytest.fixture(scope="session")
def digits() -> Digits:
    """The 1,000 embedded test digits."""
    return load_digits("test", "embedded")
