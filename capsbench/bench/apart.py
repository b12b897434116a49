"""A cell in a process of its own: whatever it does to that process, the others go on and the reason is known.

The process is ``python -m capsbench run`` for one cell. It tells its parent in lines of JSON how far it is, and ends
when its parent does.
"""

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from capsbench.bench.cells import Cell
from capsbench.bench.measuring import IN_THIS_PROCESS, Engine, explain, run_cell
from capsbench.bench.planning import Plan
from capsbench.bench.remote import KEPT_LINES
from capsbench.contracts import Progress, ProgressBar, Say, silent
from capsbench.errors import LockedError, StorageError, UsageError, plain
from capsbench.parameters import check_number
from capsbench.results.failures import keep_failure
from capsbench.system import machine
from capsbench.system.children import end_with, watch
from capsbench.system.disk import lock, make_folder
from capsbench.system.processes import python_environment

MOST_JOBS = 1024
SHOWN_SECONDS = 0.2  # between two messages about how far a cell is
DYING = "Fatal Python error:"  # what Python's fault handler says first

Event = Mapping[str, Any]
Environment = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Apart:
    """How cells are run in processes of their own.

    Attributes:
        jobs: Cells at once.
        isolate: Whether a cell has a process of its own also where nothing else here asks for it.
        retries: How often a cell that failed is tried again; its training goes on from its last checkpoint.
        timeout: Minutes that a cell may take, in each try.
        scheduler: The address or the file of a Dask scheduler, whose workers measure the cells.
        collect: Whether the workers send results back, because they do not share the folder of results.
    """

    jobs: int = 1
    isolate: bool = False
    retries: int = 0
    timeout: float | None = None
    scheduler: str | None = None
    collect: bool = False

    def __post_init__(self) -> None:
        check_number("jobs", self.jobs, 1, MOST_JOBS)
        check_number("retries", self.retries, 0, 1000)
        if self.timeout is not None:
            check_number("timeout", self.timeout, 1e-3, 1e6)
        if self.scheduler is not None and (self.jobs > 1 or self.isolate):
            raise UsageError("With --scheduler the workers say how many cells run at once: leave --jobs and --isolate.")
        if self.collect and self.scheduler is None:
            raise UsageError("--collect is for results of a Dask cluster: it needs --scheduler.")

    def engine(self, plan: Plan) -> Engine:
        """What measures the cells of a plan so on this machine: this process, if there is no reason for another.

        Raises:
            UsageError: A network was given as a class or a function, which no other process can find.
        """
        if self == Apart():
            return IN_THIS_PROCESS
        check_named(plan)
        stopped = threading.Event()
        slots = [
            partial(measure_apart, environment=environment, timeout=self.timeout, stopped=stopped)
            for environment in shares(plan, max(1, min(self.jobs, len(plan.cells))))
        ]
        return Engine(slots, self.retries, stopped)


def check_named(plan: Plan) -> None:
    """Checks that another process can find the networks of a plan.

    Raises:
        UsageError: One was given as a class or a function.
    """
    given = [cell.model for cell in plan.cells if cell.given is not None]
    if given:
        raise UsageError(
            f"The network {given[0]} was given as a class or a function, which a process of its own cannot find. Write "
            "it into a file and name it file.py:attr, or run one cell at a time in this process."
        )


