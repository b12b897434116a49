"""Work shared out: every piece is done once by somebody, whoever dies meanwhile."""

import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from capsbench.system.processes import child_environment, in_order, interpreter, share_out
from capsbench.version import VERSION

assert VERSION  # a worker finds capsbench where this process does


@dataclass(frozen=True)
class Signing:
    """Each piece leaves a line that says who did it."""

    seconds: float = 0.0
    deadly: int = -1
    chief: int = 0

    def __call__(self, handle: int, piece: int, /) -> int:
        time.sleep(self.seconds)
        if piece == self.deadly and os.getpid() != self.chief:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(handle, f"{piece} {os.getpid()}\n".encode())
        return 10 * piece


SCRIPT = """
import sys
sys.path.append({folder!r})
from test_processes import Signing
from capsbench.system.processes import share_out
import os
job = Signing({seconds}, {deadly}, os.getpid())
handle = os.open("log", os.O_WRONLY | os.O_APPEND)
{meanwhile}
print(sorted(share_out(job, range({pieces}), {workers}, handle)), os.getpid())
"""


def shared(
    pieces: int, workers: int, *, seconds: float = 0.0, deadly: int = -1, meanwhile: str = ""
) -> tuple[Counter[int], set[int], int]:
    """How often each piece was done, the processes that took part, and the first of them."""
    Path("log").write_bytes(b"")
    # In a process of its own: a worker finds a job's class by its module's name.
    script = SCRIPT.format(
        folder=str(Path(__file__).parent),
        pieces=pieces,
        workers=workers,
        seconds=seconds,
        deadly=deadly,
        meanwhile=meanwhile,
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    amounts, _, chief = done.stdout.rpartition(" ")
    assert amounts == str([10 * piece for piece in range(pieces)])
    lines = [tuple(map(int, line.split())) for line in Path("log").read_text().splitlines()]
    return Counter(piece for piece, _ in lines), {who for _, who in lines}, int(chief)


@pytest.mark.parametrize(("pieces", "workers"), [(0, 3), (1, 3), (5, 1)])
def test_no_more_processes_are_started_than_there_is_work_for(pieces: int, workers: int) -> None:
    counts, who, chief = shared(pieces, workers)
    assert counts == Counter(range(pieces))
    assert who <= {chief}


@pytest.mark.parametrize("workers", [2, 3])
def test_all_take_part_and_each_piece_is_done_once(workers: int) -> None:
    counts, who, chief = shared(120, workers, seconds=0.02)
    assert counts == Counter(range(120))
    assert len(who) == workers and chief in who


def test_what_a_worker_that_dies_leaves_undone_is_done_by_the_others() -> None:
    # Piece 60 kills any worker that comes to it, but not the first process.
    counts, who, _ = shared(120, 3, seconds=0.01, deadly=60)
    assert set(counts) == set(range(120)) and max(counts.values()) == 1
    assert len(who) >= 2


def test_a_job_that_no_worker_can_take_is_done_by_this_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"")
    job = Signing()  # of a module that is not to be found outside this run
    handle = os.open(log, os.O_WRONLY | os.O_APPEND)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # if they end before this process has done all, they are warned of
        assert sorted(share_out(job, range(7), 3, handle)) == [10 * piece for piece in range(7)]
    os.close(handle)
    assert {int(line.split()[1]) for line in log.read_text().splitlines()} == {os.getpid()}


def test_workers_that_end_at_their_start_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsbench.system.processes.interpreter", lambda: ["false"])
    log = tmp_path / "log"
    log.write_bytes(b"")
    handle = os.open(log, os.O_WRONLY | os.O_APPEND)
    with pytest.warns(UserWarning, match=r"^2 of 2 worker processes ended early; the others did their work\.$"):
        assert sorted(share_out(Signing(0.1), range(7), 3, handle)) == [10 * piece for piece in range(7)]
    os.close(handle)


def test_what_goes_wrong_in_a_worker_goes_wrong_here() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        list(share_out(Signing(), range(7), 3, 999_999))


def test_workers_end_when_the_work_is_left(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"")
    handle = os.open(log, os.O_WRONLY | os.O_APPEND)
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    if not listed.exists():
        pytest.skip("the system does not list a process's children")
    before = set(listed.read_text().split())  # earlier tests may have left a server of multiprocessing
    steps = share_out(Signing(), range(10**6), 2, handle)
    next(steps)
    workers = set(listed.read_text().split()) - before
    assert workers
    steps.close()
    os.close(handle)
    assert not workers & set(listed.read_text().split())


def test_workers_write_to_the_file_that_was_opened_whatever_has_its_name_by_then() -> None:
    # A run may be killed, and another begin under the same name, before a worker of the first comes to its work.
    another = 'os.rename("log", "ours"); open("log", "w").close()'
    shared(120, 3, seconds=0.01, meanwhile=another)
    assert Path("log").read_bytes() == b""
    lines = [tuple(map(int, line.split())) for line in Path("ours").read_text().splitlines()]
    assert sorted(piece for piece, _ in lines) == list(range(120)) and len({who for _, who in lines}) >= 2


def test_modules_that_lie_about_are_not_run() -> None:
    for name in ("json.py", "subprocess.py", "numpy.py"):
        Path(name).write_text("raise SystemExit(open('run', 'w').close())")
    found = subprocess.run([*interpreter(), "import json, subprocess, numpy"], env=child_environment(), check=False)
    assert found.returncode == 0 and not Path("run").exists()


def test_work_is_handed_over_in_order_and_what_nobody_takes_is_not_begun() -> None:
    begun = []

    def work(piece: int) -> int:
        begun.append(piece)
        time.sleep(0.002 * (piece % 3))
        return piece * piece

    assert list(in_order(work, 50, 4)) == [piece * piece for piece in range(50)]
    begun.clear()
    with closing(in_order(work, 10**9, 4)) as made:
        assert next(made) == 0
    assert len(begun) <= 2 * 4 + 1
    assert list(in_order(work, 0, 4)) == []
