"""What constructors take and refuse."""

from typing import Any

import pytest

from capsbench.errors import ParameterError
from capsbench.models.checks import flag, image_shape, whole, wholes


def test_values_in_range_pass_unchanged() -> None:
    assert whole("width", 3) == 3
    assert wholes("widths", [3, 4]) == (3, 4)
    assert wholes("widths", 3) == (3,)
    assert flag("bias", False) is False
    assert image_shape(28) == (28, 28)
    assert image_shape((28, 84)) == (28, 84)


@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, True, "3", None])
def test_whole_refuses(value: Any) -> None:
    with pytest.raises(ParameterError, match=f"^width={value} was asked for; it must be a whole number of at least 1"):
        whole("width", value)
    with pytest.raises(ParameterError, match=f"^widths={value} was asked for"):
        wholes("widths", [1, value])


@pytest.mark.parametrize("values", [(), "12"])
def test_wholes_refuses_an_empty_row_and_text(values: Any) -> None:
    with pytest.raises(ParameterError, match="was asked for; it must be"):
        wholes("widths", values)


@pytest.mark.parametrize("value", ["no", 0, 1, None])
def test_flag_refuses(value: Any) -> None:
    with pytest.raises(ParameterError, match=f"bias={value} was asked for; it must be True or False"):
        flag("bias", value)


def test_image_shape_has_two_sides() -> None:
    with pytest.raises(ParameterError, match=r"one number or \(height, width\)"):
        image_shape((1, 28, 28))
