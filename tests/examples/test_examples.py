"""The examples, run as docs/examples.md prints them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsbench.results.result import load_results

from .sections import LEARNED, printed, run_line, run_section


@pytest.mark.usefixtures("undrawn", "guessed")  # suites' charts have their own tests; those of the plug-in are drawn
@pytest.mark.parametrize(("title", "origin"), LEARNED.items())
def test_the_commands_of_a_section_work_and_the_classifier_learns(
    title: str, origin: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_section(title, monkeypatch, capsys)
    results = load_results("runs")
    assert {one.origin for one in results} == {origin}
    assert results[0].metrics["checkpoints"]["best"]["test"]["share"] > 0.7


@pytest.fixture
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plug-in, installed by pip into a folder on the path."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    done = subprocess.run([*pip, *alone, "examples/plugin"], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(target)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "capsbench_stripes"]:
        del sys.modules[name]


@pytest.mark.usefixtures("installed", "guessed")
def test_the_plugin_installs_and_its_commands_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed()["A plug-in"]
    assert lines[0] == "capsbench list"
    run_line(lines[0], monkeypatch)
    out, _ = capsys.readouterr()
    for line in (
        "  striped        Digits behind black stripes: so many rows are black, drawn with replacement  [presets: none]",
        "  one-layer      One layer over the pixels",
        "  stripes        Trained on whole digits, tested behind black stripes  [presets: small, smoke]",
    ):
        assert line in out.splitlines()
    for line in lines[1:]:
        run_line(line, monkeypatch)
    (result,) = load_results("runs")
    best = result.metrics["checkpoints"]["best"]
    assert best["0 stripes"]["share"] > best["6 stripes"]["share"] > 0.4
    assert [one["name"] for one in json.loads(Path("behind-stripes/manifest.json").read_text())["files"]] == [
        "0-stripes",
        "3-stripes",
        "6-stripes",
    ]


def test_every_cell_of_the_notebook_works_and_shows_what_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads(Path("examples/notebook.ipynb").read_text())
    assert content["nbformat"] == 4 and not any(cell.get("outputs") for cell in content["cells"])
    names: dict[str, object] = {"__name__": "__main__"}
    shown = []
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            *statements, last = "".join(cell["source"]).splitlines()
            try:
                expression = compile(last, "notebook", "eval")
            except SyntaxError:  # the cell ends with a statement
                exec("\n".join([*statements, last]), names)
                continue
            exec("\n".join(statements), names)
            shown.append(eval(expression, names))
    table, values, every = shown
    assert "<td>Net" in table._repr_html_() and "<td>Net" in every._repr_html_()
    assert 0 < values["best.test"] < 1
    assert re.search(r"`pandas.DataFrame\(results.to_dicts\(\)\)`", json.dumps(content))


def test_the_plain_network_has_fifteen_lines() -> None:
    assert len(Path("examples/plain_cnn.py").read_text().splitlines()) <= 15
