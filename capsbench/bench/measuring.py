"""One cell, measured in this process: under a lock, seeded as a whole, its result saved."""

import os
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter

from capsbench import registry
from capsbench.bench.bench import Bench
from capsbench.bench.cells import Cell
from capsbench.bench.planning import Plan
from capsbench.contracts import ProgressBar, Say, no_bar, silent
from capsbench.errors import CapsbenchError, CellsFailedError, DataFileError, LockedError, StorageError, first_line
from capsbench.results.failures import keep_failure
from capsbench.results.result import Result, load_result, now, save_result
from capsbench.sources.hosting import hosted
from capsbench.system import machine
from capsbench.system.disk import lock, make_folder
from capsbench.system.ranks import ranks
from capsbench.training.checkpoints import put_aside

Measure = Callable[[Cell, Plan, Say, ProgressBar], str | None]
"""Measures one cell of a plan and saves its result; returns None, or in a line why it failed. Where another run is
measuring the cell, it raises `LockedError`."""


@dataclass(frozen=True)
class Engine:
    """What measures cells.

    Attributes:
        slots: One for each cell that is measured at a time.
        retries: How often a cell that failed is tried again.
        stopped: Set when the run is interrupted: cells that are being measured end.
    """

    slots: Sequence[Measure]
    retries: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)


def measure(cell: Cell, plan: Plan, report: Say = silent, progress: ProgressBar = no_bar) -> str | None:
    """Measures one cell in this process; see `Measure`."""
    try:
        run_cell(cell, plan, report, progress)
    except LockedError:
        raise
    except Exception as error:  # a user's code can fail in any way
        why = explain(error, cell, plan.path(cell))
        if ranks().size > 1:  # the others may be waiting for this process, which must end
            raise CellsFailedError(f"{cell.label}, seed {cell.seed}: {why}") from None
        return why
    return None


IN_THIS_PROCESS = Engine([measure])


def run_cell(cell: Cell, plan: Plan, report: Say = silent, progress: ProgressBar = no_bar) -> Result:
    """Measures one cell and saves its result, under a lock: of two runs, one measures it and the other is refused.

    Cells and plans can be pickled, so any process on any machine that shares the folder can run one.

    Args:
        cell: What to measure.
        plan: The plan that it belongs to.
        report: Called with a line now and then.
        progress: Shows how far training is; by default nothing does.

    Raises:
        LockedError: Another run holds the lock.
        StorageError: The result cannot be written.
    """
    together = ranks()
    if together.first:
        make_folder(plan.path(cell).parent)
    # Of several processes the first has the lock, and waits for it: the others could not tell that it is refused.
    with lock(plan.path(cell), wait=together.size > 1) if together.first else nullcontext():
        try:
            finished = together.decided(lambda: plan.finished(cell))  # another run may just have done it
            return finished or _measured(cell, plan, report, progress)
        except LockedError as error:  # of a file of the network's own
            raise StorageError(str(error)) from None


def _measured(cell: Cell, plan: Plan, report: Say, progress: ProgressBar) -> Result:
    begun = perf_counter()
    bench = Bench(cell, plan.folder, plan.digits, report, progress, tensorboard=plan.tensorboard, since=plan.since)
    # Seeded as a whole, since a network may draw numbers while it is tested, too.
    guest = hosted(cell.seed, cell.device)
    with registry.as_identified(cell.suite_identity.hash), registry.as_identified(cell.source), guest:
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
        origin="weights" if cell.weights else "trained",
        training=bench.training,
        writers=bench.writers,
    )
    if not ranks().first:
        return result
    _put_foreign_aside(cell, plan.path(cell), report)
    save_result(result, plan.path(cell))
    return load_result(plan.path(cell))  # so that what is shown is what the file holds


def _put_foreign_aside(cell: Cell, path: Path, report: Say) -> None:
    """Puts aside what stands in the place of a cell's result and is none of this cell."""
    if not os.path.lexists(path):
        return
    with suppress(DataFileError):
        if cell.owns(load_result(path)):
            return
    report(f"{path} is damaged or of another cell; it is now called {put_aside(path).name}")


def explain(error: BaseException, cell: Cell, path: Path) -> str:
    """An error in one line, which is kept beside the result; if it is not ours, with its traceback."""
    if isinstance(error, CapsbenchError):
        keep_failure(cell, path, str(error))
        return str(error)
    first = first_line(error)
    log = keep_failure(cell, path, first, "".join(traceback.format_exception(error)))
    return f"{first} (traceback: {log})" if log else first
