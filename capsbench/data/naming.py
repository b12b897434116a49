"""Which digits a text means: ``auto``, ``embedded``, a known set, a folder of MNIST's files, or ``NAME=DIR``."""

from dataclasses import dataclass
from pathlib import Path

from capsbench.data.sets import SETS
from capsbench.errors import ParameterError, UsageError, shown
from capsbench.paths import user_path
from capsbench.spec import NAME

MNIST = "mnist"
WORDS = ("auto", "embedded")
RESERVED = {"auto", "embedded", "none", "unknown", "fullmnist", "cifar10", "cifar10like", "made"}
"""Names, without signs, under which a user's digits would be taken for others."""


@dataclass(frozen=True)
class Source:
    """What a text means.

    Attributes:
        name: ``"auto"``, ``"embedded"``, ``"mnist"``, one of `SETS`, or the name that the user gave.
        path: The folder, or the file of ``numpy.savez``; None where the name says where the digits are.
    """

    name: str
    path: Path | None = None

    @property
    def other(self) -> bool:
        """Whether its digits are not MNIST's."""
        return self.name not in (*WORDS, MNIST)


def named_digits(digits: str | Path, digits_as: str | None = None) -> str:
    """One text for digits and the name that the user gives them, as every function here takes it.

    Args:
        digits: A word, a folder or a file.
        digits_as: The name of a folder's or a file's digits; None for MNIST's.

    Returns:
        ``NAME=DIR``, or without a name the digits as they were given.

    Raises:
        ParameterError: It is no name, or the digits have a name of their own.
    """
    if not isinstance(digits, str | Path):
        raise ParameterError(f"digits must be auto, embedded, {', '.join(SETS)} or a folder, got {shown(digits)}.")
    if digits_as is None:
        return str(digits) if isinstance(digits, str) else str(_unambiguous(digits))
    found = source_of(digits)
    if found.path is None or (found.name != MNIST and found.name != digits_as):
        raise ParameterError(f"--digits-as names the digits of a folder: --digits DIR. Those of {digits} have a name.")
    return f"{_checked_name(digits_as)}={found.path}"


def _unambiguous(path: Path) -> Path:
    """A path that is not taken for a word or for ``NAME=DIR``."""
    return path if path.is_absolute() or str(path).startswith(".") else Path.cwd() / path


def source_of(digits: str | Path) -> Source:
    """What a text means. A folder that is called like a word is ``./word``.

    Raises:
        UsageError: The name or the path of a folder is none.
    """
    if isinstance(digits, Path):
        return Source(MNIST, user_path(digits, "digits"))
    if digits in WORDS or digits in SETS:
        return Source(digits)
    name, equals, place = digits.partition("=")
    if equals and NAME.fullmatch(name.strip()):
        if not place.strip():
            raise UsageError(f"digits {shown(digits)!r} name no folder; write NAME=DIR, or ./{shown(digits)}.")
        return Source(_checked_name(name.strip()), user_path(place, "digits"))
    return Source(MNIST, user_path(digits, "digits"))


def _checked_name(name: str) -> str:
    """The name; that of a known set in the spelling that the set has."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ParameterError(
            f"Digits are named by 1 to 40 letters, digits and signs of '_ .+-', got {shown(name)!r}. "
            "Choose another name with --digits-as."
        )
    letters = "".join(letter for letter in name.casefold() if letter.isalnum())
    if letters in RESERVED:
        raise ParameterError(f"Digits of your own cannot be called {name!r}: it means others. Choose another name.")
    return letters if letters in SETS or letters == MNIST else name
