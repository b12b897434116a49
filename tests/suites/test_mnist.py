"""The suite of plain MNIST: its protocol, and networks whose results are known beforehand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from capsbench.bench.planning import plan_run
from capsbench.bench.running import run_plan
from capsbench.models import build
from capsbench.report.charts import Chart
from capsbench.report.groups import charts
from capsbench.report.pages import render
from capsbench.results.result import Result
from capsbench.suites.mnist import FORMS, MNIST, SELECTIONS, TABLE_1, MNISTSettings

from .known_networks import KNOWN, at_medium, tiny_networks


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("mnist")
    models = [*(f"{KNOWN}:{name}" for name in ("Oracle", "Guess", "Passing")), "cnn", "capsnet"]
    options: dict[str, Any] = {"preset": "smoke", "digits": "embedded", "device": "cpu", "out": folder / "runs"}
    with tiny_networks():
        plan = plan_run("mnist", models=models, **options)
        outcome = run_plan(plan)
    assert not outcome.failed, outcome.failed
    return {result.label.rpartition(":")[2]: result for result in outcome.results}


def test_who_knows_the_answer_makes_no_error_and_who_guesses_is_at_chance(results: dict[str, Result]) -> None:
    for name in SELECTIONS:
        assert results["Oracle"].metrics["checkpoints"][name]["test"]["correct"] == 1000
        guessed = results["Guess"].metrics["checkpoints"][name]["test"]
        assert guessed["total"] == 1000
        assert abs(guessed["share"] - 0.1) < 4 * (0.1 * 0.9 / 1000) ** 0.5


def test_the_preset_medium_is_right_about_who_knows_and_who_guesses(tmp_path: Path) -> None:
    oracle, guess = at_medium("mnist", tmp_path)
    points = [found["checkpoints"]["best"] for found in (oracle, guess)]
    assert points[0]["test"]["share"] == 1 and points[1]["test"]["share"] < 0.14


def test_each_checkpoint_is_tested_with_its_own_weights(results: dict[str, Result]) -> None:
    points = results["Passing"].metrics["checkpoints"]
    found = {name: (points[name]["step"], points[name]["test"]["correct"]) for name in SELECTIONS}
    assert found == {"best": (20, 1000), "last": (50, 0)}


def test_the_networks_are_the_rows_of_table_1_in_its_order(results: dict[str, Result]) -> None:
    table = MNIST().table(list(results.values())[3:])
    assert [row[0] for row in table.rows] == [
        "cnn",
        "capsnet (iterations=1, reconstruction=False)",
        "capsnet (iterations=1, reconstruction=True)",
        "capsnet (iterations=3, reconstruction=False)",
        "capsnet (iterations=3, reconstruction=True)",
    ]
    assert "paper %" not in table.headers  # small networks on few digits have no place beside it
    full = [replace(one, preset="paper", digits="mnist") for one in list(results.values())[3:]]
    beside = MNIST().table(full)
    assert beside.headers[-1] == "paper %"
    assert [row[-1] for row in beside.rows] == ["0.39", "0.34 ± 0.032", "0.29 ± 0.011", "0.35 ± 0.036", "0.25 ± 0.005"]
    elsewhere = MNIST().table([full[0], replace(full[1], origin="scores")])
    assert [row[-1] for row in elsewhere.rows] == ["0.39", ""]
    assert "paper %" not in MNIST().table([replace(one, preset="paper (epochs=1)") for one in full]).headers
    for row, result in zip(table.rows, list(results.values())[3:], strict=True):
        wrong = 1000 - result.metrics["checkpoints"]["best"]["test"]["correct"]
        assert row[3].startswith(f"{wrong / 10:.2f} (")


def test_a_decoder_is_there_where_the_row_says_so(results: dict[str, Result]) -> None:
    parameters = [results[label].metrics["parameters"] for label in list(results)[4:]]
    assert parameters[0] == parameters[2] < parameters[1] == parameters[3]
    decoder = 160 * 32 + 32 + 32 * 64 + 64 + 64 * 784 + 784
    assert parameters[1] - parameters[0] == decoder


def test_training_digits_are_moved_and_the_others_are_not(results: dict[str, Result]) -> None:
    data = results["cnn"].data
    facts = {
        role: (one["spec"]["split"], one["spec"]["parameters"]["size"], one["spec"]["parameters"]["shift"])
        for role, one in data.items()
    }
    assert facts == {"training": ("train", 28, 2), "validation": ("validation", 28, 0), "test": ("test", 28, 0)}


def test_table_and_charts_tell_of_every_network(results: dict[str, Result]) -> None:
    told = [results[label] for label in list(results)[3:]]
    shown = render(told)
    assert "minus cnn, paired by image: seed 0" in shown and "Fewer than three seeds" in shown
    bars, curves = (chart for chart in charts(told) if isinstance(chart, Chart))
    assert [chart.name for chart in charts([replace(told[0], origin="scores")])] == ["mnist-error"]  # nothing trained
    assert [len(points) for points in bars.series.values()] == [5, 5]
    names = [str(name).replace("\n", " ") for name, _ in bars.series["best validation"]]
    assert names[0] == "cnn" and names[1] == "capsnet, 1 iteration, no reconstruction"
    assert names[4] == "capsnet, 3 iterations, with reconstruction"
    for result, (_, height) in zip(told, bars.series["best validation"], strict=True):
        assert height == pytest.approx(100 - result.metrics["checkpoints"]["best"]["test"]["share"] * 100)
    assert list(curves.series) == names
    assert [epoch for epoch, _ in curves.series["cnn"]] == [0.4, 0.8, 1.0]
    errors = [error for _, error in curves.series["cnn"]]
    assert errors == pytest.approx([100 - 100 * row["accuracy"] for row in told[0].metrics["history"]])


def test_our_figures_stand_beside_the_papers(results: dict[str, Result]) -> None:
    told = [results[label] for label in list(results)[3:]]
    figures = MNIST().paper
    assert [figure.paper for figure in figures] == list(TABLE_1.values())
    best = [result.metrics["checkpoints"]["best"]["test"] for result in told]
    assert [figure.ours(told) for figure in figures] == [
        f"{100 - 100 * one['share']:.2f} ({100 - 100 * one['interval'][1]:.2f}..{100 - 100 * one['interval'][0]:.2f})"
        for one in best
    ]
    assert [figure.ours(told[:1]) for figure in figures[1:]] == [None] * 4
    again = [replace(told[0], seed=seed) for seed in (0, 1, 2)]
    assert figures[0].ours(again) == f"{100 - 100 * best[0]['share']:.2f} ± 0.00"


def test_a_network_that_was_changed_does_not_stand_beside_the_paper(results: dict[str, Result]) -> None:
    changed = replace(results["cnn"], label="cnn (preset=small)", preset="paper", digits="mnist")
    assert MNIST().paper[0].ours([changed]) is None
    assert MNIST().table([changed]).rows[0][-1] == ""
    both = MNIST().paper[0].ours([results["cnn"], changed])
    assert both == MNIST().paper[0].ours([results["cnn"]])


def test_the_paper_preset_is_the_papers_protocol() -> None:
    preset = MNIST.presets["paper"]
    settings = preset.settings
    assert isinstance(settings, MNISTSettings)
    assert (settings.batch_size, settings.learning_rate, settings.schedule) == (128, 1e-3, "exponential")
    assert settings.epochs * -(-50_000 // 128) == pytest.approx(300_000, rel=0.01)
    with torch.device("meta"):
        cnn = build("cnn", image_size=28, **preset.models["cnn"])
        nets = [build("capsnet", image_size=28, **form) for form in FORMS]
    counts = [sum(one.numel() for one in net.parameters()) for net in (cnn, *nets)]
    assert counts == [35_445_522, 6_804_384, 8_215_728, 6_804_384, 8_215_728]
