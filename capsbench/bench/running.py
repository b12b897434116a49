"""Running cells: what is finished is never done again, and a cell that fails does not stop the others."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from capsbench import registry
from capsbench.bench.bench import Bench
from capsbench.bench.cells import Cell
from capsbench.bench.networks import Given
from capsbench.bench.planning import Plan, plan_run
from capsbench.contracts import ProgressBar, Say, no_bar, silent
from capsbench.errors import CapsbenchError, CellsFailedError, StorageError, first_line
from capsbench.results.result import Result, load_result, now, save_result
from capsbench.sources.seeding import seeded
from capsbench.system import machine
from capsbench.system.disk import lock, make_folder, write_atomically


@dataclass
class Outcome:
    """A run after it ended.

    Attributes:
        results: Results of the finished cells, of this run and of earlier ones.
        paths: Their files.
        failed: The other cells, with their errors.
    """

    results: list[Result]
    paths: list[Path]
    failed: list[tuple[Cell, str]]


def run(
    suite: str,
    *,
    models: Given | Sequence[Given] = (),
    preset: str = "small",
    seeds: Sequence[int] = (0,),
    changes: Mapping[str, str] | None = None,
    digits: str = "auto",
    device: str = "auto",
    out: str | Path = "runs",
    tensorboard: bool = False,
    force: bool = False,
) -> list[Result]:
    """Runs a suite; finished cells are not run again.

    Args:
        suite: The suite, such as ``"affine"``.
        models: The networks: names, classes or functions; by default the suite's own.
        preset: The protocol: ``"smoke"``, ``"small"``, or ``"medium"`` and ``"paper"`` where the suite has them.
        seeds: One cell each.
        changes: Settings that differ from the preset, as text; ``MODEL.KEY`` is a parameter of a network.
        digits: ``"auto"``, ``"embedded"`` or a folder of IDX files.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        out: The folder of results, data and checkpoints.
        tensorboard: Whether training also logs for TensorBoard, below ``out``.
        force: Measure finished cells again, from the first step on.

    Returns:
        A result for each network and seed.

    Raises:
        UsageError: A name, a key or a value makes no sense.
        DataError: The digits are missing or damaged.
        CellsFailedError: Some cells failed; the results of the others are on the disk.
        StorageError: Results cannot be written to ``out``.
    """
    plan = plan_run(
        suite,
        models=models,
        preset=preset,
        seeds=seeds,
        changes=changes,
        digits=digits,
        device=device,
        out=out,
        tensorboard=tensorboard,
        force=force,
    )
    outcome = run_plan(plan)
    if outcome.failed:
        raise CellsFailedError("; ".join(f"{cell.model}, seed {cell.seed}: {why}" for cell, why in outcome.failed))
    return outcome.results


def run_plan(plan: Plan, report: Say = silent, progress: ProgressBar = no_bar) -> Outcome:
    """Runs the cells of a plan that are not finished; a cell that fails does not stop the others.

    Args:
        plan: What to do.
        report: Called with a line now and then.
        progress: Shows how far training is; by default nothing does.

    Raises:
        StorageError: The folder of results cannot be made.
    """
    make_folder(plan.folder)
    outcome = Outcome([], [], [])
    for number, cell in enumerate(plan.cells, 1):
        label = f"[{number}/{len(plan.cells)}] {cell.label}, seed {cell.seed}"
        result = plan.finished(cell)
        if result:
            report(f"{label}: finished before{_with_other_threads(cell, result)}")
        else:
            try:
                result = run_cell(cell, plan, _labelled(report, label), progress)
            except (Exception, SystemExit) as error:  # a user's model can fail in any way
                why = _explain(error, plan.path(cell))
                report(f"{label}: failed: {why}")
                outcome.failed.append((cell, why))
                continue
        outcome.results.append(result)
        outcome.paths.append(plan.path(cell))
    return outcome


def _with_other_threads(cell: Cell, result: Result) -> str:
    """What to add where a cell's result is of another number of threads than a run would have now."""
    import torch

    then, here = result.environment.get("threads"), torch.get_num_threads()
    if cell.device != "cpu" or then in (None, here):
        return ""
    return f", with threads: {then}; now there are {here}, and sums in another order differ in their last digits"


def _labelled(report: Say, label: str) -> Say:
    """Puts the cell's label before each line."""
    return lambda line: report(f"{label}: {line}")


def run_cell(cell: Cell, plan: Plan, report: Say = silent, progress: ProgressBar = no_bar) -> Result:
    """Measures one cell and saves its result, under a lock: of two runs, one measures it and the other is refused.

    Cells and plans can be pickled, so any process on any machine that shares the folder can run one.

    Args:
        cell: What to measure.
        plan: The plan that it belongs to.
        report: Called with a line now and then.
        progress: Shows how far training is; by default nothing does.

    Raises:
        StorageError: Another run holds the lock, or the result cannot be written.
    """
    make_folder(plan.path(cell).parent)
    with lock(plan.path(cell)):
        return plan.finished(cell) or _measured(cell, plan, report, progress)  # another run may just have done it


def _measured(cell: Cell, plan: Plan, report: Say, progress: ProgressBar) -> Result:
    begun = perf_counter()
    bench = Bench(cell, plan.folder, plan.digits, report, progress, tensorboard=plan.tensorboard, fresh=plan.force)
    # Seeded as a whole, since a network may draw numbers while it is tested, too.
    randomness = seeded(cell.seed, cell.device)
    with registry.as_identified(cell.suite_identity.hash), registry.as_identified(cell.source), randomness:
        metrics = registry.load("suite", cell.suite)().run(bench)
    result = Result(
        suite=cell.suite,
        version=cell.version,
        preset=cell.preset,
        model=cell.model,
        label=cell.label,
        source=cell.source,
        identity=cell.made_of,
        seed=cell.seed,
        cell=cell.id,
        settings=asdict(cell.settings),
        parameters=dict(cell.parameters),
        digits=cell.digits,
        data=bench.data,
        metrics=metrics,
        seconds=perf_counter() - begun + bench.earlier,
        environment=machine.environment(cell.device),
        date=now(),
        remarks=bench.remarks,
    )
    save_result(result, plan.path(cell))
    return load_result(plan.path(cell))  # so that what is shown is what the file holds


def _explain(error: BaseException, path: Path) -> str:
    """An error in one line; if it is not ours, its traceback goes into a file beside the result."""
    if isinstance(error, CapsbenchError):
        return str(error)
    log = path.with_suffix(".error.txt")
    first = first_line(error)
    try:
        write_atomically(log, "".join(traceback.format_exception(error)).encode())
    except StorageError:  # a full disk may have stopped the cell: it must not hide the reason, nor stop the other cells
        return first
    return f"{first} (traceback: {log})"
