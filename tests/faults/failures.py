"""Makes the calls of a generation fail, one after the other, and fills real disks under it.

What is run is the command line, in a forked child: its exit code, and what it says on stderr.
"""

import errno
import json
import mmap
import os
import random
import re
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import cache
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

from capsbench.cli import main as command
from capsbench.data import embedded
from capsbench.data.columns import block_range
from capsbench.files.datafile import DataFile
from capsbench.system import disk as durability

from .forked import forked

COUNT = 10_000  # three blocks
PATH = Path("disk/x.h5")
PARTIAL = Path("disk/x.h5.partial")
NAMES = ["x.h5", "x.json"]
GENERATE = ["generate", "padded", "--split", "test", "--digits", "embedded", "--count", str(COUNT)]
GENERATE += ["--set", "size=28", "--set", "shift=2", "--out", str(PATH), "--json"]

FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
FULL = (errno.ENOSPC, errno.EDQUOT)
CALLS: dict[str, Any] = {
    "open": os,
    "pwrite": os,
    "posix_fallocate": os,
    "fsync": os,
    "fdatasync": os,
    "replace": Path,
    "unlink": Path,
}
HARMLESS = ("unlink", "fdatasync")
"""Calls that a run may do without: a lock's name that stays behind, and an early flush that comes too late."""

met = mmap.mmap(-1, 1)
"""Shared with every child: whether the fault was met."""

made = memoryview(mmap.mmap(-1, 8 * len(CALLS))).cast("Q")
"""Shared with every child: how many calls of each name it made."""

SIZES = [*range(4, 41, 4), 48, 64, 96, 128, 256, 512, 1024, 2048, 4096, 6144, 7168, 7680, 7700, 7720, 7724, 7728, 7732]
SIZES += [7740, 7760, 7800, 7900, 8000]
"""Of a disk, in kB; the file has 7,730."""


@dataclass(frozen=True)
class Said:
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """Its error; without, what else it said."""
        return self.err[self.err.find("Error: ") :].rstrip("\n")


@dataclass(frozen=True)
class Fault:
    """The ``number``-th call of a name fails, or it and all that follow."""

    name: str
    number: int
    error: int
    lasting: bool


NONE = Fault("", 0, 0, lasting=False)


def fail(fault: Fault) -> None:
    """Puts a fault into this process."""
    durability.FLUSH_SECONDS = 0.003
    broken = False
    for place in range(len(CALLS)):
        made[place] = 0

    def doomed(place: int, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal broken
            made[place] += 1
            now = (name, made[place]) == (fault.name, fault.number)
            broken = broken or (now and fault.lasting)
            if now or (broken and (name != "unlink" or fault.error == errno.EROFS)):
                met[0] = 1
                raise OSError(fault.error, os.strerror(fault.error))
            return real(*arguments, **options)

        return call

    for place, (name, owner) in enumerate(CALLS.items()):
        setattr(owner, name, doomed(place, name, getattr(owner, name)))


def said(arguments: list[str], prepare: Callable[[], object] = lambda: None) -> Said:
    """What a command says and ends with in a child of its own, where something was done before it."""

    def act() -> str:
        for handle, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), handle)
        prepare()
        try:
            command(arguments)
        except SystemExit as stop:
            return str(stop.code)
        return "no exit"

    end = forked(act)
    assert end.code == 0, f"{end.said} {Path('err').read_text()}"
    return Said(int(end.said), Path("out").read_text(), Path("err").read_text())


def clear() -> None:
    """Removes whatever is on the disk."""
    for path in PATH.parent.iterdir():
        path.unlink()


