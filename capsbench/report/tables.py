"""From results to tables."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from tabulate import tabulate

from capsbench import registry
from capsbench.errors import DataFileError
from capsbench.report.charts import Figure
from capsbench.results.result import Result
from capsbench.statistics import mean_and_deviation

SOURCES = {"embedded": "5,000 embedded digits of MNIST", "mnist": "full MNIST", "none": ""}
FORMATS = ("simple", "github", "latex_booktabs", "csv", "json")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of results.

    Attributes:
        headers: A title for each column.
        rows: The cells, as they are shown.
        notes: Sentences below the table.
        title: A line above it.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = field(default_factory=list)
    title: str = ""


@dataclass(frozen=True)
class PaperFigure:
    """A figure that the paper states, and where ours for it is found.

    Attributes:
        what: What is measured, of which network, with its unit.
        paper: The paper's figure.
        ours: From results of the suite in preset ``paper`` to our figure; None where it was not measured.
    """

    what: str
    paper: str
    ours: Callable[[Sequence[Result]], str | None]


@dataclass(frozen=True)
class Group:
    """Results of one suite that can be compared: of one preset, source of digits and device."""

    suite: str
    members: list[Result]

    @property
    def title(self) -> str:
        """A line above what is told of them."""
        first = self.members[0]
        seeds = f"seeds {', '.join(map(str, seeds_of(self.members)))}"
        source = SOURCES.get(first.digits, first.digits)
        return ", ".join(part for part in (self.suite, f"preset {first.preset}", source, self.device, seeds) if part)

    @property
    def device(self) -> str:
        """What they were measured on."""
        return str(self.members[0].environment.get("device", "?"))

    def table(self) -> Table:
        """What its suite makes of them.

        Raises:
            DataFileError: A result is not one that the suite wrote.
        """
        table: Table = self._told(registry.load("suite", self.suite)().table)
        return replace(table, title=self.title, notes=[*_legend(table), *table.notes])

    def charts(self) -> list[Figure]:
        """The figures that its suite draws; none, if it has none.

        Raises:
            DataFileError: A result is not one that the suite wrote.
        """
        draw = getattr(registry.load("suite", self.suite)(), "charts", None)
        return list(self._told(draw)) if draw else []

    def beside(self, figure: PaperFigure) -> str | None:
        """Our figure for one of the paper's; None where it was not measured.

        Raises:
            DataFileError: A result is not one that the suite wrote.
        """
        return cast("str | None", self._told(figure.ours))

    def _told(self, tell: Callable[[Sequence[Result]], Any]) -> Any:
        try:
            return tell(self.members)
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            raise DataFileError(f"A result of suite {self.suite!r} is not one that it wrote: {error!r}.") from None


def _legend(table: Table) -> list[str]:
    """What the signs beside a table's means stand for, of those that it has."""
    text = " ".join(str(cell) for row in table.rows for cell in row)
    signs = {
        " ± ": "±: standard deviation over seeds.",
        "..": "In brackets: 95 % interval over base digits, of one seed.",
    }
    told = " ".join(meaning for sign, meaning in signs.items() if sign in text)
    return [told] if told else []


def current(results: Sequence[Result]) -> tuple[list[Result], list[str]]:
    """The results that this capsbench can tell of, and of the others a sentence for each suite and version.

    Raises:
        DataFileError: None is left.
    """
    kept: list[Result] = []
    outdated: dict[tuple[str, int, int], int] = {}
    for result in results:
        version = getattr(registry.load("suite", result.suite), "version", result.version)
        if result.version == version:
            kept.append(result)
        else:
            key = (result.suite, result.version, version)
            outdated[key] = outdated.get(key, 0) + 1
    notes = [
        f"{number} of version {theirs} of the suite {suite!r} left out: here is version {ours}. Run it again."
        for (suite, theirs, ours), number in outdated.items()
    ]
    if not kept:
        raise DataFileError(" ".join(notes) or "There are no results.")
    return kept, notes


def groups(results: Sequence[Result]) -> list[Group]:
    """Results by suite, preset, source of digits and device, so that no table mixes what cannot be compared."""
    found: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        found.setdefault(_protocol(result), []).append(result)
    return [Group(key[0], _ordered(key[0], members)) for key, members in found.items()]


def alike(results: Sequence[Result], among: Sequence[Result]) -> list[Result]:
    """Those among others that may stand in one table with one of some results."""
    protocols = {_protocol(result) for result in results}
    return [other for other in among if _protocol(other) in protocols]


def _protocol(result: Result) -> tuple[Any, ...]:
    return result.suite, result.version, result.preset, result.digits, result.environment.get("device", "?")


