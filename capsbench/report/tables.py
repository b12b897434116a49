"""A table of results, and tables as text."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tabulate import tabulate

from capsbench.errors import one_line

WIDTH = 100  # characters of a terminal
FORMATS = ("simple", "github", "latex_booktabs", "csv", "json")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of results.

    Attributes:
        headers: A title for each column.
        rows: The cells, as they are shown.
        notes: Sentences below the table.
        title: A line above it.
        folded: The headers of columns that are left out where there is no room.
        spare: The headers of further ones, which are left out in this order while the table is wider than a terminal.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = field(default_factory=list)
    title: str = ""
    folded: Sequence[str] = ()
    spare: Sequence[str] = ()


def narrow(table: Table) -> Table:
    """The table without its folded columns, as far as it needs without its spare ones, and a note that says so."""
    folded = list(table.folded)
    shown = _without(table, folded)
    for header in table.spare:
        if max(map(len, body(shown, "simple").splitlines())) <= WIDTH:
            break
        folded.append(header)
        shown = _without(table, folded)
    left_out = [header for header in table.headers if header in folded]
    return replace(shown, notes=[*table.notes, f"--wide also shows: {'; '.join(left_out)}."]) if left_out else table


def _without(table: Table, folded: Sequence[str]) -> Table:
    shown = [number for number, header in enumerate(table.headers) if header not in folded]
    return replace(
        table,
        headers=[table.headers[number] for number in shown],
        rows=[[row[number] for number in shown] for row in table.rows],
        folded=(),
        spare=(),
    )


def formatted(table: Table) -> list[list[Any]]:
    """The rows as they are shown: whole numbers get thousands separators, a text is one line, and None is nothing."""
    return [[f"{cell:,}" if type(cell) is int else _one_line(cell) for cell in row] for row in table.rows]


def markdown(text: str) -> str:
    """A text for Markdown, whose signs are shown and not obeyed: a name may hold a bar, a tag or a link."""
    return re.sub(r"([\\|*_`~$\[\]]|<(?=[\w/!?])|&(?=#?\w+;))", r"\\\1", text)


def markdown_note(text: str) -> str:
    """A sentence for Markdown that begins neither a heading nor a list nor a quotation."""
    return re.sub(r"^(?=[#>+-])", r"\\", markdown(one_line(text)))


def _one_line(cell: Any) -> Any:
    return one_line(cell) if isinstance(cell, str) else "" if cell is None else cell


def body(table: Table, style: str, *, align: bool = False) -> str:
    """A table without its title and notes.

    Args:
        table: Its rows are shown as `formatted` has them.
        style: A style of `tabulate`, such as ``"github"`` or ``"html"``.
        align: Whether columns of numbers are aligned on the right.
    """
    first = table.rows[0] if table.rows and align else []
    sides = ["left" if isinstance(cell, str) and not cell[:1].isdigit() else "right" for cell in first]
    headers, rows = list(map(one_line, table.headers)), formatted(table)
    if style == "github":
        headers = list(map(markdown, headers))
        rows = [[markdown(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    return tabulate(rows, headers, tablefmt=style, disable_numparse=True, colalign=sides or None)


def render_tables(tables: Sequence[Table], style: str = "simple") -> str:
    """Tables as text, in one of `FORMATS` but json; csv has the rows alone."""
    return _csv(tables) if style == "csv" else "\n\n".join(_text(table, style) for table in tables)


def _text(table: Table, style: str) -> str:
    mark = "% " if style.startswith("latex") else ""  # there, titles and notes are comments
    said = markdown_note if style == "github" else one_line
    lines = [
        mark + said(table.title),
        "",
        body(table, style, align=True),
        "",
        *(mark + said(note) for note in table.notes),
    ]
    return "\n".join(lines)


def _csv(tables: Sequence[Table]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for table in tables:
        writer.writerow(["table", *table.headers])
        writer.writerows(map(_one_line, [table.title, *row]) for row in table.rows)
    return buffer.getvalue().rstrip("\n")
