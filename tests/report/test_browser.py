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
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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

SCHEMES = {"dark": 0, "light": 1}
LOOKS = [(400, "dark"), (1400, "light")]  # width and scheme; the other two in a campaign
MORE_LOOKS = [(400, "light"), (1400, "dark")]
NARROWEST = 500  # pixels of a window of Chromium's; a narrower page stands in a frame
QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-device-scale-factor=1",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0",
)  # fmt: skip
OWN = re.compile(r"https?://[\w.-]*\.(google|gstatic|googleapis)\.com/")  # what Chromium asks for itself, in vain here

MEASURE = """
for (const one of document.querySelectorAll("details")) one.open = true;
const wide = [...document.querySelectorAll("body *")].filter(
  one => !one.closest(".scroll, .unseen") && one.getBoundingClientRect().right > innerWidth + 1);
const found = JSON.stringify({width: innerWidth, page: document.documentElement.scrollWidth, boards: boards.length,
  wide: wide.map(one => one.tagName + " " + one.className + " " + one.textContent.slice(0, 40)).slice(0, 5)});
document.body.dataset.found = found;
parent.postMessage(found, "*");
"""
SEND = 'parent.postMessage(document.documentElement.outerHTML, "*");'
HOST = """<!doctype html><html><head><script>
addEventListener("message", sent => {
  for (const one of document.querySelectorAll("iframe"))
    if (one.contentWindow === sent.source) document.body.dataset[one.name] = sent.data;
})</script></head><body>FRAMES</body></html>"""


@dataclass(frozen=True)
class Visit:
    """What to show, and how."""

    page: Path
    width: int = 1400
    scheme: str = "light"


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
    command = [str(CHROMIUM), *QUIET, *own, "--dump-dom", visit.page.as_uri()]
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


def host(frames: Mapping[str, str]) -> str:
    """A page that shows others, each at a name, and keeps what they send: one start of the browser serves them all."""
    shown = (
        f'<iframe name="{name}" width="400" height="1800" frameborder="0" src="{page}"></iframe>'
        for name, page in frames.items()
    )
    return HOST.replace("FRAMES", "".join(shown))


def sent(one: Seen, name: str) -> str:
    """What a page has kept at a name."""
    (kept,) = re.findall(rf"<body[^>]* data-{name}=\"([^\"]*)\"", one.document)
    return html.unescape(kept)


def ending(page_of: Callable[[], str], more: str) -> str:
    """The page with more script at its end, and the policy that allows it."""
    template = webpage._template
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webpage, "_template", lambda name: template(name) + (more if name.endswith(".js") else ""))
        return page_of()


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[tuple[int, str], tuple[dict[str, Any], Seen]]:
    """What the browser measured at each width and scheme, with everything unfolded."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text(ending(made, MEASURE))
    (folder / "host.html").write_text(host({"found": "page.html"}))
    visits = [
        Visit(folder / ("page.html" if width >= NARROWEST else "host.html"), width, scheme)
        for width, scheme in LOOKS + MORE_LOOKS * bool(request.config.getoption("--campaign"))
    ]
    return {
        (visit.width, visit.scheme): (json.loads(sent(one, "found")), one)
        for visit, one in zip(visits, seen(visits), strict=True)
    }


@pytest.mark.parametrize(
    ("width", "scheme"), [*LOOKS, *(pytest.param(*look, marks=pytest.mark.campaign) for look in MORE_LOOKS)]
)
def test_nothing_but_tables_in_their_own_scroll_is_wider_than_the_page_and_it_is_light_or_dark(
    measured: dict[tuple[int, str], Any], width: int, scheme: str
) -> None:
    found, one = measured[width, scheme]
    assert found["width"] == width and found["boards"] == 5
    assert found["page"] == width and not found["wide"]
    assert not one.console and not one.asked
    shot = imread(one.shot)[:1500, :390, :3]
    assert shot.std() > 0.05  # there is something on it
    assert np.median(shot) > 0.9 if scheme == "light" else np.median(shot) < 0.2


PROTOCOL = load_results(RESULTS / "mnist/epyc-cpu")[0].protocol
INFINITE = {"a": math.inf, "b": 3.0, "c": -math.inf, "d": 20.0}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Pages beside one another: of results as they are, of the same sorted and filtered, and of infinite figures."""
    folder = tmp_path_factory.mktemp("frames")
    (found,) = board.boards([by_hand.measured(name) for name in INFINITE])
    rows = [replace(row, figures={"error": Measured(INFINITE[row.name])}) for row in found.rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webpage, "boards", lambda results: [replace(found, rows=rows)])
        (folder / "infinite.html").write_text(ending(lambda: webpage.html_page(found.members), SEND))
    (folder / "page.html").write_text(ending(made, SEND))
    frames = {
        "plain": "page.html",
        "chosen": f"page.html#sort={PROTOCOL}.1.desc&text=reconstruction&protocol={PROTOCOL}",
        "ascending": f"infinite.html#sort={found.protocol}.1.asc",
        "descending": f"infinite.html#sort={found.protocol}.1.desc",
    }
    (folder / "host.html").write_text(host(frames))
    (one,) = seen([Visit(folder / "host.html")])
    return one


def test_a_fragment_sorts_and_filters_and_nothing_is_asked_for(shown: Seen) -> None:
    assert not shown.console and not shown.asked
    for name, sorting, rows, hidden in (("plain", "none", 13, 0), ("chosen", "descending", 4, 3)):
        document = sent(shown, name)
        (board,) = re.findall(rf'<section class="protocol" id="board-{PROTOCOL}".*?</table>', document, re.DOTALL)
        errors = [float(value) for value in re.findall(r'<td data-value="([\d.]+)" class="first"', board)]
        assert errors == sorted(errors, reverse=sorting == "descending") and len(errors) == 5 and len(set(errors)) > 1
        assert f'aria-sort="{sorting}"' in board and f">{rows} rows<" in document
        assert len(re.findall(r"<tr[^>]* hidden", board)) == 5 - min(rows, 5)
        assert len(re.findall(r'<section class="suite"[^>]* hidden=""', document)) == hidden


@pytest.mark.parametrize(("way", "order"), [("ascending", "cbda"), ("descending", "adbc")])
def test_infinite_figures_are_sorted_as_numbers(shown: Seen, way: str, order: str) -> None:
    (table,) = re.findall(r'<table class="board".*?</table>', sent(shown, way), re.DOTALL)
    assert re.findall(r'<th scope="row" data-value="([abcd])"', table) == list(order)


def test_a_page_that_asks_and_breaks_its_policy_would_be_seen(tmp_path: Path) -> None:
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    for name, head in (("free", ""), ("strict", policy)):
        bad = f'<img src="http://example.com/{name}.png"><p style="color: red">a</p>'
        (tmp_path / f"{name}.html").write_text(f"<!doctype html><html><head>{head}</head><body>{bad}</body></html>")
    (tmp_path / "host.html").write_text(host({name: f"{name}.html" for name in ("free", "strict")}))
    (one,) = seen([Visit(tmp_path / "host.html")])
    assert one.asked == {"http://example.com/free.png"}
    refused = [line for line in one.console.splitlines() if "Content Security Policy" in line]
    assert any("strict.png" in line for line in refused) and not any("free" in line for line in refused)
