"""The networks of a run, as users name them: a file alone, a label, a parameter that one network alone has."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from capsbench import registry
from capsbench.bench.apart import command
from capsbench.bench.networks import networks
from capsbench.bench.planning import Plan, plan_run
from capsbench.bench.running import run_plan
from capsbench.errors import ParameterError, UnknownNameError, UsageError
from capsbench.report.pages import render
from capsbench.results.result import load_results

pytestmark = pytest.mark.usefixtures("few_digits")

ONE = """
from torch import nn
from torch.nn import Linear

class Net(nn.Module):
    def __init__(self, width=4, depth=1):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.ReLU(), Linear(width, 10))

    def forward(self, images):
        return self.layers(images)
"""


class Given(nn.Module):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(1600, width), nn.Linear(width, 10))

    def forward(self, images: Any) -> Any:
        return self.layers(images)


@pytest.fixture(autouse=True)
def files(own_world: None) -> None:
    Path("one.py").write_text(ONE)
    Path("two.py").write_text(
        ONE + "\nclass Wide(Net):\n    def __init__(self, width=9):\n        super().__init__(width)\n"
    )


def plan(models: Any, **options: Any) -> Plan:
    return plan_run("affine", models=models, preset="smoke", digits="embedded", device="cpu", **options)


def test_a_file_with_one_network_is_named_alone() -> None:
    (alone,), (named,) = plan("one.py").cells, plan("one.py:Net").cells
    assert alone.id == named.id and alone.name == named.name and alone.label == "one.py"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two.py", r"two\.py defines Net, Wide\. Name one: two\.py:Wide"),
        ("none.py", r"none\.py defines no network\. Name what builds one: none\.py:NAME"),
        ("missing.py", "is not a file"),
    ],
)
def test_a_file_with_more_or_less_than_one_is_refused(name: str, message: str) -> None:
    Path("none.py").write_text("from torch import nn\n\ndef net():\n    return nn.Identity()\n")
    with pytest.raises(UsageError, match=message):
        plan(name)


def test_a_parameter_of_one_network_alone_needs_no_name() -> None:
    made = plan(["one.py", "cnn-pool"], changes={"width": "3", "epochs": "2"})
    mine, other = made.cells
    assert mine.parameters == {"width": 3} and mine.label == "one.py (width=3)" and other.label == "cnn-pool"
    assert mine.id == plan("one.py:Net", changes={"one.py:Net.width": "3", "epochs": "2"}).cells[0].id
    assert mine.settings.epochs == 2 and mine.preset == "smoke (epochs=2)"


@pytest.mark.parametrize(
    ("models", "change", "error", "message"),
    [
        (
            ["one.py", "two.py:Wide"],
            "width",
            UsageError,
            r"Several .* --set one\.py\.width=\.\.\. or ",
        ),
        (["one.py", "two.py:Wide"], "widht", UnknownNameError, "widht"),
        (["one.py:Net", "two.py:Net"], "Net.width", UsageError, "called Net. Name one: one.py:Net or two.py:Net"),
        (["one.py:Net"], "Nett.width", UnknownNameError, "model in this run"),
        (["one.py:Net"], "Net.classes", ParameterError, "the suite chooses classes"),
    ],
)
def test_a_parameter_of_several_or_of_none_is_refused(
    models: list[str], change: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        plan(models, changes={change: "3"})


def test_the_last_part_of_a_name_is_enough_where_one_network_has_it() -> None:
    (cell, _) = plan(["one.py:Net", "two.py:Wide"], changes={"Net.width": "5"}).cells
    assert cell.parameters == {"width": 5}


def test_one_network_under_two_labels_has_two_sets_of_parameters() -> None:
    made = plan(["Narrow=one.py", "Wide one=one.py:Net"], changes={"Narrow.width": "2", "Wide one.width": "20"})
    assert [(cell.label, cell.parameters["width"]) for cell in made.cells] == [("Narrow", 2), ("Wide one", 20)]
    mapped = plan({"Narrow": "one.py", "Mine": Given}, changes={"Narrow.width": "2"})
    assert [cell.label for cell in mapped.cells] == ["Narrow", "Mine"]
    assert mapped.cells[0].id == made.cells[0].id


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["A=one.py", "A=two.py:Wide"], "Two networks of this run have the label 'A'"),
        (["capsnet=one.py"], "The label 'capsnet' is the name of another network"),
        (["cnn (dropout=0.5)=one.py"], "is the name of another network"),
        (["A" * 61 + "=one.py"], "A label has at most 60 characters"),
        (["A\x1b[31m=one.py"], "all of them visible"),
    ],
)
def test_a_label_that_would_mislead_is_refused(models: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan(models)
    assert message in str(caught.value)


def test_a_path_with_an_equals_sign_is_no_label() -> None:
    Path("lr=3").mkdir()
    Path("lr=3/net.py").write_text(ONE)
    Path("a=b.py").write_text(ONE)
    assert [cell.label for cell in plan(["lr=3/net.py", "a=b.py:Net"]).cells] == ["lr=3/net.py", "a=b.py:Net"]
    assert plan("Ours=lr=3/net.py").cells[0].label == "Ours"


def test_a_label_stands_in_tables_and_a_new_one_replaces_it_without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_plan(plan("R_50 & co=one.py"))
    assert first.results[0].label == "R_50 & co"
    assert r"R\_50 \& co" in render(first.results, "latex_booktabs")
    monkeypatch.setattr("capsbench.bench.measuring._measured", None)  # nothing is measured
    assert run_plan(plan("Ours=one.py:Net")).results[0].label == "Ours"
    assert [one.label for one in load_results("runs")] == ["Ours"]
    assert run_plan(plan("one.py:Net")).results[0].label == "Ours"
    assert json.loads(first.paths[0].read_text())["metrics"] == first.results[0].metrics


def test_a_process_of_its_own_gets_the_label_and_the_parameters_of_its_network_alone() -> None:
    made = plan(["Ours=one.py", "cnn-pool"], changes={"width": "3", "cnn-pool.dropout": "0.1", "epochs": "1"})
    (mine, other) = ([word for word in command(cell, made) if "=" in word] for cell in made.cells)
    assert {"--set=Ours.width=3", "--model=Ours=one.py"} <= set(mine) and "--set=cnn-pool.dropout=0.1" not in mine
    assert {"--set=cnn-pool.dropout=0.1", "--model=cnn-pool"} <= set(other) and "--set=Ours.width=3" not in other


@pytest.mark.parametrize("suite", ["affine", "clutter", "crowding", "mnist", "overlap", "reconstruction", "throughput"])
def test_beside_small_networks_every_one_that_ships_is_small(suite: str) -> None:
    for network in registry.shipped("model"):
        small = registry.load("model", network).presets["small"]
        (cell, *_) = plan_run(suite, models=[network], preset="smoke", device="cpu", digits="embedded").cells
        changed = cell.parameters.keys() & small.keys()
        same = [key for key in changed if cell.parameters[key] == small[key]]
        assert len(same) >= len(small) - 1, (network, cell.parameters)  # a suite may choose one of its own
    paper = registry.load("suite", suite).presets["paper"]
    assert "channels" not in networks(["cnn-pool"], paper, {})[0].parameters


def test_a_network_of_ones_own_has_the_form_that_its_author_gave_it(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(ONE)
    (cell,) = plan_run("mnist", models=[f"{tmp_path}/one.py:Net"], preset="smoke", device="cpu").cells
    assert cell.parameters == {}
