"""Files of the real affNIST (Tieleman 2013) turned into files of ours.

A child process with limits on its memory and its time reads the MATLAB file (`capsbench.importing.matfile`), and
passes the samples on as plain bytes in a file without a name. They are checked again before they are used.
"""

import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import CLASSES, FloatArray, Progress, UInt8Array, silent
from capsbench.data.columns import columns
from capsbench.data.digits import KNOWN
from capsbench.errors import DataFileError, ParameterError, StorageError, UnknownNameError, UsageError
from capsbench.files.layout import Outline
from capsbench.files.writing import Written, check_apart, write_file
from capsbench.importing.matfile import FACTORS, HEADER_BYTES, NO_ID, SAMPLE_BYTES, RefusedError, header_fault
from capsbench.importing.sources import find_sources
from capsbench.spec import IMPORTED, SPLITS, DataSpec
from capsbench.system.disk import NO_MAPS, storage_errors
from capsbench.system.processes import child_environment, interpreter

VERSION = 1
SIDE = 40  # pixels
MEMORY = 4 * 2**30  # bytes of address space of the child; 320,000 samples take 0.7 GB
SECONDS = 600  # that the child may run
LONGEST = 200  # letters of a reader's complaint
WAY_OUT = "Give a file of affNIST, such as its test.mat or one of its batches."


@dataclass(frozen=True)
class MatSamples:
    """The samples of a MATLAB file, mapped from the file that its reader wrote.

    Attributes:
        images: ``[N, 40, 40]`` uint8.
        labels: ``[N]`` uint8, 0..9.
        transform: ``[N, 6]`` float64, as the file has it.
        ids: ``[N]`` int32, which digit each shows, as the file says it; `NO_ID` in a file that does not.
    """

    images: UInt8Array
    labels: UInt8Array
    transform: FloatArray
    ids: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Importing:
    """The samples of MATLAB files, one after the other, as a source of a file of ours.

    Attributes:
        files: The samples of each.
        source: ``[N]`` int32, the index of each digit in its split; -1 where it is unknown.
    """

    files: Sequence[MatSamples]
    source: npt.NDArray[np.int32]

    def __call__(self, start: int, stop: int) -> Mapping[str, npt.NDArray[Any]]:
        """Samples ``start..stop-1`` of the file."""
        parts, first = [], 0
        for one in self.files:
            here = slice(max(start - first, 0), max(stop - first, 0))
            parts.append((one.images[here], one.labels[here], one.transform[here]))
            first += len(one)
        images, labels, transform = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return {
            "images": images,
            "labels": labels,
            "source": self.source[start:stop],
            "transform": np.ascontiguousarray(transform, "<f4"),
        }


