"""From results to tables, with numbers worked by hand."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capsbench import registry
from capsbench.errors import DataFileError
from capsbench.report.groups import alike, by_network, charts, current, groups, tables
from capsbench.report.numbers import percent, spread
from capsbench.report.pages import render
from capsbench.report.tables import Table, formatted, render_tables
from capsbench.results.result import Result


def point(share: float) -> dict[str, Any]:
    return {"share": share, "interval": [share - 0.01, share + 0.01]}


def result(
    model: str,
    seed: int,
    affine: float,
    *,
    target: bool = True,
    digits: str = "embedded",
    source: str = "",
    **change: Any,
) -> Result:
    measured = {"clean": point(0.98), "centered": point(0.99), "affine": point(affine), "gap": point(0.98 - affine)}
    checkpoint = {"epoch": 10, "validation": 0.98, **measured}
    names = ("target", "best", "last") if target else ("best", "last")
    return Result(
        suite="affine",
        version=1,
        preset="small",
        model=model,
        label=change.get("label", model),
        source=source,
        seed=seed,
        cell="0123456789ab",
        settings={"variants": 4, "target": 0.97},
        parameters={},
        digits=digits,
        data={},
        metrics={"parameters": 12345, "checkpoints": dict.fromkeys(names, checkpoint)},
        seconds=1.0,
        environment={"device": "cpu"},
        date="2026-01-01T00:00:00+00:00",
    )


def test_several_seeds_become_mean_and_standard_deviation() -> None:
    (table,) = tables([result("capsnet", 0, 0.8), result("capsnet", 1, 0.9)])
    row = table.rows[0]
    assert row[:4] == ["capsnet", 12345, 2, "first at target"]
    assert row[7] == "85.0 ± 7.1"  # sqrt(2 * 5**2 / 1)
    assert row[8] == "13.0 ± 7.1"
    assert (
        table.title
        == "affine, preset small, embedded digits of MNIST (3,200 train, 800 select, 1,000 test), cpu, seeds 0, 1"
    )


def test_one_seed_is_shown_with_its_interval_and_a_warning() -> None:
    (table,) = tables([result("capsnet", 0, 0.8)])
    assert table.rows[0][7] == "80.0 (79.0..81.0)"
    assert any("Fewer than three seeds" in note for note in table.notes)
    (three,) = tables([result("capsnet", seed, 0.8) for seed in range(3)])
    assert not any("Fewer than three seeds" in note for note in three.notes)


def test_a_target_that_was_not_reached_is_said_to_be() -> None:
    (table,) = tables([result("capsnet", 0, 0.8, target=False), result("capsnet", 1, 0.8)])
    assert table.rows[0][5] == "not reached by 1 of 2"


def test_what_cannot_be_compared_stands_in_tables_of_its_own() -> None:
    found = tables([result("capsnet", 0, 0.8), result("capsnet", 0, 0.8, digits="mnist")])
    assert ["embedded" in table.title for table in found] == [True, False]
    assert "full MNIST" in found[1].title


def test_charts_of_each_protocol_and_device_lie_in_a_folder_of_their_own() -> None:
    first = result("capsnet", 0, 0.8)
    others = [
        replace(first, settings=first.settings | {"rotation": 60}, preset="small (rotation=60)"),
        replace(first, environment=first.environment | {"device": "NVIDIA H200"}),
        replace(first, preset="../large"),
    ]
    folders = [groups([one])[0].folder for one in (first, *others)]
    assert len(set(folders)) == len(folders) and all(re.fullmatch("charts-[a-z0-9-]+", one) for one in folders)
    assert folders[0] == f"charts-small-cpu-{first.protocol[:6]}"
    assert folders[2] == f"charts-small-nvidia-h200-{first.protocol[:6]}"
    assert groups([first, replace(first, seed=1)])[0].folder == folders[0]


def test_the_paper_stands_beside_ours() -> None:
    (table,) = tables([result("capsnet", 0, 0.8)])
    assert any("79" in note and "66" in note and "99.23" in note for note in table.notes)


@pytest.mark.parametrize("style", ["simple", "github", "latex_booktabs"])
def test_text_has_title_rows_and_notes(style: str) -> None:
    text = render([result("cnn-pool", 0, 0.8)], style)
    assert "affine, preset small" in text and "12,345" in text and "best validation" in text and "paper" in text


def test_csv_and_json_can_be_read_back() -> None:
    made = [result("cnn-pool", 0, 0.8)]
    rows = list(csv.reader(io.StringIO(render(made, "csv"))))
    assert rows[0][:3] == ["table", "network", "parameters"] and len(rows) == 4
    assert json.loads(render(made, "json"))[0]["metrics"]["checkpoints"]["last"]["affine"]["share"] == 0.8


def test_titles_and_notes_are_comments_in_latex() -> None:
    for line in render([result("cnn-pool", 0, 0.8)], "latex_booktabs").splitlines():
        assert line.startswith(("%", "\\", " ")) or "&" in line or not line, line


def test_other_parameters_and_other_editions_are_other_networks() -> None:
    results = [
        result("capsnet", 0, 0.8),
        result("capsnet", 0, 0.7, label="capsnet (iterations=1)"),
        result("mine.py:Net", 0, 0.6, source="abcdef1"),
        result("mine.py:Net", 1, 0.5, source="1234567"),
    ]
    assert list(by_network(results)) == [
        "capsnet",
        "capsnet (iterations=1)",
        "mine.py:Net [abcdef]",
        "mine.py:Net [123456]",
    ]
    (table,) = tables(results)
    assert [row[2] for row in table.rows] == [1] * 12


def test_a_result_that_its_suite_did_not_write_is_refused() -> None:
    broken = result("capsnet", 0, 0.8)
    broken.metrics.clear()
    with pytest.raises(DataFileError, match="cannot read a result"):
        tables([broken])


def test_spread_and_percent_by_hand() -> None:
    assert spread([1.0], digits=1) == "1.0"
    assert spread([1.0, 3.0], digits=1) == "2.0 ± 1.4"
    assert percent([{"share": 0.5, "interval": [0.4, 0.6]}]) == "50.0 (40.0..60.0)"


DRAWING = """
from capsbench.report.charts import Chart
from capsbench.report.tables import Table

