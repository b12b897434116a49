"""From a recipe to a finished file, by this process or several; and a file held against its recipe."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import UInt8Array
from capsbench.data.columns import BLOCK, columns_of, stored_arrays
from capsbench.data.recipes import Recipe, make_recipe
from capsbench.errors import ParameterError
from capsbench.files.datafile import DataFile
from capsbench.files.layout import Outline
from capsbench.files.shards import shard_range
from capsbench.files.writing import Generated, Report, generated, heal, silent, write_file
from capsbench.parameters import check_number, check_truth, convert, split_shard
from capsbench.system.disk import lock

DEFAULT_SPLITS = ("train", "validation", "test")
MOST_WORKERS = 1024
OTHER_ENDINGS = (".hdf", ".hdf5", ".he5", ".h5", ".json", ".npz", ".mat", ".txt")
"""Who writes these means a file, and would not look for a folder of that name; ``.h5`` in capitals is one of them."""


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


def generate(
    name: str, *, out: str | Path = ".", split: str | Sequence[str] = DEFAULT_SPLITS, **options: Any
) -> list[Path]:
    """Makes the files of a data set; what is there and whole already is left.

    Args:
        name: The data set, such as ``"multimnist"``.
        out: A folder, or with one split a file ending in ``.h5``.
        split: One split or several.
        options: ``seed``, ``count``, ``variants``, ``preset``, ``digits``, ``layers``, ``force``, ``workers``
            (processes, 1 by default), ``shard`` (such as ``"0/4"``), and the data set's own parameters.

    Returns:
        Where the files lie, one a split.

    Raises:
        UsageError: A name, a key or a value makes no sense, or a file of another spec stands there.
        DataError: The digits are missing or damaged.
        StorageError: The files cannot be written.
    """
    own = ("seed", "count", "variants", "preset", "digits", "layers")
    recipe = {key: options.pop(key) for key in own if key in options}
    how = {key: options.pop(key) for key in ("force", "workers", "shard") if key in options}
    splits = list(split) if isinstance(split, Sequence) and not isinstance(split, str) else [split]
    made = generate_splits(name, Path(out), splits, **how, **recipe, parameters=options)
    return [generated.path for generated in made]


def generate_splits(
    name: str,
    out: Path,
    splits: Sequence[str],
    *,
    force: bool = False,
    workers: int = 1,
    shard: str | None = None,
    progress: Callable[[str], AbstractContextManager[Report]] = lambda description: nullcontext(silent),
    **recipe: Any,
) -> list[Generated]:
    """Makes one file a split; every recipe is checked before the first file is begun.

    Args:
        name: The data set.
        out: A folder, or with one split a file ending in ``.h5``.
        splits: Which splits.
        force: Whether to start anew where something else stands.
        workers: Processes that draw and write.
        shard: ``"I/N"``: of each split only the I-th of N shards, counted from 0; None for whole files.
        progress: Makes what is told of a file's progress.
        recipe: See `capsbench.data.recipes.make_recipe`.
    """
    single = out.suffix == ".h5"
    if out.suffix.lower() in OTHER_ENDINGS and not single and not out.is_dir():
        raise ParameterError(f"A file {out} was asked for; the name of a data file ends in .h5.")
    if single and len(splits) != 1:
        raise ParameterError(f"One file {out} was asked for, but {len(splits)} splits. Name a folder, or one --split.")
    workers = convert("workers", workers, int)
    check_number("workers", workers, 1, MOST_WORKERS)
    check_truth("force", force)
    index, shards = (0, 1) if shard is None else split_shard(shard)
    recipes = [make_recipe(name, split=split, **recipe) for split in dict.fromkeys(splits)]
    parts = [shard_range(index, shards, one.spec.count) for one in recipes]
    made = []
    for one, part in zip(recipes, parts, strict=True):
        suffix = "" if part is None else f"-{index}of{shards}"
        path = out if single else out / f"{_file_stem(name)}-{one.spec.split}{suffix}.h5"
        with progress(path.name) as report:
            made.append(generate_file(one, path, shard=part, force=force, workers=workers, report=report))
    return made


def _file_stem(name: str) -> str:
    """A shipped name as it is; of ``package.module:Attribute`` the attribute."""
    return name.rpartition(":")[2].lower()


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
        drawn = heal(file, outline, Drawing(recipe, file.span.start), 1, report)
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
        drawn = stored_arrays(parts, recipe.sampler, some + file.span.start)
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
