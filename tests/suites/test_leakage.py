"""No suite shows a test digit to what trains or selects: looked at digit by digit, not by the names of splits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capsbench.bench.bench import Bench
from capsbench.bench.planning import plan_run
from capsbench.bench.running import run_plan
from capsbench.contracts import Digits
from capsbench.data.digits import load_digits
from capsbench.data.samples import Samples
from capsbench.registry import catalog, load
from capsbench.training.config import Trained
from capsbench.training.trainer import Trainer

from .known_networks import SHORT_MEDIUM, tiny_networks

SUITES = sorted(name for name in catalog("suite") if getattr(load("suite", name), "needs_digits", True))
MEDIUM_NETWORKS = {
    "affine": "stn", "clutter": "stn", "crowding": "stn",
    "mnist": "gcnn", "overlap": "resnet-gap", "reconstruction": "capsnet",
}  # fmt: skip
CASES: list[tuple[str, str, str, Mapping[str, str]]] = [
    *((suite, "smoke", "capsnet", {}) for suite in SUITES),
    ("overlap", "smoke", "capsnet", {"trained_on": "singles"}),
    *((suite, "medium", MEDIUM_NETWORKS[suite], changes) for suite, changes in SHORT_MEDIUM.items()),
]
CLASS_MEANS = {"overlap", "reconstruction"}  # what is drawn is compared with means of digits themselves


def digits_shown(data: Samples) -> set[bytes]:
    """The source digits, pixel by pixel, that any sample of a data set shows."""
    source = data.batch(np.arange(len(data))).source
    assert source is not None
    digits = load_digits(data.spec.split, "embedded")
    return {digits.images[index].tobytes() for index in np.unique(source)}


def pixels(digits: Digits) -> set[bytes]:
    return {image.tobytes() for image in digits.images}


@pytest.mark.parametrize(
    ("suite", "preset", "network", "changes"),
    CASES,
    ids=[" ".join([suite, *({preset} - {"smoke"} or changes)]) for suite, preset, _, changes in CASES],
)
def test_what_trains_and_selects_shows_no_test_digit(
    suite: str, preset: str, network: str, changes: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[Samples]] = []
    asked: list[str] = []

    class Watched(Trainer):
        """Takes note of its data, and does not train."""

        def __init__(self, model: Any, data: Any, validation: Any, *rest: Any, **options: Any) -> None:
            given.append([data, validation, *(options.get("watch") or {}).values()])
            super().__init__(model, data, validation, *rest, **options)

        def run(self, *reports: Any) -> Trained:
            row = {"step": 1, "epoch": 1.0, "loss": 0.0, "accuracy": 1.0}
            self.trained.select(row, self._state, target=1.0, last=True)
            return self.trained

    given_out = Bench.digits_of

    def digits_of(bench: Bench, split: str) -> Digits:
        asked.append(split)
        return given_out(bench, split)

    monkeypatch.setattr("capsbench.bench.bench.Trainer", Watched)
    monkeypatch.setattr(Bench, "digits_of", digits_of)
    monkeypatch.setattr("capsbench.bench.protocols.FULL", ())
    options: dict[str, Any] = {"preset": preset, "digits": "embedded", "device": "cpu", "out": tmp_path}
    with tiny_networks():
        plan = plan_run(suite, models=[network], changes=changes, **options)
        outcome = run_plan(type(plan)(plan.cells[:1], plan.folder, plan.digits))
    assert not outcome.failed, outcome.failed

    seen = [[digits_shown(data) for data in training] for training in given]
    everything = set().union(*(digits for training in seen for digits in training))
    test = pixels(load_digits("test", "embedded"))
    assert everything <= pixels(load_digits("trainval", "embedded")) and len(everything) > 1000
    assert len(test) == 1000 and not everything & test
    assert all(not trained & selecting for trained, *others in seen for selecting in others)
    assert set(asked) == ({"train"} if suite in CLASS_MEANS else set())  # what is asked for without a role
    assert "test" in {used["spec"]["split"] for used in outcome.results[0].data.values()}
