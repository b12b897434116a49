"""From ``key=value`` to the fields of a frozen dataclass, and checks of parameters."""

import inspect
import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from numbers import Real
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from capsbench.errors import ParameterError, UnknownNameError, shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Range = tuple[float, float]
"""The two ends of a uniform distribution; equal ends fix the value."""

ImageSize = int | Sequence[int]
"""Height and width in pixels; one number is a square."""

SEED_LIMIT = 2**64

EXACT = 2**53
"""Below this a float holds every whole number, and no other is rounded to one."""

T = TypeVar("T", bound="DataclassInstance")


def split_assignments(assignments: tuple[str, ...] | list[str]) -> dict[str, str]:
    """``["a=1", "b=2,3"]`` to ``{"a": "1", "b": "2,3"}``.

    Raises:
        ParameterError: There is no ``=``, or a key comes twice.
    """
    result: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise ParameterError(f"--set takes key=value, got {assignment!r}.")
        if key.strip() in result:
            raise ParameterError(f"--set {key.strip()} was given twice; give it once.")
        result[key.strip()] = value.strip()
    return result


def construct(cls: type[T], values: Mapping[str, Any], *, owner: str) -> T:
    """An instance of a frozen dataclass from values that are text or already of their type.

    Args:
        cls: The dataclass; its annotations say how text is read.
        values: Field name to text (``"-45,45"``) or value (``(-45.0, 45.0)``).
        owner: Whose parameters these are, for messages: ``"data set 'affnist'"``.

    Raises:
        UnknownNameError: There is no such field.
        ParameterError: A value cannot be read as its field's type, or the class refuses it.
    """
    types = _types(cast(Hashable, cls))
    names = [field.name for field in fields(cls)]
    for key in values:
        if key not in names:
            raise UnknownNameError(f"parameter of {owner}", key, names)
    return cls(**{key: convert(key, value, types[key]) for key, value in values.items()})


@cache
def _types(cls: Hashable) -> dict[str, Any]:
    """The types of a dataclass's fields: a table of results asks for the same hundreds of times."""
    return get_type_hints(cls)


def defaults(kind: Any) -> dict[str, Any]:
    """The keywords of a data set's or a network's constructor that have a default, with their defaults."""
    return {
        parameter.name: parameter.default
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.default is not parameter.empty
    }


