"""The header of a data file: made once by libhdf5, and read only as far as it is known to be harmless.

libhdf5 touches the header and nothing else. A file may come from elsewhere, so everything that libhdf5 would follow or
allocate is checked before a byte of data is read.
"""

import errno
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from capsbench.data.columns import DIGEST_BYTES, DTYPES, EXTRAS, Column, block_count, columns
from capsbench.errors import DataFileError, ParameterError
from capsbench.files.layout import FORMAT, FORMAT_VERSION, Extent
from capsbench.files.packed import chunk_shape, packed_extent
from capsbench.spec import DataSpec

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SUPERBLOCK_BYTES = 48
SUPERBLOCK_VERSIONS = (b"\x02\x08", b"\x03\x08")  # of plain and of packed files; and addresses of 8 bytes
PLAIN_VERSION = h5py.h5f.LIBVER_V18
"""MATLAB before R2021b reads HDF5 1.8. Its superblock 2 is the first with checksums of metadata: without them a flipped
bit can read as other data."""

PACKED_VERSION = h5py.h5f.LIBVER_V110
"""HDF5 1.8 has no checksum on the index of chunks."""

LARGEST_ATTRIBUTE = 16384  # bytes; a spec has some 300
LARGEST_HEAP = 2**20  # bytes of large attributes, of which our files have none: libhdf5 reads all of them to open one
LARGEST_SIDE = 4096  # pixels; far more than any canvas
WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")


@dataclass(frozen=True)
class Header:
    """The contents of a file's header, checked.

    Attributes:
        spec: Everything that determines the samples.
        spec_text: The same as it stands in the file; the root digest is over this text.
        shard: Which samples of the spec the file holds; None for all of them.
        extents: Where the bytes of each array lie.
        end: Where HDF5 says that the file ends.
    """

    spec: DataSpec
    spec_text: str
    shard: range | None
    extents: dict[str, Extent]
    end: int

    @property
    def packed(self) -> bool:
        """Whether the samples are in deflated chunks."""
        return bool(self.extents["images"].chunks)

    @property
    def count(self) -> int:
        """How many samples the file holds."""
        return self.spec.count if self.shard is None else len(self.shard)


def create_header(
    path: Path, spec_text: str, columns: Sequence[Column], count: int, *, shard: range | None = None
) -> None:
    """Makes a file with its header; its arrays are allocated and not yet written.

    The same arguments make the same bytes wherever the same HDF5 is installed: object times are off, attributes are
    bytes of fixed length.

    Args:
        path: The file.
        spec_text: The spec's canonical text.
        columns: The arrays of samples.
        count: How many samples the file holds.
        shard: Which samples of the spec they are; None for all of them.

    Raises:
        ParameterError: The spec is longer than `read_header` accepts.
        OSError: It cannot be written.
    """
    attributes = _attributes(spec_text, shard)
    with interrupt_later():
        close(_create(os.fsencode(path), _access(PLAIN_VERSION), attributes, columns, count))


def create_packed(
    sink: Any, spec_text: str, columns: Sequence[Column], count: int, *, shard: range | None, level: int
) -> Any:
    """Begins a packed file: its arrays of samples are in deflated chunks of `CHUNK` samples, none of them written yet.

    Args:
        sink: A Python file object that libhdf5 writes to instead of a file. It must never fail, because libhdf5 may
            crash after a write that failed.
        spec_text: The spec's canonical text.
        columns: The arrays of samples.
        count: How many samples the file holds.
        shard: Which samples of the spec they are; None for all of them.
        level: The level of deflate that the file states.

    Returns:
        The open file, h5py's `FileID`, for `close`.
    """
    access = _access(PACKED_VERSION)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, sink)
    return _create(b"packed", access, _attributes(spec_text, shard), columns, count, level)