class Failing:
    """What every campaign of this file holds a run to."""

    def __init__(self) -> None:
        PATH.parent.mkdir()
        for name in ("fsync", "fdatasync"):  # a failed run loses nothing that the system has
            setattr(os, name, lambda handle: None)
        embedded.read_embedded = cache(embedded.read_embedded)  # what no child need do again
        with redirect_stdout(StringIO()), suppress(SystemExit):
            command([*GENERATE, "--count", "3"])  # no child need import again
        clear()
        whole = said(GENERATE)
        assert whole.code == 0, whole
        self.expected = PATH.read_bytes()
        self.counts: Counter[str] = Counter()

    def refused(self, run: Said, error: int, *, sizes: bool) -> None:
        """Holds a run to how it must end: exit code 4, one line or two, the cause, and for a full disk the sizes."""
        assert run.code == 4, run
        assert run.out == "", run
        assert "Traceback" not in run.err, run.err
        assert run.error.startswith("Error: ") and run.error.count("\n") <= 1, run.err
        assert os.strerror(error) in run.error or " needs " in run.error, run.error
        if sizes:
            size = r"\d[\d.]* (B|kB|MB|GB|TB)"
            assert re.search(rf" needs {size}; only {size} is free\. ", run.error), run.error
        if PATH.exists():
            assert PATH.read_bytes() == self.expected, "a file under its final name is incomplete"
            self.counts["failed when the file was whole"] += 1
        self.counts["exit code 4"] += 1

    def resumed(self) -> None:
        """The next run draws what is missing, and no more."""
        missing = 0 if PATH.exists() else COUNT
        if PARTIAL.exists():
            bad = DataFile(PARTIAL).bad_blocks()
            missing = sum(stop - start for start, stop in (block_range(block, COUNT) for block in bad))
            self.counts["resumed"] += 1
            self.counts["of these with blocks to keep"] += missing < COUNT
        again = said(GENERATE)
        assert again.code == 0, again
        assert json.loads(again.out)[0]["drawn"] == missing, again.out
        assert PATH.read_bytes() == self.expected, "the file of the next run differs"
        assert sorted(path.name for path in PATH.parent.iterdir()) == NAMES


def main(seed: str, share: str) -> None:
    """Fails every call of a run, or a share of them, in every way, and prints what that was."""
    draw = random.Random(int(seed))
    failing = Failing()
    clear()
    said(GENERATE, lambda: fail(NONE))
    chosen = [fault for fault in faults(dict(zip(CALLS, made, strict=True))) if draw.random() < float(share)]
    absent: set[Fault] = set()
    for fault in chosen:
        if replace(fault, number=0) in absent:
            continue
        try:
            if not fails(failing, fault):
                absent.add(replace(fault, number=0))  # a run has no call of this number, and so none of a larger one
        except AssertionError as problem:
            problem.add_note(f"seed {seed}, {fault}, {os.strerror(fault.error)}")
            raise
    print(json.dumps({"failed calls": failing.counts["cases"], **dict(failing.counts)}))  # noqa: T201


def faults(calls: Mapping[str, int]) -> Iterator[Fault]:
    """Every fault that a run can meet, and one that it cannot: of the calls of one name each number in turn."""
    for error, lasting, name in product(FAULTS, (False, True), CALLS):
        if name != "unlink" or error == errno.EROFS:  # a full disk lets files be removed
            last = 6 if name == "fdatasync" else calls[name] + 1  # how many of those is a matter of time
            yield from (Fault(name, number, error, lasting) for number in range(1, last + 1))


def fails(failing: Failing, fault: Fault) -> bool:
    """One run with a fault, and the one after it; whether the fault was met."""
    clear()
    met[0] = 0
    run = said(GENERATE, lambda: fail(fault))
    if not met[0]:
        assert run.code == 0, run
        return fault.name == "fdatasync" and fault.number < 3  # which is a matter of time
    failing.counts["cases"] += 1
    if run.code == 0 and fault.name in HARMLESS:
        assert PATH.read_bytes() == failing.expected
        failing.counts["harmless"] += 1
        return True
    data = fault.name in ("pwrite", "posix_fallocate")
    failing.refused(run, fault.error, sizes=data and fault.error in FULL)
    left = {path.name for path in PATH.parent.iterdir()}
    if fault.error != errno.EROFS:
        assert not {"x.h5.new", "x.h5.lock", "x.json.new"} & left, left
    failing.resumed()
    return True


