"""From text to the fields of a dataclass: what is read, and what is refused with which words."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsbench.errors import CapsbenchError, ParameterError, UnknownNameError
from capsbench.parameters import (
    Range,
    check_choice,
    check_number,
    check_range,
    check_seed,
    check_truth,
    check_whole,
    check_wholes,
    construct,
    convert,
    image_shape,
    literal,
    split_assignments,
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    shift: int = 6
    rate: float = 0.1
    reuse: bool = False
    padding: str = "valid"
    rotation: Range = (-20.0, 20.0)
    sizes: tuple[int, ...] = (28,)
    target: float | None = 0.99

    def __post_init__(self) -> None:
        check_number("shift", self.shift, 0, 14)


def settings(**values: Any) -> Settings:
    return construct(Settings, values, owner="data set 'padded'")


def test_assignments_are_split_at_their_first_equals_sign() -> None:
    assert split_assignments(["a=1", " b = 2,3 ", "c=x=y", "d="]) == {"a": "1", "b": "2,3", "c": "x=y", "d": ""}


@pytest.mark.parametrize("assignment", ["shift", "=3", " =3", ""])
def test_assignment_without_key_or_equals_sign_is_refused(assignment: str) -> None:
    with pytest.raises(ParameterError, match=r"--set takes key=value, got"):
        split_assignments([assignment])


def test_assignment_given_twice_is_refused() -> None:
    with pytest.raises(ParameterError, match="--set shift was given twice; give it once"):
        split_assignments(["shift=1", "size=40", "shift=2"])


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("shift", "4", 4),
        ("shift", " 4 ", 4),
        ("shift", 4.0, 4),
        ("shift", "4.0", 4),
        ("shift", " 1e1 ", 10),
        ("rate", "1e-3", 0.001),
        ("rate", "20", 20.0),
        ("rate", 20, 20.0),
        ("reuse", "true", True),
        ("reuse", "No", False),
        ("reuse", 1, True),
        ("reuse", False, False),
        ("padding", "same", "same"),
        ("rotation", "-45,45", (-45.0, 45.0)),
        ("rotation", " -45 , 45 ", (-45.0, 45.0)),
        ("rotation", "10", (10.0, 10.0)),
        ("rotation", 10, (10.0, 10.0)),
        ("rotation", [1, 2], (1.0, 2.0)),
        ("rotation", (1, 2.5), (1.0, 2.5)),
        ("sizes", "28,36,40", (28, 36, 40)),
        ("sizes", "28", (28,)),
        ("sizes", [28, 36], (28, 36)),
        ("target", "0.9", 0.9),
        ("target", "none", None),
        ("target", None, None),
    ],
)
def test_value_is_read_as_its_fields_type(name: str, text: Any, value: Any) -> None:
    found = getattr(settings(**{name: text}), name)
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, tuple):
        assert [type(item) for item in found] == [type(item) for item in value]


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_float_survives_its_text(value: float) -> None:
    assert convert("rate", repr(value), float) == value


@pytest.mark.parametrize("value", [-0.0, "-0.0", "-0", 0, "0"])
def test_zero_has_one_sign_so_that_it_is_one_spec(value: Any) -> None:
    for found in (convert("rate", value, float), *convert("rotation", value, Range)):
        assert type(found) is float and math.copysign(1, found) == 1


@given(value=st.integers(1 - 2**53, 2**53 - 1))
def test_whole_number_is_read_from_the_text_of_a_float(value: int) -> None:
    assert convert("shift", f"{value}.0", int) == value


@pytest.mark.parametrize("text", ["9007199254740993.0", "1e17"])
def test_text_of_a_float_that_may_have_been_rounded_is_no_whole_number(text: str) -> None:
    with pytest.raises(ParameterError, match="shift must be a whole number"):
        convert("shift", text, int)


@given(value=st.integers())
def test_integer_survives_its_text(value: int) -> None:
    assert convert("shift", str(value), int) == value


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("shift", "four", "must be a whole number, got four."),
        ("shift", "nan", "must be a whole number, got "),
        ("shift", "inf", "must be a whole number, got "),
        ("shift", "-1e400", "must be a whole number, got "),
        ("shift", "9007199254740993.5", "must be a whole number, got "),
        ("shift", "4.5", "must be a whole number, got 4.5."),
        ("shift", 4.5, "must be a whole number, got "),
        ("shift", math.nan, "must be a whole number, got "),
        ("shift", math.inf, "must be a whole number, got "),
        ("shift", True, "must be a whole number, got "),
        ("shift", None, "must be a whole number, got "),
        ("shift", "", "must be a whole number, got "),
        ("rate", "fast", "must be a number, got fast."),
        ("rate", False, "must be a number, got "),
        ("rate", 10**400, "must be a number, got "),
        ("reuse", "maybe", "must be true or false, got maybe."),
        ("reuse", 2, "must be true or false, got "),
        ("rotation", "1,2,3", "takes 2 values, or one for all of them, got 1,2,3."),
        ("rotation", [], "takes 2 values, or one for all of them, got []."),
        ("rotation", "1,", "must be a number, got "),
        ("rotation", "1;2", "must be a number, got "),
        ("sizes", "28,x", "must be a whole number, got "),
        ("target", "high", "must be a number, got "),
    ],
)
def test_value_of_another_type_is_refused(name: str, text: Any, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        settings(**{name: text})
    assert str(caught.value).startswith(f"{name} {words}")


def test_unknown_key_is_told_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError) as caught:
        settings(shfit=3)
    assert str(caught.value) == "No parameter of data set 'padded' is called 'shfit'. Did you mean 'shift'?"


def test_unknown_key_that_is_near_nothing_is_told_all_names() -> None:
    with pytest.raises(UnknownNameError, match="Known: padding, rate, reuse, rotation, shift, sizes, target"):
        settings(qqq=3)


def test_the_class_has_the_last_word() -> None:
    with pytest.raises(ParameterError, match=r"shift must be in 0\.\.14, got 15\."):
        settings(shift="15")


def test_what_is_not_given_keeps_its_default() -> None:
    assert settings() == Settings()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3.0", 3.0),
        ("1e-3", 0.001),
        ("true", True),
        ("False", False),
        ("none", None),
        ("same", "same"),
        ("", ""),
        ("64,32", (64, 32)),
        ("64,", (64,)),
        ("1, 0.5,same", (1, 0.5, "same")),
    ],
)
def test_text_without_a_type_stands_for_what_it_looks_like(text: str, value: Any) -> None:
    assert literal(text) == value
    assert type(literal(text)) is type(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.001, 1.001, "0.5", None])
def test_number_outside_its_range_is_refused(value: Any) -> None:
    with pytest.raises(ParameterError, match=r"rate must be in 0\.\.1, got .*\."):
        check_number("rate", value, 0, 1)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (1, 2**40, "1..1,099,511,627,776"),
        (-(10**6), 10**6, "-1,000,000..1,000,000"),
        (1e-12, 1e3, "1e-12..1,000"),
        (0.25, 4, "0.25..4"),
        (-math.inf, -1e300, "-inf..-1e+300"),
    ],
)
def test_limits_are_told_in_full_where_they_are_whole(low: float, high: float, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        check_number("count", math.nan, low, high)
    assert str(caught.value) == f"count must be in {words}, got nan."


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, 0.5])
def test_number_in_its_range_passes_both_ends_included(value: float) -> None:
    check_number("rate", value, 0, 1)


@pytest.mark.parametrize("value", [(-1.0, 1.0), (0.0, 0.0), (1.0, 1.0)])
def test_ascending_range_passes(value: Range) -> None:
    check_range("shear", value, -1, 1)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((1.0, -1.0), "shear must be two ascending numbers, got 1,-1."),
        ((-2.0, 0.0), "shear must be in -1..1, got -2.0."),
        ((0.0, math.nan), "shear must be in -1..1, got nan."),
        ((0.0, math.inf), "shear must be in -1..1, got inf."),
    ],
)
def test_other_range_is_refused(value: Range, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        check_range("shear", value, -1, 1)
    assert str(caught.value) == words


def test_every_refusal_is_a_usage_error() -> None:
    for values in ({"shift": "x"}, {"shfit": 1}, {"shift": 99}):
        with pytest.raises(CapsbenchError) as caught:
            settings(**values)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1])
def test_seeds_of_64_bits_are_seeds(seed: int) -> None:
    assert check_seed(seed) == seed


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, 0.5, math.nan, True, "1"])
def test_anything_else_is_no_seed(seed: int) -> None:
    with pytest.raises(ParameterError, match=r"seed must be a whole number in 0\.\.2\*\*64-1, got .*\."):
        check_seed(seed)


def test_values_in_range_pass_unchanged() -> None:
    assert check_whole("width", 3) == 3
    assert check_wholes("widths", [3, 4]) == (3, 4)
    assert check_wholes("widths", 3) == (3,)
    assert check_truth("bias", False) is False
    assert image_shape(28) == (28, 28)
    assert image_shape((28, 84)) == (28, 84)


@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, True, "3", None])
def test_whole_refuses(value: Any) -> None:
    with pytest.raises(ParameterError, match=f"^width must be a whole number of at least 1, got {value}"):
        check_whole("width", value)
    with pytest.raises(ParameterError, match=f"^widths must be .*, got {value}"):
        check_wholes("widths", [1, value])


@pytest.mark.parametrize("values", [(), "12"])
def test_wholes_refuses_an_empty_row_and_text(values: Any) -> None:
    with pytest.raises(ParameterError, match="widths must be"):
        check_wholes("widths", values)


@pytest.mark.parametrize("value", ["no", 0, 1, None])
def test_truth_is_no_text_and_no_number(value: Any) -> None:
    with pytest.raises(ParameterError, match=f"^bias must be True or False, got {value}"):
        check_truth("bias", value)


def test_image_shape_has_two_sides() -> None:
    with pytest.raises(ParameterError, match=r"one number or \(height, width\)"):
        image_shape((1, 28, 28))


def test_choice_is_one_of_those_there_are() -> None:
    assert check_choice("padding", "same", ("same", "valid")) == "same"
    with pytest.raises(UnknownNameError, match=r"No padding is called 'smae'\. Did you mean 'same'\?"):
        check_choice("padding", "smae", ("same", "valid"))
