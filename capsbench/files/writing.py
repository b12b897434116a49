"""From a source of samples to a finished file: resumed after a kill, repaired after damage.

A file is written as ``NAME.h5.partial`` and renamed when it is complete. Resuming and repairing are the same: every
block is compared with its digest, and written again if it does not match. A source provides the samples: a generator,
shards or a packed copy.
"""

import errno
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from capsbench.contracts import Progress, silent
from capsbench.data.columns import DIGEST_BYTES, block_count, block_digest, block_range
from capsbench.data.recipes import spec_difference
from capsbench.errors import DataFileError, SpecMismatchError, StorageError, UsageError
from capsbench.files.datafile import DataFile
from capsbench.files.header import create_header
from capsbench.files.layout import Extent, Outline
from capsbench.files.sidecar import read_sidecar, sidecar_of, write_sidecar
from capsbench.system.disk import (
    UnsyncedError,
    flushing,
    free_bytes,
    human_bytes,
    kind_of,
    lock,
    make_folder,
    reserve,
    same_file,
    storage_errors,
    sync,
)
from capsbench.system.processes import share_out

HEADER_BYTES = 65536  # an upper bound, to see whether a file will fit on the disk


class Source(Protocol):
    """A function that provides the samples of a file; for several processes it must be picklable."""

    def __call__(self, start: int, stop: int) -> Mapping[str, npt.NDArray[Any]]:
        """Samples ``start..stop-1`` of the file as they are stored: contiguous, of the stored types, by column."""


@dataclass(frozen=True)
class Written:
    """A finished file, and how it was made.

    Attributes:
        path: The file.
        written: How many samples were written; 0 if it was complete already.
        reused: How many samples were there already, undamaged.
        seconds: How long it took.
        size: Bytes of the file.
        digest: Its root digest, in hexadecimal.
    """

    path: Path
    written: int
    reused: int
    seconds: float
    size: int
    digest: str


def write_file(
    path: Path,
    outline: Outline,
    source: Source,
    *,
    force: bool = False,
    wait: bool = False,
    workers: int = 1,
    report: Progress = silent,
) -> Written:
    """Makes a file, or the missing part of it.

    Args:
        path: The file; its folder is made if it is missing.
        outline: Its contents.
        source: Provides its samples.
        force: Whether to start again where a file of another spec stands, or one that cannot be read.
        wait: Whether to wait for another run that is writing the file.
        workers: Processes that get samples and write, this one included.
        report: Called with the progress.

    Raises:
        SpecMismatchError: A file of another spec, finished or partial, stands there, or another file in place of the
            sidecar.
        DataFileError: The file that stands there cannot be read.
        UsageError: The name does not end in ``.h5``.
        StorageError: The disk is full, a permission is missing, or another run is writing the file.
    """
    begun = time.perf_counter()
    check_name(path)
    make_folder(path.parent)
    if kind_of(path) == "folder":
        raise StorageError(f"{path} cannot be written: it is a folder. Choose another place.")
    if path.exists() and not force and not os.access(path.parent, os.W_OK):
        file = _open_ours(path, outline)  # a complete file in a read-only folder needs no writing
        file.check()
        return finished(file, 0, begun)
    with lock(path, wait=wait):
        if path.exists() and not force:
            written = repair(_open_ours(path, outline), outline, source, workers, report)
            stated = read_sidecar(path)
            if stated != (outline.spec, outline.shard) and (stated is not None or not sidecar_of(path).exists()):
                write_sidecar(outline, path)  # another file of the user is left alone
        else:
            if sidecar_of(path).exists() and read_sidecar(path) is None and not force:
                raise SpecMismatchError(
                    f"{sidecar_of(path)} is not the sidecar of {path.name}, but stands in its place. "
                    "Add --force to overwrite it, or choose another place."
                )
            partial = _open_partial(path, outline, force)
            written = repair(partial, outline, source, workers, report)
            write_sidecar(outline, path)
            with storage_errors(path):
                partial.path.replace(path)
                sync(path.parent)
    return finished(DataFile(path), written, begun)


def check_name(path: Path) -> None:
    """Refuses a name that does not end in ``.h5``: the sidecar might have the same name.

    Raises:
        UsageError: It does not end so.
    """
    if path.suffix != ".h5":
        raise UsageError(f"The name of a data file must end in .h5, got {path}.")


def check_apart(out: Path, inputs: Iterable[Path]) -> None:
    """Refuses to overwrite an input.

    Args:
        out: The file to make.
        inputs: The files that it is made from.

    Raises:
        UsageError: An input is the file itself, or has a name that is needed while it is made; or the file's name does
            not end in ``.h5``.
    """
    check_name(out)
    sidecar = sidecar_of(out)
    meanwhile = [out.with_name(out.name + ending) for ending in (".new", ".partial", ".lock")]
    meanwhile += [sidecar, sidecar.with_name(sidecar.name + ".new")]
    for path in inputs:
        if same_file(out, path):
            raise UsageError(f"{out} cannot be made from itself. Choose another name for the new file.")
        if any(same_file(place, path) for place in meanwhile):
            raise UsageError(f"{path} has a name that is needed while {out} is made. Choose another name.")


