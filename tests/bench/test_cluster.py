"""Cells on a Dask cluster of two workers: what they say comes back, and whatever dies is named."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from capsbench.bench import cluster, remote
from capsbench.bench.apart import Apart
from capsbench.bench.planning import Plan, plan_run
from capsbench.bench.running import Outcome, engine_of, run_plan
from capsbench.errors import CellsFailedError, UsageError
from capsbench.version import VERSION

pytestmark = pytest.mark.skipif(find_spec("distributed") is None, reason="Dask is an extra")

TELL = "import json, os, sys, time; tell = lambda **event: print(json.dumps(event), flush=True)\n"
SAYS = """
tell(line='half')
print('a word', file=sys.stderr, flush=True)
time.sleep(1)
tell(failed='no threads but ' + os.environ['OMP_NUM_THREADS'])
"""
DIES = "print('last words', file=sys.stderr, flush=True); os._exit(3)"
KILLS = "os.kill(os.getppid(), 9); sys.stdin.read()"  # ends with its parent, as a cell does
SLEEPS = "open({place!r}, 'w').close(); sys.stdin.read()"
DONE = "tell(done=True)"
WRITES = """
from pathlib import Path
path = Path(sys.argv[-1].removeprefix('--out='), {name!r})
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text('{{"schema_version": 1}}')
path.with_suffix('.jsonl').write_text('log')
tell(done=True)
"""


class Dask:
    """A scheduler and its workers, started by hand."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.processes: list[subprocess.Popen[bytes]] = []
        port = self.address.rpartition(":")[2]
        self._start("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
        for number in (1, 2):
            options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", f"worker{number}"]
            self._start("worker", self.address, "--host", "127.0.0.1", *options)

    def _start(self, *words: str) -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
            "OMP_NUM_THREADS": "1",  # as Dask's nannies set it
        }
        words = (
            "-m",
            "distributed.cli.dask_scheduler" if words[0] == "scheduler" else "distributed.cli.dask_worker",
            *words[1:],
        )
        with Path(f"dask{len(self.processes)}.log").open("wb") as out:
            self.processes.append(subprocess.Popen([sys.executable, *words], env=environment, stdout=out, stderr=out))

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    here = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("dask"))
    try:
        started = Dask()
    finally:
        os.chdir(here)
    yield started
    started.end()


def plan(seeds: int, **options: Any) -> Plan:
    stated: dict[str, Any] = {"models": ["cnn-pool"], "preset": "smoke", "digits": "embedded", "device": "cpu"}
    return plan_run("affine", **(stated | {"out": "runs", "seeds": range(seeds)} | options))


def ran(
    made: Plan, address: str, programs: list[str], monkeypatch: pytest.MonkeyPatch, **how: Any
) -> tuple[Outcome, list[str]]:
    """What comes of a run whose cells are these programs."""
    words = {
        cell.id: [sys.executable, "-S", "-c", TELL + program]
        for cell, program in zip(made.cells, programs, strict=True)
    }
    monkeypatch.setattr(cluster, "command", lambda cell, plan, **changes: words[cell.id])
    lines: list[str] = []
    with engine_of(made, Apart(scheduler=address, **how)) as engine:
        return run_plan(made, lines.append, engine=engine), lines


