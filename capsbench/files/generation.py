"""From a recipe to a finished file, by one process or several; and a file compared with its recipe."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import Progress, ProgressBar, UInt8Array, no_bar, silent
from capsbench.data.columns import BLOCK, columns_of, stored_arrays
from capsbench.data.naming import named_digits
from capsbench.data.recipes import Recipe, make_recipe
from capsbench.errors import ParameterError
from capsbench.files.datafile import DataFile
from capsbench.files.layout import Outline
from capsbench.files.shards import shard_range
from capsbench.files.writing import Written, finished, repair, write_file
from capsbench.parameters import check_number, check_truth, convert, split_shard
from capsbench.paths import user_path
from capsbench.system.disk import lock

DEFAULT_SPLITS = ("train", "validation", "test")
MOST_WORKERS = 1024
OTHER_ENDINGS = (".hdf", ".hdf5", ".he5", ".h5", ".json", ".npz", ".mat", ".txt")
"""Endings of files, so that a user does not get a folder of that name by mistake; ``.h5`` is for names in capitals."""


@dataclass(frozen=True)
class DrawnSamples:
    """The samples of a recipe as the source of a file.

    Attributes:
        recipe: Draws them.
        first: The first of its samples in the file.
    """

    recipe: Recipe
    first: int = 0

    def __call__(self, start: int, stop: int) -> Mapping[str, npt.NDArray[Any]]:
        """Samples ``start..stop-1`` of the file."""
        columns = columns_of(self.recipe.generator, self.recipe.spec)
        return stored_arrays(columns, self.recipe.sampler, np.arange(self.first + start, self.first + stop))


def generate(
    name: str,
    *,
    out: str | Path = ".",
    split: str | Sequence[str] = DEFAULT_SPLITS,
    seed: int = 0,
    count: int | None = None,
    variants: int | None = None,
    preset: str | None = None,
    digits: str | Path = "auto",
    digits_as: str | None = None,
    layers: bool = False,
    shard: str | None = None,
    workers: int = 1,
    force: bool = False,
    **parameters: Any,
) -> list[Path]:
    """Makes the files of a data set, one for each split; a file that is whole already is left as it is.

    Args:
        name: The data set, such as ``"multimnist"``.
        out: A folder, or with one split a file ending in ``.h5``.
        split: One split or several.
        seed: 0..2**64-1.
        count: Number of samples; by default the digits of the split times ``variants``.
        variants: Samples a digit; by default 1, or what the preset says.
        preset: A named set of parameters.
        digits: ``"auto"``, ``"embedded"``, a set that was fetched (such as ``"fashion"``), or a folder of
            IDX files.
        digits_as: What the digits of a folder, or of a file like Keras' ``mnist.npz``, are called, where they are not
            MNIST's.
        layers: Whether each digit alone is kept, too.
        shard: Make only one shard of each split, such as ``"0/4"``, the first of four.
        workers: Processes that draw and write.
        force: Whether to start again where a file of another spec stands.
        parameters: The data set's own parameters.

    Returns:
        Where the files lie, in the order of the splits.

    Raises:
        UsageError: A name, a key or a value is not valid, or a file of another spec stands there.
        DataError: The digits are missing or damaged.
        StorageError: The files cannot be written.
    """
    named = named_digits(digits, digits_as)
    splits: Sequence[Any] = split if isinstance(split, list | tuple) else [split]
    recipes = [
        make_recipe(
            name,
            split=one,
            seed=seed,
            count=count,
            variants=variants,
            preset=preset,
            parameters=parameters,
            layers=layers,
            digits=named,
        )
        for one in dict.fromkeys(splits)
    ]
    return [
        one.path for one in generate_files(recipes, user_path(out, "out"), shard=shard, workers=workers, force=force)
    ]


def generate_files(
    recipes: Sequence[Recipe],
    out: Path,
    *,
    shard: str | None = None,
    workers: int = 1,
    force: bool = False,
    progress: ProgressBar = no_bar,
) -> list[Written]:
    """Makes the files of the splits of one data set.

    Args:
        recipes: One for each split.
        out: A folder, or for one recipe a file ending in ``.h5``.
        shard: ``"I/N"``: of each split only the I-th of N shards, counted from 0; None for whole files.
        workers: Processes that draw and write.
        force: Whether to start again where a file of another spec stands.
        progress: Makes the report of a file's progress from its name.

    Raises:
        UsageError: ``out``, ``shard`` or ``workers`` is not valid, or a file of another spec stands there.
        StorageError: The files cannot be written.
    """
    single = out.suffix == ".h5"
    if out.suffix.lower() in OTHER_ENDINGS and not single and not out.is_dir():
        raise ParameterError(f"The name of a data file must end in .h5, got {out}.")
    if single and len(recipes) != 1:
        raise ParameterError(f"{out} is one file, but there are {len(recipes)} splits. Name a folder, or one --split.")
    workers = convert("workers", workers, int)
    check_number("workers", workers, 1, MOST_WORKERS)
    check_truth("force", force)
    index, shards = (0, 1) if shard is None else split_shard(shard)
    parts = [shard_range(index, shards, recipe.spec.count) for recipe in recipes]
    made = []
    for recipe, part in zip(recipes, parts, strict=True):
        suffix = "" if part is None else f"-{index}of{shards}"
        path = out if single else out / f"{_file_stem(recipe.name)}-{recipe.spec.split}{suffix}.h5"
        with progress(path.name) as report:
            made.append(generate_file(recipe, path, shard=part, workers=workers, force=force, report=report))
    return made


def _file_stem(name: str) -> str:
    """A shipped name as it is, or the attribute of ``package.module:Attribute``."""
    return name.rpartition(":")[2].lower()


def generate_file(
    recipe: Recipe,
    path: Path,
    *,
    shard: range | None = None,
    workers: int = 1,
    force: bool = False,
    wait: bool = False,
    report: Progress = silent,
) -> Written:
    """Makes the file of a recipe, or the missing part of it.

    Args:
        recipe: Draws the samples.
        path: The file; its folder is made if it is missing.
        shard: Which of its samples; all of them by default.
        workers: Processes that draw and write, this one included.
        force: Whether to start again where a file of another spec stands, or one that cannot be read.
        wait: Whether to wait for another run that is writing the file.
        report: Called with the progress.

    Raises:
        SpecMismatchError: A file of another spec, finished or partial, stands there, or another file in place of the
            sidecar.
        DataFileError: The file that stands there cannot be read.
        StorageError: The disk is full, a permission is missing, or another run is writing the file.
    """
    outline = Outline(recipe.spec, columns_of(recipe.generator, recipe.spec), shard)
    source = DrawnSamples(recipe, 0 if shard is None else shard.start)
    return write_file(path, outline, source, workers=workers, force=force, wait=wait, report=report)


def repair_file(path: Path, *, digits: str = "auto", report: Progress = silent) -> Written:
    """Draws the damaged blocks of a file again, from its own spec.

    Args:
        path: A finished file.
        digits: Where its digits are: ``auto``, ``embedded`` or a folder.
        report: Called with the progress.

    Raises:
        DataFileError: The header is damaged, so that the spec is lost.
        DigitsError: The digits whose hash the spec names were not found.
        StorageError: The file cannot be written.
    """
    begun = time.perf_counter()
    DataFile(path)  # raises before a lock is made for a file that is missing or not ours
    with lock(path):
        file = DataFile(path, digits=digits)
        file.check_writable()
        recipe = file.recipe()
        outline = Outline(recipe.spec, columns_of(recipe.generator, recipe.spec), file.shard)
        written = repair(file, outline, DrawnSamples(recipe, file.span.start), 1, report)
    return finished(file, written, begun)


def wrong_samples(file: DataFile, number: int, *, seed: int | None = None) -> list[int]:
    """Draws some samples of a file again and compares their bytes.

    Args:
        file: The file.
        number: How many samples, at random, without repeats.
        seed: Of the choice; by default another one each time.

    Returns:
        The samples that differ.

    Raises:
        DataFileError: This installation cannot draw the spec.
        DigitsError: The digits whose hash the spec names were not found.
    """
    recipe = file.recipe()
    parts = columns_of(recipe.generator, recipe.spec)
    chosen = np.sort(np.random.default_rng(seed).choice(len(file), min(number, len(file)), replace=False))
    wrong: list[int] = []
    for start in range(0, len(chosen), BLOCK):
        some = chosen[start : start + BLOCK]
        drawn = stored_arrays(parts, recipe.sampler, some + file.span.start)
        stored = file.batch(some)
        differs = np.zeros(len(some), bool)
        for part in parts:
            found = file.layers(some) if part.name == "layers" else getattr(stored, part.name)
            differs |= (_rows(drawn[part.name]) != _rows(found)).any(1)
        wrong += some[differs].tolist()
    return wrong


def _rows(array: npt.NDArray[Any]) -> UInt8Array:
    """The bytes of each sample: equal numbers may have different bytes."""
    return np.ascontiguousarray(array).reshape(len(array), -1).view(np.uint8)
