"""Where source digits may lie: the folders that `auto` tries, in order, and their contents."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from capsbench.data import embedded
from capsbench.data.idx import FILES, locate, read_files, search
from capsbench.data.sets import SETS, packed_file
from capsbench.errors import DigitsError, UsageError
from capsbench.paths import user_path
from capsbench.system.disk import is_regular

VARIABLE = "CAPSBENCH_DIGITS"


@dataclass(frozen=True)
class Place:
    """A place where digits may be, and its state.

    Attributes:
        name: What the place is called.
        path: The folder, or the file of the embedded digits; None for a variable that is not set.
        state: ``"complete"``, ``"absent"``, ``"incomplete"`` (some of the four files) or ``"damaged"``.
        detail: The reason if the state is ``"damaged"``, else empty.
    """

    name: str
    path: Path | None
    state: str
    detail: str = ""


def auto_source() -> Path | None:
    """The folder that ``"auto"`` stands for: the first of `places` with all four files; None for the embedded digits.

    The files are not read here. A damaged set is an error when it is loaded, never a reason to take other digits.

    Raises:
        DigitsError: $CAPSBENCH_DIGITS is set and does not lead to all four files.
    """
    for name, folder in places():
        try:
            locate(folder)
        except DigitsError as error:
            if name == f"${VARIABLE}":
                raise DigitsError(f"${VARIABLE} is set: {error}") from None
        else:
            return folder
    return None


def places() -> list[tuple[str, Path]]:
    """The names and folders of the places that ``"auto"`` searches for the full set, in this order.

    torchvision has no cache of its own; its callers choose a folder. We take torch's cache ($TORCH_HOME, else
    ~/.cache/torch) and ``data`` in the working folder, which torchvision's examples use.
    """
    named = os.environ.get(VARIABLE)
    return [*([(f"${VARIABLE}", _home_expanded(named))] if named else []), *_caches("mnist", "MNIST")]


def set_places(name: str) -> list[tuple[str, Path]]:
    """The names and folders of the places where one of `SETS` is looked for, in this order."""
    return _caches(name, SETS[name].folder)


def _caches(name: str, torchvision: str) -> list[tuple[str, Path]]:
    torch_home = _home_expanded(os.environ.get("TORCH_HOME") or str(_user_caches() / "torch"))
    return [
        ("cache", cache_folder(name)),
        ("torch's cache", torch_home / torchvision / "raw"),
        ("torchvision's data", Path("data", torchvision, "raw").absolute()),
    ]


def cache_folder(name: str = "mnist") -> Path:
    """Where `capsbench data fetch` puts a set: $XDG_CACHE_HOME, else ~/.cache, and there capsbench/NAME."""
    return _user_caches() / "capsbench" / name


def status() -> list[Place]:
    """Every place and its state, in the order of ``"auto"``, then `SETS`; each file is read and checked."""
    unset = [] if os.environ.get(VARIABLE) else [Place(f"${VARIABLE}", None, "absent")]
    mnist = [*(_inspect(name, folder) for name, folder in places()), _inspect_embedded()]
    return [*unset, *mnist, *map(_inspect_set, SETS)]


def _inspect(name: str, folder: Path) -> Place:
    try:
        found = search(folder)
        if len(found) < len(FILES):
            return Place(name, folder, "incomplete" if found else "absent")
        read_files(folder)
    except DigitsError as error:
        return Place(name, folder, "damaged", str(error).partition("\n")[0])
    return Place(name, folder, "complete")


def _inspect_set(name: str) -> Place:
    """The first place that has files of a known set; the cache where none has."""
    known = SETS[name]
    for _, folder in set_places(name):
        there = [folder / file for file in known.files if is_regular(folder / file)]
        if there:
            try:
                for path in there:
                    packed_file(known, path)
            except DigitsError as error:
                return Place(name, folder, "damaged", str(error).partition("\n")[0])
            return Place(name, folder, "complete" if len(there) == len(known.files) else "incomplete")
    return Place(name, cache_folder(name), "absent")


def _inspect_embedded() -> Place:
    try:
        embedded.read_embedded()
    except DigitsError as error:
        return Place("embedded", embedded.FILE, "damaged", str(error).partition("\n")[0])
    return Place("embedded", embedded.FILE, "complete")


def _home_expanded(text: str) -> Path:
    """A path from the environment; what cannot be expanded is left as it is, and not found."""
    try:
        return user_path(text)
    except UsageError:
        return Path(text)


def _user_caches() -> Path:
    named = _home_expanded(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():  # the XDG specification says to ignore relative ones
        return named
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # an account without a home, as in some containers
        return Path(tempfile.gettempdir())
