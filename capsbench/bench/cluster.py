"""Cells on the workers of a Dask cluster: each task starts the cell's process, and tells this one how that goes.

The extra ``dask`` has the library. A worker's own thread and environment do not reach the cell: Dask's workers set one
thread and may have no children by `multiprocessing`.
"""

import importlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from capsbench.bench.apart import Listener, check_named, command, forget_lock, kept_words
from capsbench.bench.cells import Cell
from capsbench.bench.measuring import Engine
from capsbench.bench.planning import Plan
from capsbench.bench.remote import THREADS, Ended, Task, described, measure_on_worker
from capsbench.contracts import ProgressBar, Say, silent
from capsbench.errors import CellsFailedError, UsageError, first_line
from capsbench.paths import user_path
from capsbench.system.children import LOOK_SECONDS
from capsbench.system.disk import is_regular, lock, make_folder, write_atomically
from capsbench.version import VERSION

WAITING_SECONDS = 60.0  # for a worker that can measure the cells
CONNECTING_SECONDS = 10.0
MOST_AT_ONCE = 512  # cells that the scheduler is given
Spoken = dict[str, Listener]


@contextmanager
def cluster(
    plan: Plan,
    scheduler: str,
    *,
    collect: bool = False,
    retries: int = 0,
    timeout: float | None = None,
    report: Say = silent,
) -> Iterator[Engine]:
    """Gives what measures the cells of a plan on the workers of a Dask cluster.

    Args:
        plan: Its networks have names that the workers can find.
        scheduler: The scheduler's address, or its file.
        collect: Whether results are sent back, because the folder of results is not shared.
        retries: How often a cell that failed is tried again.
        timeout: Minutes that a cell may take, in each try.
        report: Called with a line about the cluster.

    Raises:
        UsageError: Dask is not installed, no scheduler answers, no worker that can measure the cells comes, or one has
            another version of capsbench.
        CellsFailedError: The scheduler went away.
    """
    check_named(plan)
    client = _connected(scheduler)
    topic = f"capsbench-{uuid4().hex[:12]}"
    listeners: Spoken = {}
    stopped = threading.Event()
    try:
        gpu = any(cell.device == "cuda" for cell in plan.cells)
        _wait_for_workers(client, scheduler, gpu=gpu, report=report)
        threads = _threads(client)
        client.subscribe_topic(topic, partial(_heard, listeners))
        slot = partial(
            _measure_there,
            client=client,
            make=partial(_task, collect=collect, threads=threads, timeout=timeout, topic=topic),
            listeners=listeners,
            stopped=stopped,
            scheduler=scheduler,
        )
        yield Engine([slot] * max(1, min(len(plan.cells), MOST_AT_ONCE)), retries, stopped)
    finally:
        stopped.set()
        with suppress(Exception):  # a scheduler that is gone cannot be told
            client.close(timeout=1)


def _connected(scheduler: str) -> Any:
    if find_spec("distributed") is None:
        raise UsageError("--scheduler needs Dask, which is not installed here: pip install 'capsbench[dask]'.")
    client: Any = importlib.import_module("distributed").Client
    place: dict[str, Any] = {"address": scheduler}
    if "://" not in scheduler and ":" not in scheduler.rpartition("/")[2]:
        file = user_path(scheduler, "--scheduler")
        if not is_regular(file):
            raise UsageError(f"There is no scheduler file {file}. Make one: dask scheduler --scheduler-file {file}")
        place = {"scheduler_file": str(file)}
    try:
        return client(**place, timeout=CONNECTING_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError, KeyError) as error:
        reason = first_line(error)
    raise UsageError(f"No Dask scheduler answers at {scheduler} ({reason}). Start one: dask scheduler")


