"""Kills a generation again and again: at a system call, in the middle of a write, or at any time at all.

What is killed is the process that was asked for the file or, where it has workers, one of those alone. A dead run's
workers come to this process, so that none of them can live on unseen. With workers the run itself is slow, so that they
come to do a part of it.
"""

import ctypes
import json
import mmap
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py

from capsbench.data.recipes import Recipe, make_recipe
from capsbench.errors import CapsbenchError, StorageError
from capsbench.files.generation import generate_file

from .forked import Child, End, forked

PATH = Path("x.h5")
NAMES = ["x.h5", "x.json"]
HOW = ("before", "amid", "after")
ADOPT = 36  # PR_SET_CHILD_SUBREAPER of Linux's prctl
PATIENCE = 10.0  # seconds in which what a dead run left behind must be gone

CALLS = {
    "header": ((h5py.h5f, "create"), (h5py.h5d, "create")),
    "blocks": ((os, "pwrite"), (os, "pwritev"), (os, "write"), (os, "ftruncate"), (os, "posix_fallocate")),
    "sync": ((os, "fsync"), (os, "fdatasync")),
    "rename": ((os, "replace"), (os, "rename"), (os, "unlink")),
    "open and close": ((os, "open"), (os, "close"), (os, "fork")),
}
"""Everything that a run asks of the system, by phase; a write of 32 bytes is of the phase "digests"."""

PHASES = [*CALLS, "digests"]

SLOW = 0.02  # seconds a write of a run with workers

WORKER = """
import os, signal
blow = os.environ.get("CAPSBENCH_BLOW")
if blow:
    number, share = int(blow.split()[0]), float(blow.split()[1])
    real = os.pwrite
    def pwrite(handle, content, offset):
        global number
        number -= 1
        if number == 0:
            real(handle, bytes(content)[: int(share * len(content))], offset)
            os.mkdir("first/struck")
            os.kill(os.getpid(), signal.SIGKILL)
        return real(handle, content, offset)
    os.pwrite = pwrite
"""
"""What a worker, which is a fresh interpreter, does first: it is killed in the middle of one of its own writes."""

WORKER_WRITES = 15  # of three blocks

counted = memoryview(mmap.mmap(-1, 8 * len(PHASES))).cast("Q")
"""Shared with every child: the number of calls in each phase."""


@dataclass(frozen=True)
class Blow:
    """Which call of which phase is the last of its process, and what share of a write is still done."""

    phase: str
    number: int
    how: str = "before"
    share: float = 0.0


NONE = Blow("", 0)


def recipe_of(count: int) -> Recipe:
    """A light data set."""
    return make_recipe("padded", split="test", digits="embedded", count=count, parameters={"size": 28, "shift": 2})


