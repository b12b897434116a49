"""Figures of results: each an image and, beside it, what it shows as CSV; here the charts."""

import csv
import io
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

from capsbench.system.disk import make_folder, write_atomically

Point = tuple[float | str, float]

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
"""Okabe and Ito's (2008): told apart by every kind of colour vision."""
MARKERS = "os^DvPX"
TICK_SPACE = 1 / 15  # of the axis


@dataclass(frozen=True, kw_only=True)
class Figure(ABC):
    """What a suite shows beside its table.

    Attributes:
        name: What its files are called.
        title: A line above it.
        note: What stands below it.
    """

    name: str
    title: str
    note: str = ""

    @property
    def stem(self) -> str:
        """What its files are called, without their endings."""
        return re.sub(r"[^\w.-]", "-", self.name)  # it may be made of what a result from elsewhere says

    def save(self, folder: Path) -> list[Path]:
        """Writes ``NAME.png`` and ``NAME.csv``, each whole or not at all.

        Args:
            folder: Where they go; what a file's name cannot bear becomes a dash.

        Raises:
            StorageError: They cannot be written.
        """
        make_folder(folder)
        paths = [folder / f"{self.stem}.png", folder / f"{self.stem}.csv"]
        write_atomically(paths[0], self.png())
        write_atomically(paths[1], self.csv())
        return paths

    def png(self) -> bytes:
        """The image."""
        import matplotlib  # takes half a second

        with matplotlib.rc_context({"text.parse_math": False}):  # a dollar sign in a model's name begins no formula
            return self._drawn()

    def csv(self) -> bytes:
        """What the image shows, in lines of UTF-8 below a line of titles."""
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(self._lines())
        return buffer.getvalue().encode()

    @abstractmethod
    def _drawn(self) -> bytes:
        """The image, as PNG."""

    @abstractmethod
    def _lines(self) -> Iterable[Sequence[Any]]:
        """The titles of the columns, then a line for each thing that is shown."""


@dataclass(frozen=True, kw_only=True)
class Chart(Figure):
    """Some series over one axis.

    Attributes:
        x_label: What runs along, with its unit.
        y_label: What runs up, with its unit.
        series: The name of each series to its points; where x is text, bars are drawn.
        log: Whether y is logarithmic.
        from_zero: Whether y begins at 0; where it need not, differences between lines fill the chart.
    """

    x_label: str
    y_label: str
    series: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    log: bool = False
    from_zero: bool = True

    def _drawn(self) -> bytes:
        return _picture(self)

    def _lines(self) -> Iterable[Sequence[Any]]:
        yield "series", self.x_label, self.y_label
        for label, points in self.series.items():
            yield from ((label, x, y) for x, y in points)


def _apart(places: Sequence[Any]) -> bool:
    """Whether a label at each place leaves room for the next one."""
    ordered = sorted(places)
    width = (ordered[-1] - ordered[0]) if ordered else 0
    return all(right - left >= width * TICK_SPACE for left, right in pairwise(ordered))


def _picture(chart: Chart) -> bytes:
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Canvas(figsize=(9, 4.5), dpi=150, layout="constrained")
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
    elif _apart(places):
        axes.set_xticks(sorted(places))
    if chart.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))  # powers of ten may leave none
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif chart.from_zero or bars:
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
