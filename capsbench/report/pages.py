"""Results as text, and as pages: the paper's values with ours beside them, every table, and every chart."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from capsbench import registry
from capsbench.errors import StorageError, UsageError
from capsbench.report.board import boards
from capsbench.report.boardtables import render_boards
from capsbench.report.groups import OF_PAPER, Group, ReportedValue, figures_by_group, groups, tables
from capsbench.report.numbers import seeds_of, seeds_of_each
from capsbench.report.suites import suite_of
from capsbench.report.tables import Table, body, markdown, markdown_note, narrow, render_tables
from capsbench.results.result import Result, content_of
from capsbench.spec import MNIST
from capsbench.system.disk import kind_of, same_file, write_atomically

MARKDOWN, HTML, JSON, CSV = (".md", ".markdown"), (".html", ".htm"), (".json",), (".csv",)
TITLE = "# Results"
BEGINNINGS = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>capsbench: results</title>',
    "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>capsbench: results</title>",  # until 0.1.0
    '{\n  "boards_version"',
    "suite,network,seed,cell,images,index,",
)
"""How pages and JSON documents of ours begin."""

NOT_MEASURED = "not measured"
INTRODUCTION = (
    "Each table is made from result files. Beside the paper's values stand ours of full-size networks trained "
    'on full MNIST (preset paper), or "not measured". Tables of the presets small and smoke are of small networks, '
    "mostly trained on 3,200 digits: they show what the suites report, and say nothing about the paper."
)


def render(results: Sequence[Result], style: str = "simple", *, wide: bool = True) -> str:
    """Results as text.

    Args:
        results: What to show.
        style: One of `FORMATS`: tables, the tables' rows alone (csv), or the results themselves (json).
        wide: Whether the suites' tables are shown whole. Else a terminal shows what fits into some 100 columns, and the
            other formats show boards, for papers.

    Raises:
        DataFileError: A suite cannot read its result.
    """
    if style == "json":
        return json.dumps([content_of(result) for result in results], indent=2)
    if wide:
        return render_tables(tables(results), style)
    if style != "simple":
        return render_boards(boards(results), style)
    return render_tables([narrow(table) for table in tables(results)], style)


def markdown_page(results: Sequence[Result], pictures: str = "") -> str:
    """A page of all results in Markdown.

    Args:
        results: What to show.
        pictures: The folder of the charts' PNGs, as a link from the page has it; empty leaves charts out.

    Raises:
        DataFileError: A suite cannot read its result.
    """
    parts = [TITLE, INTRODUCTION]
    if shows_paper(results):
        parts += ["## The paper's values and ours", body(paper_table(results), "github")]
    for group, figures in figures_by_group(results):
        table = group.table()
        parts += [f"## {markdown(group.title)}", body(table, "github"), _listed(table.notes)]
        parts += [f"![{markdown(figure.title)}]({pictures}/{figure.stem}.png)" for figure in figures if pictures]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def check_page(path: Path, endings: Sequence[str], *, read: Sequence[Path], force: bool) -> None:
    """Refuses to write a page over something else.

    Args:
        path: The page to write.
        endings: What its name may end in: `MARKDOWN`, `HTML`, `JSON` or `CSV`.
        read: The results that it is made from; they are never written over.
        force: Whether it may be written over a file that is no page of ours.

    Raises:
        UsageError: It must not be written there.
        StorageError: A folder stands there.
    """
    if kind_of(path) == "folder":
        raise StorageError(f"{path} cannot be written: it is a folder. Name a file in it.")
    if path.suffix.lower() not in endings:
        raise UsageError(f"The name of this page must end in {' or '.join(endings)}, got {path}.")
    if any(same_file(path, one) for one in read):
        raise UsageError(f"The page would overwrite {path}, which it is made from. Choose another name.")
    if path.exists() and not force and not _is_page(path):
        raise UsageError(f"{path} exists and is no page of ours. Add --force to overwrite it, or choose another name.")


def _is_page(path: Path) -> bool:
    """Whether a file begins as our pages do."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return False
        with path.open("rb") as file:
            start = file.read(400).decode(errors="replace")
    except OSError:
        return False
    return start.startswith((f"{TITLE}\n\n{INTRODUCTION[:40]}", *BEGINNINGS))


def save_page(text: str, path: Path) -> None:
    """Writes a page, whole or not at all.

    Raises:
        StorageError: It could not be written.
    """
    write_atomically(path, text.encode(errors="backslashreplace"))  # a file's name in it need not be Unicode


def shows_paper(results: Sequence[Result]) -> bool:
    """Whether a page has the paper's values: not one that has nothing but results of digits that are not MNIST's."""
    return any(one.digits in (*MNIST, "none") for one in results)


def paper_table(results: Sequence[Result]) -> Table:
    """Every value of the paper that a suite can measure, with ours of preset ``paper`` on the paper's images."""
    rows: list[list[Any]] = []
    for suite, kind in _suites():
        measured = [
            group for group in groups([result for result in results if result.suite == suite]) if _of_paper(group)
        ]
        for reported in kind.paper:
            ours = [f"{value} ({_where(group, reported)})" for group in measured if (value := group.ours(reported))]
            rows.append([suite, reported.what, reported.paper, "; ".join(ours) or NOT_MEASURED])
    return Table(headers=["suite", "what", "paper", "ours"], rows=rows)


def _suites() -> Iterator[tuple[str, Any]]:
    """Every suite that measures values of the paper."""
    for name in sorted(registry.catalog("suite")):
        with suppress(Exception):  # a plug-in can fail in any way, and must not hide the others
            kind = suite_of(name)
            if hasattr(kind, "paper"):
                yield name, kind


def _of_paper(group: Group) -> bool:
    """Whether results are of preset ``paper`` on the paper's images; what was changed stands beside each value."""
    return all(one.preset.partition(" ")[0] == "paper" and one.digits in OF_PAPER for one in group.members)


def _where(group: Group, reported: ReportedValue) -> str:
    """The changes of the preset, the number of seeds of the network, and the device."""
    first = group.members[0]
    changes = first.preset.partition(" ")[2].strip("()")
    networks = [[one for one in group.members if one.label == label] for label in seeds_of_each(group.members)]
    of_value = [cells for cells in networks if replace(group, members=cells).ours(reported)]
    seeds = len(seeds_of(of_value[0] if of_value else group.members))
    return ", ".join(part for part in (changes, f"{seeds} seeds" if seeds > 1 else "1 seed", group.device) if part)


def _listed(notes: Sequence[str]) -> str:
    return "\n".join(f"- {markdown_note(note)}" for note in notes)
