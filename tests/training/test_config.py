"""Training's settings and its record, neither of which needs torch."""

import subprocess
import sys
from typing import Any

import pytest

from capsbench.errors import ParameterError, UnknownNameError
from capsbench.training.config import TrainConfig, Trained


def test_settings_and_records_do_not_load_torch() -> None:
    code = "import sys, capsbench.training.config; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("epochs", 0, "0"),
        ("batch_size", -1, "-1"),
        ("learning_rate", float("nan"), "nan"),
        ("target", 1.5, "1.5"),
        ("eval_every", -1, "-1"),
        ("decay_steps", 0, "0"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name: str, value: Any, text: str) -> None:
    with pytest.raises(ParameterError, match=rf"^{name} must be in .*, got {text}\.$"):
        TrainConfig(**({"epochs": 1} | {name: value}))


def test_an_unknown_schedule_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'one-cycle'"):
        TrainConfig(epochs=1, schedule="onecycle")


def test_the_target_is_the_first_validation_to_reach_it_and_the_best_the_earliest_of_equals() -> None:
    trained = Trained()
    for step, accuracy in enumerate((0.2, 0.6, 0.9, 0.7, 0.9), 1):
        row = {"step": step, "epoch": step / 2, "loss": 1.0, "accuracy": accuracy}
        trained.select(row, dict, target=0.6, last=step == 5)
    assert {name: selected.step for name, selected in trained.selected.items()} == {"target": 2, "best": 3, "last": 5}
    assert trained.selected["best"].epoch == 1.5


def test_a_target_that_is_not_reached_is_not_selected() -> None:
    trained = Trained()
    trained.select({"step": 1, "epoch": 1.0, "loss": 1.0, "accuracy": 0.5}, dict, target=0.6, last=True)
    assert set(trained.selected) == {"best", "last"}
