"""A reader of pickles that builds plain values alone: nothing that a file names is imported, and nothing is called.

Python's own reader is a machine that a file programs: it imports what the file names, and calls it. This one runs the
few instructions that numbers, text, bytes, lists, dictionaries and arrays of bytes are written with. A name in a file
is compared with those by which NumPy describes an array, and stands for nothing else. All other instructions and names
are refused before anything of theirs is done.

What a file can make it do is bounded by the file's own length: each instruction adds at most one value, its memory is a
dictionary, values are shared and never copied, and nothing walks through what was built.
"""

import io
import math
import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from capsbench.contracts import UInt8Array
from capsbench.errors import DataFileError, shown

LARGEST_SIDE = 2**31
LONGEST = 1_000_000  # instructions: a batch of CIFAR-10 has some 60,000

NAMES = {
    "numpy.core.multiarray _reconstruct": "reconstruct",
    "numpy._core.multiarray _reconstruct": "reconstruct",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
}
"""The names that may stand in a pickle, and what they are called here."""


@dataclass(frozen=True)
class _Name:
    """One of `NAMES`, which is text here and no object of NumPy's."""

    text: str


class _Mark:
    """Where the values of a collection begin."""


@dataclass
class _Array:
    """An array whose pixels are still to come."""

    found: UInt8Array | None = None


@dataclass
class _Type:
    """The type of an array's numbers; bytes alone are read."""


class _RefusedError(Exception):
    """Why a pickle is not read, in words."""