def _workers(client: Any) -> Mapping[str, Any]:
    workers: Mapping[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return workers


def _wait_for_workers(client: Any, scheduler: str, *, gpu: bool, report: Say) -> None:
    late, told = time.monotonic() + WAITING_SECONDS, False
    address = client.scheduler.address
    start = f"dask worker {address} --nthreads 1{' --resources GPU=1' if gpu else ''}"
    what = "worker with the resource GPU" if gpu else "worker"
    while not any(not gpu or worker["resources"].get("GPU", 0) >= 1 for worker in _workers(client).values()):
        if not told:
            report(f"Waiting up to {WAITING_SECONDS:g} seconds for a {what}. Start one: {start}")
            told = True
        if time.monotonic() > late:
            raise UsageError(
                f"No {what} has come to the scheduler {scheduler} in {WAITING_SECONDS:g} seconds. Start one: {start}"
            )
        time.sleep(0.2)


def _threads(client: Any) -> dict[str, dict[str, str]]:
    """How many threads a cell has on each worker: the cores that workers have together, by the tasks that run at once.

    Raises:
        UsageError: A worker has another version of capsbench, or none.
    """
    found = client.run(described, on_error="return")
    wrong = {
        worker: "no capsbench that answers" if isinstance(one, BaseException) else f"capsbench {one[0]}"
        for worker, one in found.items()
        if isinstance(one, BaseException) or one[0] != VERSION
    }
    if wrong:
        named = "; ".join(f"{worker} has {what}" for worker, what in sorted(wrong.items())[:4])
        raise UsageError(f"This is capsbench {VERSION}, and of {len(found)} workers {len(wrong)} differ: {named}.")
    own = {name: os.environ[name] for name in THREADS if name in os.environ}
    if "OMP_NUM_THREADS" in own:
        return {"": own}
    tasks: dict[tuple[str, ...], int] = {}
    places = {worker: (host, *map(str, cores)) for worker, (_, cores, host) in found.items()}
    for worker, one in _workers(client).items():
        if worker in places:
            tasks[places[worker]] = tasks.get(places[worker], 0) + one["nthreads"]
    return {
        worker: own | {"OMP_NUM_THREADS": str(max(1, (len(place) - 1) // tasks.get(place, 1)))}
        for worker, place in places.items()
    }


def _heard(listeners: Spoken, event: tuple[float, Any]) -> None:
    """What a worker tells while a cell is measured."""
    _, (cell, kind, text) = event
    listener = listeners.get(cell)
    if listener is not None:
        (listener.hear if kind == "out" else listener.read)(text)


def _task(cell: Cell, plan: Plan, *, collect: bool, **how: Any) -> Task:
    out = str(plan.folder.absolute())
    return Task(
        cell=cell.id,
        words=command(cell, plan, out=out)[1:],
        folder=str(Path.cwd()),
        path=str(plan.path(cell).relative_to(plan.folder)),
        collect=collect,
        **how,
    )


def _measure_there(
    cell: Cell,
    plan: Plan,
    report: Say,
    progress: ProgressBar,
    *,
    client: Any,
    make: Any,
    listeners: Spoken,
    stopped: threading.Event,
    scheduler: str,
) -> str | None:
    """Measures one cell on a worker; see `capsbench.bench.measuring.Measure`."""
    path, task = plan.path(cell), make(cell, plan)
    make_folder(path.parent)
    with Listener(report, progress) as listener, lock(path) if task.collect else nullcontext():
        listeners[cell.id] = listener
        resources = {"GPU": 1} if cell.device == "cuda" else {}
        # Dask would give a task that raises an error to no other worker; one whose worker dies, to three more.
        key = f"capsbench-{cell.name}-{uuid4().hex[:8]}"
        future = client.submit(measure_on_worker, task, key=key, pure=False, retries=0, resources=resources)
        try:
            ended = _awaited(future, client, stopped, scheduler)
        finally:
            listeners.pop(cell.id, None)
            with suppress(Exception):  # the scheduler may be gone
                future.release()
        if isinstance(ended, str):
            return ended
        for ending, content in ended.files.items():
            write_atomically(path.with_suffix(ending), content)
        listener.hear(ended.out)
    if not listener.ended:
        forget_lock(path)
        return f"{kept_words(cell, path, ended.why, ended.err)}, on worker {ended.worker}"
    why = listener.outcome(path)
    if why is None and not is_regular(path):
        return f"worker {ended.worker} has finished it, but {path} is not here. Share this folder, or use --collect"
    return why


def _awaited(future: Any, client: Any, stopped: threading.Event, scheduler: str) -> Ended | str:
    """What a worker sent back, or why there is nothing.

    Raises:
        CellsFailedError: The scheduler went away.
    """
    looked = time.monotonic()
    while not future.done() and client.status == "running":
        if stopped.wait(LOOK_SECONDS):
            return "it was interrupted"
        if time.monotonic() - looked > WAITING_SECONDS:
            if not _workers(client):
                raise CellsFailedError(
                    f"No worker is left at the Dask scheduler {scheduler}. Finished cells are kept: start workers, and "
                    "run the same command."
                )
            looked = time.monotonic()
    if client.status != "running" or future.status in ("lost", "cancelled"):
        raise CellsFailedError(
            f"The Dask scheduler at {scheduler} went away. Finished cells are kept: start it again, with workers, and "
            "run the same command."
        )
    try:
        ended: Ended = future.result(timeout=CONNECTING_SECONDS)
    except Exception as error:  # of any library on the worker
        if type(error).__name__ != "KilledWorker":
            return first_line(error)
        worker = getattr(getattr(error, "last_worker", None), "address", "its worker")
        return f"KilledWorker: each worker that Dask gave it to died, the last at {worker}"
    return ended
