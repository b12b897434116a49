"""The Python face: what the commands do, as functions."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from capsbench.data.recipes import make_recipe
from capsbench.errors import ParameterError
from capsbench.files.generation import generate_file
from capsbench.files.layout import shard_range
from capsbench.files.writing import Generated, Report, silent
from capsbench.parameters import check_number, check_truth, convert, split_shard

DEFAULT_SPLITS = ("train", "validation", "test")
MOST_WORKERS = 1024
OTHER_ENDINGS = (".hdf", ".hdf5", ".he5", ".h5", ".json", ".npz", ".mat", ".txt")
"""Who writes these means a file, and would not look for a folder of that name; ``.h5`` in capitals is one of them."""


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
    extents = [shard_range(index, shards, one.spec.count) for one in recipes]
    made = []
    for one, extent in zip(recipes, extents, strict=True):
        part = "" if extent is None else f"-{index}of{shards}"
        path = out if single else out / f"{_file_stem(name)}-{one.spec.split}{part}.h5"
        with progress(path.name) as report:
            made.append(generate_file(one, path, shard=extent, force=force, workers=workers, report=report))
    return made


def _file_stem(name: str) -> str:
    """A shipped name as it is; of ``package.module:Attribute`` the attribute."""
    return name.rpartition(":")[2].lower()
