"""The suite of a result, as reports ask it: a file does not choose code that is run, and a faulty suite is an error."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capsbench import registry
from capsbench.errors import DataError, DataFileError, StorageError, UsageError, first_line
from capsbench.sources.hosting import printing_aside

PARTS = ("version", "models", "table")
"""What reports need of a suite."""


def suite_of(name: str) -> Any:
    """An instance of the suite that a result names.

    Args:
        name: A suite that ships, of a plug-in, or one in a file that this process was told of.

    Raises:
        UsageError: There is none; nobody but the result names its file; it cannot be made; or it lacks a part.
    """
    kind = registry.load_stated("suite", name)
    try:
        with printing_aside():
            suite = kind()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a suite of a user's own can fail in any way, and may even end the process
        raise UsageError(f"The suite {name!r} cannot be made: {first_line(error)}.") from error
    lacking = [part for part in PARTS if not hasattr(suite, part)]
    if lacking:
        raise UsageError(f"{name!r} is not a suite: it lacks {', '.join(lacking)}.")
    return suite


def readable(suite: str, make: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a suite makes of results; their files come from anywhere, and may hold anything.

    Raises:
        DataFileError: It cannot read one.
    """
    try:
        with printing_aside():
            return make(*arguments)
    except (KeyboardInterrupt, DataError, StorageError):
        raise
    except BaseException as error:  # a suite of a user's own can fail in any way, and may even end the process
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise DataFileError(
            f"The suite {suite!r} cannot read a result: {first_line(error)} at {Path(frame.filename).name}:"
            f"{frame.lineno}. Either the file is damaged or not the suite's, or the suite itself has a fault there."
        ) from error


def listed(suite: str, what: str, kind: type, make: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The things of one kind that a function of a suite makes of results.

    Raises:
        DataFileError: It cannot read a result, or makes something else.
    """
    made: list[Any] = readable(suite, lambda: list(make(*arguments)))
    wrong = [one for one in made if not isinstance(one, kind)]
    if wrong:
        raise DataFileError(
            f"The {what} of suite {suite!r} are no {kind.__module__}.{kind.__name__}, but {type(wrong[0]).__name__}."
        )
    return made
