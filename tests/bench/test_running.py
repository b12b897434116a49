"""Cells: planned, run, skipped when finished, and failing alone."""

import importlib
import importlib.util
import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import capsbench
from capsbench.bench.bench import Bench
from capsbench.bench.measuring import measure
from capsbench.bench.planning import Plan, plan_run
from capsbench.bench.running import run, run_plan
from capsbench.errors import (
    CellsFailedError,
    DigitsError,
    LockedError,
    ParameterError,
    StorageError,
    UnknownNameError,
    UsageError,
)
from capsbench.report.groups import tables
from capsbench.results.result import load_result, save_result
from capsbench.sources import seeding
from capsbench.system.disk import lock
from capsbench.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("few_digits")

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
    path.write_text(LINEAR + "class Other(Linear):\n    pass\n")
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
    assert {"training", "validation", "clean", "centered", "affine"} <= set(content["data"])
    assert len(content["data"]["affine"]["digest"]) == 64
    assert content["data"]["affine"]["spec"]["generator"] == "affnist"
    assert content["environment"]["torch"] and content["date"] and content["seconds"] > 0


def test_neither_training_nor_selection_sees_test_digits(
    tmp_path: Path, linear: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    class Watched(Trainer):
        def __init__(self, model: Any, data: Any, validation: Any, *rest: Any, **options: Any) -> None:
            given.extend((data.spec.split, validation.spec.split))
            super().__init__(model, data, validation, *rest, **options)

    monkeypatch.setattr("capsbench.bench.bench.Trainer", Watched)
    (result,) = run_plan(plan(tmp_path, models=[linear])).results
    assert given == ["train", "validation"]
    assert {result.data[role]["spec"]["split"] for role in ("clean", "centered", "affine")} == {"test"}


@pytest.mark.parametrize("by_module", [False, True], ids=["file.py:attr", "package.module:attr"])
def test_an_edited_model_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_module: bool) -> None:
    path = tmp_path / "edited_model.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "edited_model:Linear" if by_module else f"{path}:Linear"
    parameters = []
    ids = []
    for given in ("classes", "classes, bias=False"):
        path.write_text(LINEAR.replace("image_size**2, classes)", f"image_size**2, {given})"))
        sys.modules.pop("edited_model", None)  # as a new process would have it
        importlib.invalidate_caches()
        ids.append(plan(tmp_path, models=[name]).cells[0].id)
        parameters.append(sum(p.numel() for p in capsbench.models.build(name, image_size=4).parameters()))
    assert ids[0] != ids[1]
    assert parameters == [170, 160]


PLAIN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, outputs=10, size=40):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(size**2, outputs), nn.Softmax(1))

    def forward(self, images):
        return self.layers(images)
