"""Which files are opened to be read while a user's code is loaded or builds a network, as Python's audit sees it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import source_from_cache
from pathlib import Path
from typing import Any

SYSTEM = ("/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sys", "/usr", "/var")
WEIGHTS = (".bin", ".ckpt", ".h5", ".npy", ".npz", ".pkl", ".pt", ".pth", ".safetensors")
"""Of files in hidden folders, such as ``~/.cache``, only those count; the rest are caches, which come and go."""

_collecting: list[set[Path]] = []
_installed: list[bool] = []


@contextmanager
def opened_files() -> Iterator[set[Path]]:
    """Collects the files that are opened to be read inside it; a library that opens files in C is not seen."""
    if not _installed:
        sys.addaudithook(_listen)  # Python keeps it for as long as it runs; outside of this context it does nothing
        _installed.append(True)
    opened: set[Path] = set()
    _collecting.append(opened)
    try:
        yield opened
    finally:
        _collecting.pop()


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if not _collecting or event != "open":
        return
    with suppress(Exception):  # an error here would stop the file from being opened
        path, mode, flags = arguments
        writes = isinstance(mode, str) and set(mode) & set("wax+")
        if writes or (isinstance(flags, int) and flags & os.O_ACCMODE != os.O_RDONLY):
            return
        place = Path.cwd() / os.fsdecode(path)
        if (
            place.parent.name == "__pycache__" and place.suffix == ".pyc"
        ):  # source that is loaded past the import system
            place = Path(source_from_cache(place))
        if _counts(place):
            for one in _collecting:
                one.add(place)


def _counts(place: Path) -> bool:
    if str(place).startswith(tuple(f"{folder}/" for folder in SYSTEM)):
        return False
    return place.suffix in WEIGHTS or not any(part.startswith(".") for part in place.parts)
