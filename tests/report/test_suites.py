"""Suites as reports ask them: a result names no code that is run, and a faulty suite is an error of a line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import capsbench
from capsbench import registry
from capsbench.bench.protocols import load_suite
from capsbench.cli import main
from capsbench.errors import CapsbenchError, DataFileError, ParameterError, StorageError, SuiteError, UsageError
from capsbench.report.board import board_document, boards
from capsbench.report.boardtables import render_boards
from capsbench.report.comparison import Comparisons, compare_results
from capsbench.report.comparisontables import render_comparisons
from capsbench.report.groups import charts, current, tables
from capsbench.report.headlines import Headline, Measured
from capsbench.report.pages import markdown_page, render
from capsbench.report.suites import readable
from capsbench.report.webpage import html_page
from capsbench.results.result import Result, save_result

from .measured import measured

EVIL = """
open({mark!r}, "w").close()

class Evil:
    version = 1
    models = ()

    def table(self, results):
        return None
"""


def everything(results: list[Result]) -> list[str]:
    """All that reports make of results."""
    made = boards(results)
    texts = [render_boards(made, style) for style in ("simple", "github", "latex_booktabs", "csv")]
    texts += [board_document(results), html_page(results), markdown_page(results)]
    return [*texts, *(table.title for table in tables(results)), *(chart.name for chart in charts(results))]


@pytest.fixture
def evil(tmp_path: Path) -> tuple[str, Path]:
    """A suite that leaves a mark when its code is run."""
    path, mark = tmp_path / f"evil_{tmp_path.name}.py", tmp_path / "mark"
    path.write_text(EVIL.format(mark=str(mark)))
    return f"{path}:Evil", mark


def test_a_result_does_not_choose_the_code_that_is_run(evil: tuple[str, Path], tmp_path: Path) -> None:
    suite, mark = evil
    foreign = [measured(model, suite=suite) for model in ("cnn", "capsnet")]
    ways: list[Callable[[], object]] = [
        lambda: tables(foreign),
        lambda: charts(foreign),
        lambda: boards(foreign),
        lambda: html_page(foreign),
        lambda: markdown_page(foreign),
        lambda: current(foreign),
        lambda: compare_results(*foreign),
        lambda: capsbench.export(foreign[0], tmp_path / "net.pt"),
        lambda: capsbench.load_network(foreign[0]),
    ]
    for way in ways:
        with pytest.raises(CapsbenchError, match=r"name it yourself: --suite evil_.*\.py:Evil"):
            way()
    assert not mark.exists()


@pytest.mark.parametrize("name", ["os:system", "builtins:exit", "nowhere:nothing", "a.py", "../x", "", "\ud800:x"])
def test_whatever_a_result_names_is_an_error_and_not_run(name: str) -> None:
    with pytest.raises(CapsbenchError):
        tables([measured("cnn", suite=name)])


def test_results_of_an_unnamed_suite_are_left_out_and_the_others_shown(evil: tuple[str, Path]) -> None:
    suite, mark = evil
    kept, notes = current([measured("cnn"), measured("cnn", suite=suite), measured("cnn", seed=1, suite=suite)])
    assert kept == [measured("cnn")] and not mark.exists()
    assert len(notes) == 1 and notes[0].startswith("2 results are left out. The suite ")


def test_a_suite_that_is_named_is_asked_wherever_its_file_was(tmp_path: Path, capsys: Any) -> None:
    own = tmp_path / f"own_{tmp_path.name}.py"
    own.write_text("from capsbench.suites.mnist import MNIST\nclass Own(MNIST):\n    version = 1\n")
    save_result(measured("cnn", suite=f"elsewhere/{own.name}:Own", version=1), tmp_path / "runs" / "result.json")

    def report(*options: str) -> int:
        with pytest.raises(SystemExit) as stop:
            main(["report", str(tmp_path / "runs"), *options])
        assert isinstance(stop.value.code, int)
        return stop.value.code

    assert report() == 3
    assert f"name it yourself: --suite {own.name}:Own" in capsys.readouterr().err
    assert report("--suite", f"{tmp_path}/nothing.py:Own") == 2
    assert report("--suite", f"{own}:Own") == 0
    assert "cnn" in capsys.readouterr().out
    assert "cnn" in str(capsbench.load_results(tmp_path / "runs", suites=[f"{own}:Own"]))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StorageError("full"), DataFileError("torn")], ids=repr)
def test_what_is_no_fault_of_a_suite_passes(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        readable("mnist", fail)
    assert caught.value is error


class SilentError(Exception):
    """An error that cannot be told."""

    def __str__(self) -> str:
        raise ValueError

    __repr__ = __str__


def test_an_error_that_cannot_be_told_is_one_all_the_same() -> None:
    def fail() -> None:
        raise SilentError

    with pytest.raises(SuiteError, match="has a fault: SilentError: no message at test_suites"):
        readable("mnist", fail)


def test_what_a_suite_prints_is_not_in_what_is_written(tmp_path: Path, capsys: Any) -> None:
    suite = faulty(tmp_path, "def table(self, results): print('a word'); return super().table(results)")
    text = render([measured("cnn", suite=suite)], "csv")
    said = capsys.readouterr()
    assert "a word" not in text + said.out and "a word" in said.err


def test_every_command_and_function_on_results_takes_a_suite(tmp_path: Path, capsys: Any) -> None:
    own = tmp_path / f"each_{tmp_path.name}.py"
    body = "from capsbench.suites.mnist import MNIST\nclass Own(MNIST):\n    version = 1\n"
    for number in range(6):
        own.with_name(f"{number}{own.name}").write_text(body)

    def saved(number: int) -> tuple[str, Path]:
        suite = f"{own.with_name(f'{number}{own.name}')}:Own"
        for model, wrong in (("cnn", [1]), ("capsnet", [2])):
            save_result(measured(model, wrong, suite=suite), tmp_path / str(number) / f"{model}.json")
        return suite, tmp_path / str(number)

    def command(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            main(list(arguments))
        said: str = capsys.readouterr().err
        return said

    refusal = "name it yourself"
    suite, folder = saved(0)
    both = (f"{folder}/cnn.json", f"{folder}/capsnet.json")
    assert refusal in command("compare", *both)
    assert refusal not in command("compare", *both, "--suite", suite)
    suite, folder = saved(1)
    asked = ("export", f"{folder}/cnn.json", "--out", f"{tmp_path}/net.pt")
    assert refusal in command(*asked)
    assert "names no kept weights" in command(*asked, "--suite", suite)
    suite, folder = saved(2)
    assert capsbench.compare(folder / "cnn.json", folder / "capsnet.json", suites=suite).pairs
    for number, ask in (
        (3, capsbench.load_network),
        (4, lambda one, suites: capsbench.export(one, "net.pt", suites=suites)),
    ):
        suite, folder = saved(number)
        with pytest.raises(CapsbenchError, match="names no kept weights"):
            ask(folder / "cnn.json", suites=[suite])
    suite, folder = saved(5)
    assert len(capsbench.load_results(folder, suites=suite)) == 2


FAULTS = {
    "its table is none": "def table(self, results): return None",
    "its table raises": "def table(self, results): raise RuntimeError('no')",
    "its table ends the process": "def table(self, results): raise SystemExit(0)",
    "its charts are a number": "def charts(self, results): return 5",
    "its charts are numbers": "def charts(self, results): return [5]",
    "it cannot be made": "def __init__(self): raise ValueError('no')",
    "it wants an argument": "def __init__(self, wanted): pass",
    "it has no models": "models = property(lambda self: self.nothing)",
    "it has no version": "version = property(lambda self: self.nothing)",
    "it has no table": "table = property(lambda self: self.nothing)",
    "its headlines are a number": "headlines = 5",
    "its headlines are numbers": "headlines = [5]",
    "its headlines are none": "headlines = None",
    "its caption asks for what is no setting": "headlines = [Headline(**X, caption='{nothing}')]",
    "its caption is torn": "headlines = [Headline(**X, caption='{')]",
    "its figure is a number": "headlines = [Headline(**X | {'measure': lambda result: 5})]",
    "its figure is too large": "headlines = [Headline(**X | {'measure': lambda result: Measured(10**400)})]",
    "its figure fails": "headlines = [Headline(**X | {'measure': lambda result: 1 / 0})]",
    "its question is of nothing": "headlines = [Headline(**X, question=Question(place=5))]",
}
FAULTY = """
from capsbench.report.differences import Question
from capsbench.report.headlines import Headline, Measured
from capsbench.suites.mnist import MNIST