"""


def test_a_plain_module_runs_and_what_was_noticed_stands_in_its_result_and_its_table(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    made = plan(tmp_path, models=[f"{tmp_path}/plain.py:Net"])
    lines: list[str] = []
    outcome = run_plan(made, lines.append)
    (result,) = outcome.results
    assert "scores are probabilities" in lines[0] and result.remarks == [lines[0].partition("seed 0: ")[2]]
    assert result.metrics["parameters"] == 16010 and result.metrics["history"][-1]["loss"] < 2.4
    (table,) = tables(outcome.results)
    assert sum(note == f"{made.cells[0].label}: {result.remarks[0]}" for note in table.notes) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("outputs=7", r"Net: The model gave scores of shape \[2, 7\] for 2 images; \[2, 10\] is needed"),
        ("size=28", r"Net' fails on images \[2, 1, 40, 40\] .*\(2x1600 and 784x10\)"),
    ],
)
def test_scores_of_a_wrong_shape_are_refused_before_anything_is_done(tmp_path: Path, change: str, message: str) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    name = f"{tmp_path}/plain.py:Net"
    key, value = change.split("=")
    with pytest.raises(UsageError, match=message):
        plan(tmp_path, models=[name], changes={f"{name}.{key}": value})
    assert not (tmp_path / "runs").exists()


def test_two_runs_do_not_train_one_cell_at_once(tmp_path: Path, linear: str) -> None:
    made = plan(tmp_path, models=[linear])
    made.path(made.cells[0]).parent.mkdir(parents=True)
    with lock(made.path(made.cells[0])), pytest.raises(LockedError, match="Another run"):
        measure(made.cells[0], made)


def test_what_another_run_finished_meanwhile_is_not_done_again(
    tmp_path: Path, linear: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(tmp_path, models=[linear])
    (expected,) = run_plan(made).results
    asked: list[int] = []

    class Late(Plan):
        def finished(self, cell: Any) -> Any:
            asked.append(1)
            return super().finished(cell) if len(asked) > 1 else None  # as it looks before the lock is had

    monkeypatch.setattr("capsbench.bench.measuring._measured", None)
    assert run_plan(Late(made.cells, made.folder, made.digits)).results == [expected]


def test_a_full_disk_does_not_hide_why_a_cell_failed(
    tmp_path: Path, linear: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = linear.replace("Linear", "Other")
    made = plan(tmp_path, models=[linear, other], changes={f"{linear}.broken": "true"})

    def full(path: Path, content: bytes) -> None:
        raise StorageError(f"{path} could not be written: No space left on device.")

    monkeypatch.setattr("capsbench.results.failures.write_atomically", full)
    outcome = run_plan(made)
    assert [why for _, why in outcome.failed] == [
        "RuntimeError: it does not want to (built with image_size=40, classes=10, broken=True)"
    ]
    assert [result.model for result in outcome.results] == [other]


def test_a_data_file_beyond_repair_is_made_anew(tmp_path: Path, linear: str) -> None:
    assert not run_plan(plan(tmp_path, models=[linear])).failed
    for path in (tmp_path / "runs" / "data").glob("*.h5"):
        path.write_bytes(b"no longer HDF5")
    outcome = run_plan(plan(tmp_path, models=[linear], seeds=[1]))
    assert not outcome.failed


def test_results_stay_in_their_folder(tmp_path: Path) -> None:
    path = tmp_path / "suite.py"
    path.write_text("from capsbench.suites.affine import Affine\n")
    made = plan_run(f"{path}:Affine", preset="smoke", digits="embedded", device="cpu", out=tmp_path / "runs")
    assert {made.path(cell).parent.parent for cell in made.cells} == {tmp_path / "runs"}


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
    assert others[2].label == "capsnet (iterations=1)"
    assert others[2].parameters["iterations"] == 1 and others[2].parameters["types"] == 8  # the small preset's


def test_a_cell_that_fails_leaves_the_others_alone(tmp_path: Path, linear: str) -> None:
    other = linear.replace("Linear", "Other")
    made = plan(tmp_path, models=[other, linear], changes={f"{linear}.broken": "true"})
    outcome = run_plan(Plan(made.cells[::-1], made.folder, made.digits))
    assert [result.model for result in outcome.results] == [other]
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
        ({"changes": {"epochs": "many"}}, ParameterError, "epochs must be a whole number, got many"),
        ({"changes": {"epochs": "-1"}}, ParameterError, "epochs must be in 1..1,000,000, got -1"),
        ({"changes": {"cnn.dropout": "0"}}, UnknownNameError, "model in this run"),
        ({"changes": {"capsnet.preset": "smal"}}, UnknownNameError, "Did you mean 'small'"),
        ({"changes": {"capsnet.iteration": "1"}}, UnknownNameError, "Did you mean 'iterations'"),
        ({"changes": {"capsnet.iterations": "0"}}, ParameterError, "iterations must be"),
        ({"changes": {"capsnet.image_size": "28"}}, ParameterError, "the suite chooses image_size"),
        ({"changes": {"data_seed": "-1"}}, ParameterError, "seed must be .*, got -1"),
        ({"models": ["os:path"]}, UsageError, "should be a class"),
        ({"models": ["torch.nn:Linear"]}, ParameterError, "in_features"),
        ({"seeds": []}, ParameterError, "seeds"),
        ({"seeds": [1, 1]}, ParameterError, "different numbers, got 1,1"),
        ({"seeds": [-1]}, ParameterError, "seed must be .*, got -1"),
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


FORMS = """
from dataclasses import replace
from typing import ClassVar
from capsbench.suites.affine import Affine

