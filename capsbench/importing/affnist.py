"""Files of the real affNIST (Tieleman 2013) turned into files of ours.

A child process with limits on its memory and its time reads the MATLAB file (`capsbench.importing.matfile`), and
passes the samples on as plain bytes in a file without a name. They are checked again before they are used.
"""

import hashlib
import json
import os
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping
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
from capsbench.importing.matfile import FACTORS, HEADER_BYTES, SAMPLE_BYTES, header_fault
from capsbench.spec import IMPORTED, SPLITS, UNKNOWN, DataSpec
from capsbench.system.disk import storage_errors
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
    """

    images: UInt8Array
    labels: UInt8Array
    transform: FloatArray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Importing:
    """The samples of a MATLAB file as a source of a file of ours.

    Attributes:
        samples: The samples.
        source: ``[N]`` int32, the index of each digit in its split; -1 where it is unknown.
    """

    samples: MatSamples
    source: npt.NDArray[np.int32]

    def __call__(self, start: int, stop: int) -> Mapping[str, npt.NDArray[Any]]:
        """Samples ``start..stop-1`` of the file."""
        return {
            "images": self.samples.images[start:stop],
            "labels": self.samples.labels[start:stop],
            "source": self.source[start:stop],
            "transform": np.ascontiguousarray(self.samples.transform[start:stop], "<f4"),
        }


def import_affnist(
    mat: Path, out: Path, *, split: str | None = None, force: bool = False, report: Progress = silent
) -> Written:
    """Makes a data file from a MATLAB file of affNIST.

    Args:
        mat: The MATLAB file.
        out: The file to make, ``NAME.h5``.
        split: Its split, if its labels do not show it; ``test`` by default.
        force: Whether to start again where a file of another spec stands.
        report: Called with the progress once the MATLAB file is read.

    Raises:
        UsageError: The split does not exist or contradicts the labels, a file of another spec stands there, or the name
            of the new file does not end in ``.h5``.
        DataFileError: The MATLAB file is missing, damaged, or not from affNIST.
        StorageError: The file cannot be written.
    """
    if split is not None and split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    if out.suffix != ".h5":  # it might be the MATLAB file itself
        raise UsageError(f"The name of a data file must end in .h5, got {out}. Give another one with --out.")
    check_apart(out, [mat])
    with os.fdopen(_open(mat), "rb") as file, _nameless(out) as handed:
        digest, samples = _read(mat, file, out, handed)
        found = recognise(samples.labels)
        if found is None:
            digits, source = UNKNOWN, np.full(len(samples), -1, np.int32)
        else:
            digits, source = found
            known = KNOWN[digits]
            if split not in (None, known.split):
                raise ParameterError(
                    f"--split is {split}, but {mat} has the labels of {known.origin}'s {known.split} digits, in their "
                    "order. Leave --split out."
                )
            split = known.split
        spec = DataSpec(
            generator=IMPORTED,
            version=VERSION,
            split=split or "test",
            seed=0,
            count=len(samples),
            parameters={"mat": digest},
            layers=False,
            digits=digits,
        )
        parts = columns(image_shape=(SIDE, SIDE), pairs=False, motion="transform", layers=False)
        return write_file(out, Outline(spec, parts), Importing(samples, source), force=force, report=report)


def recognise(labels: UInt8Array) -> tuple[str, npt.NDArray[np.int32]] | None:
    """The digits of a split whose labels a file repeats.

    Args:
        labels: ``[N]``: the labels of the split's n digits, again and again; or n runs of one label each, equally long,
            which is another order of the same samples.

    Returns:
        The SHA-256 of the digits, and the index of each sample's digit ``[N]``; None if the labels are in neither
        order.
    """
    for known in KNOWN.values():
        variants, rest = divmod(len(labels), known.count)
        if rest or not variants:
            continue
        rows = np.arange(known.count, dtype=np.int32)
        for rounds, source in (
            (labels.reshape(variants, known.count), np.tile(rows, variants)),
            (labels.reshape(known.count, variants).T, np.repeat(rows, variants)),
        ):
            first = np.ascontiguousarray(rounds[0])
            if hashlib.sha256(first.data).hexdigest() == known.labels and (rounds == first).all():
                return known.sha256, source
    return None


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
    places = (("<f8", (count, FACTORS)), ("u1", (count, SIDE, SIDE)), ("u1", (count,)))
    start = 0
    arrays: list[npt.NDArray[Any]] = []
    for dtype, shape in places:
        arrays.append(np.memmap(handed, dtype, "r", start, shape))
        start += arrays[-1].nbytes
    transform, images, labels = arrays
    if labels.max() >= CLASSES or not (np.abs(transform) <= np.finfo(np.float32).max).all():
        raise _refusal(mat, "its reader did not deliver its samples")
    return MatSamples(images, labels, transform)


def _refusal(mat: Path, why: str) -> DataFileError:
    """Says why a file is refused, in printable letters: the reason may quote the file."""
    shown = "".join(letter if letter.isprintable() else " " for letter in why)
    shown = shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."
    return DataFileError(f"{mat} cannot be imported: {shown}.\n{WAY_OUT}")
