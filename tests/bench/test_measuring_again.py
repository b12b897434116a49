"""A finished training is measured again without training: where tests change, and only where weights are sound."""

import ast
import re
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import capsbench
from capsbench import registry
from capsbench.bench import code
from capsbench.bench.measuring import Engine, measure
from capsbench.bench.planning import Plan, plan_run
from capsbench.bench.running import run_plan
from capsbench.contracts import ProgressBar
from capsbench.files.generation import generate
from capsbench.results.result import Result
from capsbench.suites.affine import Affine
from capsbench.training.checkpoints import load_checkpoint, save_checkpoint
from capsbench.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("few_digits")

NETWORK = """
import torch
from torch.nn import functional as F
from capsbench.contracts import Output

class Net(torch.nn.Module):
    def __init__(self, *, image_size, classes):
        super().__init__()
        side = image_size // 4
        self.layer = torch.nn.Linear(side**2, classes)

    def forward(self, images):
        return Output(scores=self.layer(F.avg_pool2d(images, 4).flatten(1)))

    def loss(self, output, batch):
        return F.cross_entropy(output.scores, batch.labels)
"""

TIMES = ("training_seconds", "images_per_second")


def plan(folder: Path, **options: Any) -> Plan:
    (folder / "net.py").write_text(options.pop("network", NETWORK))
    stated: dict[str, Any] = {"models": [f"{folder}/net.py:Net"], "preset": "smoke", "digits": "embedded"}
    stated |= {
        "changes": {"batch_size": "8", "eval_every": "16", "target": "0.2", "learning_rate": "0.1"},
        "device": "cpu",
        "out": folder / "runs",
    }
    changes = stated["changes"] | options.pop("changes", {})
    return plan_run(options.pop("suite", "affine"), **(stated | options | {"changes": changes}))


