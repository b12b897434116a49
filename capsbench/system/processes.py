"""Pieces of work shared out among processes, of which this one is the first, or among threads.

A worker is a fresh interpreter at the other end of a socket. It holds no lock and shares no memory, so that it can be
killed at any moment: the pieces that it had not reported are done by the others. A worker reports no errors: its pieces
come back to this process, which meets the same error and reports it.
"""

import os
import subprocess
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socketpair
from typing import Protocol, TypeVar

AHEAD = 2  # pieces that a worker has at hand, so that it need not wait while this process is busy with its own


Made = TypeVar("Made")


class Job(Protocol):
    """The work on a piece; it is pickled, once for each worker."""

    def __call__(self, handle: int, piece: int, /) -> int:
        """Does a piece; returns how much that was."""


class Worker:
    """This process's view of a process that does pieces of a job."""

    def __init__(self, job: Job, handle: int) -> None:
        ours, theirs = socketpair()
        self._connection = Connection(ours.detach())
        with theirs:
            try:
                self._process = _started(theirs.fileno(), handle)
            except BaseException:
                self._connection.close()
                raise
        self._pending: deque[int] = deque()
        self._job: Job | None = job
        self.lost = False

    def feed(self, pieces: deque[int]) -> None:
        """Sends the next pieces while the worker has few; a worker that is gone gets none."""
        try:
            if self._job is not None and self._connection.poll():  # it has started
                self._connection.recv()
                self._connection.send(self._job)
                self._job = None
            while self._job is None and pieces and len(self._pending) < AHEAD:
                self._connection.send(pieces[0])
                self._pending.append(pieces.popleft())
        except (OSError, EOFError):
            self._lose(pieces)

    def collect(self, pieces: deque[int], *, wait: bool) -> Iterator[int]:
        """How much each finished piece was; with ``wait``, of all pieces. Pieces of a lost worker go back."""
        try:
            while self._pending and (wait or self._connection.poll()):
                done: int = self._connection.recv()
                self._pending.popleft()
                yield done
        except (OSError, EOFError):
            self._lose(pieces)

    def end(self) -> None:
        """Ends the worker at once."""
        with suppress(OSError):
            self._connection.close()
        self._process.kill()
        self._process.wait()

    def _lose(self, pieces: deque[int]) -> None:
        self.lost = True
        pieces.extendleft(reversed(self._pending))
        self._pending.clear()
        self._job = None
        with suppress(OSError):
            self._connection.close()


def _started(socket: int, handle: int) -> "subprocess.Popen[bytes]":
    """A fresh interpreter that serves at a socket."""
    return subprocess.Popen(
        [*interpreter(), f"from capsbench.system.processes import serve; serve({socket}, {handle})"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # The open file goes along, not its name: a worker whose run is dead may live a while, and the name may be
        # another run's by then.
        pass_fds=[socket, handle],
        process_group=0,  # Ctrl-C is for the first process; a worker ends when its socket does
        env=child_environment(),
    )


def share_out(job: Job, pieces: Sequence[int], workers: int, handle: int) -> Generator[int, None, None]:
    """Does every piece of a job, in any order; after each it yields how much that was.

    Args:
        job: The work on a piece.
        pieces: The numbers of the pieces.
        workers: Processes that take part, this one included; no more are started than there are pieces.
        handle: An open file that the job works on; workers inherit it.
    """
    left = deque(pieces)
    crew: list[Worker] = []
    asked = max(min(workers, len(pieces)) - 1, 0)
    try:
        for _ in range(asked):
            with suppress(OSError, ValueError):  # where no more processes can be had, those that there are do the work
                crew.append(Worker(job, handle))
        while left:
            for worker in crew:
                worker.feed(left)
            if left:
                yield job(handle, left.popleft())
            for worker in crew:
                yield from worker.collect(left, wait=not left)
        if lost := asked - sum(not worker.lost for worker in crew):
            warnings.warn(f"{lost} of {asked} worker processes ended early; the others did their work.", stacklevel=2)
    finally:
        for worker in crew:
            worker.end()


def in_order(work: Callable[[int], Made], pieces: int, threads: int) -> Generator[Made, None, None]:
    """What a function makes of 0, 1, 2 and so on, in this order; threads work a few pieces ahead.

    zlib and hashlib let other threads run while they work.

    Args:
        work: The function.
        pieces: How many pieces there are.
        threads: How many work at once.
    """
    pending: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for piece in range(pieces):
                pending.append(pool.submit(work, piece))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for one in pending:
                one.cancel()


def interpreter() -> list[str]:
    """The command that starts another Python; the program comes last. It does not import from the working folder."""
    return [sys.executable, "-P", "-c"]


OPTIONS_OF_RUN = "CAPSBENCH_RUN_"  # what variables begin with that stand for options of `capsbench run`


def python_environment() -> dict[str, str]:
    """The environment variables of another Python: it finds modules where this process does.

    It has none that stands for an option of a run, such as a shard: this process has used them, and a process that
    measures one cell has its options on its command line.
    """
    here = {name: value for name, value in os.environ.items() if not name.startswith(OPTIONS_OF_RUN)}
    return here | {"PYTHONPATH": os.pathsep.join(place or str(Path.cwd()) for place in sys.path)}


def child_environment() -> dict[str, str]:
    """The environment variables of a Python that does a piece of this process's work: the same, with one thread."""
    return python_environment() | {"OPENBLAS_NUM_THREADS": "1"}


def serve(socket: int, handle: int) -> None:
    """Runs a worker: it reports that it has started, receives its job, and does pieces until its socket closes."""
    with suppress(EOFError, OSError), Connection(socket) as connection:
        connection.send("started")
        job: Job = connection.recv()
        while True:
            connection.send(job(handle, connection.recv()))
