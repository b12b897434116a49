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
    assert "affine, preset small, A: cnn (seed 0), B: capsnet (seed 0)" in out.splitlines()
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
        (["A"], 2, "name another place, or two networks of A with --model. There are cnn"),
        (["A", "--model", "cnn", "--model", "cnn"], 2, "Two networks are compared, got 1"),
        (["B", "--model", "cnn", "--model", "capsnet"], 2, "No network in B is called 'cnn'"),
        (["A", "B", "--model", "cnn"], 2, "Name two places, or one place and two networks"),
        (["A", "B", "A", "B"], 2, "Two places are compared, got 4. If a shell made them from a name with *, name"),
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


def test_two_networks_of_one_folder_are_compared_over_all_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    for seed, right in enumerate(["1000", "1100"]):
        one = replace(
            result("cnn", right, seed=seed), settings={"epochs": 3}, environment={"device": "cpu", "threads": 1}
        )
        save_result(one, Path(f"runs/cnn{seed}.json"))
        other = replace(result("capsnet", "1111", seed=seed), settings={"epochs": 4})
        save_result(other, Path(f"runs/capsnet{seed}.json"))
    assert run_cli("compare", "runs", "--model", "cnn", "--model", "capsnet") == 0
    out, _ = capsys.readouterr()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "affine, seeds 0, 1: what differs, and the figures" in lines
    assert "setting epochs 3 4" in lines and "threads (machine) 1 -" in lines
    assert "affine, preset small, A: cnn, B: capsnet, over seeds 0, 1" in lines
    rows = [line.split() for line in lines if line.startswith("checkpoints, best, affine")]
    assert [row[5:8] for row in rows] == [
        ["37.5", "100.0", "+62.5"],
        ["25.0", "100.0", "+75.0"],
        ["50.0", "100.0", "+50.0"],
    ]
    assert float(rows[0][-2]) > 0.05  # two seeds settle little
    assert run_cli("compare", "runs", "--model", "cnn", "--model", "capsnet", "--json") == 0
    (networks,) = json.loads(capsys.readouterr().out)["networks"]
    assert networks["seeds"] == [0, 1] and networks["pooled"][0]["seeds"] == 2
    assert {"what": "setting epochs", "A": "3", "B": "4"} in networks["side by side"]