def measured(made: Plan, report: Callable[[str], None] = print) -> Result:
    outcome = run_plan(made, report)
    assert not outcome.failed
    (result,) = outcome.results
    return result


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished cell; it is copied, never changed."""
    folder = tmp_path_factory.mktemp("finished")
    measured(plan(folder))
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*rest: Any, **options: Any) -> None:
        raise AssertionError("it was trained")

    monkeypatch.setattr(Trainer, "run", run)


def figures(result: Result) -> dict[str, Any]:
    """What must be the same to the last digit, however a cell was run."""
    return {key: value for key, value in result.metrics.items() if key not in TIMES}


def test_a_change_of_the_test_trains_nothing_and_gives_the_figures_of_a_whole_run(
    folder: Path, tmp_path: Path, no_training: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = plan(folder, changes={"rotation": "60", "variants": "2"})
    assert [changed.state(cell) for cell in changed.cells] == ["measure only"]
    lines: list[str] = []
    again = measured(changed, lines.append)
    assert len(lines) == 1 and lines[0].endswith(".pt; nothing is trained")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "whole").mkdir()
    whole = measured(plan(tmp_path / "whole", changes={"rotation": "60", "variants": "2"}))
    assert again.cell == whole.cell and figures(again) == figures(whole)
    assert again.metrics["factors"]["alone"]["rotation"][0]["value"] == 60
    assert again.seconds > again.metrics["training_seconds"]  # the training's time is part of it
    stated = again.training["weights"][""]
    assert stated["environment"] == whole.environment and stated["date"]
    assert whole.training == {"id": again.training["id"], "weights": {"": {"file": stated["file"]}}}


def test_another_file_to_test_on_trains_nothing(folder: Path, tmp_path: Path, no_training: None) -> None:
    (path,) = generate("affnist", out=tmp_path / "mine.h5", split="test", digits="embedded", rotation=60)
    changed = plan(folder, changes={"test": str(path)})
    assert changed.state(changed.cells[0]) == "measure only"
    assert measured(changed).metrics["checkpoints"]["last"]["file"]["total"] == 100


def test_another_version_of_the_suite_trains_nothing(
    folder: Path, no_training: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = measured(plan(folder))
    monkeypatch.setattr(Affine, "version", Affine.version + 1)
    made = plan(folder)
    assert made.state(made.cells[0]) == "measure only"
    after = measured(made)
    assert after.cell != before.cell and after.metrics == before.metrics


def test_each_of_the_selected_weights_is_kept_once_and_no_optimizer(folder: Path) -> None:
    assert not list((folder / "runs" / "checkpoints").rglob("*"))
    (path,) = (folder / "runs" / "weights").glob("*.pt")
    content = load_checkpoint(path)
    assert content is not None
    points = measured(plan(folder)).metrics["checkpoints"]
    assert set(content["states"]) == {point["step"] for point in points.values()} and set(points) == {
        "target",
        "best",
        "last",
    }
    numbers = sum(value.numel() for state in content["states"].values() for value in state.values())
    assert numbers == 1010 * len(content["states"])
    assert path.stat().st_size < 4 * numbers + 10_000


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_layers(path: Path) -> None:
    content = load_checkpoint(path)
    assert content is not None
    for state in content["states"].values():
        state["layer.weight"] = torch.zeros(10, 7)
    save_checkpoint(path, content)


def folder_there(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [flipped, other_layers, folder_there])
def test_damaged_weights_and_those_of_another_network_are_trained_again(
    damage: Callable[[Path], None], folder: Path
) -> None:
    (path,) = (folder / "runs" / "weights").glob("*.pt")
    expected = figures(measured(plan(folder)))
    damage(path)
    lines: list[str] = []
    found = figures(measured(plan(folder, changes={"translation": "5"}), lines.append))
    assert lines[0].endswith(
        f"{path} is damaged or of another training; it is now called {path.name}.aside, "
        "and the network is trained again"
    )
    assert found["checkpoints"] == expected["checkpoints"] and found["history"] == expected["history"]
    made = plan(folder, changes={"translation": "6"})
    assert made.state(made.cells[0]) == "measure only"


def test_missing_weights_are_trained_again(folder: Path) -> None:
    (path,) = (folder / "runs" / "weights").glob("*.pt")
    path.unlink()
    made = plan(folder, changes={"translation": "5"})
    assert made.state(made.cells[0]) == "train and measure"
    lines: list[str] = []
    measured(made, lines.append)
    assert lines[0].endswith(f"{path} is missing; the network is trained again")


def test_force_trains_again(folder: Path) -> None:
    made = plan(folder, force=True)
    assert made.state(made.cells[0]) == "train and measure"
    lines: list[str] = []
    result = measured(made, lines.append)
    assert any("epoch 1/1" in line for line in lines) and "date" not in result.training["weights"][""]


@pytest.mark.parametrize(
    "options",
    [
        {"changes": {"epochs": "2"}},
        {"changes": {"target": "0.4"}},
        {"changes": {"data_seed": "1"}},
        {"seeds": [1]},
        {"network": NETWORK.replace("cross_entropy(output.scores", "cross_entropy(2 * output.scores")},
    ],
    ids=str,
)
def test_whatever_changes_weights_is_trained(options: dict[str, Any], folder: Path) -> None:
    made = plan(folder, **options)
    assert made.state(made.cells[0]) == "train and measure"


@pytest.mark.parametrize("suite", sorted(set(registry.catalog("suite")) - {"throughput"}))
def test_the_settings_that_no_weight_depends_on_are_those_of_tests(suite: str) -> None:
    (cell, *_) = plan_run(suite, preset="smoke", digits="embedded", device="cpu").cells
    changed: dict[Any, Any] = {
        int: lambda value: value + 1,
        float: lambda value: value / 2,
        tuple: lambda value: value[:1],
    }
    kept = set()
    for one in fields(cell.settings):
        value = getattr(cell.settings, one.name)
        choices = {
            "schedule": "exponential",
            "precision": "bf16",
            "trained_on": "singles",
            "size": 34,
            "training_scraps": (0, 8),
        }
        other = choices.get(one.name) or (f"{value}x" if isinstance(value, str) else changed[type(value)](value))
        again = replace(cell, settings=replace(cell.settings, **{one.name: other}))
        assert again.id != cell.id, one.name
        if again.training == cell.training:
            kept.add(one.name)
    expected = {
        "affine": {"variants", "test", "rotation", "shear", "scale", "translation"},
        "clutter": {"variants", "scraps"},
        "cifar10": set(),
        "crowding": {"variants", "spacings"},
    }
    assert kept == expected.get(suite, {"variants"})


def test_a_training_that_was_stopped_goes_on_for_another_test(folder: Path) -> None:
    shutil.rmtree(folder / "runs" / "weights")

    class StoppedError(Exception):
        pass

    original = Trainer._validate

    def stop(self: Trainer, bar: ProgressBar) -> Any:
        row = original(self, bar)
        if self.trained.steps == 32:
            raise StoppedError
        return row

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "_validate", stop)
        ((_, why),) = run_plan(plan(folder, changes={"translation": "5"})).failed
    assert "StoppedError" in why
    lines: list[str] = []
    measured(plan(folder, changes={"translation": "6"}), lines.append)
    assert any("going on after step 32 of 40" in line or "going on after step 16 of 40" in line for line in lines)


def test_two_trainings_of_a_cell_are_kept_apart(
    tmp_path: Path, no_training: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan_run("reconstruction", models=["capsnet"], preset="smoke", digits="embedded", device="cpu", out=tmp_path)
    names = [path.name for path in made.weights(made.cells[0])]
    stem = f"capsnet-seed0-{made.cells[0].training}"
    assert names == [f"{stem}.single.pt", f"{stem}.pairs.pt"]


def test_what_trains_nothing_is_measured_only() -> None:
    made = plan_run("throughput", preset="smoke", device="cpu")
    assert made.state(made.cells[0]) == "measure only"


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str, str], None]:
    """Edits the source of a module as the digest of code sees it."""
    path, behind = code._path, code._code_behind.__wrapped__
    imports, bare = code._imports, code._code  # both keep what they found

    def edit(module: str, old: str, new: str) -> None:
        text = path(module).read_text()
        assert old in text
        copy = tmp_path / "edited.py"
        copy.write_text(text.replace(old, new, 1))
        monkeypatch.setattr(code, "_code_behind", behind)
        monkeypatch.setattr(code, "_path", lambda name: copy if name == module else path(name))
        for kept in (imports, bare):
            monkeypatch.setattr(code, kept.__name__, partial(asked, module, kept))

    def asked(module: str, kept: Any, name: str) -> Any:
        return kept.__wrapped__(name) if name == module else kept(name)

    return edit


def test_the_code_that_trains_is_known_without_its_comments(edited: Callable[[str, str, str], None]) -> None:
    pool, caps = (registry.load("model", name) for name in ("cnn-pool", "capsnet"))
    before = code.code_of(pool), code.code_of(caps)
    edited("capsbench.models.cnn_pool", '"""', '"""Another sentence. ')
    assert (code.code_of(pool), code.code_of(caps)) == before
    edited("capsbench.models.cnn_pool", "dropout=dropout", "dropout=0.0")
    assert code.code_of(pool) != before[0] and code.code_of(caps) == before[1]
    edited("capsbench.models.routing.blocked", "import torch\n", "import torch\n\nMORE = 1\n")
    assert code.code_of(pool) == before[0] and code.code_of(caps) != before[1]
    edited("capsbench.training.step", "DECAY = 0.96", "DECAY = 0.95")
    assert code.code_of(pool) != before[0] and code.code_of(caps) != before[1]


def test_another_loss_of_plain_modules_trains_again(folder: Path, edited: Callable[[str, str, str], None]) -> None:
    made = plan(folder)
    edited("capsbench.scoring", "scores.log_softmax(dim=1)", "(0.5 * scores).log_softmax(dim=1)")
    changed = plan(folder)
    assert changed.cells[0].training != made.cells[0].training
    assert changed.cells[0].id == made.cells[0].id
    changed = plan(folder, changes={"rotation": "60"})
    assert changed.state(changed.cells[0]) != "measure only"


NO_WEIGHTS = {
    "capsbench.errors": "words of errors",
    "capsbench.parameters": "checks; the values themselves are part of a training",
    "capsbench.results.pixels": "how a result keeps arrays",
    "capsbench.results.writers": "what intervals resample",
    "capsbench.spec": "what data are stands in their spec, which is part of a training",
    "capsbench.system.disk": "writes files whole",
    "capsbench.system.machine": "describes the machine",
    "capsbench.system.memory": "how much is free; batches of a prediction change no answer",
    "capsbench.system.timing": "clocks",
    "capsbench.training.checkpoints": "reads and writes the state that the trainer gives it",
    "capsbench.training.diagnosis": "words on a training that has failed",
    "capsbench.training.logs": "lines on the training",
    "capsbench.version": "a number",
}
"""Modules behind the trainer that no weight depends on, and why."""


def test_every_module_behind_the_trainer_counts_or_has_a_reason_not_to() -> None:
    root = Path(capsbench.__file__).parent.parent

    def path(module: str) -> Path:
        return root.joinpath(*module.split(".")).with_suffix(".py")

    found: set[str] = set()
    waiting = ["capsbench.training.trainer"]
    while waiting:
        name = waiting.pop()
        if name in found or not path(name).exists():  # a package's __init__ has no code here
            continue
        found.add(name)
        for node in ast.walk(ast.parse(path(name).read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                waiting += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
    assert len(found) > 20
    assert found - set(code.TRAINING) == set(NO_WEIGHTS)
    assert not set(code.TRAINING) & set(NO_WEIGHTS)


STUMBLES = (
    NETWORK.replace("import torch\n", "import torch\nfrom pathlib import Path\n").replace(
        "        return F.cross_entropy", "        stumble()\n        return F.cross_entropy"
    )
    + """
def stumble():
    log = Path(__file__).with_name("steps")
    log.write_text(log.read_text() + "." if log.exists() else ".")
    if log.with_name("fails").exists() and len(log.read_text()) == 40:
        log.with_name("fails").unlink()
        raise OSError("a moment's fault")
"""
)


@pytest.mark.parametrize("earlier", ["finished", "interrupted"])
def test_a_forced_cell_that_is_tried_again_goes_on_from_what_this_run_left(tmp_path: Path, earlier: str) -> None:
    steps, fails = tmp_path / "steps", tmp_path / "fails"
    if earlier == "interrupted":
        fails.touch()
    assert bool(run_plan(plan(tmp_path, network=STUMBLES)).failed) == (earlier == "interrupted")
    steps.unlink()
    lines: list[str] = []
    fails.touch()
    made = plan(tmp_path, network=STUMBLES, force=True)
    outcome = run_plan(made, lines.append, engine=Engine([measure], retries=1))
    assert not outcome.failed
    (taken,) = (line for line in lines if "going on after step" in line)  # the second try, and not the first
    step, of = map(int, re.findall(r"step (\d+) of (\d+)", taken)[0])
    assert 16 <= step < 40 and len(steps.read_text()) == 40 + of - step