def _ordered(suite: str, members: Sequence[Result]) -> list[Result]:
    """By network, then by seed: the suite's own first, in its order, whatever order the results were found in."""
    own = list(getattr(registry.load("suite", suite), "models", ()))
    place = {result.model: own.index(result.model) if result.model in own else len(own) for result in members}
    return sorted(members, key=lambda result: (place[result.model], result.model, result.label, result.seed))


def at_paper_size(results: Sequence[Result]) -> bool:
    """Whether results are of the preset ``paper`` on full MNIST, so that the paper's figures may stand beside them."""
    return all(one.preset.partition(" ")[0] == "paper" and one.digits == "mnist" for one in results)


def tables(results: Sequence[Result]) -> list[Table]:
    """One table for each group of results that can be compared."""
    return [group.table() for group in groups(results)]


def charts(results: Sequence[Result]) -> list[Figure]:
    """The figures of all groups; no two of one name."""
    return [chart for _, members in charts_by_group(results) for chart in members]


def charts_by_group(results: Sequence[Result]) -> list[tuple[Group, list[Figure]]]:
    """Each group of results that can be compared with its figures, no two of one name."""
    made = []
    taken: set[str] = set()
    for group in groups(results):
        figures = []
        for chart in group.charts():
            name, number = chart.name, 1
            while name in taken:  # of another model, seed or device
                number += 1
                name = f"{chart.name}-{number}"
            taken.add(name)
            # A picture travels alone: it says itself what it is of.
            figures.append(replace(chart, name=name, note="\n".join(filter(None, [chart.note, f"{group.title}."]))))
        made.append((group, figures))
    return made


def by_network(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each network, over its seeds, under its label; editions of one user's file apart."""
    editions: dict[str, set[str]] = {}
    for result in results:
        editions.setdefault(result.label, set()).add(result.source)
    groups: dict[str, list[Result]] = {}
    for result in results:
        edition = f" [{result.source[:6]}]" if len(editions[result.label]) > 1 else ""
        groups.setdefault(result.label + edition, []).append(result)
    return groups


def render(results: Sequence[Result], style: str = "simple") -> str:
    """Results as text.

    Args:
        results: What to show.
        style: One of `FORMATS`: tables, the tables' rows alone (csv), or the results themselves (json).

    Raises:
        DataFileError: A result is not one that its suite wrote.
    """
    if style == "json":
        return json.dumps([asdict(result) for result in results], indent=2)
    return render_tables(tables(results), style)


def render_tables(made: Sequence[Table], style: str = "simple") -> str:
    """Tables as text, in one of `FORMATS` but json; a csv has the rows alone."""
    return _csv(made) if style == "csv" else "\n\n".join(_text(table, style) for table in made)


def _text(table: Table, style: str) -> str:
    rows = [[f"{value:,}" if isinstance(value, int) else value for value in row] for row in table.rows]
    first = table.rows[0] if table.rows else []
    alignment = ["left" if isinstance(value, str) and not value[:1].isdigit() else "right" for value in first]
    body = tabulate(rows, table.headers, tablefmt=style, disable_numparse=True, colalign=alignment)
    mark = "% " if style.startswith("latex") else ""  # there, titles and notes are comments
    return "\n".join([mark + table.title, "", body, "", *(mark + note for note in table.notes)])


def _csv(tables: Sequence[Table]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for table in tables:
        writer.writerow(["table", *table.headers])
        writer.writerows([table.title, *row] for row in table.rows)
    return buffer.getvalue().rstrip("\n")


def seeds_of(results: Sequence[Result]) -> list[int]:
    """The seeds that occur, in order."""
    return sorted({result.seed for result in results})


def seeds_note(results: Sequence[Result]) -> str:
    """What a chart says of the seeds: ``Seed 0.`` or ``Means over seeds 0, 1, 2.``."""
    seeds = ", ".join(map(str, seeds_of(results)))
    return f"Means over seeds {seeds}." if "," in seeds else f"Seed {seeds}."


def spread(values: Sequence[float], *, digits: int) -> str:
    """``"98.1"`` for one value, ``"98.1 ± 0.3"`` for several: mean and standard deviation."""
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.{digits}f}" if deviation is None else f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def errors(points: Sequence[Mapping[str, Any]], *, digits: int = 1) -> str:
    """What is missing to 100 percent, as `percent` has it."""
    missing = [
        {"share": 1 - point["share"], "interval": [1 - end for end in reversed(point["interval"])]} for point in points
    ]
    return percent(missing, digits=digits)


def percent(points: Sequence[Mapping[str, Any]], *, digits: int = 1) -> str:
    """Shares in percent: one with its interval, several with their mean and standard deviation over seeds."""
    shares = [100 * point["share"] for point in points]
    if len(points) > 1:
        return spread(shares, digits=digits)
    low, high = points[0]["interval"]
    return f"{shares[0]:.{digits}f} ({100 * low:.{digits}f}..{100 * high:.{digits}f})"
