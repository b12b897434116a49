"""Cells in processes of their own: each may end in any way, and costs itself alone."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from capsbench.bench.apart import Apart, command, shares
from capsbench.bench.measuring import Engine
from capsbench.bench.planning import Plan, plan_run
from capsbench.bench.running import run, run_plan
from capsbench.errors import CellsFailedError, ParameterError, UsageError
from capsbench.results.failures import failed_cells
from capsbench.system.disk import lock

FAULTS = """
import ctypes, os, resource, sys
from typing import ClassVar
import torch
from capsbench.suites.affine import Affine

class Faults(Affine):
    needs_digits = False

    def run(self, bench):
        print("a word of the network's", flush=True)
        seed = bench.cell.seed
        if seed == 1:
            print("last words", file=sys.stderr, flush=True)
            os._exit(3)
        if seed == 2:
            ctypes.string_at(0)
        if seed == 3:
            resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
            torch.zeros(2**34)
        return {"seed": seed}
"""

LINEAR = """
import torch
from torch.nn import functional as F

class Linear(torch.nn.Module):
    def __init__(self, *, image_size, classes, pairs=False):
        super().__init__()
        self.layer = torch.nn.Linear(image_size**2, classes)

    def forward(self, images):
        from capsbench.contracts import Output
        return Output(scores=self.layer(images.flatten(1)))

    def loss(self, output, batch):
        return F.cross_entropy(output.scores, batch.labels)