class Forms(Affine):
    presets: ClassVar = {
        "smoke": replace(
            Affine.presets["smoke"],
            variants={"capsnet": ({"iterations": 1}, {"iterations": 3, "reconstruction": False})},
        )
    }

    def run(self, bench):
        return {"built": dict(bench.cell.parameters)}
"""


def test_one_network_is_measured_in_each_of_its_forms(tmp_path: Path) -> None:
    (tmp_path / "suite.py").write_text(FORMS)
    options: dict[str, Any] = {"preset": "smoke", "digits": "embedded", "device": "cpu", "out": tmp_path}
    made = plan_run(f"{tmp_path}/suite.py:Forms", models=["cnn-pool", "capsnet"], seeds=[0, 1], **options)
    labels = ["cnn-pool", "capsnet (iterations=1)", "capsnet (iterations=3, reconstruction=False)"]
    assert [cell.label for cell in made.cells] == [label for label in labels for _ in (0, 1)]
    assert len({cell.id for cell in made.cells}) == 6
    forms = [result.metrics["built"] for result in run_plan(made).results[2::2]]
    assert [(form["iterations"], form.get("reconstruction", True), form["types"]) for form in forms] == [
        (1, True, 8),
        (3, False, 8),
    ]
    # What the user asks for wins; where that makes two forms one, it is measured once.
    made = plan_run(
        f"{tmp_path}/suite.py:Forms",
        models=["capsnet"],
        changes={"capsnet.iterations": "2", "capsnet.reconstruction": "false"},
        **options,
    )
    assert [cell.label for cell in made.cells] == ["capsnet (iterations=2, reconstruction=False)"]


def test_training_leaves_a_log_and_tells_how_far_it_is(tmp_path: Path, linear: str) -> None:
    seen: list[tuple[str, int, int]] = []

    @contextmanager
    def progress(description: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, total: seen.append((description, done, total))

    made = plan(tmp_path, models=[linear], changes={"variants": "4"})
    (path,) = run_plan(made, progress=progress).paths
    rows = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    metrics = json.loads(path.read_text())["metrics"]
    keys = ("step", "epoch", "loss", "accuracy")
    assert [{key: row[key] for key in keys} for row in rows] == [
        {key: row[key] for key in keys} for row in metrics["history"]
    ]
    assert [one for one in seen if one[0] == f"{linear}, steps"] == [
        (f"{linear}, steps", step, 5) for step in range(1, 6)
    ]
    validation = [one for one in seen if one[0] == f"{linear}, validation (accuracy), images"]
    assert validation[-1][1] == validation[-1][2] > 0
    affine = [shown for shown in seen if shown[0] == f"{linear}, test 'affine', images"]
    assert affine == [(*affine[0][:1], done, 400) for done in (100, 200, 300, 400)]


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is an extra")
def test_training_logs_for_tensorboard_where_that_is_asked_for(tmp_path: Path, linear: str) -> None:
    made = plan(tmp_path, models=[linear], tensorboard=True)
    assert made.cells == plan(tmp_path, models=[linear]).cells  # a log is no part of what is measured
    assert not run_plan(made).failed
    assert len(list((tmp_path / "runs" / "tensorboard").rglob("events.*"))) == 1


def test_tensorboard_is_refused_before_anything_is_done_where_it_is_missing(
    tmp_path: Path, linear: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install"):
        plan(tmp_path, models=[linear], tensorboard=True)


SUITE = """
from typing import ClassVar
from capsbench.suites.affine import Affine

