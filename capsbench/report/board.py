"""A board: for each protocol of a suite the networks in order, with their figures and how far each is from the best.

Everything that a page, a table for a paper or a JSON document shows of a board is made here.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from capsbench.errors import UsageError
from capsbench.report.differences import Difference, Place, check_comparable, found_at, pooled_difference
from capsbench.report.groups import at_paper_size, by_network, device_of, newest
from capsbench.report.headlines import Headline, Measured, headlines_of
from capsbench.report.notes import older_note, remarks_note, shown_by, smoke_note, writers_note
from capsbench.report.numbers import seeds_of
from capsbench.report.provenance import stated
from capsbench.report.suites import readable
from capsbench.results.result import Result, protocol_of
from capsbench.spec import told_digits
from capsbench.statistics import Interval
from capsbench.version import VERSION

SIGNIFICANT = 0.05
BOARDS_VERSION = 1  # of the JSON document


@dataclass(frozen=True)
class Beside:
    """How a network differs from the best one in the first figure, on the same images.

    Attributes:
        value: The network's figure minus that of the best, in the figure's unit.
        interval: Its 95 % interval, over test digits and, of several seeds, over both.
        p: Of one seed, that of the exact sign-flip test over base digits, with one image a digit McNemar's; of several,
            that of the same units as the interval.
        tie: Whether the interval holds 0 or p is 0.05 or more, so that the two may be equally good.
    """

    value: float
    interval: Interval
    p: float

    @property
    def tie(self) -> bool:
        """Whether the network may be as good as the best."""
        low, high = self.interval
        return low <= 0 <= high or self.p >= SIGNIFICANT


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network on a board.

    Attributes:
        name: Its label; where several would be alike, with what tells them apart.
        network: The same, with the device where the network was measured on several.
        parameters: How many it has; None where the result does not say.
        figures: By the name of a headline; None where a result of it lacks the figure.
        cells: Its results, a seed each.
        beside: How it differs from the best; None of the first of the best, and where nothing can be paired.
        other_seeds: Whether it is not compared because its seeds are not those of the best.
        best: Whether it has the best mean of the first figure; several networks may.
        paper: The paper's figures, by the name of a headline; empty where they must not stand beside these.
    """

    name: str
    network: str
    parameters: int | None
    figures: Mapping[str, Measured | None]
    cells: Sequence[Result]
    beside: Beside | None = None
    other_seeds: bool = False
    best: bool = False
    paper: Mapping[str, str] = field(default_factory=dict)

    @property
    def tie(self) -> bool:
        """Whether it may be as good as the best."""
        return self.beside is not None and self.beside.tie

    @property
    def untold(self) -> str:
        """What stands where the difference to the best would, if there is none; empty where nothing can be paired."""
        return "best" if self.best else "not compared: other seeds" if self.other_seeds else ""

    @property
    def seeds(self) -> list[int]:
        """Its seeds, in order."""
        return seeds_of(self.cells)

    @property
    def origin(self) -> str:
        """Where its answers come from, in words."""
        return self.cells[0].from_where

    @property
    def device(self) -> str:
        """What it was measured on; empty of scores."""
        return device_of(self.cells[0]) or ""


@dataclass(frozen=True)
class Board:
    """The networks that were measured by one protocol, the best first.

    Attributes:
        suite: The suite's name.
        headlines: Its figures; by the first one networks are ranked.
        rows: The networks.
        notes: What a reader should know beside the figures.
    """

    suite: str
    headlines: Sequence[Headline]
    rows: Sequence[Row]
    notes: Sequence[str]

    @property
    def has_digits(self) -> bool:
        """Whether networks were tested on digits, over which intervals are."""
        return self.members[0].digits != "none"

    @property
    def has_differences(self) -> bool:
        """Whether differences to the best, or why there are none, have a column."""
        return any(row.beside or row.other_seeds for row in self.rows)

    @property
    def members(self) -> list[Result]:
        """All results behind it."""
        return [cell for row in self.rows for cell in row.cells]

    @property
    def protocol(self) -> str:
        """The id of its protocol."""
        return self.members[0].protocol

    @property
    def title(self) -> str:
        """The suite, the preset and the digits."""
        first = self.members[0]
        source = told_digits(first.digits)
        device = self.rows[0].device if first.digits == "none" else ""
        return ", ".join(part for part in (self.suite, f"preset {first.preset}", source, device) if part)

    def stated_protocol(self) -> dict[str, Any]:
        """What the protocol's id stands for."""
        return protocol_of(self.members[0])


