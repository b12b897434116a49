"""Files of the real affNIST (Tieleman 2013) turned into files of ours.

A MATLAB file is read by a child process with limits on its memory and its time (`capsbench.importing.matfile`), which
hands the samples over as plain bytes in a file without a name. What came is checked again before it is trusted.
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
from capsbench.system.processes import interpreter, surroundings

VERSION = 1
SIDE = 40  # pixels
MEMORY = 4 * 2**30  # bytes of address space of the child; for 320,000 samples it takes 0.7
SECONDS = 600  # that the child may take
LONGEST = 200  # letters of what a reader complains of
WAY_OUT = "A file of affNIST is needed, such as its test.mat or one of its batches."


@dataclass(frozen=True)
class MatSamples:
    """The samples of a MATLAB file, mapped from where its reader wrote them.

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
        samples: What was read.
        source: ``[N]`` int32: which digit of the split each shows; -1 where nothing says.
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
    """Makes a data file of a MATLAB file of affNIST.

    Args:
        mat: The MATLAB file.
        out: The file to make, ``NAME.h5``.
        split: Which split it shows, where its labels do not say; ``test`` by default.
        force: Whether to start anew where a file of another spec stands.
        report: Is told of the progress, once the MATLAB file is read.

    Raises:
        UsageError: The split is none, or not the one that the labels tell; a file of another spec stands there, or
            what is to be made is no ``.h5``.
        DataFileError: The MATLAB file is missing, damaged, or none of affNIST.
        StorageError: The file cannot be written.
    """
    if split is not None and split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    if out.suffix != ".h5":  # it might be the MATLAB file itself
        raise UsageError(f"{mat} was to be made into {out}. Name a file that ends in .h5 with --out.")
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
                    f"Split {split} was asked for, but the labels of {mat} are those of {known.origin}'s {known.split} "
                    "digits, in their order. Leave --split out."
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
    """The digits whose labels a file repeats, all of a split in file order.

    Args:
        labels: ``[N]``: those of a split's n digits, then the same again and again; or n runs of one label each, as
            long as each other, which is another order of the same samples.

    Returns:
        The digits' SHA-256 and ``[N]`` which of them each sample shows; None where the labels are in no such order.
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
    """A handle of the MATLAB file, if it begins like one."""
    try:
        handle = os.open(mat, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # else a pipe would be waited for
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
    """A file without a name on the disk that the output goes to: however this ends, nothing of it is left."""
    with storage_errors(out):
        folder = next(place for place in out.absolute().parents if place.is_dir())
        return tempfile.TemporaryFile(dir=folder)


def _read(mat: Path, file: BufferedReader, out: Path, handed: IO[bytes]) -> tuple[str, MatSamples]:
    """The SHA-256 of a MATLAB file, and its samples, which a child reads into the other file."""
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
        raise DataFileError(f"{mat} was changed while it was read. Run the same again.")
    return digest, _mapped(mat, handed, said.get("samples"))


def _state(file: BufferedReader) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def in_child(source: int, target: int) -> "subprocess.CompletedProcess[bytes]":
    """Has a child of its own read a MATLAB file; its return code is -`signal.SIGXCPU` if its time was up.

    Args:
        source: A handle of the MATLAB file, at its beginning.
        target: One of the file to write to.

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
            process_group=0,  # Ctrl-C is for this process, which ends the child
            env=surroundings(),
        )
    except OSError as error:
        raise StorageError(f"No process could be started to read the MATLAB file: {error.strerror}.") from None
    with child:
        try:
            said, complained = child.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(child.args, -signal.SIGXCPU, b"", b"")
        finally:
            child.kill()  # which does nothing to one that has ended
            child.wait()
    return subprocess.CompletedProcess(child.args, child.returncode, said, complained)


def _said(mat: Path, ended: "subprocess.CompletedProcess[bytes]") -> dict[str, Any]:
    """What a child said of a MATLAB file.

    Raises:
        DataFileError: It refused the file, or came to an end of another kind.
    """
    if ended.returncode == -signal.SIGXCPU:
        raise _refusal(mat, f"to read it takes more than {SECONDS} seconds")
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise _refusal(mat, f"it is damaged, or memory ran out: what reads it was ended by {name}")
    try:
        said = json.loads(ended.stdout)
    except (ValueError, RecursionError):
        said = None
    if ended.returncode or not isinstance(said, dict):
        words = ended.stderr.decode(errors="replace").split("\n")
        last = next((line for line in reversed(words) if line.strip()), f"exit code {ended.returncode}")
        raise _refusal(mat, f"what reads it failed ({last})")
    if "wrong" in said:
        raise _refusal(mat, str(said["wrong"]))
    return said


def _mapped(mat: Path, handed: IO[bytes], count: Any) -> MatSamples:
    """What a child wrote, mapped and checked again: it had read what may have been made to deceive it."""
    if type(count) is not int or count < 1 or os.fstat(handed.fileno()).st_size != count * SAMPLE_BYTES:
        raise _refusal(mat, "what reads it handed over something else")
    places = (("<f8", (count, FACTORS)), ("u1", (count, SIDE, SIDE)), ("u1", (count,)))
    start = 0
    arrays: list[npt.NDArray[Any]] = []
    for kind, shape in places:
        arrays.append(np.memmap(handed, kind, "r", start, shape))
        start += arrays[-1].nbytes
    transform, images, labels = arrays
    if labels.max() >= CLASSES or not (np.abs(transform) <= np.finfo(np.float32).max).all():
        raise _refusal(mat, "what reads it handed over something else")
    return MatSamples(images, labels, transform)


def _refusal(mat: Path, why: str) -> DataFileError:
    """Says why a file is not taken; what it made scipy say may hold anything."""
    shown = "".join(letter if letter.isprintable() else " " for letter in why)
    shown = shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."
    return DataFileError(f"{mat} cannot be imported: {shown}.\n{WAY_OUT}")
