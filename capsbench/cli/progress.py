"""Progress on stderr: a bar on a terminal, plain lines elsewhere; results on stdout are never touched."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from capsbench.contracts import Progress, ProgressBar, no_bar, silent

if TYPE_CHECKING:
    import rich.progress

PLAIN_SECONDS = 10.0  # between plain lines, so that a log stays short


@contextmanager
def progress(description: str, every: float = PLAIN_SECONDS) -> Iterator[Progress]:
    """Yields a function that takes how much is done, and of how much; a short job prints no plain line.

    Args:
        description: The job, and the unit that is counted.
        every: Seconds between plain lines.
    """
    if sys.stderr is None:  # the parent process closed it
        yield silent
    elif sys.stderr.isatty():
        with _bar(description) as report:
            yield report
    else:
        yield _Lines(every).of(description)


@contextmanager
def progress_of_several(every: float = PLAIN_SECONDS) -> Iterator[ProgressBar]:
    """Yields what opens progress bars, one below the other in one display; each is there as long as its job.

    Args:
        every: Seconds between plain lines, also of many short jobs, one after the other.
    """
    if sys.stderr is None:
        yield no_bar
        return
    if not sys.stderr.isatty():
        lines = _Lines(every)
        yield lambda description: nullcontext(lines.of(description))
        return
    with _display() as display:

        @contextmanager
        def bar(description: str) -> Iterator[Progress]:
            task = display.add_task(description, total=None)
            try:
                yield lambda done, total: display.update(task, completed=done, total=total)
            finally:
                display.remove_task(task)

        yield bar


@contextmanager
def _bar(description: str) -> Iterator[Progress]:
    with _display() as display:
        task = display.add_task(description, total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)


def _display() -> "rich.progress.Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True))


class _Lines:
    """Plain lines, with some seconds between one and the next."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._last = time.monotonic()

    def of(self, description: str) -> Progress:
        """Reports the progress of a job."""

        def report(done: int, total: int) -> None:
            if time.monotonic() - self._last >= self._every:
                self._last = time.monotonic()
                sys.stderr.write(f"{description}: {done:,} of {total:,}\n")

        return report