def read_header(path: Path) -> Header:
    """Reads and checks a file's header, without reading any data.

    Raises:
        DataFileError: The file is missing, unreadable, not HDF5, not ours, of a newer format, truncated, or has
            something that our files never have: soft or external links, external or virtual storage, other names,
            types or sizes.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():  # opening a pipe would wait for ever
            raise DataFileError(f"{path} is a folder or a device, not a file.")
        with path.open("rb") as file:
            start = file.read(SUPERBLOCK_BYTES)
    except FileNotFoundError:
        raise DataFileError(f"There is no file {path}.") from None
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror}.") from None
    if not start.startswith(SIGNATURE):
        raise DataFileError(f"{path} is not an HDF5 file{' (it is empty)' if size == 0 else ''}.")
    try:
        with interrupt_later():
            return _read(path, size, start)
    except DataFileError:
        raise
    except Exception as error:  # libhdf5 reports a damaged header by any of six types
        reason = " ".join(str(error).split())
        raise DataFileError(f"{path} has a damaged header, which cannot be repaired ({reason}).") from None


def _attributes(spec_text: str, shard: range | None) -> dict[str, str]:
    if len(spec_text.encode()) > LARGEST_ATTRIBUTE:
        raise ParameterError(f"A spec may have {LARGEST_ATTRIBUTE:,} bytes, got {len(spec_text.encode()):,}.")
    attributes = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "spec": spec_text}
    return attributes if shard is None else attributes | {"start": str(shard.start), "stop": str(shard.stop)}


def _access(version: int) -> Any:
    """How a file is made: as that version of HDF5 does it, so that this version can read it."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(version, version)
    access.set_file_locking(False, False)  # a lock of ours guards the file; some file systems refuse HDF5's
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)  # else objects that an exception still refers to keep the file open
    return access


def _create(
    name: bytes,
    access: Any,
    attributes: Mapping[str, str],
    columns: Sequence[Column],
    count: int,
    level: int | None = None,
) -> Any:
    """An open file; its arrays of samples are contiguous, or in chunks that are deflated at a level."""
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    file = h5py.h5f.create(name, h5py.h5f.ACC_TRUNC, creation, access)
    try:
        for key, value in attributes.items():
            h5py.File(file).attrs.create(key, np.bytes_(value.encode()))
        rows = [(column.name, column.dtype, (count, *column.shape), level) for column in columns]
        rows += [(key, np.dtype("u1"), shape, None) for key, shape in _digest_shapes(count).items()]
        for key, dtype, shape, deflate in rows:
            datatype = h5py.h5t.py_create(dtype, logical=True)
            h5py.h5d.create(file, key.encode(), datatype, h5py.h5s.create_simple(shape), _storage(shape, deflate))
    except BaseException:
        close(file)
        raise
    return file


