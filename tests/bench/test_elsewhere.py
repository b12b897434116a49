"""Weights from elsewhere, and back: exported weights give the figures of their cell to the last digit."""

import contextlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import capsbench
from capsbench.bench.apart import command
from capsbench.bench.planning import Plan, plan_run
from capsbench.bench.running import run_plan
from capsbench.cli import main
from capsbench.errors import CapsbenchError, DataFileError, UnknownNameError, UsageError
from capsbench.results.result import Result, load_result
from capsbench.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("few_digits")

NETWORK = """
import torch
from torch import nn
from torch.nn import functional as F
from capsbench.contracts import Output

class Net(nn.Module):
    def __init__(self, *, image_size, width=4):
        super().__init__()
        self.size = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.conv = nn.Conv2d(1, width, 5, stride=4)
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Linear(width, 10)
        self.drawn = nn.Parameter(torch.rand(10, *self.size))

    def forward(self, images):
        scores = self.last(self.norm(self.conv(images)).relu().amax((2, 3)))
        return Output(scores=scores, reconstruct=lambda classes: self.drawn[classes][:, None].sigmoid())

    def loss(self, output, batch):
        targets = F.one_hot(batch.labels.reshape(len(batch.labels), -1), 10).amax(1).float()
        drawn = output.reconstruct(batch.labels.reshape(len(batch.labels), -1)[:, 0])
        return F.binary_cross_entropy_with_logits(output.scores, targets) + F.mse_loss(drawn, batch.images)
"""

LEARNING = {"batch_size": "16", "eval_every": "6", "learning_rate": "0.03"}  # 20 steps, of which several are judged


def plan(folder: Path, suite: str = "mnist", **options: Any) -> Plan:
    if not (folder / "net.py").exists():
        (folder / "net.py").write_text(NETWORK)
    stated: dict[str, Any] = {"models": [f"{folder}/net.py:Net"], "preset": "smoke", "digits": "embedded"}
    stated |= {"device": "cpu", "out": folder / "runs", "changes": LEARNING}
    return plan_run(suite, **(stated | options))


