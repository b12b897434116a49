"""Boards as text: what a terminal shows, and tables for papers."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from capsbench.cli import cli
from capsbench.report.board import boards
from capsbench.report.boardtables import latex, render_boards
from capsbench.report.groups import tables
from capsbench.report.pages import markdown_page
from capsbench.report.tables import narrow, render_tables
from capsbench.results.result import Result, load_results, save_result

from .measured import measured

RESULTS = Path(__file__).parents[2] / "results"


def some() -> list[Result]:
    return [measured("good", [0, 1]), measured("a_tie", [1, 2, 3]), measured("bad|", range(40, 70))]


def shown(style: str, results: list[Result] | None = None) -> str:
    return render_boards(boards(results or some()), style)


def test_github_has_the_best_in_bold_and_a_dagger_at_ties() -> None:
    rows = [line for line in shown("github").splitlines() if line.startswith("|")]
    assert re.sub(" +", " ", rows[2]) == "| **good** | **2.00 (1.00..3.00)** | best |"
    assert rows[3].startswith(r"| a\_tie †") and "+1.00 (" in rows[3]
    assert rows[4].startswith(r"| bad\|") and "†" not in rows[4]
    assert f"protocol {measured('good').protocol}" in shown("github")


def test_latex_is_a_table_with_its_protocol_in_the_caption() -> None:
    text = shown("latex_booktabs")
    assert text.count("{") == text.count("}")
    lines = text.splitlines()
    assert lines[0] == r"\begin{table}" and lines[-1] == r"\end{table}"
    assert lines[1].startswith(r"\caption{mnist, preset small, embedded") and measured("x").protocol in lines[1]
    assert r"\textbf{good} & \textbf{2.00 (1.00--3.00)} & best \\" in lines
    assert any(line.startswith(r"a\_tie $^\dagger$ & 3.00 (2.00--4.00) & +1.00 ($-$") for line in lines)
    assert len({line.count("&") for line in lines if line.endswith(r"\\")}) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50 % of a_b & {c}", r"50 \% of a\_b \& \{c\}"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("-3.7 (-6.5..-1.0)", "$-$3.7 ($-$6.5 to $-$1.0)"),
        ("71.4 (69.1..73.7)", "71.4 (69.1--73.7)"),
        ("cnn-pool, x..y, 2-3", "cnn-pool, x..y, 2-3"),
    ],
)
def test_text_is_escaped_for_latex(text: str, expected: str) -> None:
    assert latex(text) == expected


def test_csv_has_numbers_in_columns_of_their_own() -> None:
    best, tie, bad = csv.DictReader(io.StringIO(shown("csv")))
    assert (best["network"], best["error (%)"], best["error, low"], best["best"]) == ("good", "2.00", "1.00", "yes")
    assert (tie["tie"], tie["difference to the best"], bad["tie"]) == ("yes", "+1.00", "")
    assert float(bad["p"]) < 1e-6 and bad["seeds"] == "0"


@pytest.mark.parametrize("suite", ["affine", "overlap", "mnist", "crowding", "clutter", "reconstruction", "throughput"])
def test_what_a_terminal_shows_fits_into_a_hundred_columns(suite: str) -> None:
    results = load_results(RESULTS / suite)
    text = render_tables([narrow(table) for table in tables(results)]) + "\n" + shown("simple", results)
    for table in re.split(r"\n\n", text):
        if "---" in table:  # notes are sentences, which a terminal wraps
            assert max(map(len, table.splitlines())) <= 100, table


def test_where_a_name_is_long_figures_take_two_lines_and_intervals_stay_whole() -> None:
    results = [replace(one, label="x" * 40 + one.label) for one in load_results(RESULTS / "affine" / "medium")]
    table = next(part for part in shown("simple", results).split("\n\n") if "---" in part)
    assert max(map(len, table.splitlines())) <= 100
    assert any("reached" in line and "target" not in line for line in table.splitlines())
    assert all(
        figure.count("(") == figure.count(")") for line in table.splitlines()[2:] for figure in line[36:].split()
    )


def test_no_cell_holds_several_measures() -> None:
    for table in tables(load_results(RESULTS / "overlap")):
        assert not any(" / " in str(cell) for row in table.rows for cell in row)


def test_folded_columns_are_named_and_come_with_wide(tmp_path: Path) -> None:
    for one in some():
        save_result(one, tmp_path / f"{one.model.strip('|')}.json")

    def said(*options: str) -> str:
        run = CliRunner().invoke(cli, ["report", str(tmp_path), *options])
        assert run.exit_code == 0, run.output
        return run.stdout

    assert "--wide also shows: parameters; seeds." in said() and "Board: mnist" in said()
    assert "--wide" not in said("--wide") and "parameters" in said("--wide").splitlines()[2]
    assert said("--format", "csv").startswith("suite,protocol,network")
    assert said("--format", "csv", "--wide").startswith("table,network,parameters")


def test_every_table_names_the_page_of_its_words() -> None:
    (table,) = tables(some())
    assert "docs/glossary.md" in table.notes[-1]


def test_answers_from_elsewhere_say_so() -> None:
    changes: dict[str, Any] = {"origin": "weights"}
    assert "| net (trained elsewhere)" in shown("github", [measured("good"), measured("net", range(50), **changes)])


@pytest.mark.parametrize("style", ["simple", "github", "latex_booktabs", "csv"])
def test_a_label_with_ends_of_lines_is_one_row(style: str) -> None:
    forged = "a\n| forged | 0.00 |\n\tforged"
    hostile, plain = ([measured("b"), measured(label, [1], remarks=["fitted"])] for label in (forged, "a"))
    renders: list[Callable[[list[Result]], str]] = [
        lambda results: render_boards(boards(results), style),
        lambda results: render_tables(tables(results), style),
        markdown_page,
    ]
    for render in renders:
        text = render(hostile)
        lines = [line for line in text.splitlines() if "forged" in line and re.match(r"\W*forged", line)]
        assert not lines and "\t" not in text
        if style != "simple":  # which folds long cells itself
            assert len(text.splitlines()) == len(render(plain).splitlines())


def test_a_caption_has_what_was_noticed_and_that_no_test_compares() -> None:
    noticed = "Images are padded to 32x32 pixels."
    plain, fitted = measured("a"), measured("b", [1], remarks=[noticed])
    for style in ("simple", "github", "latex_booktabs"):
        text = " ".join(shown(style, [plain, fitted]).split())
        assert "b: Images are padded to 32x32 pixels." in text and "No test compares them." not in text
    untold = [replace(one, data={}) for one in (plain, fitted)]
    assert "No test compares them." in shown("github", untold)
    assert "No test compares them." not in shown("github", untold[:1])


def test_a_caption_says_over_what_its_intervals_are() -> None:
    digits, seeds = "intervals over test digits", " and seeds"
    assert f"{digits}." in shown("github", [measured("a")])
    assert f"{digits}{seeds}." in shown("github", [measured("a"), measured("a", seed=1)])
    speed = [measured("a", digits="none"), measured("a", seed=1, digits="none")]
    assert "95 % intervals over seeds." in shown("github", speed) and "test digits" not in shown("github", speed)
