"""Boards, tables, charts and pictures as one HTML document that needs nothing beside it and loads nothing.

What a result says is text: the templates escape it. The policy in the page's head allows its one style and its one
script, by their SHA-256, and nothing else.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from capsbench.errors import escaped
from capsbench.report.board import Board, Row, as_asked, boards
from capsbench.report.charts import Chart, Point
from capsbench.report.confusion import confusion
from capsbench.report.figures import Figure
from capsbench.report.glossary import GLOSSARY, WORDS
from capsbench.report.groups import Group, by_network, groups
from capsbench.report.headlines import Headline, Measured
from capsbench.report.numbers import told_p, told_seeds
from capsbench.report.pages import paper_table, shows_paper
from capsbench.report.pictures import Picture, Tile
from capsbench.report.png import png
from capsbench.report.provenance import stated
from capsbench.report.suites import readable, suite_of
from capsbench.report.svg import Line, Panel, drawn, drawn_rows, in_parts, key, panels_of
from capsbench.report.tables import Table, formatted
from capsbench.results.result import Result
from capsbench.version import VERSION

INTRODUCTION = (
    "Every board is made from result files. The paper's values stand beside full-size networks that were trained on "
    "full MNIST (preset paper); boards of other presets are of small networks, mostly trained on 3,200 digits, and say "
    "nothing about the paper."
)
PICTURES = 6  # networks of a board whose pictures are shown
WORDY = 14  # letters of a place along a chart; longer ones find no room
POLICY = (
    "default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; base-uri 'none'; "
    "form-action 'none'"
)


def html_page(
    results: Sequence[Result], *, outdated: Sequence[str] = (), failed: Sequence[tuple[str, str]] = ()
) -> str:
    """All results as one HTML document.

    Args:
        results: What to show.
        outdated: Sentences about results that were left out.
        failed: The name of each cell without a result, and why it has none.

    Raises:
        DataFileError: A suite cannot read a result.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    style, script = (_template(name).strip() for name in ("page.css", "page.js"))
    made = boards(results)
    networks = list(dict.fromkeys(row.name for board in made for row in board.rows))
    hues = {network: number for number, network in enumerate(networks)}
    suites: dict[str, list[dict[str, Any]]] = {}
    for board in made:
        shown = readable(board.suite, _shown_board, board, hues, Markup)
        suites.setdefault(board.suite, []).append(shown)
    environment = Environment(
        autoescape=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, Markup) else escaped(str(value)),
    )
    environment.filters["slug"] = _slug
    page = environment.from_string(_template("page.html"))
    return page.render(
        policy=POLICY.format(style=_hash(style), script=_hash(script)),
        style=Markup(style),
        script=Markup(script),
        introduction=INTRODUCTION,
        results=len(results),
        version=VERSION,
        suites=[{"name": name, "summary": _summary(name), "boards": shown} for name, shown in suites.items()],
        paper=_shown_table(paper_table(results)) if shows_paper(results) else None,
        glossary=GLOSSARY,
        outdated=outdated,
        failed=failed,
    )


