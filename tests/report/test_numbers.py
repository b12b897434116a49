"""Numbers as a table shows them."""

import numpy as np
import pytest

from capsbench.report.numbers import told_p
from capsbench.statistics import paired_p


@pytest.mark.parametrize(("p", "shown"), [(1.0, "1"), (0.034567, "0.035"), (2.3e-206, "2.3e-206")])
def test_a_p_has_two_digits(p: float, shown: str) -> None:
    assert told_p(p) == shown


def test_a_p_that_float64_cannot_hold_is_not_called_zero() -> None:
    right = np.ones(2000, np.bool_)
    p = paired_p(~right, right, np.arange(2000, dtype=np.int32))  # 2**-1999
    assert p == 0 and told_p(p) == "< 1e-300"
