"""The script of the networks' figures: what it measures, what it leaves alone, and how it goes on."""

import shutil
from collections import Counter
from pathlib import Path

import cpu_figures
import pytest
from cpu_figures import LIST, Wanted, measure_all, missing

from capsbench.errors import CellsFailedError
from capsbench.results.result import load_result, load_results

from ..suites.known_networks import KNOWN

GUESS, BROKEN = (Wanted("mnist", "smoke", f"{KNOWN}:{name}") for name in ("Guess", "Silent"))


def measured(wanted: list[Wanted], folder: Path, planned: bool = False) -> None:
    measure_all(wanted, results=folder / "results", runs=folder / "runs", digits="embedded", planned=planned)


def test_what_is_missing_is_measured_once_and_what_fails_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Wanted("mnist", "smoke", f"{KNOWN}:Guess", seed=1)
    measured([GUESS, BROKEN], tmp_path, planned=True)
    assert not (tmp_path / "results").exists()
    assert "[2/2] mnist, smoke: " in capsys.readouterr().out

    with pytest.raises(CellsFailedError, match="1 of 3 cells failed; start again"):
        measured([GUESS, BROKEN, other, GUESS], tmp_path)
    assert "failed: it was trained" in capsys.readouterr().out
    kept = sorted((tmp_path / "results").rglob("*"))
    files = [path for path in kept if path.is_file()]
    assert {path.parent for path in files} == {tmp_path / "results" / "mnist" / "smoke"}
    assert [load_result(path).seed for path in files] == [0, 1]

    def forbidden(*_: object) -> None:
        raise AssertionError("it was measured again")

    monkeypatch.setattr(cpu_figures, "run_cell", forbidden)
    measured([GUESS, other], tmp_path)
    assert capsys.readouterr().out == "nothing is missing\n"


def test_a_result_in_any_folder_counts_and_a_finished_run_is_copied(tmp_path: Path) -> None:
    measured([GUESS], tmp_path)
    results = tmp_path / "results"
    elsewhere = results / "machine"
    (results / "mnist" / "smoke").rename(elsewhere)
    options = {"results": results, "runs": tmp_path / "runs", "digits": "embedded"}
    assert not list(missing([GUESS], **options))  # type: ignore[arg-type]
    (only,) = load_results(results)
    shutil.rmtree(elsewhere)
    shutil.rmtree(tmp_path / "runs" / "data")
    measured([GUESS], tmp_path)
    assert load_results(results) == [only]  # with its date: taken from the runs


def test_the_list_is_that_of_the_figures_in_their_order() -> None:
    assert list(dict.fromkeys((one.suite, one.preset) for one in LIST)) == [
        ("affine", "medium"), ("affine", "small"), ("mnist", "medium"), ("crowding", "medium"), ("overlap", "medium"),
        ("clutter", "small"), ("clutter", "trained"), ("clutter", "medium"),
    ]  # fmt: skip
    assert len(LIST) == len({(one.suite, one.preset, one.model, one.seed, *one.changes) for one in LIST})
    seeds = Counter(one.seed for one in LIST)
    assert seeds[1] == seeds[2] == 7 + 7 + 4 + 3 + 4 + 3 + 3 + 3 and seeds[0] == seeds[1] + 2
    assert [one.seed for one in LIST if one.suite == "overlap"] == sorted([0, 1, 2] * 4)


def test_cells_that_are_committed_are_not_missing(tmp_path: Path) -> None:
    """Those of affine small, which other runs measured."""
    small = [one for one in LIST if (one.suite, one.preset) == ("affine", "small")]
    cells = list(missing(small, results=cpu_figures.ROOT / "results", runs=tmp_path, digits="embedded"))
    committed = {one.cell for one in load_results(cpu_figures.ROOT / "results")}
    assert len(cells) <= len(small) - 6 and not committed & {cell.id for cell, _ in cells}
    for cell, _ in cells:
        assert cell.label not in ("capsnet", "cnn-pool")