def shares(plan: Plan, jobs: int) -> list[Environment]:
    """What each of so many processes gets of the machine, as environment variables: threads, and one GPU in turn."""
    here = python_environment()
    if jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
        here["OMP_NUM_THREADS"] = str(max(1, machine.threads() // jobs))
    gpus = machine.gpus() if any(cell.device == "cuda" for cell in plan.cells) else []
    return [here | ({"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {}) for slot in range(jobs)]


def command(cell: Cell, plan: Plan, **changes: Any) -> list[str]:
    """The command that measures one cell of a plan and tells how far it is; one may also type it, without the last.

    Args:
        cell: The cell.
        plan: The plan.
        changes: Options that differ from the plan's.
    """
    model = f"{cell.title}={cell.model}" if cell.title else cell.model
    own = {f"{cell.title or cell.model}.{key}": value for key, value in cell.changes.items()}
    asked = {**plan.asked, "suite": cell.suite, "models": [model], "seeds": cell.seed, "device": cell.device}
    asked["changes"] = {**plan.asked["changes"], **own}
    if cell.weights:
        asked["weights"] = f"{cell.label}={cell.weights.path}"
    asked |= changes
    words = [sys.executable, *PYTHON_OPTIONS, "-m", "capsbench", "run"]
    for key, value in {**asked, "cell": cell.id, "events": True}.items():
        option = f"--{OPTIONS.get(key, key).replace('_', '-')}"
        if isinstance(value, bool):
            words += [option] * value
        elif isinstance(value, Mapping):
            words += [f"{option}={name}={text}" for name, text in value.items()]
        else:
            words += [f"{option}={one}" for one in (value if isinstance(value, list | tuple) else [value])]
    return words


PYTHON_OPTIONS = ("-P", "-X", "faulthandler")  # no import from the working folder; where a crash was

OPTIONS = {"models": "model", "changes": "set"}
"""The options of the command line that have another name than the parameters of `plan_run`."""


def measure_apart(
    cell: Cell,
    plan: Plan,
    report: Say,
    progress: ProgressBar,
    *,
    environment: Environment,
    timeout: float | None,
    stopped: threading.Event,
) -> str | None:
    """Measures one cell in a process of its own; see `capsbench.bench.measuring.Measure`.

    Args:
        cell: What to measure.
        plan: The plan that it belongs to.
        report: Called with a line now and then.
        progress: Shows how far training is.
        environment: The process's environment variables.
        timeout: Minutes that it may take.
        stopped: Set when it shall end.

    Raises:
        LockedError: Another run is measuring the cell.
    """
    path = plan.path(cell)
    try:
        make_folder(path.parent)
        with lock(path):
            pass
        with Listener(report, progress) as listener:
            why = watch(
                command(cell, plan),
                out=listener.hear,
                err=listener.read,
                environment=environment,
                timeout=timeout,
                stopped=stopped,
            )
    except LockedError:
        raise
    except StorageError as error:
        return str(error)
    except OSError as error:
        return f"no process could be started: {error.strerror}"
    if listener.ended:
        return listener.outcome(path)
    forget_lock(path)
    if stopped.is_set():
        return why
    return kept_words(cell, path, why, listener.lines)


def forget_lock(path: Path) -> None:
    """Removes the file that a dead process has left of its lock."""
    with suppress(StorageError), lock(path):
        pass


def kept_words(cell: Cell, path: Path, why: str, lines: Sequence[str]) -> str:
    """Why a cell's process ended, with the line that says most; its last lines are kept beside the cell's result.

    Args:
        cell: The cell.
        path: Of its result.
        why: How its process ended.
        lines: Its last lines on stderr.
    """
    if lines:
        why += f": {next((line for line in lines if line.startswith(('Error:', DYING))), lines[-1])}"
    log = keep_failure(cell, path, why, "".join(f"{line}\n" for line in lines))
    return f"{why} (its last lines: {log})" if lines and log else why


class Listener:
    """Hears what a cell's process says: its events, and its lines on stderr.

    Attributes:
        ended: The event that the process ended with, if it had one.
        lines: The last lines on stderr.
    """

    def __init__(self, report: Say, progress: ProgressBar) -> None:
        self.ended: Event = {}
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._dying = False
        self._report = report
        self._progress = progress
        self._bars = ExitStack()
        self._show: Progress = silent

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.close()

    def outcome(self, path: Path) -> str | None:
        """What came of the cell: None if its result is there, else why it failed.

        Raises:
            LockedError: Another run is measuring it.
        """
        if self.ended.get("locked"):
            raise LockedError(f"Another run is writing {path}.")
        return None if self.ended.get("done") else str(self.ended.get("failed"))

    def hear(self, text: str) -> None:
        """One line of JSON."""
        try:
            event = json.loads(text)
        except ValueError:
            return
        if not isinstance(event, dict):
            return
        if "line" in event:
            self._report(str(event["line"]))
        elif "bar" in event:
            self._bars.close()
            if event["bar"]:
                self._show = self._bars.enter_context(self._progress(str(event["bar"])))
        elif "steps" in event:
            self._show(int(event["steps"]), int(event["of"]))
        else:
            self.ended = event

    def read(self, text: str) -> None:
        """One line on stderr."""
        line = plain(text)
        self.lines.append(line)
        self._dying = self._dying or line.startswith(DYING)  # a long list of calls follows, for the file
        if not self._dying:
            self._report(line)


@contextmanager
def told_events() -> Iterator[Callable[[Plan], None]]:
    """In the cell's process: gives a function that measures the one cell of a plan, and tells the parent how that goes.

    What it tells has stdout for itself: whatever else is written there, by a network's own code too, goes to stderr.
    When the parent ends, stdin closes and this process ends at once.
    """
    sys.stdout.flush()
    out, parent = os.dup(1), os.dup(0)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    with os.fdopen(out, "w", encoding="utf-8") as stream:

        def tell(event: Event) -> None:
            stream.write(json.dumps(event) + "\n")
            stream.flush()

        yield partial(_measure_and_tell, tell=tell)


def _measure_and_tell(plan: Plan, tell: Callable[[Event], None]) -> None:
    (cell,) = plan.cells

    @contextmanager
    def bar(description: str) -> Iterator[Progress]:
        shown = 0.0

        def show(done: int, total: int) -> None:
            nonlocal shown
            if done == total or time.monotonic() - shown >= SHOWN_SECONDS:
                shown = time.monotonic()
                tell({"steps": done, "of": total})

        tell({"bar": description})
        yield show
        tell({"bar": ""})

    try:
        run_cell(cell, plan, lambda line: tell({"line": line}), bar)
    except LockedError:
        tell({"locked": True})
    except Exception as error:  # a user's code can fail in any way
        tell({"failed": explain(error, cell, plan.path(cell))})
    else:
        tell({"done": True})
