"""The Python face: what the commands do, as functions."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capsbench.errors import CellsFailedError, ParameterError
from capsbench.generation import Generated, Report, generate_file, silent
from capsbench.recipes import make_recipe

if TYPE_CHECKING:
    from capsbench.results import Result

DEFAULT_SPLITS = ("train", "validation", "test")


def generate(
    name: str, *, out: str | Path = ".", split: str | Sequence[str] = DEFAULT_SPLITS, **options: Any
) -> list[Path]:
    """Makes the files of a data set; what is there and whole already is left.

    Args:
        name: The data set, such as ``"multimnist"``.
        out: A folder, or with one split a file ending in ``.h5``.
        split: One split or several.
        options: ``seed``, ``count``, ``variants``, ``preset``, ``digits``, ``layers``, ``force``, and the data set's
            own parameters.

    Returns:
        Where the files lie, one a split.

    Raises:
        UsageError: A name, a key or a value makes no sense, or a file of another spec stands there.
        DataError: The digits are missing or damaged.
        StorageError: The files cannot be written.
    """
    own = ("seed", "count", "variants", "preset", "digits", "layers")
    recipe = {key: options.pop(key) for key in own if key in options}
    force = options.pop("force", False)
    splits = [split] if isinstance(split, str) else list(split)
    made = generate_splits(name, Path(out), splits, force=force, **recipe, parameters=options)
    return [generated.path for generated in made]


def generate_splits(
    name: str,
    out: Path,
    splits: Sequence[str],
    *,
    force: bool = False,
    progress: Callable[[str], AbstractContextManager[Report]] = lambda description: nullcontext(silent),
    **recipe: Any,
) -> list[Generated]:
    """Makes one file a split; every recipe is checked before the first file is begun.

    Args:
        name: The data set.
        out: A folder, or with one split a file ending in ``.h5``.
        splits: Which splits.
        force: Whether to start anew where something else stands.
        progress: Makes what is told of a file's progress.
        recipe: See `capsbench.recipes.make_recipe`.
    """
    single = out.suffix == ".h5"
    if single and len(splits) != 1:
        raise ParameterError(f"One file {out} was asked for, but {len(splits)} splits. Name a folder, or one --split.")
    recipes = [make_recipe(name, split=split, **recipe) for split in dict.fromkeys(splits)]
    made = []
    for one in recipes:
        path = out if single else out / f"{_file_stem(name)}-{one.spec.split}.h5"
        with progress(path.name) as report:
            made.append(generate_file(one, path, force=force, report=report))
    return made


def _file_stem(name: str) -> str:
    """A shipped name as it is; of ``package.module:Attribute`` the attribute."""
    return name.rpartition(":")[2].lower()


def run(suite: str, **options: Any) -> "list[Result]":
    """Runs a suite; finished cells are not run again.

    Args:
        suite: The suite, such as ``"affine"``.
        options: ``models``, ``preset``, ``seeds``, ``changes``, ``digits``, ``device``, ``out``; see
            `capsbench.running.plan_run`.

    Returns:
        A `capsbench.results.Result` for each model and seed.

    Raises:
        UsageError: A name, a key or a value makes no sense.
        DataError: The digits are missing or damaged.
        CellsFailedError: Some cells failed; the others' results are on the disk.
    """
    from capsbench.running import plan_run, run_plan  # which import torch: making files must not wait for it

    outcome = run_plan(plan_run(suite, **options))
    if outcome.failed:
        raise CellsFailedError("; ".join(f"{cell.model}, seed {cell.seed}: {why}" for cell, why in outcome.failed))
    return outcome.results