@cache
def _template(name: str) -> str:
    return (files("capsbench.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _slug(name: str) -> str:
    return re.sub(r"[^\w-]", "-", name)


def _summary(suite: str) -> str:
    """The first line of a suite's docstring."""
    return (type(suite_of(suite)).__doc__ or "").strip().partition("\n")[0]


def _shown_board(board: Board, hues: Mapping[str, int], markup: Any) -> dict[str, Any]:
    """A board as the template reads it."""
    columns = _columns(board)
    parts = [_shown_part(group, hues, markup) for group in groups(board.members)]
    return {
        "protocol": board.protocol,
        "title": board.title,
        "columns": columns,
        "rows": [_shown_row(board, row, hues, markup) for row in board.rows],
        "notes": board.notes,
        "figure": _headline_figure(board, hues, markup),
        "parts": parts,
        "confusions": _confusions(board, hues, markup),
        "stated": "\n".join(_stated(board.stated_protocol())),
    }


def _confusions(board: Board, hues: Mapping[str, int], markup: Any) -> list[dict[str, Any]]:
    """For each of the first networks, which digits it takes for which, in the answers by which it is ranked."""
    question = board.headlines[0].question if board.headlines else None
    if question is None:
        return []
    shown: list[dict[str, Any]] = []
    for row in board.rows:
        found = confusion([as_asked(cell, question.place) for cell in row.cells], question.place)
        if found is not None and len(shown) < PICTURES:
            most = max(1, int(found.max()))
            rows = [[(number, -(-4 * number // most)) for number in line] for line in found.tolist()]
            shown.append({"network": row.network, "key": markup(key(hues[row.name])), "rows": rows})
    return shown


def _stated(protocol: Mapping[str, Any]) -> Iterator[str]:
    """What a protocol's id stands for, a line for each thing and each set of test images."""
    for name, said in protocol.items():
        if name != "tests":
            yield f"{name}: {json.dumps(said, sort_keys=True)}"
    for role, spec in protocol["tests"].items():
        yield f"test {role}: {json.dumps(spec, sort_keys=True)}"


def _columns(board: Board) -> list[dict[str, Any]]:
    """The titles of a board's columns; one whose largest value is the best is sorted from there at first."""
    found: list[dict[str, Any]] = [{"title": "network"}]
    for one in board.headlines:
        found.append({"title": _with_unit(one), "descending": one.larger_is_better})
        if _has_paper(board, one):
            found.append({"title": f"paper's {one.name}"})
    if board.has_differences:
        found += [{"title": "difference to the best"}, {"title": "p"}]
    return found + [{"title": name} for name in ("parameters", "seeds", "origin")]


def _with_unit(one: Headline) -> str:
    return f"{one.name}, {one.unit}" if one.unit else one.name


def _has_paper(board: Board, one: Headline) -> bool:
    return any(one.name in row.paper for row in board.rows)


def _shown_row(board: Board, row: Row, hues: Mapping[str, int], markup: Any) -> dict[str, Any]:
    seeds = ", ".join(map(str, row.seeds))
    cells = [_cell(row.network)]
    for number, one in enumerate(board.headlines):
        found = row.figures[one.name]
        shown, _, ends = one.told(found, row.cells).partition(" (") if found else (one.told(found, row.cells), "", "")
        kind = "words" if found is None else "first" if number == 0 else ""
        value = found.value if found else None
        cells.append(_cell(shown, value, more=ends and f"({ends}", kind=kind))
        if _has_paper(board, one):
            cells.append(_cell(row.paper.get(one.name, "")))
    if board.has_differences:
        cells += _beside(row, board.headlines[0])
    cells += [
        _cell("" if row.parameters is None else f"{row.parameters:,}", row.parameters),
        _cell(f"{len(row.cells)}", len(row.cells), more=seeds if len(seeds) <= 20 else ""),
        _cell(row.origin),
    ]
    facts = [_facts(cell) for cell in row.cells]
    return {
        "network": row.network,
        "text": " ".join([row.network, row.origin, row.device]),
        "best": row.best,
        "key": markup(key(hues[row.name])),
        "cells": cells,
        "commands": "\n".join(dict.fromkeys(line for cell in row.cells for line in stated(cell)["commands"])),
        "facts": [(name, "; ".join(dict.fromkeys(fact[name] for fact in facts))) for name in facts[0]],
    }


def _cell(text: str, value: float | str | None = None, *, more: str = "", kind: str = "") -> dict[str, Any]:
    """A cell: its text, what it is sorted by (its text where nothing else is given), and a second line."""
    sorted_by = text if value is None else f"{value:.8g}" if isinstance(value, float | int) else value
    sorted_by = {"inf": "Infinity", "-inf": "-Infinity"}.get(sorted_by, sorted_by) if value is not None else text
    return {"text": text, "value": sorted_by if kind != "words" else "", "more": more, "kind": kind}


def _beside(row: Row, first: Headline) -> list[dict[str, Any]]:
    """The cells of the difference to the best, and of its p."""
    if row.best and row.beside is None:
        return [_cell("best", 0.0), _cell("")]
    if row.beside is None:
        return [_cell(row.untold or "not compared", kind="words"), _cell("")]
    found = row.beside
    low, high = (first.number(end, signed=True) for end in found.interval)
    text = first.number(found.value, signed=True) + (" † tie" if found.tie else "")
    return [_cell(text, found.value, more=f"({low}..{high})"), _cell(told_p(found.p), found.p)]


def _facts(cell: Result) -> dict[str, str]:
    """What is known of where a result comes from, a line each."""
    here = stated(cell)
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    threads = "" if here["threads"] is None else f", threads: {here['threads']}"
    return {
        "cells": f"{cell.cell} (seed {cell.seed})",
        "measured": f"{cell.date}, {cell.seconds:,.0f} s",
        "on": "; ".join(str(here[part]) for part in ("device", "processor", "system") if here[part]) + threads,
        "with": versions or "?",
        "network": ", ".join(f"{name}={json.dumps(one)}" for name, one in sorted(cell.parameters.items()))
        or "nothing set",
        **({"made of": "; ".join(_made_of(cell.identity))} if cell.identity else {}),
        "digests of its data": ", ".join(f"{role} {digest[:16]}" for role, digest in here["digests"].items()) or "none",
    }


def _made_of(identity: Mapping[str, Any]) -> Iterator[str]:
    """What a model, a suite or digits that do not ship are made of: each file with the beginning of its digest."""
    for what, parts in sorted(identity.items()):
        known = isinstance(parts, Mapping) and all(isinstance(one, str) for one in parts.values())
        told = ", ".join(f"{name} {one[:16]}" for name, one in sorted(parts.items())) if known else json.dumps(parts)
        yield f"{what}: {told}"


def _shown_table(table: Table, but: str = "") -> dict[str, Any]:
    """A table with its notes, but for one that the page says itself."""
    return {"headers": table.headers, "rows": formatted(table), "notes": [one for one in table.notes if one != but]}


def _shown_part(group: Group, hues: Mapping[str, int], markup: Any) -> dict[str, Any]:
    """A suite's own table and its charts, for the results of one device."""
    figures = [*group.charts(), *_training_curves(group)]
    pictures = [one for one in figures if isinstance(one, Picture)][: 3 * PICTURES]
    shown = [_shown_chart(one, hues, markup) for one in figures if isinstance(one, Chart)]
    return {
        "title": f"All figures and charts ({group.device}, {told_seeds(group.members)})",
        **_shown_table(group.table(), but=WORDS),
        "charts": [one for one in shown if one["panels"]] + [_shown_picture(one) for one in pictures],
    }


def _shown_chart(chart: Chart, hues: Mapping[str, int], markup: Any) -> dict[str, Any]:
    wordy = any(isinstance(x, str) and len(x) > WORDY for points in chart.series.values() for x, _ in points)
    panels = [] if wordy else panels_of(chart, list(hues))
    return _captioned(chart, title="", panels=[markup(drawn(panel, hues)) for panel in panels])  # its axes say it


def _captioned(figure: Figure, **parts: Any) -> dict[str, Any]:
    return {"title": figure.title, "notes": figure.note.splitlines(), "panels": [], "tiles": None, **parts}


def _training_curves(group: Group) -> Iterator[Chart]:
    """The accuracy on validation digits over training, for suites that draw none themselves."""
    series: dict[str, list[Point]] = {}
    for network, (one, *_) in by_network(group.members).items():  # the first seed
        for part, history in _histories(one.metrics):
            points: list[Point] = [
                (float(row["epoch"]), 100 * float(row["accuracy"]))
                for row in history
                if isinstance(row, Mapping) and "epoch" in row and "accuracy" in row
            ]
            series[network + part] = points
    if any(series.values()):
        yield Chart(
            name="training",
            title="Training curves",
            x_label="epochs",
            y_label="accuracy on validation digits (%)",
            series=series,
            note="The first seed of each network.",
            from_zero=False,
        )


def _histories(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Each training's validations, with what tells it from others of its cell."""
    for name, found in [("", metrics), *metrics.items()]:
        if isinstance(found, Mapping) and isinstance(found.get("history"), list):
            yield f", {name}" if name else "", found["history"]


def _shown_picture(picture: Picture) -> dict[str, Any]:
    """Small images in rows; what stands in a picture as text is text of the page."""
    titles = picture.row_titles or [""] * len(picture.rows)
    rows = [
        {"title": title, "tiles": [tile and _shown_tile(tile) for tile in row]}
        for title, row in zip(titles, picture.rows, strict=True)
    ]
    return _captioned(picture, tiles={"heads": list(picture.column_titles), "rows": rows})


def _shown_tile(tile: Tile) -> dict[str, Any]:
    height, width = tile.image.shape[:2]
    mark = f" ({tile.mark})" if tile.mark else ""
    return {
        "caption": " ".join(tile.heading),
        "mark": tile.mark,
        "alt": (", ".join(f"{name} {value}" for name, value in tile.facts.items()) or tile.caption or "image") + mark,
        "width": 2 * width,
        "height": 2 * height,
        "data": base64.b64encode(png(tile.image)).decode(),
    }


def _headline_figure(board: Board, hues: Mapping[str, int], markup: Any) -> dict[str, Any] | None:
    """The figure that stands below a board: the one that its suite names, else its first figure, a row a network."""
    wanted = getattr(suite_of(board.suite), "headline_figure", None)
    if isinstance(wanted, str):
        made = [(group, chart) for group in groups(board.members) for chart in group.charts() if chart.name == wanted]
        shown = [(group, _shown_chart(chart, hues, markup)) for group, chart in made if isinstance(chart, Chart)]
        if shown:
            devices = ", then ".join(group.device for group, _ in shown)
            notes = [f"Measured on {devices}."] if len(shown) > 1 else []
            panels = [panel for _, one in shown for panel in one["panels"]]
            return {**shown[0][1], "panels": panels, "notes": [*notes, *shown[0][1]["notes"]]}
    axes = [one for name in wanted for one in board.headlines if one.name == name] if isinstance(wanted, tuple) else []
    return _scatter(board, axes[0], axes[1], hues, markup) if len(axes) == 2 else _dots(board, hues, markup)


def _scatter(
    board: Board, across: Headline, up: Headline, hues: Mapping[str, int], markup: Any
) -> dict[str, Any] | None:
    """Two figures of each network against one another, with the intervals of both."""
    lines = []
    for row in board.rows:
        x, y = row.figures[across.name], row.figures[up.name]
        if x and y:
            lines.append(Line(row.name, row.network, [(x.value, y.value)], [y.interval], [x.interval], joined=False))
    if not lines:
        return None
    panels = [
        Panel(
            lines=part,
            every=lines,
            x_label=_with_unit(across),
            y_label=_with_unit(up),
            description=f"{up.name} against {across.name}: {', '.join(one.label for one in part)}.",
        )
        for part in in_parts(lines)
    ]
    notes = ["Bars are 95 % intervals."]
    return {"title": "", "notes": notes, "panels": [markup(drawn(one, hues)) for one in panels], "tiles": None}


def _dots(board: Board, hues: Mapping[str, int], markup: Any) -> dict[str, Any] | None:
    """The first figure of each network with its interval."""
    if not board.headlines:
        return None
    first = board.headlines[0]
    found: list[tuple[Row, Measured]] = [(row, one) for row in board.rows if (one := row.figures[first.name])]
    points = [
        Line(row.name, row.network, [(one.value, 0.0)], (), [one.interval])
        for row, one in found
        if np.isfinite(one.value)
    ]
    if not points:
        return None
    panels = drawn_rows(points, _with_unit(first), first.name, hues)
    notes = ["Bars are 95 % intervals."] if any(one.across[0] for one in points) else []
    return {"title": "", "notes": notes, "panels": [markup(one) for one in panels], "tiles": None}
