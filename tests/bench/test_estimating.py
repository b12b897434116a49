"""Estimates of a cell's time: the passes that a suite states, by the times that were measured."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from capsbench import registry
from capsbench.bench import estimating
from capsbench.bench.cells import Work
from capsbench.bench.estimating import estimate
from capsbench.bench.planning import plan_run

SUITES = sorted(registry.catalog("suite"))


def cell(suite: str, **changes: str) -> Any:
    return plan_run(suite, preset="smoke", device="cpu", digits="embedded", changes=changes, out=Path("runs")).cells[0]


def test_the_time_of_a_cell_worked_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "_measured", lambda cell, work, training: (2.0, 0.25))
    # 3,200 digits in batches of 64 are 50 steps an epoch; validations at 20, 40, 60, 80 and 100 of 100 steps, on 800
    # digits each; both checkpoints are tested on 1,000 digits.
    expected = 100 * 2.0 + (5 * 800 + 2 * 1000) * 0.25
    assert estimate(cell("mnist", epochs="2"), "embedded") == pytest.approx(expected)


def test_the_pairs_of_reconstruction_are_a_second_training(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def measured(cell: Any, work: Work, training: bool) -> tuple[float, float]:
        sizes.append(work.image_size)
        return 1.0, 0.0

    monkeypatch.setattr(estimating, "_measured", measured)
    assert estimate(cell("reconstruction", pair_epochs="3"), "embedded") == pytest.approx(50 + 3 * 50)
    assert sizes == [28, 36]


@pytest.mark.usefixtures("guessed")
@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_that_trains_is_estimated(suite: str) -> None:
    seconds = estimate(cell(suite), "embedded")
    assert seconds is None if suite == "throughput" else seconds and seconds > 0


class Ordered(torch.nn.Module):
    """Notes whether its weights have channels last where it is trained, and where it is tested."""

    channels_last = True
    seen: ClassVar[set[tuple[bool, bool]]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(1, 2, 5, 4), torch.nn.Conv2d(2, 10, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.add((self.training, self.second.weight.stride(1) == 1))
        scores: torch.Tensor = self.second(self.first(images)).amax((2, 3))
        return scores


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predictions_are_timed_in_the_precision_of_the_tests(precision: str) -> None:
    changes = {"precision": precision}
    plan = plan_run("mnist", models=[Ordered], preset="smoke", device="cpu", digits="embedded", changes=changes)
    Ordered.seen.clear()
    assert estimate(plan.cells[0], "embedded")
    assert Ordered.seen - {(False, False)} == {(True, precision == "fp32"), (False, True)}


@pytest.mark.usefixtures("guessed")
def test_what_is_tested_alone_needs_nothing_that_can_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "adam", None)
    seconds = estimate(cell("mnist"), "embedded", training=False)
    assert seconds and seconds > 0
