"""Charts of results: a picture and, beside it, its numbers as CSV."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from capsbench.durability import make_folder, write_atomically

Point = tuple[float | str, float]

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
"""Okabe and Ito's (2008): told apart by every kind of colour vision."""
MARKERS = "os^DvPX"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Some series over one axis.

    Attributes:
        name: What its files are called.
        title: A line above it.
        x_label: What runs along, with its unit.
        y_label: What runs up, with its unit.
        series: The name of each series to its points; where x is text, bars are drawn.
        log: Whether y is logarithmic.
        note: A line below it.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    log: bool = False
    note: str = ""


def save_chart(chart: Chart, folder: Path) -> list[Path]:
    """Draws a chart and writes its numbers.

    Args:
        chart: What to draw.
        folder: Where ``NAME.png`` and ``NAME.csv`` go; what a file's name cannot bear becomes a dash.

    Raises:
        StorageError: They cannot be written.
    """
    make_folder(folder)
    stem = re.sub(r"[^\w.-]", "-", chart.name)  # it may be made of what a result from elsewhere says
    paths = [folder / f"{stem}.png", folder / f"{stem}.csv"]
    write_atomically(paths[0], _drawn(chart))
    write_atomically(paths[1], _numbers(chart))
    return paths


def _drawn(chart: Chart) -> bytes:
    import matplotlib  # takes half a second

    with matplotlib.rc_context({"text.parse_math": False}):  # a dollar sign in a model's name begins no formula
        return _picture(chart)


def _picture(chart: Chart) -> bytes:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(9, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    series = {label: [(x, y) for x, y in points if math.isfinite(y)] for label, points in chart.series.items()}
    places = list(dict.fromkeys(x for points in series.values() for x, _ in points))
    bars = any(isinstance(x, str) for x in places)
    for number, (label, points) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        if bars:
            width = 0.8 / len(series)
            left = [places.index(x) + (number - (len(series) - 1) / 2) * width for x, _ in points]
            axes.bar(left, [y for _, y in points], width, label=label, color=color)
        else:
            axes.plot(*zip(*points, strict=True), label=label, color=color, marker=MARKERS[number % len(MARKERS)])
    if bars:
        axes.set_xticks(range(len(places)), [str(place) for place in places])
    elif len(places) <= 12:
        axes.set_xticks(sorted(places))
    if chart.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))  # powers of ten may leave none
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    axes.set_title(chart.title)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(axis="y", alpha=0.3)
    if series:
        figure.legend(frameon=False, loc="outside right center")
    if chart.note:
        figure.supxlabel(chart.note, fontsize="small")
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _numbers(chart: Chart) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["series", chart.x_label, chart.y_label])
    rows: list[list[Any]] = [[label, x, y] for label, points in chart.series.items() for x, y in points]
    writer.writerows(rows)
    return buffer.getvalue().encode()
