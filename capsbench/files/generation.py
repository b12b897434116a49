"""From a recipe to a finished file, by this process or several; and a file held against its recipe."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import UInt8Array
from capsbench.data.recipes import Recipe
from capsbench.files.datafile import DataFile
from capsbench.files.layout import BLOCK, Outline, columns_of, stored_arrays
from capsbench.files.writing import Generated, Report, generated, heal, silent, write_file
from capsbench.system.disk import lock


@dataclass(frozen=True)
class Drawing:
    """The samples of a recipe as a source of a file.

    Attributes:
        recipe: What draws them.
        first: Which of its samples the file begins with.
    """

    recipe: Recipe
    first: int = 0

    def __call__(self, start: int, stop: int) -> Mapping[str, npt.NDArray[Any]]:
        """Samples ``start..stop-1`` of the file."""
        columns = columns_of(self.recipe.generator, self.recipe.spec)
        return stored_arrays(columns, self.recipe.sampler, np.arange(self.first + start, self.first + stop))


def generate_file(
    recipe: Recipe, path: Path, *, shard: range | None = None, workers: int = 1, report: Report = silent, **how: bool
) -> Generated:
    """Makes the file of a recipe, or what is missing of it.

    Args:
        recipe: What to draw.
        path: The file; its folder is made if it is missing.
        shard: Which of its samples; all of them by default.
        workers: Processes that draw and write, this one included.
        report: Is told of the progress.
        how: ``force`` and ``wait``; see `capsbench.files.writing.write_file`.

    Raises:
        SpecMismatchError: A file of another spec, finished or partial, stands there, or something else where the
            sidecar goes.
        DataFileError: What stands there cannot be read.
        StorageError: The disk is full, a permission is missing, or another run is writing the file.
    """
    outline = Outline(recipe.spec, columns_of(recipe.generator, recipe.spec), shard)
    source = Drawing(recipe, 0 if shard is None else shard.start)
    return write_file(path, outline, source, workers=workers, report=report, **how)


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
        file.check_writable()
        recipe = file.recipe()
        outline = Outline(recipe.spec, columns_of(recipe.generator, recipe.spec), file.shard)
        drawn = heal(file, outline, Drawing(recipe, file.extent.start), 1, report)
    return generated(file, drawn, begun)


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
        drawn = stored_arrays(parts, recipe.sampler, some + file.extent.start)
        stored = file.batch(some)
        differs = np.zeros(len(some), bool)
        for part in parts:
            found = file.layers(some) if part.name == "layers" else getattr(stored, part.name)
            differs |= (_rows(drawn[part.name]) != _rows(found)).any(1)
        wrong += some[differs].tolist()
    return wrong


def _rows(array: npt.NDArray[Any]) -> UInt8Array:
    """The bytes of each sample: numbers may be equal where their bytes are not."""
    return np.ascontiguousarray(array).reshape(len(array), -1).view(np.uint8)
