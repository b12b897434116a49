"""The header of a data file: made once by libhdf5, and read only as far as it is known to be harmless.

libhdf5 touches the header and nothing else. A file may come from elsewhere, so everything that libhdf5 would follow,
allocate or run out of is checked before a byte of data is read.
"""

import errno
import math
import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from capsbench.contracts import DataSpec
from capsbench.errors import DataFileError, ParameterError
from capsbench.layout import DIGEST_BYTES, FORMAT, FORMAT_VERSION, KINDS, Column, block_count, columns

SIGNATURE = b"\x89HDF\r\n\x1a\n"
LARGEST_ATTRIBUTE = 16384  # bytes; a spec has some 300
LARGEST_SIDE = 4096  # pixels; far past any canvas
CONTROL = re.compile(r"(?<!\\)(\\\\)*\\([bfnrt]|u00[0189]|u007f)")
"""A control character as JSON writes it: printed, it could make a terminal do things."""


@dataclass(frozen=True)
class Place:
    """Where the bytes of a data set lie in its file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def sample_bytes(self) -> int:
        """Bytes a sample (a row)."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


@dataclass(frozen=True)
class Header:
    """What a file's header says, checked.

    Attributes:
        spec: Everything that determines the samples.
        spec_text: The same as it stands in the file, which is what the root digest takes.
        places: Where each data set's bytes lie.
    """

    spec: DataSpec
    spec_text: str
    places: dict[str, Place]


def create_header(path: Path, spec_text: str, columns: Sequence[Column], count: int) -> None:
    """Makes a file with its header, its data sets allocated and not yet written.

    The same arguments make the same bytes wherever the same HDF5 is installed: object times are off, attributes are
    bytes of fixed length.

    Raises:
        ParameterError: The spec is longer than `read_header` would take.
        OSError: It cannot be written.
    """
    if len(spec_text.encode()) > LARGEST_ATTRIBUTE:
        raise ParameterError(f"The spec has {len(spec_text.encode()):,} bytes; a file takes {LARGEST_ATTRIBUTE:,}.")
    with _interrupt_later():
        _create(path, spec_text, columns, count)


def read_header(path: Path) -> Header:
    """Reads and checks a file's header; not a byte of data is read.

    Raises:
        DataFileError: The file is missing, cannot be read, is not HDF5, not ours, newer than this, cut, or holds what
            none of ours holds: soft or external links, external or virtual storage, other names, types or sizes.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():  # to open a pipe would be to wait for ever
            raise DataFileError(f"{path} is a folder or a device, not a file.")
        with path.open("rb") as file:
            start = file.read(len(SIGNATURE))
    except FileNotFoundError:
        raise DataFileError(f"There is no file {path}.") from None
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror}.") from None
    if start != SIGNATURE:
        raise DataFileError(f"{path} is not an HDF5 file{' (it is empty)' if size == 0 else ''}.")
    try:
        with _interrupt_later():
            return _read(path, size)
    except DataFileError:
        raise
    except Exception as error:  # libhdf5's words for a damaged header come as any of six types
        reason = " ".join(str(error).split())
        raise DataFileError(f"{path} has a damaged header, which cannot be mended in place ({reason}).") from None


def _create(path: Path, spec_text: str, columns: Sequence[Column], count: int) -> None:
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    # From 1.10 on HDF5 puts checksums on its metadata; without them a flipped bit can read as other data.
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    file = h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, creation, access)
    try:
        for name, value in (("format", FORMAT), ("format_version", str(FORMAT_VERSION)), ("spec", spec_text)):
            h5py.File(file).attrs.create(name, np.bytes_(value.encode()))
        rows = [(column.name, column.dtype, (count, *column.shape)) for column in columns]
        rows += [(name, np.dtype("u1"), shape) for name, shape in _digest_shapes(count).items()]
        for name, dtype, shape in rows:
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_layout(h5py.h5d.CONTIGUOUS)
            layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            layout.set_obj_track_times(False)
            kind = h5py.h5t.py_create(dtype, logical=True)
            h5py.h5d.create(file, name.encode(), kind, h5py.h5s.create_simple(shape), layout)
    finally:
        _close(file)


@contextmanager
def _interrupt_later() -> Iterator[None]:
    """Lets Ctrl-C wait until h5py is done: raised in one of its destructors it would be lost, and the run go on."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # Python interrupts no other thread
        return
    asked: list[tuple[Any, ...]] = []
    signal.signal(signal.SIGINT, lambda *arguments: asked.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if asked:
            before(*asked[0])


def _close(file: Any) -> None:
    """Closes a file, which is when libhdf5 writes it; it reports a failure to write as a `RuntimeError`."""
    try:
        file.close()
    except RuntimeError as error:
        found = re.search(r"errno = (\d+)", str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number)) from error