def import_affnist(
    mats: Path | Sequence[Path], out: Path, *, split: str | None = None, force: bool = False, report: Progress = silent
) -> Written:
    """Makes a data file from one MATLAB file of affNIST, or from several of its batches.

    Args:
        mats: The MATLAB files; several become one file in the order of the numbers in their names.
        out: The file to make, ``NAME.h5``.
        split: Its split, if its labels do not show it; ``test`` by default.
        force: Whether to start again where a file of another spec stands.
        report: Called with the progress once the MATLAB files are read.

    Raises:
        UsageError: The split does not exist or contradicts the labels, a file of another spec stands there, the name
            of the new file does not end in ``.h5``, or a MATLAB file was given twice.
        DataFileError: A MATLAB file is missing, damaged, or not from affNIST, or its ``original_id`` contradicts its
            labels.
        StorageError: The file cannot be written.
    """
    if split is not None and split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    if out.suffix != ".h5":  # it might be the MATLAB file itself
        raise UsageError(f"The name of a data file must end in .h5, got {out}. Give another one with --out.")
    ordered = [mats] if isinstance(mats, Path) else sorted(mats, key=_natural)
    check_apart(out, ordered)
    found = [_import_one(mat, out) for mat in ordered]
    digests, files = [digest for digest, _ in found], [samples for _, samples in found]
    _check_different(ordered, digests)
    names = str(ordered[0]) if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"
    labels, ids = (np.concatenate(arrays) for arrays in zip(*((one.labels, one.ids) for one in files), strict=True))
    try:
        sources = find_sources(labels, ids)
    except RefusedError as fault:
        raise _refusal(names, str(fault)) from None
    known = KNOWN.get(sources.digits)
    if known is not None:
        if split not in (None, known.split):
            raise ParameterError(
                f"--split is {split}, but {names} has the labels of {known.origin}'s {known.split} digits. "
                "Leave --split out."
            )
        split = known.split
    spec = DataSpec(
        generator=IMPORTED,
        version=VERSION,
        split=split or "test",
        seed=0,
        count=len(labels),
        parameters=_origin(digests) | ({"source": "original_id"} if sources.by_ids else {}),
        layers=False,
        digits=sources.digits,
    )
    parts = columns(image_shape=(SIDE, SIDE), pairs=False, motion="transform", layers=False)
    return write_file(out, Outline(spec, parts), Importing(files, sources.index), force=force, report=report)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Orders names as people do: 2.mat before 10.mat."""
    words = re.split(r"([0-9]+)", str(path))
    return [(int(word), "") if place % 2 else (0, word) for place, word in enumerate(words)]


def _check_different(mats: Sequence[Path], digests: Sequence[str]) -> None:
    """Refuses a file that was given twice: each of its samples would count twice."""
    first: dict[str, Path] = {}
    for mat, digest in zip(mats, digests, strict=True):
        if digest in first:
            raise UsageError(f"{mat} has the bytes of {first[digest]}. Give each file once.")
        first[digest] = mat


def _origin(digests: Sequence[str]) -> dict[str, Any]:
    """The parameters of the spec: the SHA-256 of the MATLAB file, or of the SHA-256s of several in their order."""
    if len(digests) == 1:
        return {"mat": digests[0]}
    return {"mat": hashlib.sha256("".join(digests).encode()).hexdigest(), "mats": len(digests)}


def _import_one(mat: Path, out: Path) -> tuple[str, MatSamples]:
    """The SHA-256 of a MATLAB file, and its samples."""
    with os.fdopen(_open(mat), "rb") as file, _nameless(out) as handed:
        return _read(mat, file, out, handed)


def _open(mat: Path) -> int:
    """A handle of the MATLAB file, if its beginning is that of one."""
    try:
        handle = os.open(mat, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # O_NONBLOCK: do not wait for a pipe
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise DataFileError(f"{mat} is a folder or a device, not a file.\n{WAY_OUT}")
            fault = header_fault(os.pread(handle, HEADER_BYTES, 0))
            if fault is not None:
                raise _refusal(mat, fault)
        except BaseException:
            os.close(handle)
            raise
    except FileNotFoundError:
        raise DataFileError(f"There is no file {mat}.") from None
    except OSError as error:
        raise DataFileError(f"{mat} cannot be read: {error.strerror}.") from None
    return handle


def _nameless(out: Path) -> IO[bytes]:
    """A file without a name on the disk of the output: however this ends, it does not remain."""
    with storage_errors(out):
        folder = next(place for place in out.absolute().parents if place.is_dir())
        return tempfile.TemporaryFile(dir=folder)


def _read(mat: Path, file: BufferedReader, out: Path, handed: IO[bytes]) -> tuple[str, MatSamples]:
    """The SHA-256 of a MATLAB file, and its samples, which a child writes to the other file."""
    before = _state(file)
    try:
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
    except OSError as error:
        raise DataFileError(f"{mat} cannot be read: {error.strerror}.") from None
    said = _said(mat, in_child(file.fileno(), handed.fileno()))
    if "errno" in said:
        with storage_errors(out):
            raise OSError(said["errno"], os.strerror(said["errno"]))
    if _state(file) != before:
        raise DataFileError(f"{mat} was changed while it was read. Run the same command again.")
    return digest, _mapped(mat, handed, said.get("samples"))


def _state(file: BufferedReader) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def in_child(source: int, target: int) -> "subprocess.CompletedProcess[bytes]":
    """Reads a MATLAB file in a child process; its return code is -`signal.SIGXCPU` if it took too long.

    Args:
        source: A handle of the MATLAB file, at its beginning.
        target: A handle of the file to write to.

    Raises:
        StorageError: No child could be started.
    """
    arguments = map(str, (source, target, MEMORY, SECONDS))
    try:
        child = subprocess.Popen(
            [*interpreter(), "from capsbench.importing.matfile import main; main()", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[source, target],
            process_group=0,  # Ctrl-C goes to this process, which ends the child
            env=child_environment(),
        )
    except OSError as error:
        raise StorageError(f"No process could be started to read the MATLAB file: {error.strerror}.") from None
    with child:
        try:
            said, complained = child.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(child.args, -signal.SIGXCPU, b"", b"")
        finally:
            child.kill()  # does nothing if it has ended
            child.wait()
    return subprocess.CompletedProcess(child.args, child.returncode, said, complained)


def _said(mat: Path, ended: "subprocess.CompletedProcess[bytes]") -> dict[str, Any]:
    """The answer of a child that read a MATLAB file.

    Raises:
        DataFileError: It refused the file, or failed.
    """
    if ended.returncode == -signal.SIGXCPU:
        raise _refusal(mat, f"reading it takes more than {SECONDS} seconds")
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise _refusal(mat, f"it is damaged or memory ran out; its reader was ended by {name}")
    try:
        said = json.loads(ended.stdout)
    except (ValueError, RecursionError):
        said = None
    if ended.returncode or not isinstance(said, dict):
        words = ended.stderr.decode(errors="replace").split("\n")
        last = next((line for line in reversed(words) if line.strip()), f"exit code {ended.returncode}")
        raise _refusal(mat, f"its reader failed ({last})")
    if "wrong" in said:
        raise _refusal(mat, str(said["wrong"]))
    return said


def _mapped(mat: Path, handed: IO[bytes], count: Any) -> MatSamples:
    """The samples that a child wrote, mapped and checked again: a hostile file may have taken it over."""
    if type(count) is not int or count < 1 or os.fstat(handed.fileno()).st_size != count * SAMPLE_BYTES:
        raise _refusal(mat, "its reader did not deliver its samples")
    places = (("<f8", (count, FACTORS)), ("<i4", (count,)), ("u1", (count, SIDE, SIDE)), ("u1", (count,)))
    start = 0
    arrays: list[npt.NDArray[Any]] = []
    for dtype, shape in places:
        arrays.append(_mapped_array(handed, dtype, start, shape))
        start += arrays[-1].nbytes
    transform, ids, images, labels = arrays
    finite = (np.abs(transform) <= np.finfo(np.float32).max).all()
    if labels.max() >= CLASSES or ids.min() < NO_ID or not finite:
        raise _refusal(mat, "its reader did not deliver its samples")
    return MatSamples(images, labels, transform, ids)


def _mapped_array(handed: IO[bytes], dtype: str, start: int, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """An array in a file: a memory map, or read where the file system maps nothing."""
    try:
        return np.memmap(handed, dtype, "r", start, shape)
    except OSError as error:
        if error.errno not in NO_MAPS:
            raise
    array = np.empty(shape, dtype)
    left = array.data.cast("B")
    while left and (found := os.preadv(handed.fileno(), [left], start)):
        left, start = left[found:], start + found
    return array


def _refusal(mat: Path | str, why: str) -> DataFileError:
    """Says why a file is refused, in printable letters: the reason may quote the file."""
    shown = "".join(letter if letter.isprintable() else " " for letter in why)
    shown = shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."
    return DataFileError(f"{mat} cannot be imported: {shown}.\n{WAY_OUT}")
