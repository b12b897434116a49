"""The affine suite: its protocol, and networks whose results are known beforehand."""

from pathlib import Path

import pytest

from capsbench.running import plan_run, run_plan
from capsbench.suites.affine import SELECTIONS, Affine, AffineSettings

ORACLE = '''
"""A model that knows the answer, and one that guesses; neither can learn."""
import numpy as np
import torch
from capsbench.contracts import Output
from capsbench.digits import load_digits
from capsbench.loading import stream

def ink(images):
    return (images > 0).flatten(1).sum(1)

class Oracle(torch.nn.Module):
    """Looks each image up among all that the suite shows."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.known = {}
        for split in ("validation", "test"):
            for name, options in (("padded", {}), ("padded", {"preset": "centered"}), ("affnist", {})):
                data = stream(name, split=split, digits="embedded", **options)
                batch = data.batch(np.arange(len(data)))
                self.known |= {image.tobytes(): int(label) for image, label in zip(batch.images, batch.labels)}

    def forward(self, images):
        rows = (images[:, 0] * 255).round().to(torch.uint8).numpy()
        labels = torch.tensor([self.known.get(np.ascontiguousarray(row).tobytes(), 0) for row in rows])
        return Output(scores=torch.nn.functional.one_hot(labels, 10).float() + 0 * self.weight)

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


@pytest.fixture
def models(tmp_path: Path) -> str:
    path = tmp_path / "known.py"
    path.write_text(ORACLE)
    return str(path)


def test_who_knows_the_answer_has_no_gap_and_who_guesses_is_at_chance(tmp_path: Path, models: str) -> None:
    names = [f"{models}:Oracle", f"{models}:Guess"]
    plan = plan_run("affine", models=names, preset="smoke", digits="embedded", device="cpu", out=tmp_path / "runs")
    outcome = run_plan(plan)
    assert not outcome.failed
    oracle, guess = (result.metrics["checkpoints"]["last"] for result in outcome.results)
    for name in ("clean", "centered", "affine"):
        assert oracle[name]["share"] == 1.0
        assert 0.06 < guess[name]["share"] < 0.14
        assert guess[name]["total"] == 1000
    assert oracle["gap"]["share"] == 0.0


def test_the_shipped_networks_run_and_their_table_has_every_row(tmp_path: Path) -> None:
    plan = plan_run("affine", preset="smoke", digits="embedded", device="cpu", out=tmp_path / "runs")
    outcome = run_plan(plan)
    assert [result.model for result in outcome.results] == ["cnn-pool", "capsnet"]
    table = Affine().table(outcome.results)
    assert [(row[0], row[3]) for row in table.rows] == [
        (model, title) for model in ("cnn-pool", "capsnet") for title in SELECTIONS.values()
    ]
    for result in outcome.results:
        checkpoint = result.metrics["checkpoints"]["last"]
        assert checkpoint["gap"]["share"] == pytest.approx(checkpoint["clean"]["share"] - checkpoint["affine"]["share"])
        assert checkpoint["clean"]["share"] > 0.15  # one epoch is enough to be past chance


def test_the_presets_state_the_whole_protocol() -> None:
    assert set(Affine.presets) == {"smoke", "small"}
    small = Affine.presets["small"].settings
    assert isinstance(small, AffineSettings)
    assert small.target == 0.97 and small.schedule == "one-cycle"
    assert Affine.presets["small"].models["capsnet"] == {"preset": "small"}