def _storage(shape: tuple[int, ...], deflate: int | None) -> Any:
    """How an array is stored."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if deflate is None:
        creation.set_layout(h5py.h5d.CONTIGUOUS)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    else:
        creation.set_chunk(chunk_shape(shape))
        creation.set_deflate(deflate)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    return creation


@contextmanager
def interrupt_later() -> Iterator[list[tuple[Any, ...]]]:
    """Delays Ctrl-C until h5py is done: raised in one of its destructors, it would be lost, and the run would continue.

    It gives a list that is empty until Ctrl-C is pressed; long work should check it now and then.
    """
    asked: list[tuple[Any, ...]] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield asked  # Python interrupts the main thread only
        return
    signal.signal(signal.SIGINT, lambda *arguments: asked.append(arguments))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
        if asked:
            before(*asked[0])


def close(file: Any) -> None:
    """Closes an h5py `FileID`. libhdf5 writes the file only now, and reports a failure as a `RuntimeError`."""
    try:
        file.close()
    except RuntimeError as error:
        found = re.search(r"errno = (\d+)", str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number)) from error


def _read(path: Path, size: int, superblock: bytes) -> Header:
    # Without HDF5's lock: finished files are never written, and a partial one has a lock of ours.
    with h5py.File(path, "r", locking=False) as file:  # which checks the superblock against its checksum
        return _checked_header(path, file, size, _end(superblock, size))


def _end(superblock: bytes, size: int) -> int:
    """Where a file ends by its superblock; where that is of another version than ours, where it ends in fact."""
    return int.from_bytes(superblock[28:36], "little") if superblock[8:10] in SUPERBLOCK_VERSIONS else size


def _digest_shapes(count: int) -> dict[str, tuple[int, ...]]:
    return {"digests": (block_count(count), DIGEST_BYTES), "root": (DIGEST_BYTES,)}


def _checked_header(path: Path, file: Any, size: int, end: int) -> Header:
    heap = h5py.h5o.get_info(file.id).meta_size.attr.heap_size
    if heap > LARGEST_HEAP:
        raise DataFileError(f"{path} has no valid spec: its attributes take {heap:,} bytes.")
    if _attribute(file, "format") != FORMAT:
        raise DataFileError(f"{path} is an HDF5 file, but was not made by capsbench.")
    version = _attribute(file, "format_version")
    if version != str(FORMAT_VERSION):
        raise DataFileError(
            f"{path} is of format version {(version or '?')[:20]}; this capsbench reads version {FORMAT_VERSION}. "
            "Upgrade capsbench."
        )
    text = _attribute(file, "spec") or ""
    spec = _checked_spec(path, text)
    shard = _checked_shard(path, file, spec.count)
    known = {*(name.encode() for name in DTYPES), b"digests", b"root"}
    names = set(file.id) if len(file) <= len(known) else set()
    if not names or not names <= known:
        raise DataFileError(f"{path} holds arrays that no file of capsbench has.")
    extents = {name.decode(): _extent(path, file, name, size) for name in sorted(names)}
    if len({bool(extent.chunks) for name, extent in extents.items() if name in DTYPES}) > 1:
        raise DataFileError(f"{path}: some of its arrays are packed, and some are not.")
    if {name: (extent.shape, extent.dtype) for name, extent in extents.items()} != _expected(
        path, spec, spec.count if shard is None else len(shard), extents
    ):
        raise DataFileError(f"{path}: its arrays are not of the types and sizes of its spec.")
    return Header(spec, text, shard, extents, end)


def _checked_spec(path: Path, text: str) -> DataSpec:
    try:
        spec = DataSpec.from_json(text)
        if spec.to_json() != text:
            raise ValueError("its text is not canonical")
    except ValueError as error:
        raise DataFileError(f"{path} has no valid spec: {error}.") from None
    return spec


def _checked_shard(path: Path, file: Any, count: int) -> range | None:
    """Which samples the file states that it holds; None if it states nothing, and so holds all."""
    start, stop = _attribute(file, "start"), _attribute(file, "stop")
    if start is None and stop is None:
        return None
    if not (start and stop and WHOLE_NUMBER.fullmatch(start) and WHOLE_NUMBER.fullmatch(stop)):
        raise DataFileError(f"{path} does not say which samples it holds of its spec's {count:,}.")
    shard = range(int(start), int(stop))
    if not shard or shard.stop > count or len(shard) == count:
        raise DataFileError(f"{path} says that it holds samples {start} to {stop} of {count:,}, which are not a shard.")
    return shard


def _attribute(file: Any, name: str) -> str | None:
    """The text of an attribute; None if it is missing, or is not as our files have it."""
    if not h5py.h5a.exists(file.id, name.encode()):
        return None
    attribute = h5py.h5a.open(file.id, name.encode())
    datatype = attribute.get_type()
    one = attribute.get_space().get_simple_extent_type() == h5py.h5s.SCALAR
    if not one or not isinstance(datatype, h5py.h5t.TypeStringID) or datatype.is_variable_str():
        return None
    if attribute.get_storage_size() > LARGEST_ATTRIBUTE:
        return None
    try:
        return bytes(file.attrs[name]).decode()
    except UnicodeDecodeError:
        return None


def _extent(path: Path, file: Any, name: bytes, size: int) -> Extent:
    shown = f"{path}:/{name.decode()}"
    if file.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise DataFileError(f"{shown} is a link to another place; we do not follow it.")
    if h5py.h5o.get_info(file.id, name).type != h5py.h5o.TYPE_DATASET:
        raise DataFileError(f"{shown} is not an array.")
    data = h5py.h5d.open(file.id, name)
    creation = data.get_create_plist()
    chunked = creation.get_layout() == h5py.h5d.CHUNKED and name.decode() in DTYPES
    if not (chunked or creation.get_layout() == h5py.h5d.CONTIGUOUS) or creation.get_external_count():
        raise DataFileError(f"{shown} is not stored contiguously in the file itself.")
    if not data.shape or min(data.shape) < 1:
        raise DataFileError(f"{shown} is empty.")
    if chunked:
        return packed_extent(shown, data, creation, size)
    extent = Extent(data.get_offset() or 0, data.shape, data.dtype)
    if extent.offset == 0 or extent.offset + extent.shape[0] * extent.sample_bytes > size:
        raise DataFileError(f"{shown} does not fit the file, which was truncated or never complete.")
    return extent


def _expected(
    path: Path, spec: DataSpec, count: int, extents: dict[str, Extent]
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """The shapes and types in a file of a spec; image size and digits an image are taken from the file itself."""
    images, labels = (extents.get(name) for name in ("images", "labels"))
    if images is None or labels is None or len(images.shape) != 3 or max(images.shape[1:]) > LARGEST_SIDE:
        raise DataFileError(f"{path} has no images, or no labels.")
    motion = "shift" if "shift" in extents else "transform"
    parts = columns(
        image_shape=(images.shape[1], images.shape[2]),
        pairs=len(labels.shape) == 2,
        motion=motion,
        layers=spec.layers,
        extras=extents.keys() & set(EXTRAS),
    )
    expected = {part.name: ((count, *part.shape), part.dtype) for part in parts}
    return expected | {name: (shape, np.dtype("u1")) for name, shape in _digest_shapes(count).items()}
