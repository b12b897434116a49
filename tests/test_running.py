"""Cells: planned, run, skipped when finished, and failing alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from capsbench.errors import CellsFailedError, DigitsError, ParameterError, UnknownNameError, UsageError
from capsbench.face import run
from capsbench.running import Plan, plan_run, run_plan

LINEAR = """
import torch
from torch.nn import functional as F
from capsbench.contracts import Output

class Linear(torch.nn.Module):
    def __init__(self, *, image_size, classes, broken=False):
        super().__init__()
        if broken:
            raise RuntimeError("it does not want to\\nreally not")
        self.layer = torch.nn.Linear(image_size**2, classes)

    def forward(self, images):
        return Output(scores=self.layer(images.flatten(1)))

    def loss(self, output, batch):
        return F.cross_entropy(output.scores, batch.labels)
"""


@pytest.fixture
def linear(tmp_path: Path) -> str:
    path = tmp_path / "linear.py"
    path.write_text(LINEAR)
    return f"{path}:Linear"


def plan(tmp_path: Path, **options: Any) -> Plan:
    stated: dict[str, Any] = {"preset": "smoke", "digits": "embedded", "device": "cpu", "out": tmp_path / "runs"}
    return plan_run("affine", **(stated | options))


def test_a_users_model_runs_and_is_not_run_again(tmp_path: Path, linear: str) -> None:
    made = plan(tmp_path, models=[linear], seeds=[0, 1])
    first = run_plan(made)
    assert [result.seed for result in first.results] == [0, 1] and not first.failed
    assert all(path.exists() for path in first.paths)
    lines: list[str] = []
    again = run_plan(made, lines.append)
    assert again.results == first.results
    assert lines == [f"[{k}/2] {linear}, seed {k - 1}: finished before" for k in (1, 2)]


def test_a_result_names_everything_that_determined_it(tmp_path: Path, linear: str) -> None:
    (path,) = run_plan(plan(tmp_path, models=[linear])).paths
    content = json.loads(path.read_text())
    assert content["schema_version"] == 1 and content["digits"] == "embedded" and content["seed"] == 0
    assert content["settings"]["epochs"] == 1
    assert set(content["data"]) == {"training", "validation", "clean", "centered", "affine"}
    assert len(content["data"]["affine"]["digest"]) == 64
    assert content["data"]["affine"]["spec"]["generator"] == "affnist"
    assert content["environment"]["torch"] and content["date"] and content["seconds"] > 0


def test_selection_never_sees_test_digits(tmp_path: Path, linear: str) -> None:
    (result,) = run_plan(plan(tmp_path, models=[linear])).results
    splits = {role: data["spec"]["split"] for role, data in result.data.items()}
    assert splits == {
        "training": "train",
        "validation": "validation",
        "clean": "test",
        "centered": "test",
        "affine": "test",
    }


def test_an_edited_model_is_measured_again(tmp_path: Path, linear: str) -> None:
    before = plan(tmp_path, models=[linear]).cells[0]
    path = Path(linear.rpartition(":")[0])
    path.write_text(path.read_text() + "\n# changed\n")
    assert plan(tmp_path, models=[linear]).cells[0].id != before.id


def test_every_setting_and_parameter_makes_another_cell(tmp_path: Path) -> None:
    base = plan(tmp_path, models=["capsnet"]).cells[0]
    others = [
        plan(tmp_path, models=["capsnet"], **change).cells[0]
        for change in (
            {"seeds": [1]},
            {"changes": {"epochs": "2"}},
            {"changes": {"capsnet.iterations": "1"}},
            {"preset": "small"},
        )
    ]
    assert len({base.id, *(cell.id for cell in others)}) == 5
    assert others[1].preset == "smoke (epochs=2)"
    assert others[2].parameters["iterations"] == 1 and others[2].parameters["types"] == 8  # the small preset's


def test_a_cell_that_fails_leaves_the_others_alone(tmp_path: Path, linear: str) -> None:
    made = plan(tmp_path, models=["cnn-pool", linear], changes={f"{linear}.broken": "true"})
    outcome = run_plan(Plan(made.cells[::-1], made.folder, made.digits))
    assert [result.model for result in outcome.results] == ["cnn-pool"]
    ((cell, why),) = outcome.failed
    assert cell.model == linear and "RuntimeError: it does not want to" in why and "\n" not in why
    assert "Traceback" in made.path(cell).with_suffix(".error.txt").read_text()


def test_from_python_a_failed_cell_is_an_error(tmp_path: Path, linear: str) -> None:
    with pytest.raises(CellsFailedError, match="it does not want to"):
        run(
            "affine",
            models=[linear],
            preset="smoke",
            digits="embedded",
            device="cpu",
            out=tmp_path,
            changes={f"{linear}.broken": "true"},
        )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"preset": "smal"}, UnknownNameError, "Did you mean 'small'"),
        ({"models": ["capsnets"]}, UnknownNameError, "Did you mean 'capsnet'"),
        ({"changes": {"epoch": "3"}}, UnknownNameError, "Did you mean 'epochs'"),
        ({"changes": {"epochs": "many"}}, ParameterError, "epochs=many"),
        ({"changes": {"epochs": "-1"}}, ParameterError, "epochs=-1"),
        ({"changes": {"cnn.dropout": "0"}}, UnknownNameError, "model in this run"),
        ({"changes": {"capsnet.preset": "smal"}}, UnknownNameError, "Did you mean 'small'"),
        ({"seeds": []}, ParameterError, "seeds"),
        ({"seeds": [1, 1]}, ParameterError, "give each once"),
        ({"seeds": [-1]}, ParameterError, "seed of -1"),
        ({"device": "gpu"}, UnknownNameError, "cpu, cuda|Did you mean"),
        ({"digits": "/nowhere/at/all"}, DigitsError, "/nowhere/at/all"),
        ({"models": ["missing.py:Net"]}, UsageError, "is not a file"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        plan(tmp_path, **options)
    assert not (tmp_path / "runs").exists()
