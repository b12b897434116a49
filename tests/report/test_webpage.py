"""The page of results: what it holds, what it lets through, its size and its time."""

import base64
import hashlib
import html
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from capsbench.cli import cli
from capsbench.errors import DataFileError
from capsbench.report.charts import Chart
from capsbench.report.pages import NOT_MEASURED
from capsbench.report.png import png
from capsbench.report.svg import drawn, panels_of
from capsbench.report.webpage import html_page
from capsbench.results.failures import keep_failure
from capsbench.results.result import Result, load_results, now, save_result

from .measured import measured

RESULTS = Path(__file__).parents[2] / "results"
SCRIPT = "</script></style><script>document.title='taken'</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"
VOID = {"meta", "img", "input", "br", "hr", "link"}


class Page(HTMLParser):
    """A page as a parser reads it: every tag with its attributes; fails where tags do not close one another."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def every_string(value: Any, text: str) -> Any:
    """The same content with each string of a result's free parts replaced."""
    if isinstance(value, dict):
        return {f"{key}{text}": every_string(one, text) for key, one in value.items()}
    return text if isinstance(value, str) else value


def hostile() -> Iterator[Result]:
    """Results in which everything that is text, but for what a suite reads, is a script."""
    for seed in (0, 1):
        one = measured(SCRIPT + "x" * seed, range(seed + 3), cell=SCRIPT, preset=f"small {SCRIPT}", digits=SCRIPT)
        yield replace(
            one,
            settings={SCRIPT: SCRIPT},
            parameters={SCRIPT: [SCRIPT]},
            environment=dict.fromkeys(("device", "processor", "system", "torch", "threads", SCRIPT), SCRIPT),
            identity={SCRIPT: {SCRIPT: SCRIPT}},
            date=SCRIPT,
            data={SCRIPT: {"spec": {"split": "test", SCRIPT: SCRIPT}, "digest": SCRIPT}},
        )


def test_every_string_of_a_result_is_text() -> None:
    plain, taken = (
        Page(html_page([measured("a"), measured("b", [1])])),
        Page(html_page(list(hostile()), outdated=[SCRIPT], failed=[(SCRIPT, SCRIPT)])),
    )
    assert len(taken.all("script")) == len(taken.all("style")) == 1
    assert not taken.all("img") and {tag for tag, _ in taken.tags} <= {tag for tag, _ in plain.tags} | {"ul", "code"}
    for _, attributes in taken.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes)


@pytest.mark.parametrize(
    ("identity", "told"),
    [
        ({"suite": {"s.py": "f" * 64}, "model": {"n.py": "a" * 64, "b.py": "c" * 64}},
         f"model: b.py {'c' * 16}, n.py {'a' * 16}; suite: s.py {'f' * 16}"),
        ({"model": {"n.py": 3}, "digits": "d"}, 'digits: "d"; model: {"n.py": 3}'),
    ],
)  # fmt: skip
def test_what_a_network_is_made_of_and_built_with_is_in_words(identity: dict[str, Any], told: str) -> None:
    one = replace(measured("net"), parameters={"width": 4, "kind": "a"}, identity=identity)
    text = html.unescape(html_page([one]))
    assert told in text and 'kind="a", width=4' in text


def test_lines_that_are_called_after_no_network_have_colours_that_no_network_of_the_chart_has() -> None:
    series: dict[str, Any] = {"net": [(1, 1), (2, 1)], "far": [(1, 2), (2, 2)], "near": [(1, 3), (2, 3)]}
    (panel,) = panels_of(Chart(name="c", title="c", x_label="x", y_label="y", series=series), ["other", "net"])
    found = re.findall(r"curve (hue\d)", drawn(panel, {"other": 0, "net": 1}))
    assert list(dict.fromkeys(found)) == ["hue1", "hue0", "hue2"]


def test_the_policy_allows_this_style_and_this_script_alone() -> None:
    text = html_page([measured("net")])
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    allowed = dict(part.strip().split(" ", 1) for part in html.unescape(policy).split(";"))
    assert allowed["default-src"] == allowed["base-uri"] == allowed["form-action"] == "'none'"
    assert allowed["img-src"] == "data:"
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert allowed[f"{tag}-src"] == f"'sha256-{digest}'"


def test_nothing_is_loaded_and_everything_has_a_name() -> None:
    text = html_page(load_results(RESULTS / "reconstruction") + load_results(RESULTS / "mnist"))
    page = Page(text)
    assert not re.search(r"https?://", text)
    for name in ("img", "script", "link", "iframe"):
        assert all((one.get("src") or "data:").startswith("data:") for one in page.all(name))
    assert page.all("img") and all(one["alt"] for one in page.all("img"))
    identities = [one["id"] for _, one in page.tags if "id" in one]
    assert len(identities) == len(set(identities))
    targets = [one["href"] for one in page.all("a")]
    assert all(target and target[0] == "#" and target[1:] in identities for target in targets)
    assert all("scope" in one for one in page.all("th"))
    charts = [one for one in page.all("svg") if one.get("role") == "img"]
    assert len(charts) == len(re.findall(r"<svg[^>]*role=\"img\"[^>]*><title>[^<]", text)) > 3


