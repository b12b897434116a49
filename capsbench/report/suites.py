"""The suite of a result, as reports ask it: a file does not choose code that is run, and a faulty suite is an error."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capsbench import registry
from capsbench.errors import DataError, DataFileError, StorageError, SuiteError, first_line
from capsbench.sources.hosting import printing_aside

PARTS = ("version", "models", "table")
"""What reports need of a suite."""


def suite_of(name: str) -> Any:
    """An instance of the suite that a result names.

    Args:
        name: The suite's name; or its place, if somebody named that in this process.

    Raises:
        UsageError: There is none, or nobody but the result names its place.
        SuiteError: It cannot be made, or it lacks a part.
    """
    kind = registry.load_stated("suite", name)
    try:
        with printing_aside():
            suite = kind()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a suite of a user's own can fail in any way, and may even end the process
        raise SuiteError(f"The suite {name!r} cannot be made: {first_line(error)}.") from error
    lacking = [part for part in PARTS if not hasattr(suite, part)]
    if lacking:
        raise SuiteError(f"{name!r} is not a suite: it lacks {', '.join(lacking)}.")
    return suite


def readable(suite: str, make: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a suite makes of results; their files come from anywhere, and may hold anything.

    Raises:
        DataFileError: It cannot read one.
        SuiteError: It fails in a way that no result causes.
    """
    try:
        with printing_aside():
            return make(*arguments)
    except (KeyboardInterrupt, DataError, StorageError, SuiteError):
        raise
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise DataFileError(
            f"The suite {suite!r} cannot read a result: {_told(error)}. Either the file is damaged or not the suite's, "
            "or the suite itself has a fault there."
        ) from error
    except BaseException as error:  # a suite of a user's own can fail in any way, and may even end the process
        raise SuiteError(f"The suite {suite!r} has a fault: {_told(error)}.") from error


def _told(error: BaseException) -> str:
    """An error and where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{first_line(error)} at {Path(frame.filename).name}:{frame.lineno}"


def listed(suite: str, what: str, kind: type, make: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The things of one kind that a function of a suite makes of results.

    Raises:
        DataFileError: It cannot read a result.
        SuiteError: It makes something else.
    """
    made: list[Any] = readable(suite, lambda: list(make(*arguments)))
    wrong = [one for one in made if not isinstance(one, kind)]
    if wrong:
        raise SuiteError(
            f"The {what} of suite {suite!r} are no {kind.__module__}.{kind.__name__}, but {type(wrong[0]).__name__}."
        )
    return made
