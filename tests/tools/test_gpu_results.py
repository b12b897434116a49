"""What comes back from a GPU becomes files and tables: by hand-made input whose outcome is known."""

import io
import json
import subprocess
import sys
import tarfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gpu_results
import pytest
from gpu_results import Stage

from capsbench.errors import DataFileError
from capsbench.results.result import SCHEMA_VERSION, Result, load_result

ROOT = Path(__file__).parents[2]
FACTS = {"date": "2026-11-26", "commit": "abc", "device": "NVIDIA X", "driver": "1.2", "torch": "2.11", "triton": "3.6"}
PLACE = "NVIDIA X, driver 1.2, torch 2.11, Triton 3.6, commit abc, 2026-11-26"
CASE = {"B": 1024, "I": 1152, "dtype": "float32", "gradient": "exact"}
RESULT = Result(
    suite="affine", version=1, preset="paper", model="capsnet", label="capsnet", source="", seed=0, cell="0" * 12,
    settings={}, parameters={}, digits="mnist", data={}, metrics={}, seconds=1.0, environment={}, date="2026-11-26",
)  # fmt: skip


def line(stage: str, what: dict[str, Any], **found: Any) -> str:
    return json.dumps({"stage": stage, "what": what, "found": found})


def routing(implementation: str, **found: Any) -> dict[str, Any]:
    return {"implementation": implementation, **CASE, **found}


def step(model: str, rate: float, **changed: Any) -> dict[str, Any]:
    case = {"px": 40, "batch": 128, "precision": "bf16", "options": {}, "graph": True, "tuned": False, "last": False}
    return {"model": model, **case, "ms": 128e3 / rate, "images_per_s": rate, "told": [], **changed}


def content(result: Result) -> bytes:
    return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(result)}).encode()


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return path


def test_figures_are_read_with_the_machine_that_they_came_from() -> None:
    lines = [
        line("machine", {}, **FACTS),
        line("rates", {"dtype": "float32"}, flops=1.0),
        line("steps", {"model": "a"}, ms=1.0),
        line("machine", {}, **FACTS | {"commit": "def"}),
        line("steps", {"model": "b"}, ms=2.0),
        line("steps", {"model": "c"}, error="no memory"),
    ]
    stages = gpu_results.read_figures(lines)
    assert stages == {
        "rates": Stage(FACTS, [{"dtype": "float32", "flops": 1.0}]),
        "steps": Stage(FACTS | {"commit": "def"}, [{"model": "b", "ms": 2.0}, {"model": "c", "error": "no memory"}]),
    }
    assert stages["rates"].place == PLACE


def test_a_stage_measured_again_takes_the_older_ones_place_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "gpu" / "x.json"
    first = {"rates": Stage(FACTS, [{"flops": 1.0}]), "steps": Stage(FACTS, [{"ms": 1.0}, {"ms": 2.0}])}
    gpu_results.keep_figures(first, path)
    assert gpu_results.load_kept(path) == first
    again = {"steps": Stage(FACTS | {"commit": "def"}, [{"ms": 3.0}])}
    gpu_results.keep_figures(again, path)
    assert gpu_results.load_kept(path) == first | again


def test_cells_go_where_their_suite_and_machine_say(tmp_path: Path) -> None:
    other = replace(RESULT, suite="mnist")
    members = {
        "affine/capsnet-seed0-0.json": content(RESULT),
        "../../mnist/../outside.json": content(other),
        "data/padded.json": b'{"spec": {}}',
        "affine/capsnet-seed0-0.jsonl": b'{"schema_version": 1}',
    }
    kept = list(gpu_results.keep_cells(archive(tmp_path / "results.tgz", members), tmp_path / "results", "x"))
    assert kept == [
        tmp_path / "results" / "affine" / "x" / "capsnet-seed0-0.json",
        tmp_path / "results" / "mnist" / "x" / "outside.json",
    ]
    assert [load_result(path) for path in kept] == [RESULT, other]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted([tmp_path / "results.tgz", *kept])


@pytest.mark.parametrize("changed", [{"seed": "zero"}, {"suite": "../.."}])
def test_a_cell_that_is_no_result_of_ours_is_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    packed = archive(tmp_path / "results.tgz", {"a.json": content(replace(RESULT, **changed))})
    with pytest.raises(DataFileError):
        list(gpu_results.keep_cells(packed, tmp_path / "results", "x"))
    assert not list((tmp_path / "results").rglob("*.json"))


def test_routing_stands_beside_the_reference() -> None:
    rows = [
        routing("fused", eager_ms=2.5, device_ms=2.0, peak_mb=98.4),
        routing("reference", eager_ms=8.25, device_ms=8.0, peak_mb=1510.6),
        routing("blocked", error="RuntimeError: no"),
    ]
    compiled = Stage(FACTS, [routing("compiled reference", eager_ms=5.0, peak_mb=4530.5)])
    table = gpu_results.routing_table({"routing": Stage(FACTS, rows), "compiled": compiled})
    times = ["2.00 (2.50)", "", "(5.00)", "8.00 (8.25)"]
    assert table.rows == [["1,024", "1,152", "float32", "both, exact", *times, "4.00", "98", "1,511"]]
    assert len(table.headers) == len(table.rows[0])
    assert f"{PLACE}." in table.notes[0]
    assert table.notes[1] == "1 of 4 measurements failed; the first: RuntimeError: no"
    assert "2.00 (2.50)" in table.text("github")
    later = gpu_results.routing_table({"routing": Stage(FACTS | {"commit": "def"}, rows), "compiled": compiled})
    assert later.notes[1] == f"The compiled reference: {PLACE}."  # each was measured of another commit


