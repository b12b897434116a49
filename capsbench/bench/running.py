"""Running cells: what is finished is never done again, and a cell that fails does not stop the others."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from capsbench.bench.apart import Apart
from capsbench.bench.cells import Cell
from capsbench.bench.cluster import cluster
from capsbench.bench.elsewhere import GivenWeights
from capsbench.bench.measuring import IN_THIS_PROCESS, Engine, Measure
from capsbench.bench.networks import Several
from capsbench.bench.planning import Plan, plan_run
from capsbench.contracts import Progress, ProgressBar, Say, no_bar, silent
from capsbench.data.naming import named_digits
from capsbench.errors import CellsFailedError, LockedError
from capsbench.report.shown import Results
from capsbench.results.failures import failure_file, forget_failure, keep_failure
from capsbench.results.result import Result, load_result, save_result
from capsbench.system.disk import make_folder
from capsbench.system.ranks import ranks

WAITING_SECONDS = 1.0  # between two looks at a cell that another run measures


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
    models: Several = (),
    preset: str = "small",
    seeds: Sequence[int] = (0,),
    changes: Mapping[str, str] | None = None,
    weights: GivenWeights = (),
    digits: str | Path = "auto",
    digits_as: str | None = None,
    device: str = "auto",
    out: str | Path = "runs",
    tensorboard: bool = False,
    force: bool = False,
    jobs: int = 1,
    isolate: bool = False,
    retries: int = 0,
    timeout: float | None = None,
    scheduler: str | None = None,
    collect: bool = False,
) -> Results:
    """Runs a suite; finished cells are not run again.

    Args:
        suite: The suite, such as ``"affine"``.
        models: The networks: names, classes or functions; by default the suite's own.
        preset: The protocol: ``"smoke"``, ``"small"``, or ``"medium"`` and ``"paper"`` where the suite has them.
        seeds: One cell each.
        changes: Settings that differ from the preset, as text; ``MODEL.KEY`` is a parameter of a network.
        weights: A file of weights that were trained elsewhere, which are measured instead of trained; for several
            networks a mapping of their names to files.
        digits: ``"auto"``, ``"embedded"``, a set that was fetched (such as ``"fashion"``), or a folder of
            IDX files.
        digits_as: What the digits of a folder, or of a file like Keras' ``mnist.npz``, are called, where they are not
            MNIST's.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        out: The folder of results, data and checkpoints.
        tensorboard: Whether training also logs for TensorBoard, below ``out``.
        force: Measure finished cells again, from the first step on.
        jobs: Cells at once, each in a process of its own, which has its share of the cores and one GPU.
        isolate: Give each cell a process of its own, also where there is one at a time.
        retries: How often a cell that failed is tried again; it then has a process of its own.
        timeout: Minutes that a cell may take; it then has a process of its own.
        scheduler: The address or the file of a Dask scheduler, whose workers measure the cells.
        collect: Whether the workers send results back, because they do not share ``out``.

    Returns:
        A result for each network and seed; a notebook shows their tables, and ``to_dicts()`` is for pandas.

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
        weights=weights,
        digits=named_digits(digits, digits_as),
        device=device,
        out=out,
        tensorboard=tensorboard,
        force=force,
        elsewhere=scheduler is not None,
    )
    how = Apart(jobs=jobs, isolate=isolate, retries=retries, timeout=timeout, scheduler=scheduler, collect=collect)
    with engine_of(plan, how) as engine:
        outcome = run_plan(plan, engine=engine)
    if outcome.failed:
        raise CellsFailedError("; ".join(f"{cell.model}, seed {cell.seed}: {why}" for cell, why in outcome.failed))
    return Results(outcome.results)


@contextmanager
def engine_of(plan: Plan, how: Apart, report: Say = silent) -> Iterator[Engine]:
    """Gives what measures the cells of a plan: this process, others on this machine, or the workers of a cluster.

    Args:
        plan: What to do.
        how: How cells are run.
        report: Called with a line about the cluster.

    Raises:
        UsageError: A cluster cannot measure them, or a network has no name.
        CellsFailedError: The cluster went away.
    """
    if how.scheduler is None:
        yield how.engine(plan)
        return
    with cluster(
        plan, how.scheduler, collect=how.collect, retries=how.retries, timeout=how.timeout, report=report
    ) as engine:
        yield engine


