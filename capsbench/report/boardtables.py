"""Boards as text: for a terminal, and for papers as GitHub's Markdown, LaTeX with booktabs, and CSV."""

import csv
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from tabulate import tabulate

from capsbench.errors import one_line
from capsbench.report.board import Board, Row
from capsbench.report.glossary import WORDS
from capsbench.report.headlines import Headline
from capsbench.report.notes import remarks_note, shown_by, smoke_note
from capsbench.report.suites import readable
from capsbench.report.tables import WIDTH, markdown
from capsbench.results.result import ORIGINS

WIDEST, CELL, NARROWEST, HEADER = 34, 18, 14, 11  # letters of a line: a network, a figure, a header
SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "†": r"$^\dagger$",
    **{sign: f"\\{sign}" for sign in "&%$#_"},
}  # fmt: skip


def render_boards(boards: Sequence[Board], style: str) -> str:
    """Boards as text.

    Args:
        boards: What to show.
        style: ``"simple"``, ``"github"``, ``"latex_booktabs"`` or ``"csv"``.

    Raises:
        DataFileError: A suite cannot read a result.
    """
    made: Callable[[Board], str] = {"simple": _simple, "github": _github, "latex_booktabs": _latex, "csv": _csv}[style]
    return ("\n" if style == "csv" else "\n\n").join(readable(one.suite, made, one) for one in boards if one.headlines)


def _headers(board: Board) -> list[str]:
    headers = ["network"]
    for one in board.headlines:
        headers.append(f"{one.name} ({one.unit})" if one.unit else one.name)
        headers += [f"paper's {one.name}"] if _has_paper(board, one) else []
    return headers + (["to the best"] if board.has_differences else [])


def _has_paper(board: Board, one: Headline) -> bool:
    return any(one.name in row.paper for row in board.rows)


def _cells(board: Board, row: Row) -> list[str]:
    """A row's cells: the network, its figures, and the difference to the best; a tie has a dagger."""
    foreign = row.origin != ORIGINS["trained"] and row.origin not in row.network
    cells = [row.network + (f" ({row.origin})" if foreign else "") + (" †" if row.tie else "")]
    for one in board.headlines:
        cells.append(one.told(row.figures[one.name], row.cells))
        cells += [row.paper.get(one.name, "")] if _has_paper(board, one) else []
    if board.has_differences:
        first, beside = board.headlines[0], row.beside
        if beside:
            low, high = (first.number(end, signed=True) for end in beside.interval)
            cells.append(f"{first.number(beside.value, signed=True)} ({low}..{high})")
        else:
            cells.append(row.untold)
    return list(map(one_line, cells))


def _caption(board: Board) -> str:
    """What stands above a table: the suite, the protocol, the seeds, and what the signs mean."""
    seeds = sorted({len(row.cells) for row in board.rows})
    number = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    told = f"{board.title}; protocol {board.protocol}. {number} seed{'s' * (seeds[-1] > 1)} a network"
    if any(found and found.interval for row in board.rows for found in row.figures.values()):
        over = [*([f"test {shown_by(board.suite)}"] if board.has_digits else []), *(["seeds"] if seeds[-1] > 1 else [])]
        told += "; in brackets 95 % intervals" + (f" over {' and '.join(over)}" if over else "")
    told += "."
    settings = board.rows[0].cells[0].settings
    told += "".join(f" {one.caption.format(**settings)}" for one in board.headlines if one.caption)
    if board.headlines:
        told += f" Networks are in the order of {board.headlines[0].name}."
    told += "".join(f" {remark}" for remark in remarks_note(board.members))
    told += "".join(f" {note}" for note in smoke_note(board.rows[0].cells))
    if board.headlines and len(board.rows) > 1 and not board.has_differences:
        told += " No test compares them."
    if any(row.beside for row in board.rows):
        told += " To the best: the paired difference on the same images; †: a tie."
    return one_line(told)


