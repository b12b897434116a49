"""The overlap suite: its protocol, and networks whose results are known beforehand."""

from pathlib import Path

import pytest

from capsbench.report import charts, render
from capsbench.results import Result
from capsbench.running import plan_run, run_plan
from capsbench.suites.overlap import PAPER, SELECTIONS

KNOWN = '''
"""A model that knows the answer and draws it, and one that guesses; neither can learn."""
import numpy as np
import torch
from capsbench.contracts import Output
from capsbench.loading import stream

class Oracle(torch.nn.Module):
    """Looks each image up among all that the suite shows."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.known = {}
        for split in ("train", "validation", "test"):
            data = stream("multimnist", split=split, digits="embedded")
            every = np.arange(len(data))
            batch, layers = data.batch(every), data.layers(every)
            self.known |= {i.tobytes(): (l, y) for i, l, y in zip(batch.images, layers, batch.labels)}

    def forward(self, images):
        rows = (images[:, 0] * 255).round().to(torch.uint8).numpy()
        found = [self.known[np.ascontiguousarray(row).tobytes()] for row in rows]
        labels = torch.tensor(np.stack([y for _, y in found]).astype(np.int64))

        def reconstruct(classes):
            drawn = torch.zeros_like(images)
            for n, (layers, y) in enumerate(found):
                for k in (0, 1):
                    if y[k] == classes[n]:
                        drawn[n, 0] = torch.from_numpy(layers[k] / 255)
            return drawn

        scores = torch.zeros(len(images), 10).scatter(1, labels, 1.0) + 0 * self.weight
        return Output(scores=scores, reconstruct=reconstruct)

    def loss(self, output, batch):
        return output.scores.sum() * 0

class Guess(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return Output(scores=torch.rand(len(images), 10) + 0 * self.weight)

    def loss(self, output, batch):
        return output.scores.sum() * 0
'''


def run(model: str, out: Path) -> Result:
    outcome = run_plan(plan_run("overlap", models=[model], preset="smoke", digits="embedded", device="cpu", out=out))
    assert not outcome.failed, outcome.failed
    return outcome.results[0]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("overlap")
    (folder / "known.py").write_text(KNOWN)
    names = {"oracle": f"{folder}/known.py:Oracle", "guess": f"{folder}/known.py:Guess"}
    return {name: run(model, folder / "runs") for name, model in names.items()} | {
        name: run(name, folder / "runs") for name in ("capsnet", "cnn-pair")
    }


def test_who_knows_the_answer_makes_no_error_and_takes_images_apart(results: dict[str, Result]) -> None:
    for name in SELECTIONS:
        found = results["oracle"].metrics["checkpoints"][name]
        assert [found[metric]["share"] for metric in ("exact pair", "per digit", "at least one")] == [1, 1, 1]
        assert all(one["error"] == 0 for one in found["by overlap"].values())
        truth = results["oracle"].metrics["references"]["the true layers"]
        assert found["segmentation"]["true labels"] == pytest.approx(truth)
        assert found["segmentation"]["found labels"] == pytest.approx(truth)
        assert truth["owner"] == 1


def test_who_knows_the_answer_draws_nothing_that_is_not_there(results: dict[str, Result]) -> None:
    absent = results["oracle"].metrics["checkpoints"]["last"]["absent"]
    for name in ("pixels of ink", "score"):
        assert absent[name]["absent"] == 0 and absent[name]["present"] > 0
        assert absent[name]["auc"] == 1


def test_who_guesses_is_right_by_chance(results: dict[str, Result]) -> None:
    # Of ten classes two are named: both right 1 of 45 times, one of them 1/5, at least one 1 - 28/45.
    found = results["guess"].metrics["checkpoints"]["last"]
    chances = {"exact pair": 1 / 45, "per digit": 1 / 5, "at least one": 17 / 45}
    for metric, chance in chances.items():
        deviation = (chance * (1 - chance) / found[metric]["total"]) ** 0.5
        assert abs(found[metric]["share"] - chance) < 4 * deviation, metric
    assert found["segmentation"] == {} and found["absent"] == {}


def test_the_bins_of_overlap_hold_every_pair(results: dict[str, Result]) -> None:
    found = results["guess"].metrics["checkpoints"]["last"]
    bins = found["by overlap"].values()
    assert sum(one["pairs"] for one in bins) == 1000
    wrong = sum(one["pairs"] * one["error"] for one in bins)
    assert round(wrong) == 1000 - found["exact pair"]["correct"]


def test_references_are_what_they_were_found_to_be(results: dict[str, Result]) -> None:
    found = results["guess"].metrics["references"]
    owners = {name: one["owner"] for name, one in found.items()}
    assert owners["the image for both"] == 0.5
    assert 0.5 < owners["class means, centred"] < 0.65 < 0.8 < owners["class means, at the true places"] < 0.9


def test_nothing_is_selected_on_test_digits(results: dict[str, Result]) -> None:
    data = results["capsnet"].data
    assert {role: one["spec"]["split"] for role, one in data.items()} == {
        "training": "train",
        "validation": "validation",
        "test": "test",
    }


def test_networks_that_ship_run_and_are_told(results: dict[str, Result]) -> None:
    shown = render([results["cnn-pair"], results["capsnet"]])
    assert PAPER in shown and "does not reconstruct" in shown and "(class means, at the true places)" in shown
    assert results["capsnet"].metrics["checkpoints"]["last"]["segmentation"]["true labels"]["owner"] > 0.4
    (chart,) = charts([results["cnn-pair"], results["capsnet"]])
    assert list(chart.series) == ["cnn-pair", "capsnet"]
    assert all(0 <= y <= 100 for points in chart.series.values() for _, y in points)
