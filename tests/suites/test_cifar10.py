"""The suite of CIFAR-10 on the made set: its protocol, ensembles, and networks whose results are known beforehand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from capsbench.bench.exporting import load_network
from capsbench.bench.planning import plan_run
from capsbench.bench.running import run_plan
from capsbench.contracts import Output
from capsbench.data.cifar10_crops import Crops
from capsbench.data.cifar10_made import SHADES, made_images
from capsbench.errors import DataFileError, DigitsError, UsageError
from capsbench.evaluation.inference import predict
from capsbench.judging.tests import Examination
from capsbench.models import build
from capsbench.report.board import boards
from capsbench.report.boardtables import render_boards
from capsbench.report.charts import Chart
from capsbench.report.groups import charts
from capsbench.report.pages import paper_table, render
from capsbench.results.result import Result
from capsbench.results.scores import Scores
from capsbench.statistics import share_interval
from capsbench.suites.cifar10 import CIFAR10, SELECTIONS, CIFAR10Settings, ensemble
from capsbench.training.trainer import Trainer

from ..data.cifar_batches import write_folder
from .known_networks import Unlearned


class ByColour(Unlearned):
    """Knows the colours of the made set's classes."""

    def forward(self, images: Tensor) -> Output:
        shades = torch.tensor(SHADES, dtype=torch.float32) / 255
        return Output(scores=-torch.cdist(images.mean((2, 3)), shades) + 0 * self.weight)