def repair(file: DataFile, outline: Outline, source: Source, workers: int, report: Progress) -> int:
    """Writes every block that does not match its digest, then the root digest; returns how many samples it wrote."""
    file.check_writable()
    file.check_fits(outline.columns)
    count = len(file)
    bad = file.bad_blocks()
    written = list(bad)
    report(count - _samples(bad, count), count)
    job = Writing(source, file.extents, count)
    with storage_errors(file.path, needed=outline.data_bytes):
        try:
            if bad:
                _write_blocks(file, bad, job, workers, report)
            if not file.root_holds():
                if file.path.suffix != ".partial":  # a digest is wrong that matches its block; we cannot know which
                    written = list(range(block_count(count)))
                    _write_blocks(file, sorted(set(written) - set(bad)), job, workers, report)
                _write_root(file)
            if surplus := file.surplus():
                os.truncate(file.path, file.path.stat().st_size - surplus)
            # Even if nothing was written: the run that wrote it may have been killed before its sync.
            sync(file.path)
        except OSError as error:
            if error.errno == errno.EIO or isinstance(error, UnsyncedError):
                _disown(file, written)
            raise
    file.check_labels()
    return _samples(written, count)


def _samples(blocks: Iterable[int], count: int) -> int:
    """The number of samples of some blocks."""
    return sum(stop - start for start, stop in (block_range(block, count) for block in blocks))


def _write_root(file: DataFile) -> None:
    handle = os.open(file.path, os.O_WRONLY)
    try:
        write_at(handle, memoryview(file.root()), file.extents["root"].offset)
    finally:
        os.close(handle)


def _write_blocks(file: DataFile, blocks: Sequence[int], job: "Writing", workers: int, report: Progress) -> None:
    done = job.count - _samples(blocks, job.count)
    handle = os.open(file.path, os.O_WRONLY)
    try:
        with flushing(handle) as check, closing(share_out(job, blocks, workers, handle)) as steps:
            for samples in steps:
                check()
                done += samples
                report(done, job.count)
    finally:
        os.close(handle)


def _disown(file: DataFile, blocks: Sequence[int]) -> None:
    """Removes the digests of blocks: the system's cache may show what a failing disk did not store."""
    with suppress(OSError):
        handle = os.open(file.path, os.O_WRONLY)
        try:
            for block in blocks:
                write_at(handle, memoryview(bytes(DIGEST_BYTES)), file.extents["digests"].offset + block * DIGEST_BYTES)
        finally:
            os.close(handle)


@dataclass(frozen=True)
class Writing:
    """The work on a file, as each process gets it.

    Attributes:
        source: Provides its samples.
        extents: Where its arrays lie.
        count: How many samples it has.
    """

    source: Source
    extents: Mapping[str, Extent]
    count: int

    def __call__(self, handle: int, block: int) -> int:
        """Writes a block; returns how many samples it has."""
        start, stop = block_range(block, self.count)
        arrays = self.source(start, stop)
        for name, array in arrays.items():
            extent = self.extents[name]
            write_at(handle, array.data.cast("B"), extent.offset + start * extent.sample_bytes)
        # The digest goes last: a block without its digest is written again.
        write_at(handle, memoryview(block_digest(arrays)), self.extents["digests"].offset + block * DIGEST_BYTES)
        return stop - start


def write_at(handle: int, content: memoryview, offset: int) -> None:
    """Writes all of the content; the system may take less at a time."""
    while content:
        written = os.pwrite(handle, content, offset)
        content, offset = content[written:], offset + written


def finished(file: DataFile, written: int, begun: float) -> Written:
    """A finished file of which so many samples were written since `time.perf_counter` said ``begun``."""
    return Written(
        path=file.path,
        written=written,
        reused=len(file) - written,
        seconds=time.perf_counter() - begun,
        size=file.path.stat().st_size,
        digest=file.digest,
    )


def _open_ours(path: Path, outline: Outline) -> DataFile:
    """The file at a path, if it is of the spec of the outline."""
    try:
        file = DataFile(path)
    except DataFileError as error:
        raise DataFileError(f"{error} Add --force to make it again, or choose another place.") from None
    difference = spec_difference(outline.spec, file.spec)
    if not difference and outline.shard != file.shard:
        difference = f"samples: asked {_ends(outline.shard)}, found {_ends(file.shard)}"
    if difference:
        raise SpecMismatchError(
            f"{path} is of another spec ({difference}). Add --force to make it again, or choose another place."
        )
    return file


def _ends(shard: range | None) -> str:
    return "all" if shard is None else f"{shard.start:,} to {shard.stop - 1:,}"


def _open_partial(path: Path, outline: Outline, force: bool) -> DataFile:
    """The partial file, new or as a killed run left it."""
    partial = path.with_name(path.name + ".partial")
    found = None
    if partial.exists():
        with suppress(DataFileError):
            found = DataFile(partial)
    # A killed run with --force is continued, too: it left a file of this spec.
    if found is not None and ((found.spec, found.shard) == (outline.spec, outline.shard) or not force):
        return _open_ours(partial, outline)
    needed = outline.data_bytes + HEADER_BYTES
    with storage_errors(path, needed=needed):
        partial.unlink(missing_ok=True)
    if needed > free_bytes(path):
        raise StorageError(
            f"{path} needs {human_bytes(needed)}; only {human_bytes(free_bytes(path))} is free. "
            "Free some space, or choose another place."
        )
    fresh = path.with_name(path.name + ".new")
    with storage_errors(path, needed=needed):
        try:
            create_header(fresh, outline.spec.to_json(), outline.columns, len(outline), shard=outline.shard)
            handle = os.open(fresh, os.O_RDWR)
            try:
                reserve(handle, os.fstat(handle).st_size)
            finally:
                os.close(handle)
            fresh.replace(partial)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    return DataFile(partial)