class Shown(Affine):
    presets: ClassVar = Affine.presets | {"paper": Affine.presets["small"]}

class Blind(Shown):
    needs_digits = False

    def run(self, bench):
        return {"answer": 42}
"""


def test_a_suite_without_digits_asks_for_none(tmp_path: Path) -> None:
    (tmp_path / "suite.py").write_text(SUITE)
    made = plan_run(
        f"{tmp_path}/suite.py:Blind", models=["cnn-pool"], preset="paper", digits="/nowhere/at/all", out=tmp_path
    )
    (result,) = run_plan(made).results
    assert (result.digits, result.data, result.metrics) == ("none", {}, {"answer": 42})
    for preset, digits in (("paper", "auto"), ("smoke", "/nowhere/at/all")):
        with pytest.raises(DigitsError):
            plan_run(f"{tmp_path}/suite.py:Shown", models=["cnn-pool"], preset=preset, digits=digits, out=tmp_path)


def test_speed_at_the_papers_size_needs_no_full_mnist(tmp_path: Path) -> None:
    (cell,) = plan_run("throughput", preset="paper", device="cpu", out=tmp_path).cells
    assert cell.digits == "none" and cell.parameters == {}
    assert cell.settings.image_sizes[-1] == 128


def test_a_bench_builds_the_cells_model_and_what_differs_from_it(tmp_path: Path) -> None:
    made = plan(tmp_path, models=["capsnet"], changes={"capsnet.iterations": "2"}, seeds=[0, 1])
    first, second = (Bench(cell, tmp_path, "embedded", print) for cell in made.cells)
    before = torch.get_rng_state()
    models: list[Any] = [
        first.model(28),
        first.model(28),
        first.model(28, iterations=5, implementation="reference"),
        second.model(28),
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert [model.route.keywords["iterations"] for model in models] == [2, 2, 5, 2]
    assert [model.route.keywords["implementation"] for model in models] == ["auto", "auto", "reference", "auto"]
    weights = [model.weight for model in models]
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])
    assert first.cell.parameters["iterations"] == 2
    with pytest.raises(UnknownNameError, match="Did you mean 'iterations'"):
        first.model(28, iteration=1)


def test_an_edit_beside_the_networks_file_is_measured_again(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        LINEAR.replace("image_size**2", "image_size**2 // STRIDE**2") + "\nfrom sides import STRIDE\n"
    )
    name, made = f"{tmp_path}/mine.py:Linear", []
    for stride in (1, 2):
        (tmp_path / "sides.py").write_text(f"STRIDE = {stride}\n")
        made.append(plan(tmp_path, models=[name]).cells[0])
    assert made[0].id != made[1].id
    assert made[1].made_of["model"].keys() == {"mine.py", "sides.py"}


def test_a_class_is_measured_as_it_is(tmp_path: Path) -> None:
    def network(factor: float) -> Any:
        space: dict[str, Any] = {"__name__": "__main__"}  # as in a notebook
        exec(LINEAR.replace("images.flatten(1)", f"{factor} * images.flatten(1)"), space)
        return space["Linear"]

    made = plan(tmp_path, models=[network(1), network(2), "cnn-pool"])
    assert [cell.label for cell in made.cells] == ["Linear", "Linear", "cnn-pool"]
    assert len({cell.id for cell in made.cells}) == 3
    options: dict[str, Any] = {"preset": "smoke", "digits": "embedded", "device": "cpu", "out": tmp_path / "runs"}
    (result,) = run("affine", models=network(1), **options)
    assert (result.model, result.cell) == ("Linear", made.cells[0].id)
    assert result.identity == {"model": {"code of Linear": made.cells[0].identity.parts["code of Linear"]}}
    assert plan(tmp_path, models=[network(1)]).finished(made.cells[0]) == result
    with pytest.raises(UsageError, match="a name, a class or a function, got 3"):
        plan(tmp_path, models=[3])
    with pytest.raises(UsageError, match="should be a class or a function, but it is of class Linear"):
        plan(tmp_path, models=[torch.nn.Linear(1, 1)])


@pytest.mark.parametrize(
    "change", [{"cell": "0" * 12}, {"seed": 1}, {"suite": "evil.py:Evil"}, {"preset": "small"}], ids=str
)
def test_a_result_of_another_cell_is_put_aside_and_not_taken(
    tmp_path: Path, linear: str, change: dict[str, Any]
) -> None:
    made = plan(tmp_path, models=[linear])
    outcome = run_plan(made)
    (result,), (path,) = outcome.results, outcome.paths
    save_result(replace(result, **change), path)
    lines: list[str] = []
    (again,) = run_plan(made, lines.append).results
    assert (again.seed, again.suite, again.preset) == (0, "affine", "smoke")
    assert again.metrics["checkpoints"] == result.metrics["checkpoints"] and again.cell == result.cell
    assert load_result(path) == again
    assert any(line.endswith(f"it is now called {path.name}.aside") for line in lines)
    ((name, value),) = change.items()
    assert getattr(load_result(path.with_name(f"{path.name}.aside")), name) == value


def test_an_error_in_a_networks_loss_says_where_it_is(tmp_path: Path) -> None:
    body = "class Failing(Linear):\n    def loss(self, output, batch):\n        return output.scores @ batch.images\n"
    (tmp_path / "failing.py").write_text(LINEAR + body)
    ((_, why),) = run_plan(plan(tmp_path, models=[f"{tmp_path}/failing.py:Failing"])).failed
    assert why.startswith("RuntimeError: ") and "(in the model's loss)" in why


def test_an_interruption_in_a_network_ends_the_run(tmp_path: Path) -> None:
    body = "class Stopped(Linear):\n    def loss(self, output, batch):\n        raise KeyboardInterrupt\n"
    (tmp_path / "stopped.py").write_text(LINEAR + body)
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan(tmp_path, models=[f"{tmp_path}/stopped.py:Stopped"]))


ENDS = {
    "in its forward": "def forward(self, images): raise {error}",
    "in its constructor": "def __init__(self, **options): raise {error}",
    "after a while": "def forward(self, images):\n"
    "        self.calls = getattr(self, 'calls', 0) + 1\n"
    "        if self.calls > 9: raise {error}\n"
    "        return super().forward(images)",
}


@pytest.mark.parametrize("error", ["SystemExit(0)", "GeneratorExit()", "Own('no')"])
@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_a_network_that_ends_the_process_costs_itself_alone(tmp_path: Path, code: str, error: str) -> None:
    body = f"class Own(BaseException): pass\nclass Ending(Linear):\n    {code.format(error=error)}\n"
    (tmp_path / "ending.py").write_text(LINEAR + body)
    (tmp_path / "plain.py").write_text(LINEAR)
    made = plan(tmp_path, models=[f"{tmp_path}/ending.py:Ending", f"{tmp_path}/plain.py:Linear"])
    outcome = run_plan(made)
    assert [result.label for result in outcome.results] == [f"{tmp_path}/plain.py:Linear"]
    ((cell, why),) = outcome.failed
    assert "ending.py" in cell.label and error.partition("(")[0] in why


def test_what_a_network_sets_for_the_process_does_not_reach_the_next(tmp_path: Path) -> None:
    setting = "torch.set_grad_enabled(False), torch.set_default_dtype(torch.float64), print('set')"
    body = f"class Setting(Linear):\n    def forward(self, images):\n        {setting}\n"
    (tmp_path / "setting.py").write_text(LINEAR + body + "        return super().forward(images)\n")
    (tmp_path / "plain.py").write_text(LINEAR)
    plain = f"{tmp_path}/plain.py:Linear"
    (alone,) = run_plan(plan(tmp_path, models=[plain], out=tmp_path / "alone")).results
    outcome = run_plan(plan(tmp_path, models=[f"{tmp_path}/setting.py:Setting", plain]))
    (beside,) = [one for one in outcome.results if one.label == plain]
    assert beside.metrics["checkpoints"] == alone.metrics["checkpoints"]
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


def test_an_edited_suite_is_measured_again(tmp_path: Path) -> None:
    options: dict[str, Any] = {"preset": "smoke", "models": ["cnn-pool"], "device": "cpu", "out": tmp_path}
    made = []
    for answer in (42, 43):
        (tmp_path / "suite.py").write_text(SUITE.replace("42", str(answer)))
        (result,) = run_plan(plan_run(f"{tmp_path}/suite.py:Blind", **options)).results
        assert result.metrics == {"answer": answer} and result.identity["suite"].keys() == {"suite.py"}
        made.append(result.cell)
    assert made[0] != made[1]


def test_force_measures_again_from_the_first_step_on(tmp_path: Path, linear: str) -> None:
    made = plan(tmp_path, models=[linear])
    (before,) = run_plan(made).results
    lines: list[str] = []
    (after,) = run_plan(plan(tmp_path, models=[linear], force=True), lines.append).results
    assert after.cell == before.cell and after.metrics["history"] == before.metrics["history"]
    assert after.seconds != before.seconds and not any("finished before" in one or "going on" in one for one in lines)


def test_a_run_measures_what_was_planned_whatever_is_edited_since(tmp_path: Path, linear: str) -> None:
    made = plan(tmp_path, models=[linear])
    path = Path(linear.partition(":")[0])
    path.write_text(path.read_text().replace("image_size**2, classes", "image_size**2, 2 * classes"))
    assert not run_plan(made).failed  # with 20 scores it would


DRAWS = """
import random, numpy as np
IMPORTED = random.random() + np.random.rand() + float(torch.rand(()))

