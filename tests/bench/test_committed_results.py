"""The identity of cells: a run with the settings of the committed results finds every one of them finished."""

import shutil
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from capsbench import registry
from capsbench.bench import protocols
from capsbench.bench.planning import plan_run
from capsbench.contracts import Digits
from capsbench.data.digits import load_digits
from capsbench.results.result import Result, load_results

RESULTS = Path(__file__).resolve().parents[2] / "results"


def changes(named: str, prefix: str = "") -> dict[str, str]:
    """What was changed of a preset or a network, as ``--set`` takes it: from ``small (batches=(128,), threads=2)``."""
    _, _, text = named.partition(" ")
    values = eval(f"dict{text}") if text else {}  # the file is ours
    return {
        prefix + key: ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for key, value in values.items()
    }


def protocol(result: Result) -> tuple[str, str, str]:
    return result.suite, result.preset, result.digits


COMMITTED = {
    key: list(members)
    for key, members in groupby(
        sorted((one for one in load_results(RESULTS) if one.environment["device"] == "cpu"), key=protocol), protocol
    )
}


@pytest.mark.parametrize(("suite", "preset", "digits"), COMMITTED)
def test_committed_results_are_found_finished(
    suite: str, preset: str, digits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = COMMITTED[suite, preset, digits]
    assert {one.version for one in results} == {registry.load("suite", suite).version}  # else tables leave them out
    (tmp_path / suite).mkdir()
    for path in (RESULTS / suite).rglob("*.json"):
        shutil.copy(path, tmp_path / suite)

    def theirs(split: str, *_: object, **__: object) -> Digits:
        """Digits that say that they are those of the results: full MNIST is not here."""
        return replace(load_digits(split, "embedded"), origin=digits)

    monkeypatch.setattr(protocols, "load_digits", theirs)
    ours = registry.load("suite", suite).presets[preset.partition(" ")[0]]
    for (model, label), members in groupby(results, lambda one: (one.model, one.label)):
        cells = {one.cell for one in members}
        # Of a network that the preset has variants of, the label states a variant.
        own = {} if model in ours.variants else changes(label, f"{model}.")
        plan = plan_run(
            suite,
            models=[model],
            preset=preset.partition(" ")[0],
            changes=changes(preset) | own,
            seeds=sorted({one.seed for one in results}),
            device="cpu",
            out=tmp_path,
        )
        assert cells <= {cell.id for cell in plan.cells}, label
        assert all(plan.finished(cell) for cell in plan.cells if cell.id in cells), label


def test_the_networks_of_every_preset_small_were_measured() -> None:
    """Those that a run without options takes, with one seed or more."""
    for (suite, preset, _), results in COMMITTED.items():
        if preset == "small":
            plan = plan_run(suite, digits="embedded", device="cpu")
            assert {cell.id for cell in plan.cells} <= {one.cell for one in results}, suite