def test_what_workers_say_comes_back_and_each_death_is_named(dask: Dask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    made = plan(3)
    outcome, lines = ran(made, dask.address, [SAYS, DIES, DONE], monkeypatch)
    why = [reason for _, reason in outcome.failed]
    assert why[0] == "no threads but 5"
    assert why[1].startswith(
        "its process ended with exit code 3 and no result: last words (its last lines: runs/affine/"
    )
    assert " on worker tcp://127.0.0.1:" in why[1]
    assert "has finished it, but runs/affine/" in why[2] and why[2].endswith("Share this folder, or use --collect")
    said = [line.partition("seed 0: ")[2] for line in lines if "seed 0" in line]
    assert set(said[:2]) == {"half", "a word"} and said[2:] == ["failed: no threads but 5"]


def test_the_cores_of_a_worker_are_shared_out(dask: Dask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    outcome, _ = ran(plan(1), dask.address, [SAYS], monkeypatch)
    assert outcome.failed[0][1] == f"no threads but {max(1, len(os.sched_getaffinity(0)) // 2)}"


def test_results_are_sent_back_where_no_folder_is_shared(dask: Dask, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(1)
    path = made.path(made.cells[0])
    monkeypatch.setattr("capsbench.bench.running.load_result", lambda path: json.loads(path.read_bytes()))
    outcome, _ = ran(made, dask.address, [WRITES.format(name=str(path.relative_to("runs")))], monkeypatch, collect=True)
    assert not outcome.failed and path.read_text() == '{"schema_version": 1}'
    assert path.with_suffix(".jsonl").read_text() == "log" and len(list(path.parent.iterdir())) == 2


def test_a_cluster_that_cannot_measure_the_cells_is_refused(dask: Dask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WAITING_SECONDS", 0.1)
    lines: list[str] = []
    on_gpu = plan(1, device="cuda", elsewhere=True)
    start = f"dask worker {dask.address} --nthreads 1 --resources GPU=1"
    with (
        pytest.raises(UsageError, match=f"No worker with the resource GPU has come .*{start}"),
        engine_of(on_gpu, Apart(scheduler=dask.address), lines.append),
    ):
        pass
    assert lines == [f"Waiting up to 0.1 seconds for a worker with the resource GPU. Start one: {start}"]
    monkeypatch.setattr(cluster, "VERSION", "9.9")
    with (
        pytest.raises(
            UsageError, match=rf"This is capsbench 9\.9, and of 2 workers 2 differ: tcp.* has capsbench {VERSION}"
        ),
        engine_of(plan(1), Apart(scheduler=dask.address)),
    ):
        pass
    monkeypatch.setattr(cluster, "CONNECTING_SECONDS", 0.3)
    with (
        pytest.raises(UsageError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:9"),
        engine_of(plan(1), Apart(scheduler="tcp://127.0.0.1:9")),
    ):
        pass
    with (
        pytest.raises(UsageError, match=r"There is no scheduler file nowhere\.json"),
        engine_of(plan(1), Apart(scheduler="nowhere.json")),
    ):
        pass


@pytest.mark.parametrize("how", [{"jobs": 2}, {"isolate": True}])
def test_a_cluster_has_no_jobs(how: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="leave --jobs and --isolate"):
        Apart(scheduler="x", **how)
    with pytest.raises(UsageError, match="needs --scheduler"):
        Apart(collect=True)


def test_without_dask_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with (
        pytest.raises(UsageError, match=r"pip install 'capsbench\[dask\]'"),
        engine_of(plan(1), Apart(scheduler="tcp://127.0.0.1:9")),
    ):
        pass


@pytest.mark.parametrize("collect", [False, True])
def test_a_cell_has_the_same_outcome_alone_and_on_a_worker(
    dask: Dask, collect: bool, scale: Callable[[int, int], int]
) -> None:
    if not scale(0, 1):
        pytest.skip("takes half a minute: part of make faults; test_apart.py has the same of a process of its own")
    made = plan(1, out="alone")
    (alone,) = run_plan(made).results
    made = plan(1, out="cluster")
    with engine_of(made, Apart(scheduler=dask.address, collect=collect)) as engine:
        (there,) = run_plan(made, engine=engine).results
    assert alone.cell == there.cell and alone.environment["threads"] == there.environment["threads"]
    times = ("training_seconds", "images_per_second")
    metrics = [{key: one.metrics[key] for key in one.metrics if key not in times} for one in (alone, there)]
    assert json.dumps(metrics[0]) == json.dumps(metrics[1])


def test_a_killed_worker_costs_a_cell_and_a_killed_scheduler_ends_the_run(
    dask: Dask, monkeypatch: pytest.MonkeyPatch, survived: Callable[[str, int], None]
) -> None:
    made = plan(2)
    outcome, _ = ran(made, dask.address, [KILLS, SAYS], monkeypatch)
    why = [reason for _, reason in outcome.failed]
    assert why[0].startswith("KilledWorker: each worker that Dask gave it to died, the last at tcp://127.0.0.1:")
    assert why[1].startswith("no threads but")

    place = str(Path("began").absolute())
    began = time.monotonic()

    def kill() -> None:
        while not Path(place).exists() and time.monotonic() - began < 60:
            time.sleep(0.02)
        dask.processes[0].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(CellsFailedError, match="went away"):
        ran(plan(1, out="other"), dask.address, [SLEEPS.format(place=place)], monkeypatch)
    thread.join()
    survived("A Dask worker or the scheduler is killed", 2)


def test_a_task_of_another_version_is_refused_on_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    class Worker:
        address = "tcp://there"

    monkeypatch.setattr("distributed.get_worker", Worker)
    task = remote.Task(
        cell="", words=[], folder=".", path="", collect=False, threads={}, timeout=None, topic="", version="0.0"
    )
    assert remote.measure_on_worker(task).why == f"it has capsbench {VERSION}, and the run has 0.0"


def test_a_cell_on_a_worker_takes_no_options_from_the_workers_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    class Worker:
        address = "tcp://there"
        local_directory = "there"
        state = type("State", (), {"nthreads": 1})

        def get_current_task(self) -> str:
            return "task"

    found: dict[str, str] = {}
    monkeypatch.setenv("CAPSBENCH_RUN_SHARD", "0/2")
    monkeypatch.setenv("CAPSBENCH_DIGITS", "there")
    monkeypatch.setattr("distributed.get_worker", Worker)
    monkeypatch.setattr(remote, "watch", lambda words, *, environment, **_: found.update(environment) or "it ended")
    task = remote.Task(cell="", words=[], folder=".", path="", collect=False, threads={}, timeout=None, topic="")
    assert remote.measure_on_worker(task).why == "it ended"
    assert "CAPSBENCH_RUN_SHARD" not in found and found["CAPSBENCH_DIGITS"] == "there"
