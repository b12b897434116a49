"""The data sets of a cell, each noted for its result under the role that it plays."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capsbench.bench.cells import Cell, file_name
from capsbench.contracts import Digits, Sampler
from capsbench.data.digits import load_digits
from capsbench.data.recipes import Recipe, make_recipe
from capsbench.data.samples import Samples, writers_of
from capsbench.data.streaming import Stream
from capsbench.errors import DataFileError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file
from capsbench.results.writers import key_of_writers, packed_writers


@dataclass
class CellData:
    """The data sets of a cell.

    Attributes:
        cell: The cell that is measured.
        folder: The run writes into this folder only.
        digits: The source digits: ``auto``, ``embedded`` or a folder.
        data: The data sets that were used, by role, for the result.
        writers: Who wrote the test digits of those, as `capsbench.results.result.Result.writers`.
    """

    cell: Cell
    folder: Path
    digits: str
    data: dict[str, Any] = field(init=False, default_factory=dict)
    writers: dict[str, Any] = field(init=False, default_factory=dict)

    def stream(self, role: str, generator: str, split: str, **recipe: Any) -> Stream:
        """Samples without a file, noted under the role that they play."""
        stream = Stream(make_recipe(generator, split=split, digits=self.digits, **recipe))
        self.note(role, stream)
        return stream

    def file(self, role: str, generator: str, split: str, **recipe: Any) -> DataFile | Stream:
        """A data file, generated if it is missing and checked if it is there, noted under the role that it plays."""
        made: Recipe = make_recipe(generator, split=split, digits=self.digits, **recipe)
        path = self.folder / "data" / f"{file_name(generator)}-{split}-{made.spec.sha256[:12]}.h5"
        try:
            generate_file(made, path, wait=True)  # another run may be generating it right now
        except DataFileError:  # beyond repair; its name holds its spec's hash, so that it is ours to replace
            generate_file(made, path, force=True, wait=True)
        return self.opened(role, path)

    def opened(self, role: str, path: str | Path) -> DataFile:
        """A data file that is there, such as one of the user's to test on, noted under the role that it plays.

        Raises:
            DataFileError: It is damaged or not ours.
        """
        file = open_dataset(path, digits=self.digits)
        self.note(role, file, digest=file.digest)
        return file

    def note(self, role: str, samples: Samples, **stated: Any) -> None:
        """Notes samples, such as those of the suite's own making, under the role that they play."""
        self.data[role] = {"spec": samples.spec.to_dict(), **stated}
        written = writers_of(samples)
        if written is not None:
            self.writers.setdefault(key_of_writers(written), packed_writers(written))

    def digits_of(self, split: str) -> Digits:
        """The source digits of a split."""
        return load_digits(split, self.digits)


def sampler_of(data: DataFile | Stream) -> Sampler:
    """What draws the samples of a file or a stream, with the measures of its generator."""
    return (data.recipe if isinstance(data, Stream) else data.recipe()).sampler