def test_the_same_results_give_the_same_bytes_in_any_order_and_process(tmp_path: Path) -> None:
    cells = [measured(network, range(3), seed) for network in "ab" for seed in (0, 1)]
    text = html_page(cells)
    assert html_page(cells[::-1]) == text
    for number, cell in enumerate(cells):
        save_result(cell, tmp_path / "runs" / f"{number}.json")
    program = (
        "import sys; from pathlib import Path; from capsbench.report.webpage import html_page; "
        "from capsbench.results.result import load_results; "
        "Path('page.html').write_text(html_page(load_results('runs'))); "
        "print([name for name in ('torch', 'matplotlib') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(RESULTS.parent), "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert (tmp_path / "page.html").read_text() == text and "<svg" in text
    assert run.stdout.strip() == "[]"  # its charts load no library of charts


def test_one_result_is_a_page() -> None:
    text = html_page([measured("net", range(4))])
    Page(text)
    assert "4.00" in text and "(3.00..5.00)" in text and NOT_MEASURED in text
    assert "OMP_NUM_THREADS=2 capsbench run --suite mnist" in text


def test_the_page_says_which_digits_are_taken_for_which() -> None:
    text = html_page([measured("net", [3, 13, 5])])
    assert "Which digits are taken for which" in text
    (table,) = re.findall(r'<table class="confusion">.*?</table>', text, re.DOTALL)
    assert table.count("level4") == 1 and table.count("level2") == 1  # 3 for 4 twice, 5 for 6 once


def test_results_of_two_protocols_are_two_boards() -> None:
    small, changed = measured("net"), measured("net", settings={"epochs": 3})
    tables = [one for one in Page(html_page([small, changed])).all("table") if one.get("class") == "board"]
    assert [one["data-protocol"] for one in tables] == [small.protocol, changed.protocol]


def test_a_cell_that_failed_is_named_until_it_is_measured(tmp_path: Path) -> None:
    runs = tmp_path / "runs" / "mnist"
    save_result(measured("net"), runs / "net.json")
    (runs / "bad-seed0.error.txt").write_text("Traceback\n  line\nValueError: no <b>good</b>\n")
    (runs / "net.error.txt").write_text("ValueError: of an earlier run\n")
    lost = replace(measured("lost"), seed=3)
    keep_failure(lost, runs / "lost-seed3-one.json", "a fault since mended")
    save_result(replace(lost, cell="000000000002", date=now()), runs / "lost-seed3-two.json")
    keep_failure(replace(lost, preset="smoke (epochs=9)"), runs / "lost-seed3-three.json", "of other settings")
    page = tmp_path / "page.html"
    run = CliRunner().invoke(cli, ["report", str(tmp_path / "runs"), "--html", str(page)])
    assert run.exit_code == 0, run.output
    text = page.read_text()
    assert "2 cells failed" in text and "of other settings" in text and "since mended" not in text
    assert "no &lt;b&gt;good&lt;/b&gt;" in text and "earlier run" not in text


def test_two_hundred_results_take_seconds_and_megabytes(scale: Callable[[int, int], int]) -> None:
    number_of_cells = scale(50, 200)
    kept = [
        one for suite in ("affine/epyc-cpu", "overlap", "mnist", "crowding") for one in load_results(RESULTS / suite)
    ]
    cells = [
        replace(one, label=f"{one.label} {number}", cell=f"{number:06x}{one.cell[:6]}")
        for number in range(10)
        for one in kept
    ][:number_of_cells]
    assert len(cells) == number_of_cells
    start = time.process_time()
    size = len(html_page(cells))
    assert time.process_time() - start < number_of_cells / 20 and size < number_of_cells * 50e3


@pytest.mark.parametrize("shape", [(3, 5), (4, 2, 3)])
def test_an_image_is_read_back_by_another_library(shape: tuple[int, ...], tmp_path: Path) -> None:
    from matplotlib.image import imread

    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    (tmp_path / "image.png").write_bytes(png(image))
    read = np.rint(255 * imread(tmp_path / "image.png")).astype(np.uint8)
    assert np.array_equal(read, image)


@pytest.mark.parametrize("epochs", [(-1e308, 1e308), (0.0, 5e-324), (1.0, 10**400)], ids=str)
def test_numbers_that_cannot_be_drawn_are_a_damaged_result(epochs: tuple[Any, Any]) -> None:
    one = measured("net")
    history = [{"epoch": epoch, "accuracy": 0.5} for epoch in epochs]
    with pytest.raises(DataFileError, match="suite 'mnist' cannot read a result"):
        html_page([replace(one, metrics={**one.metrics, "history": history})])


def test_each_edition_has_a_training_curve_in_its_own_colour() -> None:
    editions = [measured("mine.py:Net", source=letter * 64, cell=letter * 12) for letter in "ab"]
    page = html_page([*editions, measured("mine.py:Net", origin="weights", source="c" * 64)])
    (chart,) = re.findall(r"<svg[^>]*><title>Training curves:.*?</svg>", page, re.DOTALL)
    names = ("mine.py:Net [aaaaaa]", "mine.py:Net [bbbbbb]", "mine.py:Net (trained elsewhere)")
    assert all(name in chart for name in names)
    assert len(set(re.findall(r'class="curve (hue\d)"', chart))) == 3


def test_below_a_board_each_device_has_its_own_figure() -> None:
    here = load_results(RESULTS / "overlap")
    there = [replace(one, environment={**one.environment, "device": "Some GPU"}) for one in here]

    def figures(results: list[Result]) -> list[str]:
        return re.findall(r"</ul>\s*(<figure.*?</figure>)", html_page(results), re.DOTALL)

    alone, both = figures(here), figures([*here, *there])
    assert alone and len(both) == len(alone)
    for one, of_both in zip(alone, both, strict=True):
        drawn = re.findall(r"<svg.*?</svg>", one, re.DOTALL)
        assert re.findall(r"<svg.*?</svg>", of_both, re.DOTALL) == 2 * drawn
        assert re.search("<p>Measured on .*, then ", of_both) and "Some GPU" in of_both and "Measured on" not in one
