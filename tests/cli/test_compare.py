"""The command `compare`, on results that were written for it."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from capsbench.cli import main
from capsbench.results.answers import Answers
from capsbench.results.result import Result, save_result


def run_cli(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def result(model: str, right: str, *, seed: int = 0, count: int = 4) -> Result:
    """A result of right (1) and wrong (0) answers to four digits."""
    bits = np.array([one == "1" for one in right])
    point = {"correct": int(bits.sum()), "total": len(bits), **Answers(bits, 4).to_dict()}
    return Result(
        suite="affine",
        version=2,
        preset="small",
        model=model,
        label=model,
        source="",
        seed=seed,
        cell="0123456789ab",
        settings={},
        parameters={},
        digits="embedded",
        data={"affine": {"spec": {"split": "test", "count": count}, "digest": "ab"}},
        metrics={"checkpoints": {"best": {"affine": point}}},
        seconds=1.0,
        environment={"device": "cpu"},
        date="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def folders() -> None:
    """Two folders of results in the folder that the test stands in: of B one has no partner."""
    save_result(result("cnn", "1000"), Path("A/cnn.json"))
    save_result(result("capsnet", "1110"), Path("B/capsnet.json"))
    save_result(result("capsnet", "1111", seed=1), Path("B/more/capsnet.json"))


@pytest.mark.usefixtures("folders")
def test_compare_prints_differences_and_names_what_has_no_partner(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("compare", "A", "B") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "affine, preset small, A: cnn (seed 0), B: capsnet (seed 0)"
    (row,) = (line for line in out.splitlines() if line.startswith("checkpoints, best, affine"))
    assert row.split()[3:] == ["4", "4", "25.0", "75.0", "+50.0", "(+0.0..+100.0)", "0.5", "0.5"]
    assert err == "Note: no partner for capsnet (affine, preset small, seed 1) in B alone\n"


@pytest.mark.usefixtures("folders")
def test_compare_has_the_formats_of_report(capsys: pytest.CaptureFixture[str]) -> None:
    files = ["A/cnn.json", "B/more/capsnet.json"]
    assert run_cli("compare", *files, "--format", "github") == 0
    assert "| checkpoints, best, affine |" in capsys.readouterr().out
    assert run_cli("compare", *files, "--format", "csv") == 0
    header, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert dict(zip(header, row, strict=True))["B %"] == "100.0"
    assert run_cli("compare", *files, "--format", "latex_booktabs") == 0
    assert r"\toprule" in capsys.readouterr().out
    assert run_cli("compare", *files, "--json") == 0
    as_json, err = capsys.readouterr()
    content = json.loads(as_json)
    assert content["without partner"] == [] and not err
    (pair,) = content["pairs"]
    assert (pair["A"]["model"], pair["B"]["seed"]) == ("cnn", 1)
    assert pair["differences"][0]["difference"] == 0.75
    assert run_cli("compare", *files, "--format", "json") == 0
    assert capsys.readouterr().out == as_json


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["A", "A"], 2, "with itself"),
        (["A/cnn.json", "A/../A/cnn.json"], 2, "with itself"),
        (["A", "other"], 2, "No result in A has a partner in other"),
        (["A/cnn.json", "other/data.json"], 2, "different images: of 'affine', count: 4 and 9"),
        (["A", "B", "--format", "xml"], 2, "No format"),
        (["A"], 2, "'B'"),
        (["A", "nowhere"], 3, "no folder nowhere"),
        (["A/cnn.json", "other/old.json"], 3, "keep no answers"),
        (
            ["A/cnn.json", "other/damaged.json"],
            3,
            "x (affine, preset small, seed 7), at checkpoints, best, affine: The answers",
        ),
        (["A/cnn.json", "other/nothing.json"], 3, "not JSON"),
    ],
)
@pytest.mark.usefixtures("folders")
def test_what_cannot_be_compared_gets_a_line_and_its_exit_code(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = result("capsnet", "1110", seed=7)
    save_result(replace(other, metrics={"share": 0.5}), Path("other/old.json"))
    save_result(result("cnn-pool", "1110", seed=7, count=9), Path("other/data.json"))
    damaged = {"best": {"affine": {"correct": 4, "total": 4, "digits": 4, "answers": "gA=="}}}
    save_result(replace(other, model="x", label="x", metrics={"checkpoints": damaged}), Path("other/damaged.json"))
    if "nothing" in arguments[-1]:
        Path("other/nothing.json").write_text("schema_version")
    assert run_cli("compare", *arguments) == code
    out, err = capsys.readouterr()
    assert message in err and "Traceback" not in err and not out
    assert len(err.splitlines()) <= 3
