"""The overlap suite: its protocol, and networks whose results are known beforehand."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capsbench.bench.planning import plan_run
from capsbench.bench.running import run_plan
from capsbench.building import build
from capsbench.data.streaming import stream
from capsbench.errors import DataFileError, UnknownNameError
from capsbench.evaluation.pairs import references
from capsbench.evaluation.segmentation import segmentation
from capsbench.report.charts import Chart
from capsbench.report.groups import charts, tables
from capsbench.report.pages import render
from capsbench.results.result import Result
from capsbench.suites.overlap import PAPER, SELECTIONS, ZERO_SHOT, Overlap

from .known_networks import KNOWN, at_medium, tiny_networks

METRICS = ("exact pair", "per digit", "at least one")


def run(model: str, out: Path, **changes: str) -> Result:
    with tiny_networks():
        plan = plan_run(
            "overlap", models=[model], preset="smoke", changes=changes, digits="embedded", device="cpu", out=out
        )
        outcome = run_plan(plan)
    assert not outcome.failed, outcome.failed
    return outcome.results[0]


@pytest.fixture(scope="module", autouse=True)
def references_once() -> Iterator[None]:
    """All cells are tested on the same pairs, which no network changes."""
    kept: dict[str, Any] = {}

    def of(test: Any, means: Any) -> Any:
        key = f"{test.spec}"
        if key not in kept:
            kept[key] = references(test, means)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("capsbench.suites.overlap.references", of)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("overlap")


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Result]:
    names = {name.lower(): f"{KNOWN}:{name}" for name in ("Oracle", "Shallow", "Passing", "Guess")}
    names |= {name: name for name in ("capsnet", "cnn-pair")}
    return {name: run(model, folder / "runs") for name, model in names.items()}


@pytest.fixture(scope="module")
def singles(folder: Path) -> dict[str, Result]:
    names = {"oracle": f"{KNOWN}:Oracle", "capsnet": "capsnet", "cnn-pair": "cnn-pair"}
    return {name: run(model, folder / "runs", trained_on="singles") for name, model in names.items()}


@pytest.fixture(scope="module")
def pairs() -> tuple[Any, Any, Any]:
    """Images, layers and labels of the test."""
    data = stream("multimnist", split="test", digits="embedded")
    every = np.arange(len(data))
    batch = data.batch(every)
    return batch.images, data.layers(every), batch.labels


def test_who_knows_the_answer_makes_no_error_and_takes_images_apart(results: dict[str, Result], pairs: Any) -> None:
    images, layers, _ = pairs
    truth = segmentation(layers / 255, layers, images).to_dict()
    assert results["oracle"].metrics["references"]["the true layers"] == pytest.approx(truth)
    for name in SELECTIONS:
        found = results["oracle"].metrics["checkpoints"][name]
        assert [found[metric]["share"] for metric in METRICS] == [1, 1, 1]
        assert all(one["error"] == 0 for one in found["by overlap"].values())
        for given in ("true labels", "found labels", "each layer alone"):
            assert found["segmentation"][given] == pytest.approx(truth, abs=1e-5), given


def test_each_checkpoint_is_tested_with_its_own_weights(results: dict[str, Result]) -> None:
    passing, oracle = (results[name].metrics["checkpoints"] for name in ("passing", "oracle"))
    found = {
        name: (passing[name]["epoch"], *(passing[name][metric]["share"] for metric in METRICS)) for name in passing
    }
    assert found == {"best": (20 / 50, 1, 1, 1), "last": (1, 0, 0, 0)}
    for measured in ("segmentation", "absent", "by overlap"):
        assert passing["best"][measured] == oracle["best"][measured] != passing["last"][measured], measured


def test_who_knows_the_answer_draws_nothing_that_is_not_there(results: dict[str, Result], pairs: Any) -> None:
    _, layers, _ = pairs
    absent = results["oracle"].metrics["checkpoints"]["last"]["absent"]
    ink = (layers >= 127.5).sum((2, 3)).mean()
    assert absent["pixels of ink"] == {"present": pytest.approx(ink), "absent": 0, "auc": 1}
    assert absent["any ink"] == {"present": 1, "absent": 0, "auc": 1}
    assert absent["score"] == {"present": 1, "absent": 0, "auc": 1}


def test_who_guesses_is_right_by_chance(results: dict[str, Result]) -> None:
    # Of ten classes two are named: both right 1 of 45 times, one of them 1/5, at least one 1 - 28/45.
    found = results["guess"].metrics["checkpoints"]["last"]
    chances = {"exact pair": 1 / 45, "per digit": 1 / 5, "at least one": 17 / 45}
    for metric, chance in chances.items():
        deviation = (chance * (1 - chance) / found[metric]["total"]) ** 0.5
        assert abs(found[metric]["share"] - chance) < 4 * deviation, metric
    assert found["segmentation"] == {} and found["absent"] == {}


def test_the_preset_medium_is_right_about_who_knows_and_who_guesses(tmp_path: Path) -> None:
    oracle, guess = at_medium("overlap", tmp_path)
    points = [found["checkpoints"]["best"] for found in (oracle, guess)]
    assert points[0]["exact pair"]["share"] == 1 and points[1]["exact pair"]["share"] < 0.05


def seen_whole(layers: Any, labels: Any) -> list[bool]:
    """Whether the shallow network finds both digits: by what it sees, or because a tie goes to the lowest class."""
    whole = []
    for (first, second), (one, other) in zip(layers >= 128, labels.tolist(), strict=True):
        lowest = min({0, 1} - {one}) if one < 2 else 0
        whole.append(10 * int((first & second).sum()) <= int(second.sum()) or other == lowest)
    return whole


def test_half_a_pair_gets_no_credit(results: dict[str, Result], pairs: Any) -> None:
    _, layers, labels = pairs
    whole = seen_whole(layers, labels)
    found = results["shallow"].metrics["checkpoints"]["best"]
    assert 100 < sum(whole) < 900
    assert (found["exact pair"]["correct"], found["exact pair"]["total"]) == (sum(whole), 1000)
    assert (found["per digit"]["correct"], found["per digit"]["total"]) == (1000 + sum(whole), 2000)
    assert (found["at least one"]["correct"], found["at least one"]["total"]) == (1000, 1000)


def test_errors_are_told_by_the_overlap_of_ink(results: dict[str, Result], pairs: Any) -> None:
    _, layers, labels = pairs
    bins: dict[str, list[bool]] = {name: [] for name in ("0-10", "10-20", "20-30", "30-40", "40-100")}
    for (first, second), right in zip(layers >= 128, seen_whole(layers, labels), strict=True):
        both = int((first & second).sum())
        overlap = 100 * both / ((int(first.sum()) + int(second.sum())) / 2)
        (name,) = (name for name in bins if int(name.split("-")[0]) <= overlap < int(name.split("-")[1]))
        bins[name].append(right)
    found = results["shallow"].metrics["checkpoints"]["best"]["by overlap"]
    assert {name: one["pairs"] for name, one in found.items()} == {name: len(bins[name]) for name in bins}
    for name in bins:
        assert found[name]["error"] == pytest.approx(1 - np.mean(bins[name])), name
    assert found["0-10"]["error"] < 0.3 < 0.8 < found["40-100"]["error"]


def test_references_are_what_they_were_found_to_be(results: dict[str, Result]) -> None:
    found = results["guess"].metrics["references"]
    owners = {name: one["owner"] for name, one in found.items()}
    assert owners["the image for both"] == 0.5
    assert 0.5 < owners["class means, centred"] < 0.65 < 0.8 < owners["class means, at the true places"] < 0.9


def test_nothing_is_selected_on_test_digits(results: dict[str, Result], singles: dict[str, Result]) -> None:
    splits = {"training": "train", "validation": "validation", "test": "test"}
    for result in (results["capsnet"], singles["capsnet"]):
        assert {role: one["spec"]["split"] for role, one in result.data.items()} == splits
        assert result.metrics["history"][-1]["accuracy"] == result.metrics["checkpoints"]["last"]["validation"]


def test_zero_shot_networks_meet_their_first_pair_in_the_test(
    results: dict[str, Result], singles: dict[str, Result]
) -> None:
    data = singles["oracle"].data
    assert {role: one["spec"]["generator"] for role, one in data.items()} == {
        "training": "padded", "validation": "padded", "test": "multimnist"
    }  # fmt: skip
    assert all(data[role]["spec"]["parameters"] == {"size": 36, "shift": 4} for role in ("training", "validation"))
    assert data["test"] == results["oracle"].data["test"]
    point = singles["oracle"].metrics["checkpoints"]["best"]
    assert point["validation"] == 1 and point["exact pair"]["share"] == 1
    assert point["segmentation"] == results["oracle"].metrics["checkpoints"]["best"]["segmentation"]
    assert singles["capsnet"].metrics["checkpoints"]["best"]["segmentation"]["true labels"]["owner"] > 0.4


def test_zero_shot_results_say_so(results: dict[str, Result], singles: dict[str, Result]) -> None:
    assert all(result.settings["trained_on"] == "singles" for result in singles.values())
    shares = [
        f"{name} {100 * singles[name].metrics['checkpoints']['best']['validation']:.1f} %"
        for name in ("cnn-pair", "capsnet")
    ]
    shown = render(list(singles.values()))
    assert ZERO_SHOT in shown and PAPER in shown
    assert f"{shares[0]}, {shares[1]}, " in shown and ":Oracle 100.0 %." in shown
    assert ZERO_SHOT not in render([results["capsnet"]])
    (chart,), (trained,) = charts([singles["capsnet"]]), charts([results["capsnet"]])
    assert "Trained on single digits" in chart.note and "single digits" not in trained.note


def test_presets_are_the_protocols() -> None:
    presets = {name: preset.settings for name, preset in Overlap.presets.items()}
    assert replace(presets["zero-shot"], trained_on="pairs") == presets["small"]
    paper = presets["paper"]
    assert paper.epochs * -(-50_000 // paper.batch_size) >= 300_000  # the authors' README
    assert (paper.learning_rate, paper.schedule, paper.decay_steps) == (1e-3, "exponential", 10 * 2000)
    assert Overlap.presets["paper"].models == {"capsnet": {"preset": "large"}}  # else the networks' defaults


def test_an_unknown_kind_of_training_is_met_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"No trained_on is called 'single'\. Did you mean 'singles'"):
        plan_run("overlap", preset="smoke", changes={"trained_on": "single"}, digits="embedded", out=tmp_path)


def test_small_networks_have_as_many_parameters_as_is_said() -> None:
    for name, expected in (("cnn-pair", 723_562), ("capsnet", 2_314_096)):
        network = build(name, image_size=36, pairs=True, **Overlap.presets["small"].models[name])
        assert sum(one.numel() for one in network.parameters()) == expected


def scripted(result: Result, seed: int, offset: float) -> Result:
    """A result whose every figure is another, moved by an offset."""
    metrics = deepcopy(result.metrics)
    for name, start in (("best", 0.5), ("last", 0.6)):
        point = metrics["checkpoints"][name]
        for number, metric in enumerate(METRICS):
            share = start + 0.1 * number + offset
            point[metric] = {"share": share, "interval": [share - 0.01, share + 0.02]}
        for number, given in enumerate(point["segmentation"]):
            scores = ("owner", "relative_iou", "shared_f1")
            point["segmentation"][given] = {
                score: start + 0.1 * number + 0.01 * k + offset for k, score in enumerate(scores)
            }
        for number, measure in enumerate(point["absent"]):
            point["absent"][measure] = {
                of: start + 0.1 * number + 0.01 * k + offset for k, of in enumerate(("present", "absent", "auc"))
            }
        point["epoch"], point["by overlap"] = 10 * start, {"0-10": {"pairs": 1, "error": start + offset}}
    return replace(result, seed=seed, metrics=metrics)


def test_the_table_shows_each_figure_in_its_place(results: dict[str, Result]) -> None:
    table = Overlap().table([scripted(results["capsnet"], 0, 0.0)])
    best, last, alone, *without = ([*row[:8], " / ".join(row[8:11]), " / ".join(row[11:])] for row in table.rows)
    parameters = results["capsnet"].metrics["parameters"]
    assert best == [
        "capsnet", parameters, 1, "best validation", "5", "50.0 (48.0..51.0)", "40.0 (38.0..41.0)", "30.0 (28.0..31.0)",
        "0.500 / 0.510 / 0.520", "0.600 / 0.610 / 0.620",
    ]  # fmt: skip
    assert last[3:] == [
        "last epoch", "6", "40.0 (38.0..41.0)", "30.0 (28.0..31.0)", "20.0 (18.0..21.0)",
        "0.600 / 0.610 / 0.620", "0.700 / 0.710 / 0.720",
    ]  # fmt: skip
    assert alone[0] == "(capsnet, each layer alone)"
    assert alone[8:] == ["0.700 / 0.710 / 0.720", " /  / "] and not any(alone[1:8])
    names = [f"({name})" for name in results["capsnet"].metrics["references"]]
    assert [row[0] for row in without] == names
    images, layers = (
        results["capsnet"].metrics["references"][name] for name in ("the image for both", "the true layers")
    )
    for row, reference in ((without[0], images), (without[-1], layers)):
        assert row[8] == " / ".join(f"{reference[name]:.3f}" for name in ("owner", "relative_iou", "shared_f1"))
    assert all(len(row) == len(table.headers) for row in table.rows)
    (absent,) = (note for note in table.notes if note.startswith("A digit that the image does not show"))
    assert absent.endswith(
        "capsnet draws 1 pixels of it and 0 of a digit that it shows (AUC 0.520), draws any in 61% of the pairs, "
        "and gives it the score 0.71, but 0.70 to a digit that it shows (AUC 0.720)."
    )


def test_a_list_in_place_of_a_number_is_refused(results: dict[str, Result]) -> None:
    damaged = scripted(results["capsnet"], 0, 0.0)
    damaged.metrics["references"]["class means, centred"]["owner"] = [[[]]]
    with pytest.raises(DataFileError, match="The suite 'overlap' cannot read a result"):
        tables([damaged])


def test_several_seeds_are_told_by_their_mean(results: dict[str, Result]) -> None:
    both = [scripted(results["capsnet"], seed, offset) for seed, offset in ((0, 0.0), (1, 0.04))]
    best = Overlap().table(both).rows[0]
    assert best[2] == 2 and best[5] == "48.0 ± 2.8" and best[8:11] == ["0.520", "0.530", "0.540"]
    (chart,) = charts(both)
    assert isinstance(chart, Chart)
    assert list(chart.series) == ["capsnet"]
    ((name, error),) = chart.series["capsnet"]
    assert name == "0-10" and error == pytest.approx(52)  # of 50 and 54


def test_networks_are_compared_pair_by_pair(results: dict[str, Result]) -> None:
    table = Overlap().table([results["oracle"], results["shallow"]])
    share = results["shallow"].metrics["checkpoints"]["best"]["exact pair"]["share"]
    (note,) = (note for note in table.notes if "paired by image" in note)
    assert note.startswith("exact pairs found, best validation, ") and f"seed 0 {100 * share - 100:+.1f} (" in note
    assert "points, p " in note


def test_the_papers_figures_have_ours_beside_them(results: dict[str, Result], singles: dict[str, Result]) -> None:
    measured = [scripted(results["capsnet"], 0, 0.0), scripted(singles["cnn-pair"], 0, 0.1)]
    found = {figure.what: (figure.paper, figure.ours(measured)) for figure in Overlap().paper}
    assert found == {
        "capsnet: MultiMNIST, pairs not found exactly (%)": ("5.2", "50.0 (48.0..51.0)"),
        "CNN: MultiMNIST, pairs not found exactly (%)": ("8.1", None),  # zero-shot is another question
    }


def test_networks_that_ship_run_and_are_told(results: dict[str, Result]) -> None:
    told = [results["cnn-pair"], results["capsnet"]]
    shown = render(told)
    assert (
        PAPER in shown
        and "A dash: the network does not reconstruct" in shown
        and "(class means, at the true places)" in shown
    )
    assert "(capsnet, each layer alone)" in shown and "(cnn-pair, each" not in shown
    segmented = results["capsnet"].metrics["checkpoints"]["last"]["segmentation"]
    assert segmented["true labels"]["owner"] > 0.4 and segmented["each layer alone"]["owner"] > 0.4
    (chart,) = charts(told)
    assert isinstance(chart, Chart) and list(chart.series) == ["cnn-pair", "capsnet"]
    for model, points in chart.series.items():
        bins = results[model].metrics["checkpoints"]["best"]["by overlap"]
        assert [name for name, _ in points] == list(bins)
        assert [error for _, error in points] == pytest.approx([100 * one["error"] for one in bins.values()])
