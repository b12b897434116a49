"""Child processes: what they say is heard, how they end is known, and nothing that they started is left."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from capsbench.system.children import ended_by, watch


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    late = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < late
        time.sleep(0.01)


def watched(program: str, stopped: threading.Event | None = None, timeout: float | None = None) -> tuple[str, str, str]:
    out: list[str] = []
    err: list[str] = []
    words = [sys.executable, "-S", "-c", program]
    how = watch(
        words,
        out=out.append,
        err=err.append,
        environment=os.environ,
        timeout=timeout,
        stopped=stopped or threading.Event(),
    )
    return how, "|".join(out), "|".join(err)


def test_a_child_is_heard() -> None:
    how = watched("import sys; print('a\\nb'); sys.stderr.write('c'); sys.exit(3)")
    assert how == ("its process ended with exit code 3 and no result", "a|b", "c")


def test_a_signal_is_named() -> None:
    how, _, _ = watched("import os; os.kill(os.getpid(), 9)")
    assert how == "its process was killed by signal 9 (SIGKILL), as the system does where memory runs out"
    assert ended_by(-11) == "its process was killed by signal 11 (SIGSEGV)"
    assert ended_by(-200) == "its process was killed by signal 200 (an unknown signal)"


FAMILY = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN if {stubborn} else signal.default_int_handler)
if not os.fork():
    open("grandchild", "w").write(str(os.getpid()))
    time.sleep(600)
while not os.path.exists("grandchild") or not open("grandchild").read():
    time.sleep(0.01)
print("there", flush=True)
if {stays}:
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux who lives")
@pytest.mark.parametrize("stubborn", [False, True])
def test_what_is_stopped_leaves_nothing_behind(stubborn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsbench.system.children.GRACE_SECONDS", 0.5)
    stopped = threading.Event()

    def stop() -> None:
        wait_for(lambda: Path("grandchild").exists() and Path("grandchild").read_text() != "")
        stopped.set()

    thread = threading.Thread(target=stop)
    thread.start()
    how, _, err = watched(FAMILY.format(stubborn=stubborn, stays=True), stopped)
    thread.join()
    assert (how, err) == ("it was interrupted", "")
    wait_for(lambda: gone(int(Path("grandchild").read_text())))


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux who lives")
def test_what_a_child_has_started_ends_with_it_and_is_not_waited_for() -> None:
    begun = time.monotonic()
    how, out, _ = watched(FAMILY.format(stubborn=False, stays=False))
    assert (how, out) == ("its process ended with exit code 0 and no result", "there")
    assert time.monotonic() - begun < 60
    wait_for(lambda: gone(int(Path("grandchild").read_text())))


def test_a_child_that_takes_too_long_is_ended() -> None:
    how, _, _ = watched("import time; time.sleep(600)", timeout=0.005)
    assert how == "it took more than 0.005 minutes (--timeout)"


PARENT = """
import os, sys, threading
from capsbench.system.children import watch
child = "import os, threading, time; from capsbench.system.children import end_with; "
child += "threading.Thread(target=end_with, args=(0,), daemon=True).start(); "
child += "os.fork(); open(f'pid{os.getpid()}', 'w'); time.sleep(600)"
watch([sys.executable, "-c", child], out=print, err=print, environment=os.environ, stopped=threading.Event())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux who lives")
def test_children_end_when_their_parent_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        wait_for(lambda: len(list(Path().glob("pid*"))) == 2)
    finally:
        parent.kill()
        parent.wait()
    pids = [int(path.name.removeprefix("pid")) for path in Path().glob("pid*")]
    with suppress(AssertionError):
        wait_for(lambda: all(map(gone, pids)), 20)
    left = [pid for pid in pids if not gone(pid)]
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left
