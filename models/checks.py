"""What constructors ask of their parameters: each check returns the value, or says what would have done."""

from collections.abc import Sequence

from capsbench.errors import ParameterError

ImageSize = int | Sequence[int]


def whole(name: str, value: int) -> int:
    """A whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ParameterError(f"{name}={value} was asked for; it must be a whole number of at least 1.")
    return value


def wholes(name: str, values: int | Sequence[int]) -> tuple[int, ...]:
    """One or more whole numbers of at least 1; a lone number counts as a row of one."""
    row = values if isinstance(values, Sequence) and not isinstance(values, str) else (values,)
    if not row:
        raise ParameterError(f"{name}={values} was asked for; it must be one or more whole numbers.")
    return tuple(whole(name, value) for value in row)


def flag(name: str, value: bool) -> bool:
    """A truth value; anything else, such as the text ``"no"``, would silently count as true."""
    if not isinstance(value, bool):
        raise ParameterError(f"{name}={value} was asked for; it must be True or False.")
    return value


def image_shape(image_size: ImageSize) -> tuple[int, int]:
    """Height and width in pixels; one number is a square."""
    sides = wholes("image_size", image_size)
    if len(sides) > 2:
        raise ParameterError(f"image_size={image_size} was asked for; it must be one number or (height, width).")
    return sides[0], sides[-1]