def measured(made: Plan) -> Result:
    outcome = run_plan(made)
    assert not outcome.failed
    (result,) = outcome.results
    return result


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A finished cell of `mnist`, and its folder."""
    folder = tmp_path_factory.mktemp("finished")
    return {"folder": folder, "result": measured(plan(folder))}


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*rest: Any, **options: Any) -> None:
        raise AssertionError("it was trained")

    monkeypatch.setattr(Trainer, "run", run)


@pytest.mark.parametrize("suite", ["affine", "mnist", "overlap", "crowding", "clutter"])
def test_exported_weights_give_the_figures_of_their_cell_to_the_last_digit(suite: str, tmp_path: Path) -> None:
    result = measured(plan(tmp_path, suite))
    path = capsbench.export(result, tmp_path / "net.pt")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "run", None)
        again = measured(plan(tmp_path, suite, weights=path))
    expected = {
        key: value for key, value in result.metrics["checkpoints"]["best"].items() if key not in ("step", "epoch")
    }
    assert again.metrics["checkpoints"] == {"best": expected}
    training = {"checkpoints", "history", "steps", "training_seconds", "images_per_second", "micro_batches"}
    for key in result.metrics.keys() - training:
        assert again.metrics[key] == result.metrics[key], key
    assert again.metrics.keys() == result.metrics.keys() - (training - {"checkpoints"})
    digest = capsbench.load_results(again.path or "")[0].training["sha256"]
    assert again.origin == "weights" and again.identity["weights"] == {"net.pt": digest}
    assert again.cell != result.cell


def test_a_suite_of_two_networks_takes_both_from_one_file(tmp_path: Path) -> None:
    short = LEARNING | {"epochs": "1", "pair_epochs": "1"}
    result = measured(plan(tmp_path, "reconstruction", changes=short))
    path = capsbench.export(result, tmp_path / "net.pt")
    assert {name.partition(".")[0] for name in torch.load(path, weights_only=True)} == {"single", "pairs"}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "run", None)
        again = measured(plan(tmp_path, "reconstruction", changes=short, weights=path))
    for part in ("single", "pairs"):
        for key, value in again.metrics[part].items():
            assert key == "epoch" or value == result.metrics[part][key], (part, key)
    assert capsbench.load_network(result, training="pairs").get_parameter("drawn").shape == (10, 36, 36)
    with pytest.raises(UsageError, match=r"several networks in a cell\. Choose one: training='single' or 'pairs'"):
        capsbench.load_network(result)
    with pytest.raises(UnknownNameError, match="network that the suite trains"):
        capsbench.load_network(result, training="other")


def test_a_network_that_its_file_alone_names_comes_back(tmp_path: Path) -> None:
    result = measured(plan(tmp_path, models=[f"{tmp_path}/net.py"], changes=LEARNING | {"epochs": "1"}))
    assert result.model.endswith("net.py")
    assert capsbench.load_network(result).get_parameter("drawn").shape == (10, 28, 28)
    with pytest.raises(UsageError, match=r"was named by its file, .*net\.py, and not given in Python"):
        capsbench.load_network(result, network=torch.nn.Linear)


def test_a_network_comes_back_with_its_weights(cells: dict[str, Any]) -> None:
    result = cells["result"]
    net = capsbench.load_network(result)
    assert not net.training
    digits = capsbench.stream("padded", split="test", digits="embedded", size=28, shift=0).batch(range(100))
    with torch.no_grad():
        answers = net(torch.from_numpy(digits.images)[:, None] / 255).scores.argmax(1).numpy()
    assert int((answers == digits.labels).sum()) == result.metrics["checkpoints"]["best"]["test"]["correct"]
    last = capsbench.load_network(result.path, checkpoint="last")
    assert result.metrics["checkpoints"]["last"]["step"] == int(last.get_buffer("norm.num_batches_tracked"))


def test_what_no_network_can_be_made_of_is_named(cells: dict[str, Any], tmp_path: Path) -> None:
    result = cells["result"]
    with pytest.raises(UnknownNameError, match=r"No checkpoint of this cell is called 'first'. Known: best, last"):
        capsbench.load_network(result, checkpoint="first")
    with pytest.raises(UsageError, match=r"seed 0, never reached the target of 99\.23%; it has .* best and last"):
        capsbench.load_network(result, checkpoint="target")
    with pytest.raises(UsageError, match=r"was named by its file, .*net\.py:Net, and not given in Python"):
        capsbench.load_network(result, network=torch.nn.Linear)
    with pytest.raises(
        UsageError, match=r"name of a network, stn\. Its weights ship, in Python: .*'stn', pretrained='affine-medium'"
    ):
        capsbench.load_network("stn")
    with contextlib.chdir(tmp_path):
        Path("stn").write_text("{}")
        with pytest.raises(DataFileError, match="is not a result of capsbench"):
            capsbench.load_network("stn")  # a file comes before a network of its name
    with pytest.raises(UsageError, match=r"needed, got the name of a network, efficient-capsnet\.$"):
        capsbench.load_network("efficient-capsnet")
    with pytest.raises(UsageError, match=r"\.jsonl is the log of a training\. Its result is .*\.json\."):
        capsbench.load_network(result.path.with_suffix(".jsonl"))
    for missing in ("net.jsonl", "x" * 300):
        with pytest.raises(DataFileError, match="cannot be read"):
            capsbench.load_network(missing)
    with pytest.raises(DataFileError, match=r"names no kept weights\. Run the cell again with --force"):
        capsbench.load_network(replace(result, training={}))
    with pytest.raises(DataFileError, match="names no kept weights"):
        capsbench.load_network(replace(result, training={"weights": {"": {"file": "../net.pt"}}}))
    with pytest.raises(DataFileError, match="are missing or damaged"):
        capsbench.load_network(replace(result, training={"weights": {"": {"file": "net.pt"}}}))
    with pytest.raises(UsageError, match="is no longer what was measured"):
        capsbench.load_network(replace(result, source="0" * 64))
    with pytest.raises(UsageError, match=r"was given as a class or a function\. Give it again: network=Net"):
        capsbench.load_network(replace(result, model="Net"))
    with pytest.raises(UsageError, match=r"ends in \.pt or \.safetensors"):
        capsbench.export(result, tmp_path / "net.npz")
    (tmp_path / "net.pt").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        capsbench.export(result, tmp_path / "net.pt")
    assert (tmp_path / "net.pt").read_text() == "mine"
    capsbench.export(result, tmp_path / "net.pt", force=True)
    kept = result.path.parent.parent / "weights" / result.training["weights"][""]["file"]
    before = kept.read_bytes()
    with pytest.raises(UsageError, match=r"has the weights that a run keeps of a training\. Choose another name"):
        capsbench.export(result, kept, force=True)
    assert kept.read_bytes() == before
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        capsbench.export(result, tmp_path / "folder.pt", force=True)


def test_a_class_is_given_again(tmp_path: Path) -> None:
    space: dict[str, Any] = {"__name__": "__main__"}  # as in a notebook
    exec(NETWORK, space)
    result = measured(plan(tmp_path, models=space["Net"]))
    assert isinstance(capsbench.load_network(result, network=space["Net"]), space["Net"])
    exec(NETWORK.replace("relu()", "tanh()"), space)
    with pytest.raises(UsageError, match="is no longer what was measured"):
        capsbench.load_network(result, network=space["Net"])


def state_of(cells: dict[str, Any]) -> dict[str, torch.Tensor]:
    return dict(capsbench.load_network(cells["result"]).state_dict())


def test_a_network_of_weights_from_elsewhere_comes_back_while_their_file_is_the_same(
    cells: dict[str, Any], tmp_path: Path, no_training: None
) -> None:
    torch.save({"state_dict": {f"module.{name}": one for name, one in state_of(cells).items()}}, tmp_path / "mine.pt")
    result = measured(plan(tmp_path, weights=str(tmp_path / "mine.pt")))
    assert result.metrics["checkpoints"]["best"]["test"] == cells["result"].metrics["checkpoints"]["best"]["test"]
    net = capsbench.load_network(result)
    assert all(torch.equal(one, net.state_dict()[name]) for name, one in state_of(cells).items())
    with pytest.raises(UsageError, match="the best weights alone, so that it has no checkpoint 'last'"):
        capsbench.load_network(result, checkpoint="last")
    with pytest.raises(UsageError, match="was not trained here"):
        capsbench.export(result, tmp_path / "again.pt")
    torch.save(state_of(cells), tmp_path / "mine.pt")
    with pytest.raises(DataFileError, match="is no longer the file that was measured"):
        capsbench.load_network(result)


def test_weights_find_their_network_by_name_and_by_label(cells: dict[str, Any], tmp_path: Path) -> None:
    path = capsbench.export(cells["result"], tmp_path / "a=b.pt")
    name = f"{tmp_path}/net.py:Net"
    for given in ([f"{name}={path}"], {name: path}, [f"{name}={path}"]):
        made = plan(tmp_path, models=[name, "cnn"], weights=given)
        assert [cell.weights is not None for cell in made.cells] == [True, False]
        assert [made.state(cell) for cell in made.cells] == ["measure only", "train and measure"]
    assert plan(tmp_path, weights=str(path)).cells[0].weights == made.cells[0].weights
    assert plan(tmp_path).cells[0].id != made.cells[0].id
    wide = plan(tmp_path, models=[name], changes={f"{name}.width": "4"}, weights=[f"{name} (width=4)={path}"])
    assert wide.cells[0].label == f"{name} (width=4)" and wide.cells[0].weights
    assert f"--weights={name} (width=4)={path}" in command(wide.cells[0], wide)


MISUSED: list[tuple[dict[str, Any], type[CapsbenchError], str]] = [
    ({"models": ["NET", "cnn"], "weights": "FILE"}, UsageError, r"Which network are the weights .* of\? Name it"),
    ({"weights": ["nte=FILE"]}, UnknownNameError, "No network of this run .* is called 'nte'"),
    ({"weights": {"capsnet": "FILE"}}, UnknownNameError, "No network of this run .* is called 'capsnet'"),
    ({"weights": ["FILE", "FILE"]}, UsageError, "There are several files of weights"),
    ({"weights": "FILE", "seeds": [0, 1]}, UsageError, "those of one training, got several seeds"),
    ({"models": ["capsnet"], "weights": "FILE"}, UsageError, "Which network are the weights"),
    ({"models": ["capsnet"], "weights": ["capsnet=FILE"]}, UsageError, "capsnet is measured in 4 forms"),
    ({"weights": "missing.pt"}, DataFileError, "There is no file"),
    ({"weights": ""}, UsageError, "weights"),
    ({"suite": "throughput", "weights": "FILE"}, UsageError, "trains no network"),
    ({"suite": "affine", "weights": "FILE"}, DataFileError, r"drawn is \[10, 28, 28\], needs \[10, 40, 40\]"),
]


@pytest.mark.parametrize(("options", "error", "message"), MISUSED, ids=[one[2][:30] for one in MISUSED])
def test_weights_that_make_no_sense_are_refused_before_anything_is_done(
    options: dict[str, Any], error: type[CapsbenchError], message: str, cells: dict[str, Any], tmp_path: Path
) -> None:
    path = capsbench.export(cells["result"], tmp_path / "net.pt")

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("FILE", str(path)).replace("NET", f"{tmp_path}/net.py:Net")
        if isinstance(value, list):
            return [filled(one) for one in value]
        return {key: filled(one) for key, one in value.items()} if isinstance(value, dict) else value

    if options.get("suite") == "throughput":
        options = options | {"changes": {}}
    with pytest.raises(error, match=message):
        plan(tmp_path, **filled(options))
    assert not (tmp_path / "runs").exists()


def test_weights_that_change_during_a_run_are_not_measured(cells: dict[str, Any], tmp_path: Path) -> None:
    path = capsbench.export(cells["result"], tmp_path / "net.pt")
    made = plan(tmp_path, weights=str(path))
    torch.save({name: one * 0 for name, one in state_of(cells).items()}, path)
    ((_, why),) = run_plan(made).failed
    assert why == f"{path} was changed since the run began. Run again."


def run_cli(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code


class Runs:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("it ran"),)


@pytest.mark.usefixtures("undrawn", "guessed")
def test_from_the_command_line_and_back(
    cells: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, folder = cells["result"], cells["folder"]
    assert run_cli("export", str(result.path), "--out", str(tmp_path / "net.pt"), "--checkpoint", "last") == 0
    assert capsys.readouterr().out == f"{tmp_path}/net.pt\n"
    network = f"{folder}/net.py:Net"
    words = [
        "run",
        "--suite",
        "mnist",
        "--preset",
        "smoke",
        "--model",
        network,
        "--device",
        "cpu",
        "--out",
        str(tmp_path),
    ]
    assert run_cli(*words, "--weights", str(tmp_path / "net.pt"), "--dry-run") == 0
    out = capsys.readouterr().out
    assert f"measure only ({network}, seed 0)" in out and "the weights are made of\n  net.pt  " in out
    assert run_cli(*words, "--weights", f"{network}={tmp_path}/net.pt") == 0
    out, err = capsys.readouterr()
    assert "trained elsewhere" in out and "nothing is trained" in err
    found = load_result(Path(out.rpartition("result: ")[2].splitlines()[0]))
    last = result.metrics["checkpoints"]["last"]["test"]
    assert found.metrics["checkpoints"]["best"]["test"] == last
    assert run_cli("report", str(tmp_path)) == 0 and "trained elsewhere" in capsys.readouterr().out
    assert json.loads((found.path or Path()).read_text())["origin"] == "weights"
    (tmp_path / "hostile.pt").write_bytes(pickle.dumps(Runs()))
    torch.save({"last.weight": nn.Linear(2, 2)}, tmp_path / "module.pt")
    for name in ("hostile.pt", "module.pt"):
        assert run_cli(*words, "--weights", str(tmp_path / name)) == 3
        assert capsys.readouterr().err.startswith(f"Error: {tmp_path / name} ")
    assert not Path("it ran").exists()