def _read(path: Path, size: int) -> Header:
    # HDF5 locks what it opens; finished files are never written, and a partial one has a lock of ours.
    with h5py.File(path, "r", locking=False) as file:
        return _checked_header(path, file, size)


def _digest_shapes(count: int) -> dict[str, tuple[int, ...]]:
    return {"digests": (block_count(count), DIGEST_BYTES), "root": (DIGEST_BYTES,)}


def _checked_header(path: Path, file: Any, size: int) -> Header:
    if _attribute(file, "format") != FORMAT:
        raise DataFileError(f"{path} is an HDF5 file, but not one of capsbench's.")
    version = _attribute(file, "format_version")
    if version != str(FORMAT_VERSION):
        raise DataFileError(
            f"{path} is of format version {(version or '?')[:20]}; this capsbench reads version {FORMAT_VERSION}. "
            "Upgrade capsbench."
        )
    text = _attribute(file, "spec") or ""
    spec = _checked_spec(path, text)
    known = {*(name.encode() for name in KINDS), b"digests", b"root"}
    names = set(file.id) if len(file) <= len(known) else set()
    if not names or not names <= known:
        raise DataFileError(f"{path} holds data sets that no file of capsbench's holds.")
    places = {name.decode(): _place(path, file, name, size) for name in sorted(names)}
    if {name: (place.shape, place.dtype) for name, place in places.items()} != _expected(path, spec, places):
        raise DataFileError(f"{path}: its data sets are not of the types and sizes that its spec asks for.")
    return Header(spec, text, places)


def _checked_spec(path: Path, text: str) -> DataSpec:
    try:
        spec = DataSpec.from_json(text)
        if spec.to_json() != text or CONTROL.search(text):
            raise ValueError("it is not written as capsbench writes it")
    except ValueError as error:
        raise DataFileError(f"{path} has no valid spec: {error}.") from None
    return spec


def _attribute(file: Any, name: str) -> str | None:
    """The text of an attribute; None where there is none, or one that none of ours has."""
    if not h5py.h5a.exists(file.id, name.encode()):
        return None
    attribute = h5py.h5a.open(file.id, name.encode())
    kind = attribute.get_type()
    one = attribute.get_space().get_simple_extent_type() == h5py.h5s.SCALAR
    if not one or not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str():
        return None
    if attribute.get_storage_size() > LARGEST_ATTRIBUTE:
        return None
    try:
        return bytes(file.attrs[name]).decode()
    except UnicodeDecodeError:
        return None


def _place(path: Path, file: Any, name: bytes, size: int) -> Place:
    shown = f"{path}:/{name.decode()}"
    if file.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise DataFileError(f"{shown} is a link to somewhere else; it is not followed.")
    if h5py.h5o.get_info(file.id, name).type != h5py.h5o.TYPE_DATASET:
        raise DataFileError(f"{shown} is not a data set.")
    data = h5py.h5d.open(file.id, name)
    creation = data.get_create_plist()
    if creation.get_layout() != h5py.h5d.CONTIGUOUS or creation.get_external_count():
        raise DataFileError(f"{shown} is not stored contiguously in the file itself.")
    if not data.shape or min(data.shape) < 1:
        raise DataFileError(f"{shown} is empty.")
    place = Place(data.get_offset() or 0, data.shape, data.dtype)
    if place.offset == 0 or place.offset + place.shape[0] * place.sample_bytes > size:
        raise DataFileError(f"{shown} does not fit the file, which has been cut or never was whole.")
    return place


def _expected(path: Path, spec: DataSpec, places: dict[str, Place]) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """What a file of a spec holds; the canvas and the digits an image are taken from what the file shows."""
    images, labels = (places.get(name) for name in ("images", "labels"))
    if images is None or labels is None or len(images.shape) != 3 or max(images.shape[1:]) > LARGEST_SIDE:
        raise DataFileError(f"{path} has no images, or no labels.")
    motion = "shift" if "shift" in places else "transform"
    parts = columns(
        image_shape=(images.shape[1], images.shape[2]), pairs=len(labels.shape) == 2, motion=motion, layers=spec.layers
    )
    expected = {part.name: ((spec.count, *part.shape), part.dtype) for part in parts}
    return expected | {name: (shape, np.dtype("u1")) for name, shape in _digest_shapes(spec.count).items()}