X = {{"name": "x", "unit": "%", "measure": lambda result: Measured(1.0)}}

class Faulty(MNIST):
    {fault}
"""


def faulty(folder: Path, fault: str) -> str:
    path = folder / "faulty.py"
    path.write_text(FAULTY.format(fault=fault))
    registry.load("suite", f"{path}:Faulty")
    return f"{path}:Faulty"


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_faulty_suite_is_an_error_of_a_line(tmp_path: Path, fault: str) -> None:
    suite = faulty(tmp_path, fault)
    with pytest.raises((DataFileError, UsageError), match=r"suite '.*faulty\.py:Faulty'|is not a suite"):
        everything([measured("cnn", suite=suite), measured("capsnet", [1], suite=suite)])


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("raise RuntimeError('no')", SuiteError),
        ("raise SystemExit(0)", SuiteError),
        ("assert False", SuiteError),
        ("return None", SuiteError),
        ("return results[0].metrics['nothing']", DataFileError),
    ],
)
def test_what_no_result_causes_is_the_suites_own_fault_and_not_bad_data(
    tmp_path: Path, body: str, error: type[CapsbenchError]
) -> None:
    suite = faulty(tmp_path, f"def table(self, results): {body}")
    with pytest.raises(CapsbenchError) as caught:
        tables([measured("cnn", suite=suite)])
    assert type(caught.value) is error and caught.value.exit_code == (2 if error is SuiteError else 3)


@pytest.mark.parametrize("gaps", ["5", "['gap']", "{'gap': None}", "{5: 'affine'}", "None", "'gap'"])
def test_gaps_that_name_nothing_are_refused_before_and_after_a_run(tmp_path: Path, gaps: str) -> None:
    suite = faulty(tmp_path, f"gaps = {gaps}")
    with pytest.raises(UsageError, match=r"gaps of suite .* must name images by gaps"):
        compare_results(measured("cnn", suite=suite), measured("capsnet", [1], suite=suite))
    with pytest.raises(UsageError, match="gaps of suite"):
        load_suite(suite, "smoke")


def test_a_suite_without_headlines_has_boards_without_figures(tmp_path: Path) -> None:
    suite = faulty(tmp_path, "headlines, headline_figure = (), ('clean', 'affine')")
    results = [measured("cnn", suite=suite), measured("capsnet", [1], suite=suite)]
    texts = everything(results)
    assert texts[:4] == [""] * 4 and all("cnn" in text for text in texts[4:7])
    found = Comparisons([compare_results(*results)], [])
    assert "test" in render_comparisons(found)


@pytest.mark.parametrize(
    ("part", "value"),
    [("name", 5), ("unit", None), ("decimals", -1), ("decimals", 1.5), ("measure", 5), ("question", 5), ("missing", 5),
     ("paper", 5), ("caption", None)],
)  # fmt: skip
def test_a_headline_has_parts_of_their_types(part: str, value: Any) -> None:
    stated: dict[str, Any] = {"name": "error", "unit": "%", "measure": lambda result: None}
    with pytest.raises(ParameterError, match=f"The {part} of the headline"):
        Headline(**stated | {part: value})
    assert replace(Headline(**stated), decimals=0).number(1.2) == "1"


@pytest.mark.parametrize(
    ("unit", "low"), [("%", 0.0), ("scraps", 0.0), ("px", 0.0), ("points", -11.7), ("", -11.7)], ids=str
)
def test_an_interval_over_seeds_ends_where_its_unit_does(unit: str, low: float) -> None:
    figures = iter((Measured(0.0), Measured(2.0)))
    headline = Headline(name="x", unit=unit, measure=lambda result: next(figures))
    found = headline.over_seeds([measured("cnn"), measured("cnn", seed=1)])
    assert (
        found and found.interval and found.interval[0] == pytest.approx(low, abs=0.01)
    )  # 1 - 12.7, Student's t of one


@pytest.mark.parametrize("arguments", [("1",), (None,), (1.0, (2.0,)), (1.0, (1, 2, 3)), (1.0, ("1", "2"))])
def test_a_figure_is_a_number_with_two_ends(arguments: Any) -> None:
    with pytest.raises(ParameterError, match="A figure is a number"):
        Measured(*arguments)
