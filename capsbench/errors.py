"""Every error that a user can meet, with the exit code that the command line gives it.

    CapsbenchError                  1
    ├── UsageError                  2   a request that cannot be carried out
    │   ├── UnknownNameError        2   no such data set, model, suite, preset or key
    │   ├── ParameterError          2   a value of the wrong type or out of its range
    │   └── SpecMismatchError       2   a file of another spec stands where the output should go
    ├── DataError                   3   bad or missing data
    │   ├── DigitsError             3   the source digits are missing or damaged
    │   └── DataFileError           3   a data file is damaged, hostile or not ours
    ├── StorageError                4   disk, permission, lock
    ├── CellsFailedError            5   some cells of a run failed
    └── ChecksFailedError           5   a capsule layer failed a conformance check

    One of these stops a cell; the run goes on and ends in CellsFailedError:

    ├── ModelError                  1   a model returns something invalid
    │   └── NotNumbersError         1   its scores are infinite or NaN
    └── TrainingError               1   training cannot go on

A message is one or two lines: what is wrong, what was given, what to do. Ctrl-C ends in exit code 130.
"""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 100  # characters of a value that a message repeats


def shown(value: object) -> str:
    """A value as a message shows it: of any type, and cut where it is long."""
    try:
        text = str(value)
    except ValueError:  # Python refuses to write a number of more than some thousand digits
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def first_line(error: BaseException) -> str:
    """An error in one line: its class and the first line of its message, if it has one."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


class CapsbenchError(Exception):
    """The root of the tree; catches everything that capsbench raises on purpose."""

    exit_code = 1


class UsageError(CapsbenchError, ValueError):
    """A request that cannot be carried out: a wrong name, value or combination."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that does not exist.

    Args:
        kind: What has such names, such as ``"data set"``.
        name: The name that was given.
        known: Every name that exists.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = get_close_matches(shown(name), names, n=1, cutoff=0.5)
        way_out = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names) or 'none'}."
        super().__init__(f"No {kind} is called {shown(name)!r}. {way_out}")
        self.kind = kind
        self.name = name
        self.known = names

    def __reduce__(self) -> tuple[type["UnknownNameError"], tuple[str, str, list[str]]]:
        return type(self), (self.kind, self.name, self.known)


class ParameterError(UsageError):
    """A value of the wrong type or outside its range."""


class SpecMismatchError(UsageError):
    """A file of another spec stands where the output should go."""


class DataError(CapsbenchError):
    """Bad or missing data."""

    exit_code = 3


class DigitsError(DataError):
    """The source digits are missing or damaged."""


class DataFileError(DataError):
    """A data file is damaged, hostile or not one of ours."""


class StorageError(CapsbenchError):
    """The disk is full, a permission is missing, or another run holds the lock."""

    exit_code = 4


class ModelError(CapsbenchError):
    """A model returns something invalid."""


class NotNumbersError(ModelError):
    """A model's scores are infinite or NaN."""


class TrainingError(CapsbenchError):
    """Training cannot go on, for instance because the loss is not a number."""


class CellsFailedError(CapsbenchError):
    """Some cells of a run failed; the others are finished and their results are kept."""

    exit_code = 5


class ChecksFailedError(CapsbenchError):
    """A capsule layer or a network failed conformance checks."""

    exit_code = 5
