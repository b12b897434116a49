"""From a recipe to a finished file: generated block by block, resumed after a kill, healed after damage.

A file is written as ``NAME.h5.partial`` and renamed when it is whole. Resuming and repairing are one thing: every block
is held against its digest, and what does not match is drawn anew from the spec.
"""

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from capsbench.contracts import DataSpec, UInt8Array
from capsbench.digits import name_of
from capsbench.durability import (
    free_bytes,
    human_bytes,
    lock,
    make_folder,
    reserve,
    storage_errors,
    sync,
    write_atomically,
)
from capsbench.errors import DataFileError, SpecMismatchError, StorageError
from capsbench.header import create_header
from capsbench.layout import (
    BLOCK,
    DIGEST_BYTES,
    block_count,
    block_digest,
    block_range,
    columns_of,
    file_bytes,
    stored_arrays,
)
from capsbench.recipes import Recipe, spec_difference
from capsbench.storage import DataFile
from capsbench.version import VERSION

Report = Callable[[int, int], None]
"""Is told how many samples are done, and of how many."""

HEADER_BYTES = 65536  # an upper bound, for the question whether a file will fit the disk


def silent(done: int, total: int) -> None:
    """A report that tells nobody."""


@dataclass(frozen=True)
class Generated:
    """What became of a file.

    Attributes:
        path: The finished file.
        drawn: How many samples were drawn for it; 0 if it was whole already.
        kept: How many samples were there already, and right.
        seconds: How long it took.
        size: Bytes of the file.
        digest: Its root digest, in hexadecimal.
    """

    path: Path
    drawn: int
    kept: int
    seconds: float
    size: int
    digest: str


def generate_file(
    recipe: Recipe, path: Path, *, force: bool = False, wait: bool = False, report: Report = silent
) -> Generated:
    """Makes the file of a recipe, or what is missing of it.

    Args:
        recipe: What to draw.
        path: The file; its folder is made if it is missing.
        force: Whether to start anew where a file of another spec stands, or one that cannot be read.
        wait: Whether to wait for another run that is writing the file.
        report: Is told of the progress.

    Raises:
        SpecMismatchError: A file of another spec, finished or partial, stands there, or something else where the
            sidecar goes.
        DataFileError: What stands there cannot be read.
        StorageError: The disk is full, a permission is missing, or another run is writing the file.
    """
    begun = time.perf_counter()
    make_folder(path.parent)
    if path.is_dir():
        raise StorageError(f"{path} cannot be written: a folder stands there. Choose another place with --out.")
    with lock(path, wait=wait):
        if path.exists() and not force:
            drawn = _heal(_open_ours(path, recipe), recipe, report)
            if _spec_of_sidecar(path) != recipe.spec:
                _write_sidecar(recipe, path)
        else:
            if _sidecar(path).exists() and _spec_of_sidecar(path) is None and not force:
                raise SpecMismatchError(
                    f"{_sidecar(path)} stands where the sidecar of {path.name} goes, and is none. "
                    "Add --force to write over it, or choose another place with --out."
                )
            partial = _open_partial(recipe, path, force)
            drawn = _heal(partial, recipe, report)
            _write_sidecar(recipe, path)
            with storage_errors(path):
                partial.path.replace(path)
                sync(path.parent)
    return _generated(DataFile(path), drawn, begun)


def repair_file(path: Path, *, digits: str = "auto", report: Report = silent) -> Generated:
    """Draws the damaged blocks of a file anew, from its own spec.

    Args:
        path: A finished file.
        digits: Where to look for its digits: ``auto``, ``embedded`` or a folder.
        report: Is told of the progress.

    Raises:
        DataFileError: The header is damaged, so that nothing says what the file was.
        DigitsError: The digits whose hash the spec names are not here.
        StorageError: The file cannot be written.
    """
    begun = time.perf_counter()
    DataFile(path)  # of a file that is not there, or not ours, no lock is made
    with lock(path):
        file = DataFile(path, digits=digits)
        drawn = _heal(file, file.recipe(), report)
    return _generated(file, drawn, begun)


def wrong_samples(file: DataFile, number: int, *, seed: int | None = None) -> list[int]:
    """Draws some samples of a file anew and compares their bytes.

    Args:
        file: The file; it says where to look for its digits.
        number: How many samples, at random, without repeats.
        seed: Of the choice; a fresh one each time if it is not given.

    Returns:
        The samples that differ.

    Raises:
        DataFileError: The spec cannot be drawn here.
        DigitsError: The digits whose hash the spec names are not here.
    """
    recipe = file.recipe()
    parts = columns_of(recipe.generator, recipe.spec)
    chosen = np.sort(np.random.default_rng(seed).choice(len(file), min(number, len(file)), replace=False))
    wrong: list[int] = []
    for start in range(0, len(chosen), BLOCK):
        some = chosen[start : start + BLOCK]
        drawn = stored_arrays(parts, recipe.sampler, some)
        stored = file.batch(some)
        differs = np.zeros(len(some), bool)
        for part in parts:
            found = file.layers(some) if part.name == "layers" else getattr(stored, part.name)
            differs |= (_rows(drawn[part.name]) != _rows(found)).any(1)
        wrong += some[differs].tolist()
    return wrong


