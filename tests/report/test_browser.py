"""The page of results in a browser: it renders, nothing leaves it, and it fits a telephone and a wide screen.

Needs Chromium; ``apt-get install chromium`` on Debian.
"""

import html
import json
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from capsbench.report import board, webpage
from capsbench.report.headlines import Measured
from capsbench.results.result import load_results

from . import measured as by_hand

RESULTS = Path(__file__).parents[2] / "results"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")

WIDTHS, SCHEMES = (400, 1400), {"dark": 0, "light": 1}
NARROWEST = 500  # pixels of a window of Chromium's; a narrower page stands in a frame
QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-device-scale-factor=1",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0",
)  # fmt: skip
OWN = re.compile(r"https?://[\w.-]*\.(google|gstatic|googleapis)\.com/")  # what Chromium asks for itself, in vain here

MEASURE = """
for (const one of document.querySelectorAll("details")) one.open = OPEN;
const wide = [...document.querySelectorAll("body *")].filter(
  one => !one.closest(".scroll, .unseen") && one.getBoundingClientRect().right > innerWidth + 1);
const found = JSON.stringify({width: innerWidth, page: document.documentElement.scrollWidth, boards: boards.length,
  wide: wide.map(one => one.tagName + " " + one.className + " " + one.textContent.slice(0, 40)).slice(0, 5)});
document.body.dataset.found = found;
parent.postMessage(found, "*");
"""
HOST = """<!doctype html><html><body><iframe width="400" height="1800" frameborder="0" src="page.html"></iframe>
<script>addEventListener("message", sent => document.body.dataset.found = sent.data)</script></body></html>"""


@dataclass(frozen=True)
class Visit:
    """What to show, and how."""

    page: Path
    width: int = 1400
    scheme: str = "light"
    fragment: str = ""


@dataclass(frozen=True)
class Seen:
    """A page in the browser: its document, what it logged, the addresses it asked for, and a screenshot."""

    document: str
    console: str
    asked: set[str]
    shot: Path


def seen(visits: Iterable[Visit]) -> list[Seen]:
    """Shows pages, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(_seen, visits))


def _seen(visit: Visit) -> Seen:
    folder = Path(tempfile.mkdtemp(dir=visit.page.parent))
    net, shot = folder / "net.json", folder / "shot.png"
    own = [
        f"--user-data-dir={folder / 'user'}",
        f"--log-net-log={net}",
        f"--screenshot={shot}",
        f"--window-size={max(visit.width, NARROWEST)},1800",
        f"--blink-settings=preferredColorScheme={SCHEMES[visit.scheme]}",
    ]
    command = [str(CHROMIUM), *QUIET, *own, "--dump-dom", f"{visit.page.as_uri()}{visit.fragment}"]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    events = json.loads(net.read_text())["events"]
    urls = {event["params"].get("url", "") for event in events if isinstance(event.get("params"), dict)}
    asked = {url for url in urls if url.startswith(("http", "ws", "ftp")) and not OWN.match(url)}
    console = "\n".join(line for line in run.stderr.splitlines() if "CONSOLE" in line)
    return Seen(run.stdout, console, asked, shot)


def made() -> str:
    """The page of some results of three suites."""
    suites = ("affine/epyc-cpu", "mnist/epyc-cpu", "overlap/epyc-cpu", "crowding/epyc-cpu")
    return webpage.html_page([one for suite in suites for one in load_results(RESULTS / suite)])


def measuring(page_of: Callable[[], str], opened: bool) -> str:
    """The page with a script that measures it at its end, and the policy that allows it."""
    template = webpage._template
    with pytest.MonkeyPatch.context() as patch:
        more = MEASURE.replace("OPEN", json.dumps(opened))
        patch.setattr(webpage, "_template", lambda name: template(name) + (more if name.endswith(".js") else ""))
        return page_of()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], tuple[dict[str, Any], Seen]]:
    """What the browser measured at each width and scheme, with everything unfolded."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text(measuring(made, opened=True))
    (folder / "host.html").write_text(HOST)
    visits = [
        Visit(folder / ("page.html" if width >= NARROWEST else "host.html"), width, scheme)
        for width, scheme in product(WIDTHS, SCHEMES)
    ]
    found = {}
    for visit, one in zip(visits, seen(visits), strict=True):
        (kept,) = re.findall(r"<body[^>]* data-found=\"([^\"]*)\"", one.document)
        found[visit.width, visit.scheme] = json.loads(html.unescape(kept)), one
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_but_tables_in_their_own_scroll_is_wider_than_the_page(
    measured: dict[tuple[int, str], Any], width: int, scheme: str
) -> None:
    found, one = measured[width, scheme]
    assert found["width"] == width and found["boards"] == 5
    assert found["page"] == width and not found["wide"]
    assert not one.console and not one.asked