def test_steps_name_what_was_changed() -> None:
    options = {"implementation": "reference"}
    rows = [step("capsnet", 25_600, options=options, tuned=True, graph=False), step("cnn", 1.0, error="no")]
    answers = Stage(FACTS, [{"model": "capsnet", "px": 40, "images_per_s": 48e3}])
    table = gpu_results.steps_table({"steps": Stage(FACTS, rows), "answers": answers})
    how = ["implementation=reference", "cudnn.benchmark"]
    assert table.rows == [["capsnet", "40x40", "128", "bf16", *how, "5.00", "25,600"]]
    assert table.notes[0] == f"{PLACE}."
    assert table.notes[1].startswith("1 of 2 measurements failed")
    assert table.notes[2] == "Tested, images/s: capsnet 48,000."


def test_whole_sizes_stand_in_the_table_of_accuracy_and_small_ones_below() -> None:
    whole = routing("fused", relative=[1e-7, 2e-7, 3e-7, 4e-7], same_bits=True)
    small = [{"sizes": [3, 5, 2, 5, 3], "error_of_allowed": value} for value in (0.5, 0.75)]
    table = gpu_results.accuracy_table({"equality": Stage(FACTS, [whole, *small])})
    errors = ["1.0e-07", "2.0e-07", "3.0e-07", "4.0e-07"]
    assert table.rows == [["1,024", "1,152", "float32", "exact", *errors, "yes"]]
    assert "2 cases of small odd sizes: at most 0.75 of the allowed error." in table.notes


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"error_of_allowed": 0.7}, True),
        ({"error_of_allowed": 2.5}, False),
        ({"error_of_allowed": "inf"}, False),
        ({"error_of_allowed": "nan"}, False),
        ({"error": "RuntimeError"}, False),
        ({"relative": [1e-7], "same_bits": True}, True),
        ({"relative": [1e-7], "same_bits": False}, False),
        ({"relative": [1e-7, 1e-3], "dtype": "float32"}, False),
        ({"relative": ["nan"], "dtype": "bfloat16"}, False),
        ({"relative": [3e-3], "dtype": "bfloat16"}, True),
    ],
    ids=str,
)
def test_routing_is_sound_where_every_case_is(row: dict[str, Any], expected: bool) -> None:
    good = {"error_of_allowed": 0.5}
    assert gpu_results.sound({"equality": Stage(FACTS, [good, row])}) is expected
    assert gpu_results.sound({})


def test_epochs_and_seeds_are_what_the_time_allows() -> None:
    """At 50,000 and 20,000 images a second for both networks an epoch takes 2 x 3 s, tests 2 x 44.5 s, times 1.15."""
    rows = [step(name, 50_000.0) for name in ("capsnet", "cnn-pool")]
    rows += [step("capsnet", 1.0, px=28), step("capsnet", 1.0, batch=1024), step("capsnet", 1.0, graph=False)]
    rows += [step("capsnet", 40_000.0, tuned=True), step("capsnet", 90_000.0, options={"gradient": "detached"})]
    answers = [{"model": name, "px": 40, "images_per_s": 20_000.0} for name in ("capsnet", "cnn-pool")]
    answers.append({"model": "capsnet", "px": 40, "tf32": False, "images_per_s": 1.0})
    stages = {"steps": Stage(FACTS, rows), "answers": Stage(FACTS, answers)}
    tests, epoch = 1.15 * 89, 1.15 * 6
    assert gpu_results.fit(stages, 41 + 3 * (tests + 12 * epoch), [0, 1, 2]) == (12, [0, 1, 2])
    assert gpu_results.fit(stages, 41 + 2 * (tests + 12 * epoch), [0, 1, 2]) == (12, [0, 1])
    assert gpu_results.fit(stages, 41 + tests + 2 * epoch, [0, 1, 2]) == (2, [0])
    assert gpu_results.fit(stages, 5000, [0, 1]) == (20, [0, 1])
    assert gpu_results.fit(stages, 41 + 2 * (tests + 5 * epoch), [3, 4, 5], epochs=5) == (5, [3, 4])
    assert gpu_results.fit(stages, 100, [0], epochs=0)[1] == []
    assert gpu_results.fit({}, 580, [0])[0] > 10  # nothing was measured: it is guessed


def test_the_command_line_keeps_both_and_says_what_is_sound(tmp_path: Path) -> None:
    came = tmp_path / "came"
    came.mkdir()
    lines = [line("machine", {}, **FACTS), line("equality", {"sizes": [1]}, error_of_allowed=3.0)]
    (came / "figures.jsonl").write_text("\n".join(lines) + "\n")
    archive(came / "results.tgz", {"affine/a.json": content(RESULT)})

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "tools/gpu_results.py", *arguments], cwd=ROOT, capture_output=True, text=True
        )

    assert run("keep", str(came), "x", "--results", str(tmp_path / "results")).returncode == 0
    assert load_result(tmp_path / "results" / "affine" / "x" / "a.json") == RESULT
    assert list(gpu_results.load_kept(tmp_path / "results" / "gpu" / "x.json")) == ["equality"]
    assert run("sound", str(came / "figures.jsonl")).returncode == 1
    assert run("fit", str(tmp_path / "none.jsonl"), "50", "0").returncode == 1
    assert PLACE in run("table", str(came / "figures.jsonl")).stdout
