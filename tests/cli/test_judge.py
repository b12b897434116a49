"""The commands `tests` and `judge`: from the files of a suite to the table of scores."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from capsbench.cli import main

PAIRS = ["tests", "--suite", "mnist", "--preset", "smoke", "--digits", "embedded", "--out", "made"]
JUDGE = ["judge", "--suite", "mnist", "made", "--label", "mine", "--digits", "embedded"]


def run_cli(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def save_scores(*, shifted: int = 0) -> None:
    """The scores of an oracle."""
    (entry,) = json.loads(Path("made/manifest.json").read_text())["files"]
    with h5py.File("made/test.h5") as file:
        scores = np.roll(np.eye(10)[file["labels"][:]], shifted, axis=1)
    np.savez("made/test.npz", scores=scores, digest=entry["digest"])


def test_scores_are_judged_from_beginning_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(*PAIRS) == 0
    out, err = capsys.readouterr()
    assert out.startswith("made/test.h5: 1,000 images of 28x28, digest ") and "manifest: made/manifest.json" in out
    assert "capsbench judge --suite mnist made --label NETWORK" in err

    assert run_cli(*JUDGE) == 3
    assert "made has no scores of test (1 of 1 tests): NAME.npz or NAME.csv is needed" in capsys.readouterr().err

    save_scores()
    assert run_cli(*JUDGE) == 0
    out, err = capsys.readouterr()
    assert "mine (scores)" in out and "Scores: computed elsewhere and judged here." in out and not err
    (result,) = (line.removeprefix("result: ") for line in out.splitlines() if line.startswith("result: "))
    assert json.loads(Path(result).read_text())["origin"] == "scores"
    (chart,) = (line.removeprefix("chart: ") for line in out.splitlines() if line.startswith("chart: "))
    assert re.fullmatch(r"runs/mnist/charts-smoke-[0-9a-f]{6}/mnist-error.png", chart) and Path(chart).exists()

    assert run_cli("report", "runs", "--html", "page.html") == 0
    assert "mine (scores)" in Path("page.html").read_text()
    capsys.readouterr()

    save_scores(shifted=1)
    assert run_cli(*JUDGE, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["metrics"]["checkpoints"]["best"]["test"]["correct"] == 0
    assert err.startswith("Warning: test: 0.0% of the answers are right; if the columns stood for the classes 9, 0, 1")


def test_another_result_that_is_damaged_hides_no_judgement(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(*PAIRS) == 0
    save_scores()
    assert run_cli(*JUDGE) == 0
    (first,) = Path("runs").rglob("*.json")
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2])
    capsys.readouterr()
    assert run_cli(*JUDGE, "--seed", "1") == 0
    out, err = capsys.readouterr()
    assert out.count("mine (scores)") >= 2 and "chart:" not in out
    assert err.startswith("Warning: no chart is drawn") and first.name in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tests", "--suite", "mnist"], 2, "--out"),
        (["tests", "--suite", "mnsit", "--out", "made"], 2, "Did you mean 'mnist'"),
        (
            ["tests", "--suite", "throughput", "--out", "made"],
            2,
            "These can: affine, clutter, crowding, mnist, overlap",
        ),
        (["tests", "--suite", "mnist", "--set", "shift", "--out", "made"], 2, "key=value"),
        (["tests", "--suite", "mnist", "--preset", "smoke", "--out", "/proc/nothing/here"], 4, "cannot be made"),
        (["judge", "--suite", "mnist", "nowhere", "--label", "a"], 3, "There is no folder nowhere"),
        (["judge", "--suite", "mnist", ".", "--label", "a"], 3, "There is no manifest.json in ."),
        (["judge", "--suite", "mnist", "."], 2, "--label"),
        (["judge", "--suite", "mnist", ".", "--label", "a", "--seed", "x"], 2, "seed must be a whole number, got x"),
    ],
)
def test_bad_input_gets_a_line_and_its_exit_code(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(*arguments) == code
    out, err = capsys.readouterr()
    assert message in err and "Traceback" not in err and not out and len(err.splitlines()) <= 4
    assert not Path("made").exists() and not Path("runs").exists()
