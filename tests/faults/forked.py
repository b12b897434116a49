"""Something done in a forked child with limits on its memory and its time, and how that ended.

For a process without threads only, as each campaign is: a fork takes no thread but the one that asks for it along.
"""

import os
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

FAILED = 1
"""The exit code of a child whose act raised an exception; its traceback is what it said."""

MOST_SECONDS = 30.0


@dataclass(frozen=True)
class End:
    """How a child ended.

    Attributes:
        code: 0, `FAILED`, or the number of the signal that killed it, negative: -14 if its time was up.
        said: What its act returned, or its traceback.
        seconds: How long it took.
        growth: Bytes by which its memory grew at most, in resident pages.
    """

    code: int
    said: str
    seconds: float
    growth: int


class Child:
    """A forked child that is at work.

    Args:
        act: What it does; the text is what it has to say.
        seconds: It is killed after so long.
        growth: Bytes of address space that it may take beyond those of its parent; None for no limit.
    """

    def __init__(self, act: Callable[[], str], *, seconds: float = MOST_SECONDS, growth: int | None = None) -> None:
        # A file and no pipe: what a child leaves behind would hold the pipe open.
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # until it ends
        self._begun = time.perf_counter()
        self.pid = os.fork()
        if self.pid == 0:
            _act(act, self._said.fileno(), seconds, growth)

    def end(self) -> End:
        """Waits for it."""
        _, status, used = os.wait4(self.pid, 0)
        seconds = time.perf_counter() - self._begun
        with self._said as said:
            said.seek(0)
            resident = int.from_bytes(said.read(8), "little")
            text = said.read().decode(errors="replace")
        return End(os.waitstatus_to_exitcode(status), text, seconds, used.ru_maxrss * 1024 - resident)


def forked(act: Callable[[], str], *, seconds: float = MOST_SECONDS, growth: int | None = None) -> End:
    """How an act ends in a child of its own; see `Child`."""
    return Child(act, seconds=seconds, growth=growth).end()


def _act(act: Callable[[], str], said: int, seconds: float, growth: int | None) -> None:
    """All that the child ever does."""
    code = FAILED
    try:
        os.write(said, _status("VmRSS").to_bytes(8, "little"))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends it even deep in a library
        signal.setitimer(signal.ITIMER_REAL, seconds)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if growth is not None:
            resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + growth, resource.RLIM_INFINITY))
        text = act()
        code = 0
    except BaseException:
        text = traceback.format_exc()
    finally:
        os.write(said, text.encode(errors="replace"))
        os._exit(code)


def _status(key: str) -> int:
    """Bytes of memory of this process, of one kind."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)