def read_plain(content: bytes, what: str) -> Any:
    """The value of a pickle of plain values.

    Args:
        content: The pickle, of protocol 2 to 5.
        what: What messages call it, such as its path.

    Returns:
        None, a truth value, a whole number, text, bytes, a list, a tuple, a dictionary of them, or a uint8 array,
        which may also be a value of the dictionary. Text of Python 2 comes as bytes, as
        ``pickle.load(..., encoding="bytes")`` gives it.

    Raises:
        DataFileError: It is damaged, or holds anything else; nothing of it was run.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Python warns of an unknown escape in a text, and goes on
            # What it yields are instructions with their arguments, parsed and not obeyed.
            for number, (code, argument, _) in enumerate(pickletools.genops(io.BytesIO(content))):
                if number == LONGEST:
                    raise _RefusedError(f"it has more than {LONGEST:,} instructions")
                if code.name == "STOP":
                    return machine.result(len(content))
                machine.obey(code.name, argument)
    except _RefusedError as refusal:
        why = str(refusal)
    except (ValueError, OverflowError, EOFError, Warning) as error:
        why = f"it is damaged ({shown(error)})"
    else:
        why = "it has no end"
    raise DataFileError(
        f"{what} is refused: {why}. Only plain arrays, lists, dictionaries, numbers, text and bytes are read; nothing "
        "in it was run."
    )


class _Machine:
    """A stack of values and a memory, as the instructions of a pickle use them."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memory: dict[int, Any] = {}

    def result(self, size: int) -> Any:
        """The only value that is left."""
        if len(self._stack) != 1:
            raise _RefusedError(f"it leaves {len(self._stack)} values instead of one")
        return _finished(self._stack[0])

    def obey(self, name: str, argument: Any) -> None:
        """Runs one instruction."""
        if name in SKIPPED:
            return
        if name in VALUES:
            self._stack.append(VALUES[name](argument))
        elif name in TUPLES:
            self._stack.append(tuple(self._taken(TUPLES[name])))
        elif name in MEMORY:
            self._remember(name, argument)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._stack.append(_named(argument if name == "GLOBAL" else " ".join(map(_text, self._taken(2)))))
        elif name in METHODS:
            METHODS[name](self)
        else:
            raise _RefusedError(f"it has the instruction {name}")

    def _taken(self, number: int) -> list[Any]:
        """The last values, which leave the stack."""
        if len(self._stack) < number or any(isinstance(one, _Mark) for one in self._stack[len(self._stack) - number :]):
            raise _RefusedError("it is damaged (values are missing)")
        taken = self._stack[len(self._stack) - number :]
        del self._stack[len(self._stack) - number :]
        return taken

    def _marked(self) -> list[Any]:
        """The values since the last mark."""
        for place in range(len(self._stack) - 1, -1, -1):
            if isinstance(self._stack[place], _Mark):
                taken = self._stack[place + 1 :]
                del self._stack[place:]
                return taken
        raise _RefusedError("it is damaged (a mark is missing)")

    def _last(self, kind: type) -> Any:
        """The last value, which stays."""
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise _RefusedError(f"it is damaged (a {kind.__name__} is missing)")
        return self._stack[-1]

    def _remember(self, name: str, argument: Any) -> None:
        if name in ("BINGET", "LONG_BINGET"):
            if argument not in self._memory:
                raise _RefusedError("it is damaged (a value is used before it is there)")
            self._stack.append(self._memory[argument])
        elif not self._stack or isinstance(self._stack[-1], _Mark):
            raise _RefusedError("it is damaged (values are missing)")
        else:
            self._memory[len(self._memory) if argument is None else argument] = self._stack[-1]

    def mark(self) -> None:
        """Marks where the values of a collection begin."""
        self._stack.append(_Mark())

    def tuple(self) -> None:
        """Makes a tuple of the values since the last mark."""
        self._stack.append(tuple(self._marked()))

    def append(self) -> None:
        """Adds a value to a list."""
        (value,) = self._taken(1)
        self._last(list).append(value)

    def appends(self) -> None:
        """Adds the values since the last mark to a list."""
        values = self._marked()
        self._last(list).extend(values)

    def set_item(self) -> None:
        """Adds a key and a value to a dictionary."""
        self._set(self._taken(2))

    def set_items(self) -> None:
        """Adds the keys and values since the last mark to a dictionary."""
        self._set(self._marked())

    def _set(self, values: list[Any]) -> None:
        found = self._last(dict)
        if len(values) % 2:
            raise _RefusedError("it is damaged (a key has no value)")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | bytes | int):
                raise _RefusedError(f"it has a key of type {type(key).__name__}")
            found[key] = value

    def call(self) -> None:
        """Takes the description of an array or of a type, as NumPy writes it, for what it describes."""
        named, given = self._taken(2)
        given = given if isinstance(given, tuple) else ()
        if named == _Name("reconstruct") and given[:1] == (_Name("ndarray"),) and len(given) == 3:
            self._stack.append(_Array())
        elif named == _Name("dtype") and given[:1] in ((b"u1",), ("u1",)):
            self._stack.append(_Type())
        elif named == _Name("dtype"):
            raise _RefusedError("it has an array of other numbers than bytes")
        else:
            raise _RefusedError("it calls something")

    def build(self) -> None:
        """Gives an array its shape and its pixels."""
        (state,) = self._taken(1)
        made = self._stack[-1] if self._stack else None
        if isinstance(made, _Type):
            return  # the order of bytes, which one byte has not
        if not isinstance(made, _Array) or not isinstance(state, tuple) or len(state) != 5:
            raise _RefusedError("it sets the state of something that is no array")
        _, shape, kind, by_columns, pixels = state
        if not isinstance(kind, _Type) or not isinstance(by_columns, bool) or not isinstance(pixels, bytes):
            raise _RefusedError("it has an array of something else than bytes")
        sizes = shape if isinstance(shape, tuple) else ()
        if not all(type(side) is int and 0 <= side < LARGEST_SIDE for side in sizes) or len(sizes) not in (1, 2):
            raise _RefusedError("it has an array whose shape is not one or two numbers")
        if math.prod(sizes) != len(pixels):
            raise _RefusedError(f"it has an array whose {len(pixels):,} bytes are not those of its shape")
        made.found = np.frombuffer(pixels, np.uint8).reshape(sizes, order="F" if by_columns else "C")


def _named(text: str) -> _Name:
    if text not in NAMES:
        raise _RefusedError(f"it names {shown(text.replace(' ', '.', 1))}")
    return _Name(NAMES[text])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _RefusedError("it is damaged (a name is no text)")
    return value


def _bytes(argument: Any) -> bytes:
    """Bytes of Python 2's text, which the parser returns as text of one character a byte."""
    return argument.encode("latin-1") if isinstance(argument, str) else bytes(argument)


def _finished(value: Any) -> Any:
    """A value with its arrays in place; those in a dictionary, which is where a batch has its own."""
    if isinstance(value, dict):
        return {key: _array(one) for key, one in value.items()}
    return _array(value)


def _array(value: Any) -> Any:
    return value.found if isinstance(value, _Array) else value


SKIPPED = ("PROTO", "FRAME")
VALUES: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "EMPTY_TUPLE": lambda _: (),
    "INT": lambda argument: argument,  # truth values, too, in old protocols
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), int),
    **dict.fromkeys(("SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES"), _bytes),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE"), str),
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MEMORY = ("BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET")
METHODS: dict[str, Callable[[_Machine], None]] = {
    "MARK": _Machine.mark,
    "TUPLE": _Machine.tuple,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
}