"""


def plan(seeds: list[int], **options: Any) -> Plan:
    Path("faults.py").write_text(FAULTS)
    stated = {"preset": "smoke", "models": ["cnn-pool"], "device": "cpu", "out": "runs"}
    return plan_run("faults.py:Faults", seeds=seeds, **(stated | options))


def test_a_cell_that_ends_its_process_costs_itself_alone(
    scale: Callable[[int, int], int],
    survived: Callable[[str, int], None],
    warm_python: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.executable", warm_python)
    made = plan([1, 2, 3, *range(6, scale(7, 15))])
    outcome = run_plan(made, engine=Apart(jobs=2).engine(made))
    assert [result.metrics["seed"] for result in outcome.results] == [*range(6, scale(7, 15))]
    why = {cell.seed: reason for cell, reason in outcome.failed}
    log = made.path(made.cells[0]).with_suffix(".error.txt")
    assert why.keys() == {1, 2, 3}
    assert why[1] == f"its process ended with exit code 3 and no result: last words (its last lines: {log})"
    said = log.read_text().splitlines()
    assert said[-3:-1] == ["a word of the network's", "last words"]
    assert why[1].startswith(said[-1]) and said[-1].endswith("no result: last words")
    shown = dict(failed_cells([made.folder]))
    assert [*shown] == sorted(cell.name for cell in made.cells[:3])
    assert "SIGSEGV" in shown[made.cells[1].name]  # and not the end of a list of modules
    assert "allocate" in shown[made.cells[2].name]
    assert "was killed by signal 11 (SIGSEGV): Fatal Python error: Segmentation fault" in why[2]
    assert "faults.py" in made.path(made.cells[1]).with_suffix(".error.txt").read_text()  # where it was
    assert "allocate" in why[3]
    assert not any("\n" in reason for reason in why.values())
    assert not list(Path("runs").rglob("*.lock"))

    again = run_plan(made, engine=Engine([lambda *_: "not now"]))
    assert [cell.seed for cell, _ in again.failed] == [1, 2, 3]  # a rerun does what is missing
    survived("A cell of a sweep ends its process", 3)


def test_a_cell_has_the_same_outcome_alone_and_apart(
    scale: Callable[[int, int], int], warm_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", (warm_python, sys.executable)[scale(0, 1)])
    suite = ("mnist", "affine")[scale(0, 1)]  # which also watches a second validation set, and tests each factor
    Path("linear.py").write_text(LINEAR)
    options: dict[str, Any] = {"models": ["linear.py:Linear"], "preset": "smoke", "digits": "embedded", "device": "cpu"}
    options |= {"changes": {"learning_rate": "0.002"}, "seeds": [1]}
    (alone,) = run(suite, **options, out="alone")
    (apart,) = run(suite, **options, out="apart", jobs=2)
    assert alone.cell == apart.cell and alone.environment == apart.environment
    times = ("training_seconds", "images_per_second")
    metrics = [{key: one.metrics[key] for key in one.metrics if key not in times} for one in (alone, apart)]
    assert json.dumps(metrics[0]) == json.dumps(metrics[1])


def test_a_failing_cell_is_tried_again() -> None:
    lines: list[str] = []
    reasons = iter(["one", "two"])
    ((_, why),) = run_plan(plan([4]), lines.append, engine=Engine([lambda *_: next(reasons)], retries=1)).failed
    assert why == "two"
    assert lines == [
        "[1/1] cnn-pool, seed 4: failed: one; it is tried again, 1 time at most",
        "[1/1] cnn-pool, seed 4: failed: two",
    ]
    lines.clear()
    stopped = threading.Event()

    def interrupted(*_: Any) -> str:
        stopped.set()
        return "it was interrupted"

    run_plan(plan([4]), lines.append, engine=Engine([interrupted], retries=1, stopped=stopped))
    assert lines == ["[1/1] cnn-pool, seed 4: it was interrupted"]
    assert Apart(retries=3).engine(plan([4])).retries == 3


def test_a_cell_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr("capsbench.bench.apart.command", lambda cell, plan: sleep)
    made = plan([0])
    ((_, why),) = run_plan(made, engine=Apart(timeout=0.001).engine(made)).failed
    assert why == "it took more than 0.001 minutes (--timeout)"
    assert [reason for _, reason in failed_cells([made.folder])] == [why]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_run_leaves_no_process(jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = "import os, time; open(f'pid{os.getpid()}', 'w'); time.sleep(600)"
    monkeypatch.setattr("capsbench.bench.apart.command", lambda cell, plan: [sys.executable, "-S", "-c", sleep])
    made = plan([0, 1])

    def stop() -> None:
        late = time.monotonic() + 60
        while len(list(Path().glob("pid*"))) < jobs and time.monotonic() < late:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_plan(made, engine=Apart(jobs=jobs, isolate=True).engine(made))
    thread.join()
    pids = [int(path.name.removeprefix("pid")) for path in Path().glob("pid*")]
    assert len(pids) == jobs
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_what_the_machine_has_is_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan([0])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: 7)
    assert [one["OMP_NUM_THREADS"] for one in shares(made, 3)] == ["2", "2", "2"]
    assert [one["OMP_NUM_THREADS"] for one in shares(made, 9)] == ["1"] * 9
    assert all("OMP_NUM_THREADS" not in one for one in shares(made, 1))  # as in this process
    both = plan([0, 1])
    engines: list[Any] = [Apart(jobs=8).engine(one) for one in (made, both)]
    alone, beside = ([slot.keywords["environment"] for slot in engine.slots] for engine in engines)
    assert [one["OMP_NUM_THREADS"] for one in beside] == ["3", "3"]  # of 7, and no more shares than cells
    assert len(alone) == 1 and "OMP_NUM_THREADS" not in alone[0]
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert [one["OMP_NUM_THREADS"] for one in shares(made, 3)] == ["4", "4", "4"]

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    on_gpu = plan([0], device="cuda")
    assert [one["CUDA_VISIBLE_DEVICES"] for one in shares(on_gpu, 3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5a, 3")
    assert [one["CUDA_VISIBLE_DEVICES"] for one in shares(on_gpu, 3)] == ["GPU-5a", "3", "GPU-5a"]
    assert not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


def test_the_command_of_a_cell_asks_for_the_same() -> None:
    changes = {"epochs": "2", "cnn-pool.dropout": "0.1"}
    made = plan([7], changes=changes, tensorboard=False, force=True, out="some where")
    words = command(made.cells[0], made)
    asked = words[words.index("run") + 1 :]
    assert asked == [
        "--preset=smoke",
        "--set=epochs=2",
        "--set=cnn-pool.dropout=0.1",
        "--digits=auto",
        "--out=some where",
        "--force",
        f"--since={made.since}",
        "--suite=faults.py:Faults",
        "--model=cnn-pool",
        "--seeds=7",
        "--device=cpu",
        f"--cell={made.cells[0].id}",
        "--events",
    ]


def test_a_cell_takes_no_options_from_variables_that_its_run_has_used(
    warm_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", warm_python)
    made = plan([6])
    for name, value in {"SHARD": "1/2", "SEEDS": "9", "DRY_RUN": "1", "CONFIG": "missing.toml", "SET": "x=1"}.items():
        monkeypatch.setenv(f"CAPSBENCH_RUN_{name}", value)
    outcome = run_plan(made, engine=Apart(isolate=True).engine(made))
    assert [result.seed for result in outcome.results] == [6], outcome.failed
    monkeypatch.setenv("CAPSBENCH_DIGITS", "there")
    (environment,) = shares(made, 1)
    assert environment["CAPSBENCH_DIGITS"] == "there"


def test_a_class_has_no_name_in_another_process() -> None:
    with pytest.raises(UsageError, match=r"Write it into a file and name it file\.py:attr"):
        space: dict[str, Any] = {"__name__": "__main__"}  # as in a notebook
        exec(LINEAR, space)
        run("affine", models=[space["Linear"]], preset="smoke", jobs=2)


@pytest.mark.parametrize(
    "how", [{"jobs": 0}, {"jobs": 10**6}, {"retries": -1}, {"timeout": 0.0}, {"timeout": float("nan")}]
)
def test_what_makes_no_sense_is_refused(how: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(how))):
        Apart(**how)


def test_what_cannot_be_started_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(CellsFailedError, match="no process could be started: No such file"):
        run("affine", models=["cnn-pool"], preset="smoke", digits="embedded", out="runs", isolate=True)


def test_a_cell_is_found_by_its_id() -> None:
    made = plan([0, 1])
    assert made.only(made.cells[1].id).cells == made.cells[1:]
    with pytest.raises(UsageError, match=r"No cell of this run has the id x\. It has .* may have changed since"):
        made.only("x")


def test_cells_that_another_run_measures_come_last_and_are_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsbench.bench.running.WAITING_SECONDS", 0.01)
    made = plan([6, 7])
    first = made.cells[0]
    made.path(first).parent.mkdir(parents=True)
    order: list[int] = []
    lines: list[str] = []
    busy = threading.Event()

    def measured(cell: Any, *rest: Any) -> str | None:
        order.append(cell.seed)
        with lock(made.path(cell)):  # raises LockedError
            made.path(cell).write_text("done")
        busy.set()
        return None

    def other_run() -> None:
        with lock(made.path(first)):
            began.set()
            busy.wait(60)
            time.sleep(0.1)
            made.path(first).write_text("theirs")

    monkeypatch.setattr("capsbench.bench.running.load_result", lambda path: path.read_text())
    monkeypatch.setattr("capsbench.bench.running._with_other_threads", lambda *_: "")
    monkeypatch.setattr(Plan, "finished", lambda self, cell: self.path(cell).exists() and self.path(cell).read_text())
    began = threading.Event()
    thread = threading.Thread(target=other_run)
    thread.start()
    began.wait(60)
    outcome = run_plan(made, lines.append, engine=Engine([measured]))
    thread.join()
    results: list[Any] = outcome.results
    assert results == ["theirs", "done"]
    assert order[:2] == [6, 7] and set(order[2:]) <= {6}
    assert [line for line in lines if "another" in line] == [
        "[1/2] cnn-pool, seed 6: another run is measuring it; it comes last",
        "[1/2] cnn-pool, seed 6: finished by another run",
    ]


def test_shards_share_out_the_cells_whatever_their_order() -> None:
    one = plan([0, 1, 2], models=["cnn-pool", "cnn"])
    other = plan([2, 0, 1], models=["cnn", "cnn-pool"])
    parts = [{cell.id for cell in one.shard(f"{index}/4").cells} for index in range(4)]
    assert parts == [{cell.id for cell in other.shard(f"{index}/4").cells} for index in range(4)]
    assert sorted(map(len, parts)) == [1, 1, 2, 2] and set().union(*parts) == {cell.id for cell in one.cells}
    assert not one.shard("7/8").cells
    for text in ("2/2", "-1/2", "x", "1/0"):
        with pytest.raises(ParameterError, match="shard must be I/N"):
            one.shard(text)