@pytest.mark.parametrize("width", WIDTHS)
def test_light_and_dark_are_drawn(measured: dict[tuple[int, str], Any], width: int) -> None:
    light, dark = (imread(measured[width, scheme][1].shot)[:1500, :390, :3] for scheme in ("light", "dark"))
    assert light.std() > 0.05 and dark.std() > 0.05  # there is something on it
    assert np.median(light) > 0.9 and np.median(dark) < 0.2


def test_a_fragment_sorts_and_filters_and_nothing_is_asked_for(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(made())
    protocol = load_results(RESULTS / "mnist/epyc-cpu")[0].protocol
    fragment = f"#sort={protocol}.1.desc&text=reconstruction&protocol={protocol}"
    plain, chosen = seen([Visit(page), Visit(page, fragment=fragment)])
    for one, sorting, shown, hidden in ((plain, "none", 13, 0), (chosen, "descending", 4, 3)):
        assert not one.console and not one.asked
        (board,) = re.findall(rf'<section class="protocol" id="board-{protocol}".*?</table>', one.document, re.DOTALL)
        errors = [float(value) for value in re.findall(r'<td data-value="([\d.]+)" class="first"', board)]
        assert errors == sorted(errors, reverse=sorting == "descending") and len(errors) == 5 and len(set(errors)) > 1
        assert f'aria-sort="{sorting}"' in board and f">{shown} rows<" in one.document
        assert len(re.findall(r"<tr[^>]* hidden", board)) == 5 - min(shown, 5)
        assert len(re.findall(r'<section class="suite"[^>]* hidden=""', one.document)) == hidden


def test_a_page_that_asks_and_breaks_its_policy_would_be_seen(tmp_path: Path) -> None:
    bad = '<img src="http://example.com/a.png"><p style="color: red">a</p>'
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    for name, head in (("free", ""), ("strict", policy)):
        (tmp_path / f"{name}.html").write_text(f"<!doctype html><html><head>{head}</head><body>{bad}</body></html>")
    free, strict = seen([Visit(tmp_path / "free.html"), Visit(tmp_path / "strict.html")])
    assert free.asked == {"http://example.com/a.png"} and not strict.asked
    assert "Content Security Policy" in strict.console and not free.console.count("Security")


def test_infinite_figures_are_sorted_as_numbers(tmp_path: Path) -> None:
    (found,) = board.boards([one for name in "abcd" for one in [by_hand.measured(name)]])
    values = {"a": math.inf, "b": 3.0, "c": -math.inf, "d": 20.0}
    rows = [replace(row, figures={"error": Measured(values[row.name])}) for row in found.rows]
    page = tmp_path / "page.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webpage, "boards", lambda results: [replace(found, rows=rows)])
        page.write_text(webpage.html_page(found.members))
    orders = {"asc": ["c", "b", "d", "a"], "desc": ["a", "d", "b", "c"]}
    for one, order in zip(seen(Visit(page, fragment=f"#sort={found.protocol}.1.{way}") for way in orders),
                          orders.values(), strict=True):  # fmt: skip
        (shown,) = re.findall(r'<table class="board".*?</table>', one.document, re.DOTALL)
        assert re.findall(r'<th scope="row" data-value="([abcd])"', shown) == order
