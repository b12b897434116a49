"""The shards of one spec, joined into one file. Shards end anywhere, so its blocks get new digests."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import Progress, silent
from capsbench.data.recipes import spec_difference
from capsbench.errors import DataFileError, UsageError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.layout import Outline
from capsbench.files.shards import shard_counts, shard_range
from capsbench.files.sidecar import generate_command
from capsbench.files.writing import Written, check_apart, write_file
from capsbench.system.disk import kind_of

MOST_NAMED = 5  # shards in a message


@dataclass(frozen=True)
class Joined:
    """Files that follow one another without gaps, as the source of one file."""

    files: Sequence[DataFile]

    def __call__(self, start: int, stop: int) -> Mapping[str, npt.NDArray[Any]]:
        """Samples ``start..stop-1`` of all of them."""
        begins = [file.span.start for file in self.files]
        parts: list[Mapping[str, npt.NDArray[Any]]] = []
        while start < stop:
            file = self.files[bisect_right(begins, start) - 1]
            end = min(stop, file.span.stop)
            parts.append(file.read(start - file.span.start, end - file.span.start))
            start = end
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def merge_files(
    out: Path, shards: Sequence[Path], *, digits: str = "auto", force: bool = False, report: Progress = silent
) -> Written:
    """Makes the file of a spec from its shards.

    Args:
        out: The file.
        shards: All shards of one spec, in any order; all of their digests are checked.
        digits: Where the user has the digits; the commands in messages name it.
        force: Whether to start again where another file stands.
        report: Called with the progress.

    Raises:
        UsageError: No shard is named, ``out`` is one of them, or a file of another spec stands there.
        DataFileError: A shard is missing, named twice, damaged or of another spec; the message names it.
        StorageError: The file cannot be written.
    """
    if not shards:
        raise UsageError(f"Name the shards of {out} after it.")
    check_apart(out, shards)
    for path in shards:
        if path.suffix == ".partial":
            raise DataFileError(f"{path} is unfinished. Run the command that was making it again; it continues.")
    if kind_of(out) == "file":
        with suppress(DataFileError):
            if DataFile(out).shard is not None:
                raise UsageError(f"{out} is a shard itself. Name the file to make first, then its shards.")
    files = [
        DataFile(path, digits=digits) for path in shards
    ]  # what can be said without reading their data is said first
    _check_one_spec(files)
    files.sort(key=lambda file: (file.span.start, file.span.stop))
    _check_complete(files)
    checked = [open_dataset(file.path, digits=digits) for file in files]
    return write_file(out, Outline(files[0].spec, files[0].columns), Joined(checked), force=force, report=report)


def _check_one_spec(files: Sequence[DataFile]) -> None:
    first = files[0]
    for file in files[1:]:
        if file.spec != first.spec:
            difference = spec_difference(first.spec, file.spec).replace("asked", "there").replace("found", "here")
            raise DataFileError(f"{file.path} is not a shard of the same spec as {first.path} ({difference}).")
        file.check_fits(first.columns)


def _check_complete(files: Sequence[DataFile]) -> None:
    """Refuses files, sorted by their start, that do not hold every sample of their spec exactly once."""
    count = files[0].spec.count
    expected, before = 0, files[0]
    for file in files:
        if file.span.start < expected:
            name = _name(range(file.span.start, min(expected, file.span.stop)), count, files)
            raise DataFileError(f"{before.path} and {file.path} both hold {name}. Leave one of them out.")
        if file.span.start > expected:
            _complain_of_gap(range(expected, file.span.start), count, files)
        expected, before = file.span.stop, file
    if expected < count:
        _complain_of_gap(range(expected, count), count, files)


def _complain_of_gap(gap: range, count: int, files: Sequence[DataFile]) -> None:
    given = "the file" if len(files) == 1 else f"the {len(files)} files"
    cut = next(shard_counts([file.shard for file in files if file.shard is not None], count), None)
    shard = f"{-(-gap.start * cut // count)}/{cut}" if cut else "I/N"
    raise DataFileError(
        f"Missing from {given} given: {_name(gap, count, files)} of {files[0].spec.generator}/{files[0].spec.split}. "
        f"Name it, or make it with: {generate_command(files[0].spec, shard, digits=files[0].digits)}"
    )


def _name(samples: range, count: int, files: Sequence[DataFile]) -> str:
    """Samples in words, with their shards if the files show how many shards there are."""
    samples_text = f"samples {samples.start:,} to {samples.stop - 1:,}"
    number = next(shard_counts([file.shard for file in files if file.shard is not None], count), None)
    if number is None:
        return samples_text
    first, past = samples.start * number // count, -(-samples.stop * number // count)
    within = [
        f"{index}/{number}"
        for index in range(first, min(past, first + MOST_NAMED + 2))
        if (shard := shard_range(index, number, count)) and samples.start <= shard.start and shard.stop <= samples.stop
    ]
    if not within:
        return samples_text
    listed = ", ".join(within[:MOST_NAMED]) + (" and more" if len(within) > MOST_NAMED else "")
    return f"shard{'s' if len(within) > 1 else ''} {listed} ({samples_text})"
