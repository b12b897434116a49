"""MNIST's four IDX files: found in a folder, read, and checked against their MD5s."""

import gzip
import hashlib
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capsbench.contracts import UInt8Array
from capsbench.errors import DigitsError

WAY_OUT = "Fetch full MNIST with `capsbench data fetch`, or name a folder that has it with --digits DIR."

OTHERS = f"{WAY_OUT} Digits that are not MNIST's need a name: --digits-as NAME."


@dataclass(frozen=True)
class IdxFile:
    """One of MNIST's four files.

    Attributes:
        md5: Of the raw bytes, header included, in hexadecimal.
        shape: Of the uint8 array that it holds.
    """

    md5: str
    shape: tuple[int, ...]

    @property
    def header_size(self) -> int:
        """Bytes before the array: a magic number and one number for each axis, of four bytes each."""
        return 4 + 4 * len(self.shape)

    @property
    def size(self) -> int:
        """Bytes of the whole raw file."""
        return self.header_size + math.prod(self.shape)


FILES = {
    "train-images-idx3-ubyte": IdxFile("6bbc9ace898e44ae57da46a324031adb", (60_000, 28, 28)),
    "train-labels-idx1-ubyte": IdxFile("a25bea736e30d166cdddb491f175f624", (60_000,)),
    "t10k-images-idx3-ubyte": IdxFile("2646ac647ad5339dbf082846283269ea", (10_000, 28, 28)),
    "t10k-labels-idx1-ubyte": IdxFile("27ae3e4e09519cfbb04c329615203637", (10_000,)),
}
"""The full set. Names may have ``.idx`` for ``-idx`` and end in .gz, and files may lie in raw or MNIST/raw."""


def read_files(folder: Path) -> dict[str, bytes]:
    """The raw bytes of the four files of a folder, by their names in `FILES`.

    Raises:
        DigitsError: One is missing, unreadable or not MNIST's.
    """
    return {name: _read(name, path) for name, path in locate(folder).items()}


def search(folder: Path) -> dict[str, Path]:
    """Where each of the four files lies in a folder; missing ones are left out.

    Raises:
        DigitsError: The folder cannot be read.
    """
    found = {}
    try:
        for name in FILES:
            spellings = (name, name.replace("-idx", ".idx"))
            candidates = (
                folder / layout / f"{spelling}{ending}"
                for layout in (".", "raw", "MNIST/raw")
                for ending in ("", ".gz")
                for spelling in spellings
            )
            path = next((path for path in candidates if path.is_file()), None)
            if path is not None:
                found[name] = path
    except OSError as error:
        raise DigitsError(f"The folder {folder} cannot be read: {error.strerror}.\n{WAY_OUT}") from None
    return found


def locate(folder: Path) -> dict[str, Path]:
    """Where all four files lie.

    Raises:
        DigitsError: The folder lacks one, or cannot be read.
    """
    found = search(folder)
    missing = [name for name in FILES if name not in found]
    if missing:
        if not folder.is_dir():
            raise DigitsError(f"There is no folder {folder} with full MNIST.\n{WAY_OUT}")
        raise DigitsError(f"The folder {folder} lacks {', '.join(missing)} of full MNIST.\n{WAY_OUT}")
    return found


def _read(name: str, path: Path) -> bytes:
    """The checked raw bytes of a file. It stops one byte past the expected size, also when inflating."""
    expected = FILES[name]
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(expected.size + 1)
    except (OSError, EOFError, zlib.error) as error:  # the last two: a .gz that is cut or damaged
        cause = getattr(error, "strerror", None) or error
        raise DigitsError(f"{path} cannot be read: {cause}.\n{WAY_OUT}") from None
    if len(content) != expected.size:
        found = "more" if len(content) > expected.size else f"{len(content):,}"
        raise DigitsError(
            f"{path} is not MNIST's {name}: it should have {expected.size:,} bytes, found {found}.\n{OTHERS}"
        )
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != expected.md5:
        raise DigitsError(f"{path} is not MNIST's {name}: its MD5 should be {expected.md5}, found {found}.\n{OTHERS}")
    return content


def read_array(name: str, found: dict[str, Path]) -> UInt8Array:
    """The uint8 array of one of `FILES`; ``found`` says where each lies.

    Raises:
        DigitsError: It is unreadable or not MNIST's.
    """
    file = FILES[name]
    content = _read(name, found[name])  # the MD5 covers the header, too
    return np.frombuffer(content, np.uint8, offset=file.header_size).reshape(file.shape)