class ByPixel(Unlearned):
    """Answers by the sum of an image's pixels, which says nothing of its class; by the seed another answer."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = int(torch.randint(10, ()))

    def forward(self, images: Tensor) -> Output:
        sums = (255 * images).sum((1, 2, 3)).round().long() + self.shift
        return Output(scores=torch.nn.functional.one_hot(sums % 10, 10).float() + 0 * self.weight)


OPTIONS: dict[str, Any] = {"preset": "smoke", "digits": "embedded", "device": "cpu"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Result]]:
    folder = tmp_path_factory.mktemp("cifar10")
    models: list[Any] = [ByColour, ByPixel, "resnet-gap", "capsnet"]
    plan = plan_run("cifar10", models=models, seeds=[0, 1], changes={"epochs": "1"}, out=folder, **OPTIONS)
    outcome = run_plan(plan)
    assert not outcome.failed, outcome.failed
    found: dict[str, list[Result]] = {}
    for result in outcome.results:
        found.setdefault(result.label.rpartition(":")[2], []).append(result)
    return found


def test_who_knows_the_answer_makes_no_error_and_who_guesses_is_at_chance(results: dict[str, list[Result]]) -> None:
    for name in SELECTIONS:
        assert results["ByColour"][0].metrics["checkpoints"][name]["test"]["correct"] == 100
        guessed = results["ByPixel"][0].metrics["checkpoints"][name]["test"]
        assert guessed["total"] == 100 and abs(guessed["share"] - 0.1) < 4 * (0.1 * 0.9 / 100) ** 0.5
    together = ensemble(results["ByColour"])
    assert together is not None and together["correct"] == 100 and together["interval"][1] == 1
    assert ensemble(results["ByColour"][:1]) is None


def test_the_scores_that_are_kept_are_those_of_the_selected_network(results: dict[str, list[Result]]) -> None:
    test = Crops(made_images("test"), size=24, random=False)
    sums = np.zeros((100, 10))
    for cell in results["resnet-gap"]:
        point = cell.metrics["checkpoints"]["best"]["test"]
        kept = Scores.from_dict(cell.metrics["scores"], point)
        again = predict(load_network(cell), test)
        assert np.array_equal(again.scores, kept.scores) and int(again.correct.sum()) == point["correct"]
        sums += again.scores
    right = np.array([int(np.argmax(row)) for row in sums]) == test.images.labels
    together = ensemble(results["resnet-gap"])
    interval = share_interval(right, np.arange(100, dtype=np.int32))
    assert together == {"share": right.mean(), "correct": right.sum(), "total": 100, "interval": list(interval)}


def test_damaged_scores_are_a_clear_error_of_the_report(results: dict[str, list[Result]]) -> None:
    first, second = results["resnet-gap"]
    swapped = [first, replace(second, metrics={**second.metrics, "scores": results["ByColour"][0].metrics["scores"]})]
    with pytest.raises(DataFileError, match="their answers are not those that it keeps"):
        render(swapped)


def test_networks_train_on_random_crops_and_see_no_test_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[Any, Any]] = []
    make = Trainer.__init__

    def noted(trainer: Trainer, model: Any, data: Any, validation: Any, *rest: Any, **options: Any) -> None:
        seen.append((data, validation))
        make(trainer, model, data, validation, *rest, **options)

    monkeypatch.setattr(Trainer, "__init__", noted)
    plan = plan_run("cifar10", models=ByColour, changes={"epochs": "2", "data_seed": "9"}, out=tmp_path, **OPTIONS)
    (result,) = run_plan(plan).results
    ((training, validation),) = seen
    assert (training.random, validation.random, len(training), len(validation)) == (True, False, 800, 100)
    assert training.size == validation.size == 24 and training.seed == 9
    shown = [{image.tobytes() for image in one.images.images} for one in (training, validation)]
    test = {image.tobytes() for image in made_images("test").images}
    assert not shown[0] & shown[1] and not (shown[0] | shown[1]) & test
    assert {role: used["spec"]["split"] for role, used in result.data.items()} == {
        "training": "train", "validation": "validation", "test": "test",
    }  # fmt: skip
    assert result.data["test"]["spec"]["parameters"] == {"size": 24, "random": False}


def test_the_table_says_what_was_measured_on_what(results: dict[str, list[Result]]) -> None:
    several = [*results["resnet-gap"], *results["capsnet"]]
    text = render(several)
    assert text.startswith("cifar10, preset smoke (epochs=1), a made set in CIFAR-10's shapes, no photographs")
    assert "ensemble %" in text and "paper %" not in text and "same test images" in text
    assert "over seeds and images" in text and "digits" not in text
    board = boards(several)
    assert "intervals over test images and seeds" in render_boards(board, "simple").replace("\n", " ")
    assert any("p is McNemar's" in note and "digits" not in note for note in board[0].notes)
    (alone,) = CIFAR10().table(results["capsnet"][:1]).rows
    assert alone[0] == "capsnet" and alone[-1] == "one network"
    drawn = {chart.name: chart for chart in charts(several)}
    errors = drawn["cifar10-error"]
    assert isinstance(errors, Chart) and set(errors.series) == {"one network (mean over seeds)", "all seeds together"}
    together = ensemble(results["capsnet"])
    (_, shown) = errors.series["all seeds together"][1]
    assert together and shown == pytest.approx(100 - 100 * together["share"])
    assert set(drawn) == {"cifar10-error", "cifar10-training"}


def seven(cell: Result, **changes: Any) -> list[Result]:
    """Seven seeds of a network as the preset ``paper`` would leave them."""
    stated: dict[str, Any] = {"preset": "paper", "digits": "cifar10", **changes}
    return [replace(cell, seed=seed, cell=f"{seed:012}", **stated) for seed in range(7)]


def test_the_papers_figure_stands_beside_seven_networks_of_its_size_alone(results: dict[str, list[Result]]) -> None:
    capsnet, resnet = results["capsnet"][0], results["resnet-gap"][0]
    (reported,) = CIFAR10().paper
    together = ensemble(seven(capsnet))
    assert together and reported.paper == "10.6"
    ours = reported.ours(seven(capsnet))
    assert ours is not None and ours.startswith(f"{100 - 100 * together['share']:.1f} (")
    table = CIFAR10().table([*seven(resnet), *seven(capsnet)])
    assert [row[-1] for row in table.rows] == ["", "10.6"] and table.headers[-1] == "paper %"
    for others in (
        seven(capsnet)[:6], seven(capsnet, digits="made"), seven(capsnet, digits="cifar10-like"),
        seven(capsnet, preset="paper (epochs=3)"), seven(capsnet, label="capsnet (types=8)"),
    ):  # fmt: skip
        assert "10.6" not in [row[-1] for row in CIFAR10().table(others).rows]
    row = {what: ours for _, what, _, ours in paper_table(seven(capsnet)).rows if "7 networks" in what}
    assert next(iter(row.values())).startswith(ours)
    assert [ours for *_, what, _, ours in paper_table(seven(capsnet, digits="made")).rows if "7 networks" in what] == [
        "not measured"
    ]


def test_the_paper_preset_is_the_papers_protocol() -> None:
    preset = CIFAR10.presets["paper"]
    settings = preset.settings
    assert isinstance(settings, CIFAR10Settings)
    assert (settings.batch_size, settings.learning_rate, settings.schedule) == (128, 1e-3, "exponential")
    assert settings.epochs * -(-40_000 // 128) == pytest.approx(600_000, rel=0.001)
    with torch.device("meta"):
        network: Any = build("capsnet", image_size=24, channels_in=3, **preset.models["capsnet"])
    # 9x9x3x256 + 256, 9x9x256x512 + 512, 64 types at 4x4 places to 10 classes of 16x8, and 160 of the digit bias
    counted = 9 * 9 * 3 * 256 + 256 + 9 * 9 * 256 * 512 + 512 + 64 * 16 * 10 * 16 * 8 + 160
    assert sum(one.numel() for one in network.parameters()) == counted == 11_990_688
    assert network.leaky and network.decoder is None


@pytest.mark.parametrize("preset", ["small", "paper"])
@pytest.mark.parametrize("digits", ["auto", "embedded"])
def test_without_cifar10_the_presets_that_need_it_say_how_to_get_it(preset: str, digits: str, tmp_path: Path) -> None:
    with pytest.raises(DigitsError, match=r"CIFAR-10 is needed(.|\n)*`capsbench data fetch cifar10`"):
        plan_run("cifar10", preset=preset, digits=digits, device="cpu", out=tmp_path)


def test_another_set_in_the_same_layout_is_named_as_such(tmp_path: Path) -> None:
    folders = [write_folder(tmp_path / "one"), write_folder(tmp_path / "two", count=30)]
    plans = [
        plan_run(
            "cifar10", models=ByColour, out=tmp_path / "runs", **OPTIONS | {"digits": str(folder), "preset": preset}
        )
        for folder in folders
        for preset in ("smoke", "small")
    ]
    assert {cell.digits for plan in plans for cell in plan.cells} == {"cifar10-like"}
    assert len({plan.cells[0].id for plan in plans}) == 4  # a name alone would be no identity
    outcome = run_plan(plans[0])
    assert not outcome.failed
    assert "images in CIFAR-10's layout that are not CIFAR-10's" in render(outcome.results)


def test_a_hostile_batch_stops_the_run_before_it_begins(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder")
    (folder / "data_batch_4").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(DataFileError, match=r"data_batch_4 is refused: it names os\.system"):
        plan_run("cifar10", models=ByColour, out=tmp_path / "runs", **OPTIONS | {"digits": str(folder)})
    assert not Path("ran").exists()


def test_scores_of_other_frameworks_cannot_be_judged_and_that_is_said() -> None:
    with pytest.raises(UsageError, match="'cifar10' needs the network itself: it cannot judge scores"):
        Examination.of("cifar10", "smoke", {}, digits="embedded")
