"""From results to tables."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tabulate import tabulate

from capsbench import registry
from capsbench.charts import Chart
from capsbench.errors import DataFileError
from capsbench.results import Result
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


def tables(results: Sequence[Result]) -> list[Table]:
    """One table for each group of results that can be compared."""
    made = []
    for suite, members in _groups(results):
        table: Table = _told(suite, members, registry.load("suite", suite)().table)
        first = members[0]
        seeds = ", ".join(map(str, seeds_of(members)))
        device = str(first.environment.get("device", "?"))
        parts = [suite, f"preset {first.preset}", SOURCES.get(first.digits, first.digits), device, f"seeds {seeds}"]
        made.append(replace(table, title=", ".join(part for part in parts if part)))
    return made


def charts(results: Sequence[Result]) -> list[Chart]:
    """The charts of each group of results that can be compared, of the suites that have some; no two of one name."""
    made: dict[str, Chart] = {}
    for suite, members in _groups(results):
        draw = getattr(registry.load("suite", suite)(), "charts", None)
        for chart in _told(suite, members, draw) if draw else []:
            name, number = chart.name, 1
            while name in made:  # of another model, seed or device
                number += 1
                name = f"{chart.name}-{number}"
            made[name] = replace(chart, name=name)
    return list(made.values())


def _groups(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """Results by suite, preset, source of digits and device, so that no table mixes what cannot be compared."""
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        key = (result.suite, result.version, result.preset, result.digits, result.environment.get("device", "?"))
        groups.setdefault(key, []).append(result)
    return [(key[0], members) for key, members in groups.items()]


def _told(suite: str, members: Sequence[Result], tell: Callable[[Sequence[Result]], Any]) -> Any:
    try:
        return tell(members)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise DataFileError(f"A result of suite {suite!r} is not one that it wrote: {error!r}.") from None


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
    made = tables(results)
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


def spread(values: Sequence[float], *, digits: int) -> str:
    """``"98.1"`` for one value, ``"98.1 ± 0.3"`` for several: mean and standard deviation."""
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.{digits}f}" if deviation is None else f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def percent(points: Sequence[Mapping[str, Any]]) -> str:
    """Shares in percent: one with its interval, several with their mean and standard deviation over seeds."""
    shares = [100 * point["share"] for point in points]
    if len(points) > 1:
        return spread(shares, digits=1)
    low, high = points[0]["interval"]
    return f"{shares[0]:.1f} ({100 * low:.1f}..{100 * high:.1f})"