def run_plan(
    plan: Plan, report: Say = silent, progress: ProgressBar = no_bar, engine: Engine = IN_THIS_PROCESS
) -> Outcome:
    """Runs the cells of a plan that are not finished; a cell that fails does not stop the others.

    Cells that another run measures are left for the end, and then waited for: each cell is done once.

    Args:
        plan: What to do.
        report: Called with a line now and then.
        progress: Shows how far trainings are; by default nothing does.
        engine: What measures the cells; by default this process does, one after the other.

    Raises:
        StorageError: The folder of results cannot be made.
    """
    make_folder(plan.folder)
    if len(engine.slots) == 1:
        turns = _Turns(plan, report, progress, engine)
        turns.work(engine.slots[0])
        return turns.outcome()
    with progress("cells") as count, ThreadPoolExecutor(len(engine.slots)) as pool:
        turns = _Turns(plan, report, progress, engine, count)
        try:
            for work in [pool.submit(turns.work, slot) for slot in engine.slots]:
                work.result()
        except BaseException:
            engine.stopped.set()
            raise
    return turns.outcome()


class _Turns:
    """Gives cells to slots, and keeps what came of them."""

    def __init__(
        self, plan: Plan, report: Say, progress: ProgressBar, engine: Engine, count: Progress = silent
    ) -> None:
        self._plan = plan
        self._report = report
        self._progress = progress
        self._engine = engine
        self._count = count
        self._left = deque(enumerate(plan.cells, 1))
        self._elsewhere: set[str] = set()  # ids of cells that another run measures
        self._done: dict[str, Result] = {}
        self._failed: dict[str, str] = {}

    def outcome(self) -> Outcome:
        """What came of all cells, in the plan's order."""
        done = [cell for cell in self._plan.cells if cell.id in self._done]
        failed = [(cell, self._failed[cell.id]) for cell in self._plan.cells if cell.id in self._failed]
        return Outcome([self._done[cell.id] for cell in done], [self._plan.path(cell) for cell in done], failed)

    def work(self, slot: Measure) -> None:
        """Measures cells as long as there are any."""
        while not self._engine.stopped.is_set():
            try:
                number, cell = self._left.popleft()
            except IndexError:
                return
            place = f"[{number}/{len(self._plan.cells)}] "
            say = _labelled(self._report, f"{place}{cell.label}, seed {cell.seed}")
            try:
                self._take(cell, slot, say, place if len(self._engine.slots) > 1 else "")
                self._count(len(self._done) + len(self._failed), len(self._plan.cells))
            except LockedError:
                if cell.id not in self._elsewhere:
                    say("another run is measuring it; it comes last")
                self._elsewhere.add(cell.id)
                self._left.append((number, cell))
                if all(one.id in self._elsewhere for _, one in list(self._left)):
                    self._engine.stopped.wait(WAITING_SECONDS)

    def _take(self, cell: Cell, slot: Measure, say: Say, place: str) -> None:
        """Measures a cell, if it is not finished.

        Raises:
            LockedError: Another run is measuring it.
        """
        result = ranks().decided(lambda: self._plan.finished(cell))
        if result:
            by = "by another run" if cell.id in self._elsewhere else f"before{_with_other_threads(cell, result)}"
            say(f"finished {by}")
            if cell.title and load_result(self._plan.path(cell)).label != result.label:
                save_result(result, self._plan.path(cell))  # so that every table has the new label
            self._done[cell.id] = result
            return
        path = self._plan.path(cell)
        for left in range(self._engine.retries, -1, -1):
            if ranks().first:
                forget_failure(path)
            why = slot(cell, self._plan, say, lambda description: self._progress(f"{place}{description}"))
            if why is None:
                self._failed.pop(cell.id, None)
                if ranks().first:
                    self._done[cell.id] = load_result(self._plan.path(cell))
                return
            self._failed[cell.id] = why
            if self._engine.stopped.is_set():  # nothing is tried again
                say(why)
                return
            again = f"; it is tried again, {left} {'time' if left == 1 else 'times'} at most" if left else ""
            say(f"failed: {why}{again}")
            if not failure_file(path).exists():  # what measured it could not say more
                keep_failure(cell, path, why)


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