def _simple(board: Board) -> str:
    headers = [textwrap.fill(text, HEADER) for text in _headers(board)]
    widths = [(WIDEST, width) for width in range(CELL, NARROWEST, -1)]
    widths += [(widest, NARROWEST) for widest in range(WIDEST, NARROWEST - 1, -1)]
    for widest, width in widths:  # figures, and if need be names, take two lines where they do not fit into one
        rows = [[textwrap.fill(name, widest), *(textwrap.fill(text, width) for text in figures)]
                for name, *figures in (_cells(board, row) for row in board.rows)]  # fmt: skip
        shown = tabulate(rows, headers, disable_numparse=True)
        if max(map(len, shown.splitlines())) <= WIDTH:
            break
    caption = textwrap.fill(f"Board: {_caption(board)}", WIDTH)
    return f"{caption}\n\n{shown}\n\n{WORDS}"


def _github(board: Board) -> str:
    rows = [[_bold(markdown(text), row, number, "**{}**") for number, text in enumerate(_cells(board, row))]
            for row in board.rows]  # fmt: skip
    table = tabulate(rows, list(map(markdown, _headers(board))), tablefmt="github", disable_numparse=True)
    return f"{markdown(_caption(board))}\n\n{table}\n\n{WORDS}"


def _latex(board: Board) -> str:
    """A table with its caption, for the package booktabs."""
    rows = [[_bold(latex(text), row, number, r"\textbf{{{}}}") for number, text in enumerate(_cells(board, row))]
            for row in board.rows]  # fmt: skip
    lines = [" & ".join(row) + r" \\" for row in rows]
    headers = _headers(board)
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{latex(_caption(board))}}}",
            rf"\label{{tab:{re.sub('[^a-z0-9]', '-', board.suite.lower())}-{board.protocol}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(headers) - 1)}}}",
            r"\toprule",
            " & ".join(map(latex, headers)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _bold(text: str, row: Row, number: int, mark: str) -> str:
    """The network and the first figure of the best in bold."""
    return mark.format(text) if row.best and number < 2 else text


def latex(text: str) -> str:
    """A text for LaTeX: its signs escaped, ranges with a dash, numbers below zero with a minus."""
    text = re.sub(r"(?<=\d)\.\.(?=[-+]?\d)", "\0", text)
    text = "".join(SPECIAL.get(letter, letter) for letter in text)
    text = re.sub(r"(?<![\w-])-(?=\d)", "$-$", text)
    return text.replace("\0", " to " if "$-$" in text or "+" in text else "--")


def _csv(board: Board) -> str:
    """A line for each network: figures with the ends of their intervals as numbers of columns of their own."""
    headers: list[Any] = ["suite", "protocol", "network", "origin", "device", "digits", "parameters", "seeds"]
    for one in board.headlines:
        name = f"{one.name} ({one.unit})" if one.unit else one.name
        headers += [name, f"{one.name}, low", f"{one.name}, high"]
    headers += ["difference to the best", "difference, low", "difference, high", "p", "best", "tie"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(headers)
    for row in board.rows:
        line: list[Any] = [board.suite, board.protocol, row.network, row.origin, row.device]
        line += [board.members[0].digits, row.parameters]
        line.append(" ".join(map(str, row.seeds)))
        for one in board.headlines:
            found = row.figures[one.name]
            numbers = [found.value, *(found.interval or ("", ""))] if found else ["", "", ""]
            line += [one.number(value) if isinstance(value, float) else value for value in numbers]
        beside, first = row.beside, board.headlines[0] if board.headlines else None
        if beside and first:
            line += [first.number(value, signed=True) for value in (beside.value, *beside.interval)]
            line.append(f"{beside.p:.2g}")
        else:
            line += [""] * 4
        line = [one_line(cell) if isinstance(cell, str) else cell for cell in line]
        writer.writerow([*line, "yes" if row.best else "", "yes" if row.tie else ""])
    return buffer.getvalue().rstrip("\n")