def boards(results: Sequence[Result]) -> list[Board]:
    """A board for each protocol, in the order in which their first results come.

    Raises:
        DataFileError: A suite cannot read a result.
    """
    found: dict[tuple[str, str], list[Result]] = {}
    for one in results:
        found.setdefault((one.suite, one.protocol), []).append(one)
    ordered = sorted(found.items(), key=lambda item: item[0][0])  # a suite's boards together
    return [readable(suite, _board, suite, headlines_of(suite), members) for (suite, _), members in ordered]


def board_document(results: Sequence[Result]) -> str:
    """All boards as one JSON document; docs/report.md describes it.

    Raises:
        DataFileError: A suite cannot read a result.
    """
    content = {
        "boards_version": BOARDS_VERSION,
        "capsbench": VERSION,
        "boards": [readable(board.suite, _board_content, board) for board in boards(results)],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _board_content(board: Board) -> dict[str, Any]:
    return {
        "suite": board.suite,
        "title": board.title,
        "digits": board.members[0].digits,
        "protocol": board.protocol,
        "protocol states": board.stated_protocol(),
        "ranked by": board.headlines[0].name if board.headlines else None,
        "figures": [
            {"name": one.name, "unit": one.unit, "larger is better": one.larger_is_better} for one in board.headlines
        ],
        "rows": [_row_content(row, board.headlines) for row in board.rows],
        "notes": list(board.notes),
    }


def _row_content(row: Row, headlines: Sequence[Headline]) -> dict[str, Any]:
    beside = row.beside
    return {
        "network": row.network,
        "origin": row.origin,
        "device": row.device or None,
        "parameters": row.parameters,
        "seeds": row.seeds,
        "figures": {
            one.name: {
                **_figure_content(row.figures[one.name]),
                "text": one.told(row.figures[one.name], row.cells),
                "of each seed": [_figure_content(one.measure(cell)) for cell in row.cells],
                "paper": row.paper.get(one.name),
            }
            for one in headlines
        },
        "best": row.best,
        "tie": row.tie,
        "difference to the best": beside and {"value": beside.value, "interval": list(beside.interval), "p": beside.p},
        "results": [stated(cell) for cell in row.cells],
    }


def _figure_content(found: Measured | None) -> dict[str, Any]:
    """A figure as JSON, which has no infinite numbers."""
    if found is None or not math.isfinite(found.value):
        return {"value": None, "interval": None}
    known = found.interval is not None and all(map(math.isfinite, found.interval))
    return {"value": found.value, "interval": list(found.interval) if found.interval and known else None}


def _board(suite: str, headlines: Sequence[Headline], members: Sequence[Result]) -> Board:
    rows = [_row(*name, cells, headlines) for name, cells in _networks(newest(members)).items()]
    if headlines:
        rows = _ranked(rows, headlines[0])
    return Board(suite, headlines, rows, _notes(headlines, rows, members))


def _networks(members: Sequence[Result]) -> dict[tuple[str, str], list[Result]]:
    """The results of each row, by its network and what tells it apart; a row is of one device."""
    rows: dict[tuple[str, str], list[Result]] = {}
    for name, cells in by_network(sorted(members, key=lambda one: (one.label, one.seed))).items():
        devices = sorted({device_of(one) or "" for one in cells})
        for device in devices:
            own = [one for one in cells if (device_of(one) or "") == device]
            rows[name, f" [{device}]" if len(devices) > 1 else ""] = own
    return rows


def _row(name: str, beside: str, cells: Sequence[Result], headlines: Sequence[Headline]) -> Row:
    paper = at_paper_size(cells)
    parameters = cells[0].metrics.get("parameters")
    return Row(
        name=name,
        network=name + beside,
        parameters=parameters if type(parameters) is int else None,
        figures={one.name: one.over_seeds(cells) for one in headlines},
        cells=cells,
        paper={one.name: one.paper[cells[0].label] for one in headlines if paper and cells[0].label in one.paper},
    )


def _ranked(rows: Sequence[Row], first: Headline) -> list[Row]:
    """Rows from the best to the worst, those without the first figure last, with their differences to the best."""

    def place(row: Row) -> tuple[bool, float, str]:
        found = row.figures[first.name]
        value = math.inf if found is None else found.value
        return found is None, -value if first.larger_is_better and found else value, row.network

    ordered = sorted(rows, key=place)
    best = ordered[0]
    if best.figures[first.name] is None:
        return ordered
    others = [_compared(best, row, first) for row in ordered[1:]]
    equal = best.figures[first.name]
    return [
        replace(row, best=found is not None and equal is not None and found.value == equal.value)
        for row in (best, *others)
        for found in (row.figures[first.name],)
    ]


def _compared(best: Row, row: Row, headline: Headline) -> Row:
    """A row with its difference to the best, where both have the same seeds.

    Figures are of all seeds of a row. A difference over some of them could contradict the figures beside it.
    """
    question = headline.question
    if question is None or row.figures[headline.name] is None:
        return row
    ours, theirs = ([as_asked(cell, question.place) for cell in one.cells] for one in (best, row))
    try:
        check_comparable(ours[0], theirs[0])
    except UsageError:
        return row
    if not all(found_at(cell, question.place) for cell in (*ours, *theirs)):
        return row
    if best.seeds != row.seeds:
        return replace(row, other_seeds=True)
    pairs = list(zip(ours, theirs, strict=True))  # both in the order of their seeds
    among = question.among(ours[0]) if question.among else None
    return replace(row, beside=_told(pooled_difference(pairs, question.place, among), headline))


def as_asked(cell: Result, place: Place) -> Result:
    """A result with answers at a checkpoint that only training here has: those of the checkpoint that it has."""
    points = cell.metrics.get("checkpoints")
    if cell.origin == "trained" or not isinstance(points, Mapping) or place[1] in points or "best" not in points:
        return cell
    return replace(cell, metrics={**cell.metrics, "checkpoints": {**points, place[1]: points["best"]}})


def _told(found: Difference, headline: Headline) -> Beside:
    """A difference of shares of right answers as one of the figure, which may be an error."""
    sign = 100 if headline.larger_is_better else -100
    low, high = sorted(sign * end for end in found.interval)
    return Beside(sign * found.difference, (low, high), found.p)


def _notes(headlines: Sequence[Headline], rows: Sequence[Row], members: Sequence[Result]) -> list[str]:
    notes = remarks_note(members)
    if headlines:
        better = "largest" if headlines[0].larger_is_better else "smallest"
        notes.append(f"Networks are in the order of {headlines[0].name}; the {better} is the best.")
    written = writers_note(members)
    notes += written
    if any(one.origin != "trained" for one in members):
        notes += [one.elsewhere for one in headlines if one.elsewhere]
    if any(row.beside for row in rows):
        shown = shown_by(members[0].suite)
        flips = "that of the exact sign-flip test over base digits, with one image a digit McNemar's"
        over, p = f"test {shown}", flips if shown == "digits" else "McNemar's"
        if written:
            shown = over = "writers"
            p = "that of the exact sign-flip test over them"
        notes.append(
            f"A difference to the best is paired image by image, with its 95 % interval over {over} and, of "
            f"several seeds, over both. p is {p}; of several seeds it is over seeds and {shown}, as the interval is. A "
            "dagger (†) marks a tie: the interval holds 0, or p is 0.05 or more."
        )
    apart = [row.network for row in rows if row.other_seeds]
    if apart:
        notes.append(f"Not compared with the best, as the seeds are others: {', '.join(apart)}.")
    return notes + smoke_note(members) + older_note(len(members) - sum(len(row.cells) for row in rows))
