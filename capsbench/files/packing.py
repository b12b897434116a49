"""Files packed for sending, and unpacked: the same data set, with the same root digest, in deflated chunks.

Every HDF5 tool reads a packed file: it has arrays in chunks of 1,024 samples with HDF5's own deflate filter. It is
written as ``NAME.h5.new`` and renamed when it is complete; an unfinished one is started again.
"""

import os
import time
import zlib
from collections.abc import Generator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from capsbench.contracts import Progress, silent
from capsbench.data.columns import block_count, block_range
from capsbench.errors import DataFileError, StorageError, UsageError
from capsbench.files.datafile import DataFile
from capsbench.files.header import close, create_packed, interrupt_later
from capsbench.files.layout import Outline
from capsbench.files.packed import CHUNK, LARGEST_CHUNK
from capsbench.files.sidecar import read_sidecar, sidecar_of
from capsbench.files.writing import Written, check_apart, finished, write_at, write_file
from capsbench.system.disk import flushing, kind_of, lock, make_folder, storage_errors, sync
from capsbench.system.processes import in_order

LEVEL = 6  # stated in the file; with Z_RLE zlib makes the same bytes at every level
MEMORY_LEVEL = 9  # zlib's largest
STRATEGY = zlib.Z_RLE
"""Runs and frequencies without a search for repeats, because only black repeats in such images. Measured on 20,000
samples of multimnist and of affnist: smaller than level 9 in a fiftieth and a thirtieth of its time."""


