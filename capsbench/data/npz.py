"""Arrays of a file of ``numpy.savez``, as anyone may have written it: nothing in it is executed or believed unread."""

import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from capsbench.errors import DataFileError, first_line, shown

READ = 2**24  # bytes at a time
LARGEST_ARRAY = 2**62  # bytes; beyond it numbers overflow, and no disk has it
LONGEST_HEADER = 10_000  # bytes; numpy, too, reads no longer one of an array that it does not trust
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # as numpy writes; other modules raise errors of their own
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What the libraries raise on a file that is damaged, packed in a way of its own, or no archive at all."""


@contextmanager
def opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The file as an archive; what its libraries raise, also while it is read, becomes one error of ours.

    Raises:
        DataFileError: It cannot be read, is damaged, or is no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DataFileError:
        raise
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror or error}.") from None
    except UNREADABLE as error:
        raise DataFileError(f"{path} cannot be read as a file of numpy.savez: {shown(error)}.") from None


@contextmanager
def opened_member(path: Path, archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    """The bytes of one of its arrays, header and all.

    Raises:
        DataFileError: There is no array of this name, or it is packed in a way that numpy does not use.
    """
    if f"{name}.npy" not in archive.namelist():
        known = ", ".join(one.removesuffix(".npy") for one in archive.namelist()[:5])
        raise DataFileError(f"{path} has no array {name!r}; it has {shown(known) or 'nothing'}.")
    part = archive.getinfo(f"{name}.npy")
    if part.compress_type not in PACKED:
        raise DataFileError(
            f"{path}: {name} is packed by method {part.compress_type}; numpy.savez packs by 0, savez_compressed by 8."
        )
    with archive.open(part) as stream:
        yield stream


def array_header(path: Path, name: str, stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Shape, type and whether the order is Fortran's, of an array that follows; nothing is allocated for it.

    Raises:
        DataFileError: The header is none, states an impossible shape or type, or Python objects.
    """
    version = np.lib.format.read_magic(stream)
    length = _exactly(path, stream, 2 if version == (1, 0) else 4)
    size = int.from_bytes(length, "little")
    if size > LONGEST_HEADER:  # numpy would read it all before it looks
        raise DataFileError(f"{path}: the header of {name} has {size:,} bytes; {LONGEST_HEADER:,} are read at most.")
    header = io.BytesIO(length + _exactly(path, stream, size))
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(header)
        elements = math.prod(shape)
        if min(shape, default=0) < 0 or elements * dtype.itemsize > LARGEST_ARRAY:
            raise DataFileError(f"{path}: {name} has an impossible shape, {shown(list(shape))}.")
    except DataFileError:
        raise
    except Exception as error:  # a header is a Python literal, which fails in as many ways as there are texts
        raise DataFileError(f"{path}: the header of {name} cannot be read: {first_line(error)}.") from None
    if dtype.itemsize < 1:  # of a text of thousands of millions of characters numpy 1.26 makes a negative one
        raise DataFileError(f"{path}: {name} has an impossible type.")
    if dtype.hasobject:
        raise DataFileError(f"{path}: {name} must be numbers, got Python objects, which are not read.")
    return tuple(shape), dtype, bool(fortran)


def _exactly(path: Path, stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise DataFileError(f"{path} is cut short.")
    return content


def array_values(path: Path, stream: IO[bytes], dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
    """So many numbers ``[count]``, and no byte more.

    Raises:
        DataFileError: There are fewer.
    """
    wanted = count * dtype.itemsize
    content = bytearray()
    while len(content) < wanted:
        part = stream.read(min(READ, wanted - len(content)))
        if not part:
            raise DataFileError(f"{path} is cut short: {wanted:,} bytes are needed, {len(content):,} are there.")
        content += part
    return np.frombuffer(content, dtype, count)


def skip_bytes(path: Path, stream: IO[bytes], size: int) -> None:
    """Passes over so many bytes.

    Raises:
        DataFileError: There are fewer.
    """
    while size:
        part = stream.read(min(READ, size))
        if not part:
            raise DataFileError(f"{path} is cut short.")
        size -= len(part)