class Draws(Linear):
    def __init__(self, *, image_size, classes):
        super().__init__(image_size=image_size, classes=classes)
        self.layer.weight.data *= IMPORTED + random.random() + np.random.rand()

    def forward(self, images):
        noise = random.random() * np.random.rand() * torch.rand(len(images), 10)  # while it is tested, too
        return Output(scores=self.layer(images.flatten(1)) + noise)
"""


def test_whatever_generator_a_network_draws_from_a_cell_has_one_outcome(tmp_path: Path) -> None:
    (tmp_path / "draws.py").write_text(LINEAR + DRAWS)
    options: dict[str, Any] = {"models": [f"{tmp_path}/draws.py:Draws"], "changes": {"epochs": "2"}}
    before = repr(seeding.state())
    (first,) = run_plan(plan(tmp_path, **options)).results
    assert repr(seeding.state()) == before
    random.random(), np.random.rand(), torch.rand(())
    (second,) = run_plan(plan(tmp_path, **options, out=tmp_path / "again")).results
    assert first.cell == second.cell
    left_out = ("training_seconds", "images_per_second")
    metrics = [{key: one.metrics[key] for key in one.metrics if key not in left_out} for one in (first, second)]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("value", ["torch.nn.ReLU", "{1, 2}", "float('nan')", "b'x'"])
def test_a_parameter_that_no_result_can_state_is_named_before_anything_is_done(tmp_path: Path, value: str) -> None:
    (tmp_path / "mine.py").write_text(f"{LINEAR}\n    presets = {{'small': {{'broken': {value}}}}}\n")
    name = f"{tmp_path}/mine.py:Linear"
    with pytest.raises(UsageError, match=r"parameter 'broken' of model .* should be a number, a text, or lists"):
        plan(tmp_path, models=[name], changes={f"{name}.preset": "small"})


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("presets", "3", "should map names to capsbench.bench.Preset"),
        ("presets", "{'smoke': None}", "should map names to capsbench.bench.Preset"),
        ("models", "5", r"models of suite .* is 5 \(int\)"),
        ("version", "'one'", r"version of suite .* is one \(str\)"),
    ],
)
def test_a_suite_of_the_wrong_kind_is_named(tmp_path: Path, attribute: str, value: str, message: str) -> None:
    (tmp_path / "suite.py").write_text(f"{SUITE}\n    {attribute} = {value}\n")
    with pytest.raises(UsageError, match=message):
        plan_run(f"{tmp_path}/suite.py:Blind", preset="smoke", out=tmp_path)


def test_a_resumed_cell_states_the_time_of_its_earlier_runs_too(
    tmp_path: Path, linear: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_before = Trainer.run

    def resumed(self: Trainer, *args: Any) -> Any:
        trained = trained_before(self, *args)
        trained.seconds += 1000  # as its checkpoint said
        return trained

    monkeypatch.setattr(Trainer, "run", resumed)
    (result,) = run_plan(plan(tmp_path, models=[linear])).results
    assert 1000 < result.metrics["training_seconds"] <= result.seconds < 1100


def test_a_finished_cell_of_another_number_of_threads_is_told(
    tmp_path: Path, linear: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(tmp_path, models=[linear])
    run_plan(made)
    had = torch.get_num_threads()
    monkeypatch.setattr("torch.get_num_threads", lambda: had + 1)
    lines: list[str] = []
    run_plan(made, lines.append)
    assert lines[0].endswith(
        f"finished before, with threads: {had}; now there are {had + 1}, and sums in another order differ in their "
        "last digits"
    )


def test_misfits_of_any_training_of_a_suite_are_found_before_the_first(tmp_path: Path) -> None:
    (tmp_path / "square.py").write_text(
        "import torch\n\nclass Square(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.last = torch.nn.Linear(784, 10)\n\n    def forward(self, images):\n"
        "        return self.last(images.reshape(len(images), 784))\n"
    )
    asked: dict[str, Any] = {"preset": "smoke", "digits": "embedded", "device": "cpu", "out": tmp_path / "runs"}
    with pytest.raises(UsageError, match=r"fails on images \[2, 1, 36, 36\]"):  # single digits are 28x28
        plan_run("reconstruction", models=[f"{tmp_path}/square.py"], **asked)


def test_a_network_is_tried_as_its_suite_trains_it(tmp_path: Path) -> None:
    (tmp_path / "single.py").write_text(
        "import torch\n\nclass Single(torch.nn.Module):\n    def __init__(self, *, pairs):\n"
        "        super().__init__()\n"
        "        if pairs:\n            raise ValueError('one digit an image')\n"
        "        self.last = torch.nn.Linear(1296, 10)\n\n    def forward(self, images):\n"
        "        return self.last(images.flatten(1))\n"
    )
    asked: dict[str, Any] = {"digits": "embedded", "device": "cpu", "out": tmp_path / "runs"}
    (cell,) = plan_run("overlap", models=[f"{tmp_path}/single.py"], preset="zero-shot", **asked).cells
    assert cell.settings.trained_on == "singles"


def test_a_name_that_is_near_a_networks_parameter_is_not_taken_for_a_setting(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"preset": "smoke", "digits": "embedded", "device": "cpu", "out": tmp_path / "runs"}
    with pytest.raises(UnknownNameError, match=r"networks of this run is called 'chanels'\. Did you mean 'channels'"):
        plan_run("affine", models=["cnn-pool"], changes={"chanels": "4,8"}, **asked)
    with pytest.raises(
        UnknownNameError, match=r"parameter of suite 'affine' is called 'epoch'\. Did you mean 'epochs'"
    ):
        plan_run("affine", models=["cnn-pool"], changes={"epoch": "4"}, **asked)


@pytest.mark.parametrize("seeds", [1, "1", np.int64(1)])
def test_seeds_are_several(seeds: Any, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"seeds must be a sequence of whole numbers, such as \(0, 1, 2\), got 1"):
        run("mnist", seeds=seeds, preset="smoke", out=tmp_path)
