"""Child processes that are listened to: a line at a time, until they end, with all that they started.

A child ends when its parent does, however that is: it reads its stdin, which then closes.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

GRACE_SECONDS = 5.0  # from an interrupt until a process is killed
LOOK_SECONDS = 0.05  # between two looks at whether a process has ended


class Stopped(Protocol):
    """Such as a `threading.Event`."""

    def wait(self, timeout: float, /) -> bool:
        """Waits so many seconds, or less; whether the end has come."""


def watch(
    words: Sequence[str],
    *,
    out: Callable[[str], None],
    err: Callable[[str], None],
    environment: Mapping[str, str],
    timeout: float | None = None,
    stopped: Stopped,
    folder: Path | None = None,
) -> str:
    """Starts a process, listens until it has ended, and ends what it has left behind.

    Args:
        words: The command.
        out: Gets each line on its stdout.
        err: Gets each line on its stderr; no longer when it is being ended.
        environment: Its environment variables.
        timeout: Minutes after which it is ended.
        stopped: Set when it shall end.
        folder: Its working folder; by default this process's.

    Returns:
        How it ended.

    Raises:
        OSError: It cannot be started.
    """
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,  # which closes when this process ends, however that is
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,  # Ctrl-C is for this process, which ends the others
        env=dict(environment),
        cwd=folder,
    )
    assert process.stdin and process.stdout and process.stderr
    ending = threading.Event()
    readers = [
        threading.Thread(target=_read, args=(process.stdout, out, threading.Event()), daemon=True),
        threading.Thread(target=_read, args=(process.stderr, err, ending), daemon=True),
    ]
    late = time.monotonic() + 60 * timeout if timeout else float("inf")
    why = ""
    try:
        for reader in readers:
            reader.start()
        while process.poll() is None and not why:
            if stopped.wait(LOOK_SECONDS):
                why = "it was interrupted"
            elif time.monotonic() > late:
                why = f"it took more than {timeout:g} minutes (--timeout)"
    finally:
        if process.poll() is None:
            ending.set()
        _end(process)
        for reader, stream in zip(readers, (process.stdout, process.stderr), strict=True):
            reader.join(GRACE_SECONDS)
            if not reader.is_alive():  # else a process that left the group still has it
                stream.close()
    return why or ended_by(process.returncode)


def _read(stream: IO[str], take: Callable[[str], None], ending: threading.Event) -> None:
    with suppress(ValueError, OSError):  # closed meanwhile
        for line in stream:
            if not ending.is_set():
                take(line.rstrip("\n"))


def _end(process: "subprocess.Popen[str]") -> None:
    """Ends a process and all that it started, with time to clean up if it is still there."""
    if process.poll() is None:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGINT)
            process.wait(GRACE_SECONDS)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        process.stdin.close()


def ended_by(code: int) -> str:
    """How a process without a result ended, from its exit code."""
    if code >= 0:
        return f"its process ended with exit code {code} and no result"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "an unknown signal"
    hint = ", as the system does where memory runs out" if -code == signal.SIGKILL else ""
    return f"its process was killed by signal {-code} ({name}){hint}"


def end_with(parent: int) -> None:
    """Waits until the other end of a pipe closes; then this process ends, and all that it started."""
    with suppress(OSError):
        while os.read(parent, 1024):
            pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
