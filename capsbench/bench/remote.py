"""On a worker of a Dask cluster: a task measures one cell in a process of its own.

Nothing here loads torch, which would stop a worker for seconds.
"""

import importlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capsbench.system.children import watch
from capsbench.system.processes import python_environment
from capsbench.version import VERSION

KEPT_LINES = 60  # of what a process says on stderr

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What says how many threads a process computes with; Dask's workers set each to 1."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a worker needs to measure a cell.

    Attributes:
        cell: The cell's id.
        words: The command, without the interpreter.
        folder: The working folder of the run; a worker that has no such folder uses its own.
        path: Of the cell's result in the folder of results.
        collect: Whether the folder of results is the worker's own, and the cell's files are sent back.
        threads: For each worker the threads of a cell, and for ``""`` what holds for all, as this run's environment
            says.
        timeout: Minutes that it may take.
        topic: Where the worker tells how it goes.
        version: Of capsbench.
    """

    cell: str
    words: Sequence[str]
    folder: str
    path: str
    collect: bool
    threads: Mapping[str, Mapping[str, str]]
    timeout: float | None
    topic: str
    version: str = VERSION


@dataclass(frozen=True)
class Ended:
    """What a worker sends back.

    Attributes:
        why: How the cell's process ended.
        out: The last line that it told.
        err: Its last lines on stderr.
        files: The cell's files, by their endings, where they are collected.
        worker: The address of the worker.
    """

    why: str
    out: str
    err: Sequence[str]
    files: Mapping[str, bytes]
    worker: str


def described() -> tuple[str, list[int], str]:
    """A worker's version of capsbench, the cores that it may use, and its machine."""
    return VERSION, cores(), os.uname().nodename


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


class _Cancelled:
    """Whether a worker's task is no longer wanted: its run was interrupted, or its machine is gone."""

    def __init__(self, worker: Any, key: str) -> None:
        self._worker = worker
        self._key = key

    def wait(self, timeout: float, /) -> bool:
        time.sleep(timeout)
        task = self._worker.state.tasks.get(self._key)
        return task is None or task.state != "executing"


def measure_on_worker(task: Task) -> Ended:
    """Measures a cell; this is the task that a worker is given."""
    worker: Any = importlib.import_module("distributed").get_worker()
    if task.version != VERSION:
        return Ended(f"it has capsbench {VERSION}, and the run has {task.version}", "", [], {}, worker.address)
    own = {name: value for name, value in python_environment().items() if name not in THREADS}
    alone = {"OMP_NUM_THREADS": str(max(1, len(cores()) // worker.state.nthreads))}
    threads = task.threads.get("") or task.threads.get(worker.address) or alone
    results = Path(worker.local_directory) / "capsbench-runs"
    words = [*task.words, *([f"--out={results}"] if task.collect else [])]
    last, err = [""], []  # type: list[str], list[str]

    def out(line: str) -> None:
        last[0] = line
        worker.log_event(task.topic, (task.cell, "out", line))

    def said(line: str) -> None:
        err.append(line)
        worker.log_event(task.topic, (task.cell, "err", line))

    why = watch(
        [sys.executable, *words],
        out=out,
        err=said,
        environment=own | dict(threads),
        timeout=task.timeout,
        stopped=_Cancelled(worker, worker.get_current_task()),
        folder=Path(task.folder) if Path(task.folder).is_dir() else None,
    )
    files = {}
    if task.collect:
        for ending in (".json", ".jsonl", ".error.txt"):
            file = (results / task.path).with_suffix(ending)
            if file.exists():
                files[ending] = file.read_bytes()
    return Ended(why, last[0], err[-KEPT_LINES:], files, worker.address)
