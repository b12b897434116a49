"""The identity of cells: a run with the settings of the committed results finds every one of them finished."""

import shutil
from itertools import groupby
from pathlib import Path

import pytest

from capsbench import registry
from capsbench.bench.planning import plan_run
from capsbench.results.result import Result, load_results

RESULTS = Path(__file__).resolve().parents[2] / "results"


def changes(preset: str) -> dict[str, str]:
    """What was changed of a preset, as ``--set`` takes it: from ``small (batches=(128,), threads=2)``."""
    _, _, text = preset.partition(" ")
    values = eval(f"dict{text}") if text else {}  # the file is ours
    return {key: ",".join(map(str, value)) if isinstance(value, tuple) else str(value) for key, value in values.items()}


def protocol(result: Result) -> tuple[str, str]:
    return result.suite, result.preset


COMMITTED = {
    key: list(members)
    for key, members in groupby(
        sorted((one for one in load_results(RESULTS) if one.environment["device"] == "cpu"), key=protocol), protocol
    )
}


@pytest.mark.parametrize(("suite", "preset"), COMMITTED)
def test_committed_results_are_found_finished(suite: str, preset: str, tmp_path: Path) -> None:
    results = COMMITTED[suite, preset]
    if results[0].version != registry.load("suite", suite).version:
        pytest.skip("of an earlier version of the suite: to be measured again")
    (tmp_path / suite).mkdir()
    for path in (RESULTS / suite).rglob("*.json"):
        shutil.copy(path, tmp_path / suite)
    seeds = sorted({result.seed for result in results})
    plan = plan_run(
        suite,
        preset=preset.partition(" ")[0],
        changes=changes(preset),
        seeds=seeds,
        digits="embedded",
        device="cpu",
        out=tmp_path,
    )
    assert {cell.id for cell in plan.cells} == {result.cell for result in results}
    assert all(plan.finished(cell) for cell in plan.cells)