def remake_command(path: Path) -> str | None:
    """The command that makes a file anew, if its sidecar says; for a file whose header is beyond repair."""
    spec = _spec_of_sidecar(path)
    if spec is None or path.suffix != ".h5":
        return None
    words = ["capsbench", "generate", spec.generator, "--split", spec.split]
    words += ["--seed", str(spec.seed), "--count", str(spec.count)]
    for key, value in spec.parameters.items():
        words += ["--set", f"{key}={_as_text(value)}"]
    words += ["--layers"] if spec.layers else []
    # Else `auto` might take the full set, which was not here when the file was made.
    words += ["--digits", "embedded"] if name_of(spec.digits) == "embedded" else []
    return shlex.join([*words, "--out", str(path), "--force"])


def _open_ours(path: Path, recipe: Recipe) -> DataFile:
    """The file at a path, if it is of the recipe's spec."""
    try:
        file = DataFile(path)
    except DataFileError as error:
        raise DataFileError(f"{error} Add --force to make it anew, or choose another place with --out.") from None
    if file.spec != recipe.spec:
        raise SpecMismatchError(
            f"{path} is of another spec ({spec_difference(recipe.spec, file.spec)}). "
            "Add --force to make it anew, or choose another place with --out."
        )
    return file


def _open_partial(recipe: Recipe, path: Path, force: bool) -> DataFile:
    """The partial file, as a killed run left it or fresh."""
    partial = path.with_name(path.name + ".partial")
    found = None
    if partial.exists():
        with suppress(DataFileError):
            found = DataFile(partial)
    # A run with --force that was killed goes on, too: what it left is of the spec that is asked for.
    if found is not None and (found.spec == recipe.spec or not force):
        return _open_ours(partial, recipe)
    parts = columns_of(recipe.generator, recipe.spec)
    needed = file_bytes(parts, recipe.spec.count) + HEADER_BYTES
    with storage_errors(path, needed=needed):
        partial.unlink(missing_ok=True)
    if needed > free_bytes(path):
        raise StorageError(
            f"{path} needs {human_bytes(needed)}, free are {human_bytes(free_bytes(path))}. "
            "Free some space, or choose another place with --out."
        )
    fresh = path.with_name(path.name + ".new")
    with storage_errors(path, needed=needed):
        try:
            create_header(fresh, recipe.spec.to_json(), parts, recipe.spec.count)
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


def _heal(file: DataFile, recipe: Recipe, report: Report) -> int:
    """Draws every block that does not match its digest, then sets the root digest; how many samples were drawn."""
    file.check_fits(recipe)
    count = recipe.spec.count
    parts = columns_of(recipe.generator, recipe.spec)
    bad = file.bad_blocks()
    todo = sum(stop - start for start, stop in (block_range(block, count) for block in bad))
    done = count - todo
    report(done, count)
    with storage_errors(file.path, needed=file_bytes(parts, count)):
        if bad or not file.root_holds():
            handle = os.open(file.path, os.O_WRONLY)
            try:
                for block in bad:
                    done += _draw_block(handle, file, recipe, block)
                    report(done, count)
                _write(handle, memoryview(file.root()), file.places["root"].offset)
            finally:
                os.close(handle)
        # Even a file that was whole: the run that wrote it may have been killed before it came to this.
        sync(file.path)
    return todo


def _draw_block(handle: int, file: DataFile, recipe: Recipe, block: int) -> int:
    """Draws and writes a block; how many samples it has."""
    start, stop = block_range(block, recipe.spec.count)
    arrays = stored_arrays(columns_of(recipe.generator, recipe.spec), recipe.sampler, np.arange(start, stop))
    for name, array in arrays.items():
        place = file.places[name]
        _write(handle, array.data.cast("B"), place.offset + start * place.sample_bytes)
    # The digest goes last: a block without its digest is drawn again.
    _write(handle, memoryview(block_digest(arrays)), file.places["digests"].offset + block * DIGEST_BYTES)
    return stop - start


def _write(handle: int, content: memoryview, offset: int) -> None:
    """Writes all of it: the system may take less at a time."""
    while content:
        written = os.pwrite(handle, content, offset)
        content, offset = content[written:], offset + written


def _generated(file: DataFile, drawn: int, begun: float) -> Generated:
    return Generated(
        path=file.path,
        drawn=drawn,
        kept=len(file) - drawn,
        seconds=time.perf_counter() - begun,
        size=file.path.stat().st_size,
        digest=file.digest,
    )


def _rows(array: npt.NDArray[Any]) -> UInt8Array:
    """The bytes of each sample: numbers may be equal where their bytes are not."""
    return np.ascontiguousarray(array).reshape(len(array), -1).view(np.uint8)


def _as_text(value: Any) -> str:
    """A parameter as --set takes it."""
    if isinstance(value, list):
        return ",".join(map(_as_text, value))
    return "none" if value is None else str(value)


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


def _spec_of_sidecar(path: Path) -> DataSpec | None:
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return DataSpec.from_json(json.dumps(json.loads(_sidecar(path).read_text())["spec"]))
    return None


def _write_sidecar(recipe: Recipe, path: Path) -> None:
    """What is not reproducible stands beside the file, not in it."""
    content = {
        "spec": recipe.spec.to_dict(),
        "digits": recipe.digits.origin,
        "blocks": block_count(recipe.spec.count),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "capsbench": VERSION,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version,
        "platform": f"{sys.platform} {platform.machine()}",
    }
    write_atomically(_sidecar(path), json.dumps(content, indent=2).encode() + b"\n")
