"""One training on several devices: the same samples, the same metrics, and weights but for the order of sums."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import capsbench
from capsbench.data.streaming import Stream
from capsbench.errors import TrainingError
from capsbench.results.result import Result, load_results
from capsbench.system.ranks import Ranks, begun, ranks
from capsbench.training.kept import load_kept
from capsbench.training.together import joined_statistics, shared_batches

NETWORK = """
import os
from pathlib import Path
import torch

class Net(torch.nn.Module):
    steps = 0

    def __init__(self, *, image_size, classes):
        super().__init__()
        layers = torch.nn.Flatten(), torch.nn.Linear(image_size**2, 16), torch.nn.ReLU(), torch.nn.Linear(16, classes)
        self.layers = torch.nn.Sequential(*layers)
        self.unused = torch.nn.Linear(2, 2)

    def forward(self, images):
        Net.steps += self.training
        if Net.steps == 45 and os.environ.get("RANK") == "1" and Path("die").exists():
            Path("die").unlink()
            os.kill(os.getpid(), 9)
        return self.layers(images)
"""
OPTIONS: dict[str, Any] = {"models": ["net.py:Net"], "preset": "smoke", "digits": "embedded", "device": "cpu"}
COMMAND = ["-m", "capsbench", "run", "--model", "net.py:Net", "--preset", "smoke"]
COMMAND += ["--digits", "embedded", "--device", "cpu", "--set", "eval_every=20", "--out", "together"]
TIMES = ("training_seconds", "images_per_second")


def metrics(result: Result) -> dict[str, Any]:
    return {key: value for key, value in result.metrics.items() if key not in TIMES}


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"} | more


def weights(folder: str) -> dict[str, torch.Tensor]:
    (path,) = Path(folder, "weights").glob("*.pt")
    kept = load_kept(path)
    assert kept is not None
    return kept.trained.selected["last"].state


def test_two_processes_train_as_one_does(warm_python: str, scale: Callable[[int, int], int]) -> None:
    suite = ("mnist", "affine")[scale(0, 1)]  # which also watches a second validation set, and tests each factor
    Path("net.py").write_text(NETWORK)
    (alone,) = capsbench.run(suite, **OPTIONS, changes={"eval_every": "20"}, out="alone")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [warm_python, *COMMAND, "--suite", suite, "--json"],  # without pictures
            env=environment(**place, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (out, err), second = (process.communicate(timeout=300) for process in processes)
    assert [process.returncode for process in processes] == [0, 0], err + second[1]
    assert second == ("", "")  # the first alone prints
    assert "net.py:Net" in out and "epoch 1/1" in err
    (together,) = load_results("together")
    losses = [[row.pop("loss") for row in one.metrics["history"]] for one in (together, alone)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert metrics(together) == metrics(alone)
    assert together.cell == alone.cell and together.environment["processes"] == 2
    for name, weight in weights("alone").items():
        torch.testing.assert_close(weights("together")[name], weight, rtol=0, atol=1e-5)
    (log,) = Path("together", suite).glob("*.jsonl")
    assert len(log.read_text().splitlines()) == 3


def test_a_process_that_dies_is_started_again_and_goes_on(
    scale: Callable[[int, int], int], survived: Callable[[str, int], None]
) -> None:
    if not scale(0, 1):
        pytest.skip("takes half a minute: part of make faults")
    Path("net.py").write_text(NETWORK)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    torchrun += ["--max-restarts", "1", *COMMAND, "--suite", "affine"]
    subprocess.run(torchrun, env=environment(), capture_output=True, check=True)
    (whole,) = load_results("together")
    shutil.copytree("together", "whole")
    for options in (["--force"], []):  # the first has an older result, which does not count; the second has none
        Path("die").touch()
        done = subprocess.run([*torchrun, *options], env=environment(), capture_output=True, text=True, check=True)
        # A checkpoint is left out where it takes longer than the work that it saves.
        assert re.search("going on after step (20|40) of 50", done.stderr) and not Path("die").exists()
        (killed,) = load_results("together")
        assert metrics(killed) == metrics(whole) and killed.date > whole.date
        assert all(torch.equal(weight, weights("whole")[name]) for name, weight in weights("together").items())
        shutil.rmtree("together")
    survived("A process of torchrun is killed", 2)


@pytest.mark.parametrize(("count", "size"), [(20, 8), (16, 8), (5, 8), (9, 2), (1, 1)])
def test_each_sample_is_in_one_part(count: int, size: int) -> None:
    data: Stream = capsbench.stream("padded", split="train", count=60, digits="embedded")
    order = np.random.default_rng(0).permutation(60)[:count]
    wanted = [data.batch(order[start : start + size]).images for start in range(0, count, size)]
    parts = [list(shared_batches(data, order, size, Ranks(one, 3), device="cpu", layers=False)) for one in range(3)]
    assert {len(part) for part in parts} == {len(wanted)}
    for number, images in enumerate(wanted):
        found = []
        for one in range(3):
            batch, whole = parts[one][number]
            own = Ranks(one, 3).part(whole)
            assert whole == len(images) and len(batch.images) == max(1, own.stop - own.start)
            found.append(batch.images[: own.stop - own.start])
        assert np.array_equal((torch.cat(found)[:, 0] * 255).round().numpy().astype(np.uint8), images)


def test_batch_normalization_is_refused_by_name_where_it_cannot_be_joined() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    with pytest.raises(TrainingError, match=r"^1 normalizes over a batch\. Each of 2 processes has a part of it"):
        joined_statistics(network, Ranks(0, 2), "cpu")
    joined_statistics(network[:1], Ranks(0, 2), "cpu")


def test_a_run_began_when_torchrun_did(monkeypatch: pytest.MonkeyPatch) -> None:
    assert begun() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    code = "import time; from capsbench.system.ranks import begun; time.sleep(0.3); print(begun())"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    before = time.time()
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    found = float(done.stdout)
    assert before - 2 < found < before + 0.2 if sys.platform == "linux" else done.stdout.strip() == "None"


def test_without_torchrun_this_process_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)  # of another tool
    assert ranks.__wrapped__() == Ranks(0, 1, 0)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert ranks.__wrapped__() == Ranks(3, 4, 1) and not ranks.__wrapped__().first
    alone = Ranks()
    assert (alone.decided(lambda: 5), alone.gathered("x"), alone.first) == (5, ["x"], True)