def doomed(real: Callable[..., Any], usual: str, blow: Blow, pause: float) -> Callable[..., Any]:
    """A system call whose process is killed before, amid or after it, if it is the one that the blow is for."""

    def call(*arguments: Any, **options: Any) -> Any:
        written = len(arguments[1]) if real.__name__ == "pwrite" else 0
        time.sleep(pause if written else 0)
        phase = "digests" if written == 32 else usual
        counted[PHASES.index(phase)] += 1
        if (phase, counted[PHASES.index(phase)]) != (blow.phase, blow.number):
            return real(*arguments, **options)
        if blow.how == "amid" and written:
            real(arguments[0], bytes(arguments[1])[: int(blow.share * written)], *arguments[2:])
        if blow.how == "after":
            real(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    return call


def run(recipe: Recipe, workers: int, force: bool, blow: Blow = NONE) -> str:
    """Makes the file, or is killed on the way; what came of it, in words."""
    for phase, calls in CALLS.items():
        for owner, name in calls:
            setattr(owner, name, doomed(getattr(owner, name), phase, blow, SLOW if workers > 1 else 0))
    sys.path.insert(0, str(Path("first").absolute()))
    os.environ["CAPSBENCH_BLOW"] = f"{blow.number} {blow.share}" if blow.phase == "a worker" else ""
    try:
        made = generate_file(recipe, PATH, force=force, workers=workers)
    except CapsbenchError as error:
        assert "\n" not in str(error)
        return f"{type(error).__name__}: {error}"
    return f"made, {made.written} drawn"


def workers_of(pid: int) -> list[int]:
    """The processes that a process has started, as long as it lives."""
    with suppress(OSError):
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def where() -> str:
    """How far a run came, from what it left on the disk."""
    partial = PATH.with_name("x.h5.partial")
    if PATH.exists() and not partial.exists():
        return "renamed"
    return "partial" if partial.exists() else "header" if PATH.with_name("x.h5.new").exists() else "none"


class Killing:
    """The campaign.

    Args:
        seed: Of all its choices.
        workers: Of each run.
        count: Samples of the file.
    """

    def __init__(self, seed: int, workers: int, count: int) -> None:
        self.draw = random.Random(seed)
        self.workers = workers
        Path("first").mkdir()
        Path("first/sitecustomize.py").write_text(WORKER)
        self.recipe, self.other = recipe_of(count), recipe_of(9)
        self.expected = generate_file(self.recipe, Path("whole/x.h5")).path.read_bytes()
        self.counts: Counter[str] = Counter()
        begin()
        whole = self.run_to_the_end(force=False)
        assert whole.said.startswith("made") and PATH.read_bytes() == self.expected, whole
        self.calls, self.seconds = dict(zip(PHASES, counted, strict=True)), whole.seconds
        assert all(self.calls.values()), self.calls

    def run_to_the_end(self, force: bool) -> End:
        """A run that nobody kills; it may have to wait until what a killed one left behind has gone."""
        give_up = time.monotonic() + PATIENCE
        while True:
            end = forked(lambda: run(self.recipe, self.workers, force))
            assert end.code == 0, end.said
            if "Another run is writing" not in end.said or time.monotonic() > give_up:
                return end
            self.counts["had to wait"] += 1
            time.sleep(0.02)

    def kill(self, force: bool) -> bool:
        """One run, killed somewhere; whether it was, before it came to its end."""
        draw = self.draw
        begin()
        if draw.random() < 0.6:
            phase = draw.choice([*PHASES, *["a worker"] * 2 * (self.workers > 1)])
            number = draw.randint(1, self.calls.get(phase, WORKER_WRITES))
            blow = Blow(phase, number, draw.choice(HOW), draw.random())
            end = Child(lambda: run(self.recipe, self.workers, force, blow)).end()
            at = f"at {phase}"
            if struck := Path("first/struck").exists():
                Path("first/struck").rmdir()
        else:
            child = Child(lambda: run(self.recipe, self.workers, force))
            time.sleep(draw.random() * self.seconds)
            workers = workers_of(child.pid) if draw.random() < 0.5 else []
            struck = bool(workers)
            with suppress(ProcessLookupError):
                os.kill(draw.choice(workers) if workers else child.pid, signal.SIGKILL)
            end = child.end()
            at = f"at some time, {where()}"
        assert end.code in (0, -signal.SIGKILL), (end.code, end.said)
        # What is left of a run whose worker was killed ends by itself: well, or with an error that says so.
        assert end.code or end.said.startswith(("made", StorageError.__name__)), end.said
        killed = end.code != 0 or struck or not end.said.startswith("made")
        if killed:
            self.counts[f"killed {'at a worker alone' if end.code == 0 else at}"] += 1
        return killed

    def check(self, old: bytes | None) -> None:
        """Whatever stands under the final name is whole."""
        there = PATH.read_bytes() if PATH.exists() else None
        if there == self.expected:
            self.counts["whole after a kill"] += 1
        else:
            assert there == old, "a file under its final name is incomplete"
            self.counts["unfinished after a kill"] += 1

    def orphans(self) -> None:
        """Waits for what dead runs left behind: they must not live on."""
        give_up = time.monotonic() + PATIENCE
        with suppress(ChildProcessError):
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                assert pid or time.monotonic() < give_up, f"a worker outlives its run by {PATIENCE} seconds"
                self.counts["orphans that ended"] += pid > 0
                time.sleep(0.0 if pid else 0.005)

    def data_set(self, kills: int) -> int:
        """One file, killed several times on its way, and then made to the end; how many kills came in time."""
        for path in Path().glob("x.*"):
            path.unlink()
        force = self.draw.random() < 0.25
        old = generate_file(self.other, PATH).path.read_bytes() if force else None
        done = 0
        for _ in range(kills):
            done += self.kill(force)
            self.check(old)
        end = self.run_to_the_end(force)
        assert end.said.startswith("made"), end.said
        for moment in ("after the next run", "after the workers of the dead ones have ended"):
            assert PATH.read_bytes() == self.expected, f"the file differs {moment}"
            assert sorted(path.name for path in Path().glob("x*")) == NAMES
            self.orphans()
        self.counts["files, each whole in the end"] += 1
        return done


def begin() -> None:
    """Counts anew."""
    for number in range(len(PHASES)):
        counted[number] = 0


def main(seed: str, kills: str, workers: str) -> None:
    """Kills so many times, and prints what that was."""
    ctypes.CDLL(None).prctl(ADOPT, 1, 0, 0, 0)
    for name in ("fsync", "fdatasync"):  # a killed process loses nothing that the system has
        setattr(os, name, lambda handle: None)
    killing = Killing(int(seed), int(workers), 20_000)  # five blocks
    done = 0
    while done < int(kills):
        try:
            done += killing.data_set(killing.draw.randint(1, 4))
        except AssertionError as error:
            error.add_note(f"seed {seed}, after {done} of {kills} kills, {workers} workers")
            raise
    print(json.dumps({"kills": done, **dict(sorted(killing.counts.items())), "differing": 0}))  # noqa: T201


def every_call(seed: str, step: str) -> None:
    """Kills before each system call of a run, or every so many of them, where nothing stands and where a file does."""
    os.fsync = lambda handle: None  # type: ignore[assignment]  # a killed process loses nothing that the system has
    killing = Killing(int(seed), 1, 5000)  # two blocks
    for force in (False, True):
        for phase in PHASES:
            for number in range(1, 1000, int(step)):
                for path in Path().glob("x.*"):
                    path.unlink()
                old = generate_file(killing.other, PATH).path.read_bytes() if force else None
                begin()
                blow = Blow(phase, number)
                end = Child(partial(run, killing.recipe, 1, force, blow)).end()
                killing.check(old)
                assert end.code in (0, -signal.SIGKILL), end.said
                again = killing.run_to_the_end(force)
                assert again.said.startswith("made") and PATH.read_bytes() == killing.expected, (blow, force)
                assert sorted(path.name for path in Path().glob("x*")) == NAMES, (blow, force)
                if end.code == 0:
                    break
                killing.counts["killed calls"] += 1
    print(json.dumps(dict(killing.counts)))  # noqa: T201