class Drawing:
    version = 1
    models = ()

    def table(self, results):
        return Table(headers=["model"], rows=[[result.model] for result in results if result.metrics])

    def charts(self, results):
        return [
            Chart(name=result.metrics["name"], title=result.model, x_label="x", y_label="y", series={"one": [(1, 2)]})
            for result in results
        ]
"""


@pytest.fixture
def drawing(tmp_path: Path) -> str:
    path = tmp_path / "drawing.py"
    path.write_text(DRAWING)
    return named(f"{path}:Drawing")


def named(suite: str) -> str:
    """Names a suite in this process, as `capsbench run --suite` does."""
    registry.load("suite", suite)
    return suite


def test_suites_that_draw_nothing_have_no_charts(drawing: str, tmp_path: Path) -> None:
    silent = tmp_path / "silent.py"
    silent.write_text(DRAWING.partition("    def charts")[0])
    plain = replace(result("capsnet", 0, 0.8), suite=named(f"{silent}:Drawing"))
    assert charts([plain]) == [] and charts([]) == []
    drawn = replace(plain, suite=drawing, model="drawn", metrics={"name": "some"})
    assert [chart.title for chart in charts([plain, drawn, plain])] == ["drawn"]


def test_each_chart_has_a_name_of_its_own(drawing: str) -> None:
    plain = replace(result("capsnet", 0, 0.8), suite=drawing)
    names = ["some", "other", "some", "some-2", "some"]
    results = [replace(plain, seed=seed, metrics={"name": name}) for seed, name in enumerate(names)]
    results.append(replace(plain, environment={"device": "A card"}, metrics={"name": "other"}))
    found = [chart.name for chart in charts(results)]
    assert found == ["some", "other-small-cpu", "some-2", "some-2-2", "some-3", "other-small-a-card"]


def test_charts_of_other_protocols_are_told_apart_by_preset_device_and_protocol(drawing: str) -> None:
    plain = replace(result("capsnet", 0, 0.8), suite=drawing, metrics={"name": "some"})
    paper, longer = replace(plain, preset="paper"), replace(plain, preset="small (epochs=9)")
    card = replace(paper, environment={"device": "A card"})

    def names(*results: Result) -> list[str]:
        return [chart.name for chart in charts(results)]

    protocols = [replace(one, settings={"shown": one.preset}) for one in (plain, paper, card, longer)]
    small, full, on_a_card, changed = protocols
    assert names(small, full) == ["some-small", "some-paper"]
    assert names(full, on_a_card) == ["some-paper-cpu", "some-paper-a-card"]
    scores = replace(changed, origin="scores", environment={})
    assert names(small, scores) == ["some-small-cpu", "some-small"]
    assert names(small, changed) == [f"some-small-cpu-{one.protocol[:6]}" for one in (small, changed)]
    of_all = names(*protocols)
    assert len(set(of_all)) == 4 and set(names(changed, on_a_card, full, small)) == set(of_all)


def test_charts_of_a_result_that_its_suite_did_not_write_are_refused(drawing: str) -> None:
    broken = replace(result("capsnet", 0, 0.8), suite=drawing, metrics={})
    with pytest.raises(DataFileError, match="cannot read a result: KeyError"):
        charts([broken])


def test_titles_and_notes_are_text_of_markdown_too() -> None:
    table = Table(headers=["a|b"], rows=[[None], [0]], notes=["# no heading <b>", "1 < 2"], title="[x](y) & &lt; ~~z~~")
    text = render_tables([table], "github")
    for line in (r"\[x\](y) & \&lt; \~\~z\~\~", r"\# no heading \<b>", "1 < 2"):
        assert line in text.splitlines()
    assert formatted(table) == [[""], ["0"]] and "None" not in text and r"a\|b" in text
    assert "# no heading <b>" in render_tables([table], "simple")


def test_a_suite_without_digits_says_nothing_of_them() -> None:
    (table,) = tables([result("capsnet", 0, 0.8, digits="none")])
    assert table.title == "affine, preset small, cpu, one seed: 0"


def test_a_table_without_rows_is_shown(drawing: str) -> None:
    empty = replace(result("capsnet", 0, 0.8), suite=drawing, metrics={})
    for style in ("simple", "github", "latex_booktabs", "csv"):
        assert "model" in render([empty], style)


@pytest.mark.parametrize("damage", ["two", {}, None])
def test_numbers_that_are_none_are_refused(damage: Any) -> None:
    broken = result("capsnet", 0, 0.8)
    broken.settings["target"] = damage
    with pytest.raises(DataFileError, match="cannot read a result"):
        tables([broken])


def test_results_of_another_version_are_left_out_and_named() -> None:
    old, new = result("capsnet", 0, 0.8), replace(result("capsnet", 0, 0.8), version=2)
    kept, notes = current([old, new, old])
    assert kept == [new]
    assert notes == ["2 results of version 1 of the suite 'affine' are left out. This is version 2. Run again."]
    assert current([new]) == ([new], [])
    with pytest.raises(DataFileError, match="1 result of version 1 of the suite 'affine' is left out"):
        current([old])


def test_what_signs_mean_is_told_where_they_stand() -> None:
    (one,), (several,) = (tables([result("capsnet", seed, 0.8) for seed in range(n)]) for n in (1, 3))
    assert one.notes[0] == "Brackets hold a 95 % interval over base digits, of one seed."
    assert several.notes[0] == "± is the standard deviation over seeds (n - 1), all with the same test digits."


def test_what_may_stand_in_one_table_is_found_among_others() -> None:
    mine = result("mine.py:Net", 0, 0.5)
    others = [result("capsnet", 1, 0.8), result("capsnet", 0, 0.8, digits="mnist"), replace(mine, preset="smoke")]
    assert alike([mine], [*others, mine]) == [others[0], mine]


def test_a_chart_says_what_it_is_of(drawing: str) -> None:
    one = replace(result("capsnet", 0, 0.8), suite=drawing, digits="mnist", metrics={"name": "some"})
    (chart, *_) = charts([one])
    assert chart.note.splitlines()[-1].endswith("preset small, full MNIST, cpu, one seed: 0.")


def test_other_numbers_of_threads_are_told() -> None:
    results = [
        replace(one, environment={**one.environment, "threads": threads})
        for one, threads in zip((result("a", 0, 0.5), result("a", 1, 0.5), result("b", 0, 0.5)), (2, 1, 2), strict=True)
    ]
    (table,) = tables(results)
    assert any(note.startswith("Cells had 2 threads, but 1 for a seed 1. With another number") for note in table.notes)
    (table,) = tables([results[0], results[2]])
    assert not any("threads" in note for note in table.notes)