class Sink:
    """A file for libhdf5 that never seems to fail: after a failure that it sees, libhdf5 may crash the process.

    It keeps the first failure and writes nothing after it.

    Attributes:
        failure: The first failure, if any.
    """

    def __init__(self, handle: int) -> None:
        self.failure: OSError | None = None
        self._handle = handle
        self._position = 0
        self._size = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to an offset from the beginning or the end."""
        self._position = offset + (self._size if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        """The current offset."""
        return self._position

    def write(self, content: memoryview) -> int:
        """Writes all of it."""
        if self.failure is None:
            try:
                write_at(self._handle, content, self._position)
            except OSError as error:
                self.failure = error
        self._position += len(content)
        self._size = max(self._size, self._position)
        return len(content)

    def readinto(self, content: memoryview) -> int:
        """Reads what was written, or zeros."""
        found = b""
        if self.failure is None:
            try:
                found = os.pread(self._handle, len(content), self._position)
            except OSError as error:
                self.failure = error
        content[:] = found.ljust(len(content), b"\0")
        self._position += len(content)
        return len(content)

    def truncate(self, size: int) -> int:
        """Sets the size."""
        if self.failure is None:
            try:
                os.ftruncate(self._handle, size)
            except OSError as error:
                self.failure = error
        self._size = size
        return size

    def flush(self) -> None:
        """Does nothing: no writes are buffered."""


def pack_file(path: Path, out: Path, *, force: bool = False, report: Progress = silent) -> Written:
    """Packs a contiguous file; every digest of it is checked.

    Args:
        path: The file, a whole data set or a shard.
        out: The packed file; its folder is made if it is missing.
        force: Whether to overwrite another file.
        report: Called with the progress.

    Raises:
        UsageError: The file is packed already, ``out`` is the file itself, or another file stands there.
        DataFileError: The file is missing, damaged, hostile, or not one of ours; or its images are too large.
        StorageError: The disk is full, a permission is missing, or another run is writing the packed file.
    """
    begun = time.perf_counter()
    file = DataFile(path)
    if file.packed:
        raise UsageError(f"{path} is packed already. Unpack it with: capsbench pack FILE OUT --undo")
    _check_places(path, out)
    largest = max(column.sample_bytes for column in file.columns)
    if min(CHUNK, len(file)) * largest > LARGEST_CHUNK:
        raise DataFileError(
            f"{path} has {largest:,} bytes a sample in one array; at most {LARGEST_CHUNK // CHUNK:,} can be packed."
        )
    make_folder(out.parent)
    with lock(out):
        left = out.exists() and not force
        if left:
            _check_same(file, out)
        else:
            _pack(file, out, report)
    return finished(DataFile(out), 0 if left else len(file), begun)


def unpack_file(path: Path, out: Path, *, force: bool = False, report: Progress = silent) -> Written:
    """Makes the contiguous file of a packed one, byte for byte as it was; block by block, which needs little memory.

    Args:
        path: The packed file.
        out: The contiguous file; its folder is made if it is missing. It continues the file of a killed run.
        force: Whether to start again where a file of another spec stands.
        report: Called with the progress.

    Raises:
        UsageError: The file is not packed, or ``out`` is the file itself.
        SpecMismatchError: A file of another spec stands there.
        DataFileError: The packed file is missing, damaged, hostile, or not one of ours.
        StorageError: The disk is full, a permission is missing, or another run is writing the file.
    """
    file = DataFile(path)
    if not file.packed:
        raise UsageError(f"{path} is not packed. Leave out --undo to pack it.")
    _check_places(path, out)
    if not file.root_holds():
        file.check()
    beginning = out.with_name(out.name + ".partial")
    for place in (beginning, *(() if force else (out,))):
        _check_beginning(file, place)
    outline = Outline(file.spec, file.columns, file.shard)
    try:
        return write_file(out, outline, file.packed_samples, force=force, report=report)
    except DataFileError as error:
        if not beginning.exists():
            raise
        raise DataFileError(
            f"{error} {beginning} keeps what was unpacked; with a good copy the same command continues."
        ) from None


def _check_places(path: Path, out: Path) -> None:
    check_apart(out, [path])
    if kind_of(out) == "folder":
        raise StorageError(f"{out} cannot be written: it is a folder. Name a file in it.")


def _check_same(file: DataFile, out: Path) -> None:
    """Refuses an existing file unless it is the packed file, undamaged."""
    way_out = "Add --force to overwrite it, or choose another name."
    try:
        found = DataFile(out)
        if found.packed and (found.spec, found.shard, found.digest) == (file.spec, file.shard, file.digest):
            found.check()
            return
    except DataFileError as error:
        raise DataFileError(f"{error} {way_out}") from None
    raise UsageError(f"{out} exists, and is not the packed {file.path}. {way_out}")


def _check_beginning(file: DataFile, place: Path) -> None:
    """Refuses to continue a file of the same spec that holds other samples: they would be kept."""
    try:
        found = DataFile(place)
    except DataFileError:
        return  # `write_file` decides
    if found.packed or (found.spec, found.shard) != (file.spec, file.shard):
        return
    others = np.flatnonzero((found.digests != file.digests).any(1))
    if any(found.holds(block) for block in others.tolist()):  # damaged or missing blocks will be written
        raise DataFileError(
            f"{place} is of the same spec as {file.path}, but holds other samples. Remove it, or choose another name."
        )


def _pack(file: DataFile, out: Path, report: Progress) -> None:
    fresh = out.with_name(out.name + ".new")
    with storage_errors(out):
        try:
            handle = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                with flushing(handle):
                    _write(file, handle, report)
            finally:
                os.close(handle)
            sync(fresh)
            if read_sidecar(out) not in (None, (file.spec, file.shard)):
                sidecar_of(out).unlink()  # it describes the file that this one replaces
            fresh.replace(out)
        except BaseException:
            with suppress(OSError):
                fresh.unlink()
            raise
        sync(out.parent)


def _write(file: DataFile, handle: int, report: Progress) -> None:
    """Writes a packed file.

    Raises:
        OSError: Not all of it could be written.
    """
    sink = Sink(handle)
    try:
        with interrupt_later() as asked, closing(_packed_blocks(file)) as blocks:
            packed = create_packed(sink, file.spec.to_json(), file.columns, len(file), shard=file.shard, level=LEVEL)
            try:
                sets = {name: h5py.h5d.open(packed, name.encode()) for name in file.extents}
                for block, chunks in enumerate(blocks):
                    for name, start, content in chunks:
                        place = (start, *(0 for _ in sets[name].shape[1:]))
                        sets[name].write_direct_chunk(place, content)
                    report(block_range(block, len(file))[1], len(file))
                    if asked or sink.failure is not None:
                        break
                sets["digests"].write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(file.digests))
                sets["root"].write(h5py.h5s.ALL, h5py.h5s.ALL, np.frombuffer(bytes.fromhex(file.digest), np.uint8))
            finally:
                close(packed)
    finally:
        if sink.failure is not None:  # this is the cause, whatever libhdf5 raised
            raise sink.failure


Chunks = list[tuple[str, int, bytes]]
"""Deflated chunks: the array, the first sample, the bytes."""


def _packed_blocks(file: DataFile) -> Generator[Chunks, None, None]:
    """The chunks of each block, in order.

    Raises:
        DataFileError: The file is damaged, or unfinished.
    """
    if not file.root_holds():
        file.check()
    with closing(in_order(partial(_packed_block, file), block_count(len(file)), os.cpu_count() or 1)) as blocks:
        for chunks in blocks:
            if chunks is None:
                file.check()  # names all damaged blocks, and the way out
                raise DataFileError(f"{file.path} was changed while it was being packed. Pack it again.")
            yield chunks


def _packed_block(file: DataFile, block: int) -> Chunks | None:
    """The chunks of a block in all arrays; None if its digest does not match."""
    if not file.holds(block):
        return None
    count = len(file)
    rows = min(CHUNK, count)
    begin, end = block_range(block, count)
    chunks = []
    for start in range(begin, end, CHUNK):
        for name, array in file.read(start, min(start + CHUNK, end)).items():
            missing = (rows - len(array)) * array[:1].nbytes
            chunks.append((name, start, _deflated(array.data.cast("B"), missing)))
    return chunks


def _deflated(content: memoryview, missing: int) -> bytes:
    """Bytes that HDF5's deflate filter inflates to the content, followed by zeros up to a whole chunk."""
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, MEMORY_LEVEL, STRATEGY)
    return b"".join((deflate.compress(content), deflate.compress(bytes(missing)), deflate.flush()))
