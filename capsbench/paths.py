"""Paths as users write them: ``~`` is a home, and what is no path is refused in a line."""

import os
from pathlib import Path

from capsbench.errors import UsageError, shown


def user_path(path: str | os.PathLike[str], what: str = "A path") -> Path:
    """The path that a user means.

    Args:
        path: As it was given; ``~`` and ``~name`` stand for the home of a user.
        what: Whose path it is, for messages, such as ``"--out"``.

    Raises:
        UsageError: It is empty, holds a null character, or names a user who does not exist.
    """
    text = os.fspath(path)
    if not text.strip():
        raise UsageError(f"{what} is empty. Name a file or a folder; the working folder is '.'.")
    if "\0" in text:
        raise UsageError(f"{what} holds a null character, which no path has: {shown(text)!r}.")
    expanded = os.path.expanduser(text)  # noqa: PTH111  # Path.expanduser takes ./~ for ~
    if text.startswith("~") and expanded == text:  # no such user, or an account without a home
        name = text.partition("/")[0]
        raise UsageError(f"{what} is {shown(text)}, but there is no home folder {name}. Write ./~ for a ~.")
    place = Path(expanded)
    return place.absolute() if str(place).startswith("~") else place  # else a second call would expand it


def resolved(path: str | os.PathLike[str], what: str = "A path") -> Path:
    """The absolute path that a user means, without links.

    Raises:
        UsageError: As `user_path`; or its links lead in a circle.
    """
    place = user_path(path, what)
    try:
        return place.resolve()
    except (RuntimeError, OSError):  # Python 3.13 raises the latter
        raise UsageError(f"{what} cannot be followed: the links of {shown(place)} lead in a circle.") from None