def as_text(value: Any) -> str:
    """A parameter as ``--set`` takes it."""
    if isinstance(value, list | tuple):
        return ",".join(map(as_text, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else f"{value}"


def convert(name: str, value: Any, kind: Any) -> Any:
    """A value, or its text, as bool, int, float, str, a tuple of one of them, or None where that is allowed."""
    if type(value) is kind and kind in (bool, int):
        return value
    if get_origin(kind) in (Union, UnionType):
        if value is None or value == "none":
            return None
        (kind,) = (option for option in get_args(kind) if option is not NoneType)
    if get_origin(kind) is tuple:
        return _tuple(name, value, get_args(kind))
    return _scalar(name, value, kind)


def _tuple(name: str, value: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, tuple | list) else (value,)
    if kinds[-1] is Ellipsis:
        return tuple(_scalar(name, item, kinds[0]) for item in items)
    if len(items) == 1:  # one number means: fixed
        items = tuple(items) * len(kinds)
    if len(items) != len(kinds):
        raise ParameterError(f"{name} takes {len(kinds)} values, or one for all of them, got {shown(value)}.")
    return tuple(_scalar(name, item, kind) for item, kind in zip(items, kinds, strict=True))


def _scalar(name: str, value: Any, kind: type) -> Any:
    text = value.strip() if isinstance(value, str) else value
    if kind is bool:
        truth = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if str(text).lower() in truth:
            return truth[str(text).lower()]
    elif isinstance(text, str | Real) and not isinstance(text, bool):
        try:
            result = _whole(text) if kind is int else kind(text)
        except (TypeError, ValueError, OverflowError):
            result = None
        if kind is float and result is not None:
            result += 0.0  # -0.0 and 0.0 are one number, and must be one spec
        if result is not None:
            return result
    expected = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
    raise ParameterError(f"{name} must be {expected}, got {shown(value) or 'nothing'}.")


def _whole(value: Any) -> int:
    """A whole number, from text or a float: 20 and 20.0 alike.

    Raises:
        ValueError: It is not whole, or its text may have been rounded.
    """
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            value = float(value)
            if abs(value) >= EXACT:
                raise
    result = int(value)
    if result != value:
        raise ValueError(f"{value} is not whole")
    return result


def literal(text: str) -> Any:
    """The value of a text whose type is not known: a number, True or False, several of them, or the text."""
    if "," in text:
        return tuple(literal(part.strip()) for part in text.removesuffix(",").split(","))  # "64," is one, as in Python
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def split_shard(text: str) -> tuple[int, int]:
    """``"3/7"`` to ``(3, 7)``: the fourth of seven shards, counted from 0.

    Raises:
        ParameterError: The text has another form.
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(text))
    if not found or int(found[1]) >= int(found[2]):
        raise ParameterError(f"shard must be I/N with I from 0 to N-1, such as 0/4, got {shown(text)!r}.")
    return int(found[1]), int(found[2])


def check_number(name: str, value: float, low: float, high: float) -> None:
    """Refuses a value that is not a number in low..high.

    Raises:
        ParameterError: It is not; NaN never is.
    """
    if not (isinstance(value, int | float) and low <= value <= high):
        raise ParameterError(f"{name} must be in {_limit(low)}..{_limit(high)}, got {shown(value)}.")


def _limit(value: float) -> str:
    """A limit as people read it: 1,099,511,627,776 rather than 1.09951e+12."""
    return f"{int(value):,}" if abs(value) <= EXACT and value == int(value) else f"{value:g}"


def check_seed(seed: int) -> int:
    """The seed, if it is a whole number in 0..2**64-1.

    Raises:
        ParameterError: It is not.
    """
    if type(seed) is not int or not 0 <= seed < SEED_LIMIT:
        raise ParameterError(f"seed must be a whole number in 0..2**64-1, got {shown(seed)}.")
    return seed


def check_whole(name: str, value: int) -> int:
    """The value, if it is a whole number of at least 1.

    Raises:
        ParameterError: It is not; True is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ParameterError(f"{name} must be a whole number of at least 1, got {shown(value)}.")
    return value


def check_wholes(name: str, values: int | Sequence[int]) -> tuple[int, ...]:
    """One or more whole numbers of at least 1; a lone number counts as a row of one.

    Raises:
        ParameterError: There is none, or one of them is something else.
    """
    row = values if isinstance(values, Sequence) and not isinstance(values, str) else (values,)
    if not row:
        raise ParameterError(f"{name} must be one or more whole numbers, got none.")
    return tuple(check_whole(name, value) for value in row)


def check_truth(name: str, value: bool) -> bool:
    """The value, if it is True or False; a text that says no is true in Python.

    Raises:
        ParameterError: It is something else.
    """
    if not isinstance(value, bool):
        raise ParameterError(f"{name} must be True or False, got {shown(value)}.")
    return value


def check_choice(kind: str, value: str, choices: Collection[str]) -> str:
    """The value, if it is one of the choices.

    Args:
        kind: What is chosen, for the message: ``"padding"``.
        value: The choice.
        choices: Every possible one.

    Raises:
        UnknownNameError: It is none of them.
    """
    if value not in choices:
        raise UnknownNameError(kind, value, choices)
    return value


def image_shape(image_size: ImageSize) -> tuple[int, int]:
    """Height and width in pixels; one number is a square.

    Raises:
        ParameterError: It is neither a whole number of at least 1 nor two of them.
    """
    sides = check_wholes("image_size", image_size)
    if len(sides) > 2:
        raise ParameterError(f"image_size must be one number or (height, width), got {shown(image_size)}.")
    return sides[0], sides[-1]


def check_range(name: str, value: Range, low: float, high: float) -> None:
    """Refuses a range that is not two ascending numbers in low..high.

    Raises:
        ParameterError: It is not.
    """
    for end in value:
        check_number(name, end, low, high)
    if value[0] > value[1]:
        raise ParameterError(f"{name} must be two ascending numbers, got {value[0]:g},{value[1]:g}.")