@contextmanager
def disk(*options: str) -> Iterator[None]:
    """A small disk in the place of the folder, for root only."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "capsbench", "disk"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "disk"], check=True)


def remount(options: str) -> None:
    """Changes the disk's size, or whether it may be written to."""
    subprocess.run(["mount", "-o", f"remount,{options}", "disk"], check=True)


def untold() -> None:
    """The system says that there is room, and reserves none."""
    durability.shutil.disk_usage = lambda path: type("Usage", (), {"free": 10**12})  # type: ignore[attr-defined]


def unreserved() -> None:
    """A file system, too, that can reserve no space: the disk fills in the middle of a block."""
    untold()

    def cannot(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    os.posix_fallocate = cannot


def disks(seed: str, share: str) -> None:
    """Fills disks of many sizes, and makes them larger for the next run."""
    draw = random.Random(int(seed))
    failing = Failing()
    ways = {"told": lambda: None, "untold": untold, "unreserved": unreserved}
    for way, prepare in ways.items():
        for size in SIZES:
            if draw.random() >= float(share) or (way == "unreserved" and size < 8):
                continue  # where a hole is read through a map this kind of disk fills it: on a full one that is fatal
            try:
                with disk(f"size={size}k"):
                    run = said(GENERATE, prepare)
                    failing.counts["disks"] += 1
                    if run.code == 0:
                        assert size > 7700
                        failing.counts["large enough"] += 1
                        continue
                    failing.refused(run, errno.ENOSPC, sizes=True)
                    assert way == "unreserved" or size >= 7732 or not list(PATH.parent.iterdir())
                    remount("size=20m")
                    failing.resumed()
            except AssertionError as problem:
                problem.add_note(f"seed {seed}, a disk of {size} kB, {way}")
                raise
    refused_by_the_system(failing)
    print(json.dumps(dict(failing.counts)))  # noqa: T201


def refused_by_the_system(failing: Failing) -> None:
    """Disks without room for another name, and disks that may not be written to: at first, or from some time on."""
    for names in range(1, 7):
        with disk("size=20m", f"nr_inodes={names}"):
            run = said(GENERATE)
            if run.code:
                failing.refused(run, errno.ENOSPC, sizes=False)
                failing.counts["disks without names"] += 1
                remount("nr_inodes=100")
            failing.resumed()
    with disk("size=20m"):
        remount("ro")
        failing.refused(said(GENERATE), errno.EROFS, sizes=False)
        remount("rw")
        failing.resumed()
        remount("ro")
        again = said(GENERATE)
        assert again.code == 0, again  # it is whole: there is nothing to write
        assert PATH.read_bytes() == failing.expected
    failing.counts["read-only disks"] += 2


def limits(seed: str, step: str) -> None:
    """A limit on the size of files, at any byte: even the header's writes, which are libhdf5's, fail."""
    failing = Failing()
    sizes = [*range(0, 4200, 300), 5000, 100_000, len(failing.expected) - 1]
    for size in sizes[int(seed) % int(step) :: int(step)]:
        clear()

        def prepare(size: int = size) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        # What the command says goes into pipes, which have no such limit.
        done = subprocess.run(
            [sys.executable, "-m", "capsbench", *GENERATE],
            preexec_fn=prepare,
            capture_output=True,
            text=True,
            check=False,
        )
        failing.refused(Said(done.returncode, done.stdout, done.stderr), errno.EFBIG, sizes=True)
        assert not list(PATH.parent.iterdir()), size
        failing.counts["limits"] += 1
    failing.resumed()
    print(json.dumps(dict(failing.counts)))  # noqa: T201
