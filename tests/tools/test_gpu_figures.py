"""The script of the GPU's figures runs on a CPU, tiny: every stage ends well and leaves its figures."""

import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import gpu_results
import numpy as np
import pytest

from capsbench.data import embedded
from capsbench.results.result import load_results

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
KERAS = (("x", "images"), ("y", "labels"))  # what it calls them in its files
STAGES = {"machine", "equality", "rates", "routing", "steps", "answers", "profile", "streams"}


def called(part: str, folder: Path, warm_python: str, **settings: str) -> tuple[Path, str]:
    """What a call leaves, and what it prints."""
    digits = embedded.read_embedded()
    few = {f"{name}_{part}": digits[f"{part}_{word}"][::20] for name, word in KERAS for part in ("train", "test")}
    np.savez(folder / "few.npz", **few)  # type: ignore[arg-type]
    environment = os.environ | {
        "TINY": "1", "DEVICE": "cpu", "PY": warm_python, "OUT": str(folder / "out"), "RUNS": str(folder / "runs"),
        "DIGITS": f"few={folder}/few.npz", "OMP_NUM_THREADS": "1", "THREADS": "1", "BUDGET": "1000", "COMMIT": "abc",
        **settings,
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "tools/gpu_figures.sh", part], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out", done.stdout


@pytest.fixture(scope="module")
def came_back(tmp_path_factory: pytest.TempPathFactory, warm_python: str) -> tuple[Path, str]:
    """Of a first call."""
    return called("first", tmp_path_factory.mktemp("gpu"), warm_python)


def test_every_stage_ends_well_and_leaves_its_figures(came_back: tuple[Path, str]) -> None:
    out, told = came_back
    ended = [line for line in told.splitlines() if "exit code" in line]
    assert len(ended) == 5 and all("exit code 0" in line for line in ended)  # checks, speeds, affine and its two cells
    stages = gpu_results.read_figures((out / "figures.jsonl").read_text().splitlines())
    assert set(stages) == STAGES - {"machine"}
    assert all("error" not in row for stage in stages.values() for row in stage.rows)
    assert all((stage.facts["device"], stage.facts["commit"]) == ("cpu", "abc") for stage in stages.values())
    kinds = {(row["implementation"], row["dtype"], row["gradient"]) for row in stages["routing"].rows}
    assert len(kinds) == 2 * 3  # implementations, and passes
    assert {row["model"] for row in stages["steps"].rows} == {"capsnet", "cnn-pool"}


def test_what_comes_back_becomes_results(came_back: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = came_back
    command = [sys.executable, "tools/gpu_results.py", "keep", str(out), "box", "--results", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    results = load_results(tmp_path)
    assert Counter(result.model for result in results) == {"capsnet": 1, "cnn-pool": 1}
    assert len(list((tmp_path / "affine" / "box").iterdir())) == 2
    kept = json.loads((tmp_path / "gpu" / "box.json").read_text())
    assert set(kept) == STAGES - {"machine"}


def test_what_comes_back_is_small_and_whole(came_back: tuple[Path, str]) -> None:
    out, _ = came_back
    assert {path.name for path in out.iterdir()} == {
        "log.txt", "figures.jsonl", "results.tgz", "table.txt", "tests.txt"
    }  # fmt: skip
    with tarfile.open(out / "results.tgz") as archive:
        names = archive.getnames()
    assert sum(name.startswith("affine/") and name.endswith(".jsonl") for name in names) == 2  # the curves
    assert not any(name.startswith(("data/", "checkpoints/")) for name in names)


def test_a_second_call_trains_the_networks_that_are_missing_and_no_other_again(
    tmp_path: Path, warm_python: str
) -> None:
    jobs = {"JOBS": "mnist resnet-gap 0, mnist resnet-gap 1 --set resnet-gap.blur=true", "TIMES": "0", "AT_ONCE": "2"}
    out, told = called("rest", tmp_path, warm_python, **jobs)
    for ended in ("0, --model resnet-gap", "1, --model resnet-gap --set resnet-gap.blur=true"):
        assert told.count(f"mnist, seed {ended}: exit code 0") == 1
    with tarfile.open(out / "results.tgz") as archive:
        names = sorted(name for name in archive.getnames() if name.endswith(".json") and name.startswith("mnist/"))
        labels = [json.load(archive.extractfile(name))["label"] for name in names]  # type: ignore[arg-type]
    assert [name.partition("-seed")[2][0] for name in names] == ["0", "1"]
    assert labels == ["resnet-gap", "resnet-gap (blur=True)"]
    assert {path.name for path in out.iterdir()} == {"log.txt", "results.tgz", "table.txt"}
    _, told = called("rest", tmp_path, warm_python, **jobs)
    assert "=== field: exit code 0" in told and "mnist, seed" not in told


def test_another_part_is_refused() -> None:
    done = subprocess.run(["bash", ROOT / "tools" / "gpu_figures.sh", "all"], capture_output=True, text=True)
    assert done.returncode == 2 and "first|seeds|rest" in done.stderr
