"""Why cells failed is kept beside their results, and shown until they are measured."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from capsbench.bench.measuring import Engine
from capsbench.bench.planning import Plan, plan_run
from capsbench.bench.running import run_plan
from capsbench.errors import TrainingError
from capsbench.results.failures import failed_cells, keep_failure

CELL = SimpleNamespace(suite="affine", preset="smoke", digits="embedded", label="mine.py:Net", seed=0)


def planned(folder: Path) -> Plan:
    return plan_run("affine", models=["cnn"], preset="smoke", digits="embedded", device="cpu", out=folder)


def test_the_reason_is_shown_and_not_what_came_before(tmp_path: Path) -> None:
    keep_failure(CELL, tmp_path / "net-seed0-a.json", "two lines\nof a reason", "Extension modules: numpy (total: 40)")
    keep_failure(CELL, tmp_path / "other-seed0-a.json", "x" * 500)
    assert failed_cells([tmp_path]) == [("net-seed0-a", "two lines of a reason"), ("other-seed0-a", "x" * 400)]


def test_errors_of_ours_are_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise TrainingError("The loss is nan at step 3.")

    monkeypatch.setattr("capsbench.bench.measuring._measured", fail)
    made = planned(tmp_path)
    ((_, why),) = run_plan(made).failed
    assert why == "The loss is nan at step 3."
    assert failed_cells([tmp_path]) == [(made.cells[0].name, why)]


def test_the_reason_of_the_last_try_is_kept_whoever_tells_it(tmp_path: Path) -> None:
    made = planned(tmp_path)
    made.path(made.cells[0]).parent.mkdir()
    keep_failure(made.cells[0], made.path(made.cells[0]), "of an earlier run", "Traceback")
    reasons = iter(["one", "each worker died"])
    run_plan(made, engine=Engine([lambda *_: next(reasons)], retries=1))
    assert failed_cells([tmp_path]) == [(made.cells[0].name, "each worker died")]


@pytest.mark.parametrize(
    ("change", "listed"),
    [
        ({}, False),
        ({"date": "2001-01-01T00:00:00+00:00"}, True),
        ({"seed": 1}, True),
        ({"label": "other.py:Net"}, True),
        ({"preset": "smoke (epochs=9)"}, True),
    ],
)
def test_a_newer_result_of_the_same_network_and_seed_ends_the_list(
    change: dict[str, Any], listed: bool, tmp_path: Path
) -> None:
    keep_failure(CELL, tmp_path / "net-seed0-a.json", "a fault")
    result: Any = SimpleNamespace(**(vars(CELL) | {"date": "2999-01-01T00:00:00+00:00"} | change))
    assert bool(failed_cells([tmp_path], [result])) == listed
