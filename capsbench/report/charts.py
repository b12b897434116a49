"""Charts: series of points or bars over one axis."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import count, pairwise
from textwrap import fill
from typing import Any

from capsbench.report.figures import COLORS, Figure

Point = tuple[float | str, float]
Ends = tuple[float, float] | None
"""The interval of a point's y; None where it is not known."""

MARKERS, DASHES, HATCHES = "os^DvPX", ("-", "--", ":", "-."), ("", "//", "..", "xx")
TICK_SPACE = 1 / 15  # of the axis
TITLE_WIDTH, NOTE_WIDTH = 70, 140  # characters that the picture has room for
ENTRY, NOTE_LINE = 0.21, 0.145  # inches of an entry of the legend and of a line of the note


@dataclass(frozen=True)
class Look:
    """How a series is drawn. Of up to 49 networks, no two share both colour and marker.

    Attributes:
        color: That of its network.
        marker: The same.
        dash: The number of its condition; of charts without conditions, of further networks of one colour.
        hatch: The same for bars, which have no markers: another number for each bar of one colour.
    """

    color: str
    marker: str
    dash: int
    hatch: int


def looks(labels: Iterable[str], networks: Sequence[str]) -> dict[str, Look]:
    """How each series is drawn, by its label: ``NETWORK`` or ``NETWORK, CONDITION``.

    Args:
        labels: Those of the series. One that begins with no network's name is a network of its own.
        networks: The labels of all networks.
    """
    owners = {label: owner(label, networks) for label in labels}
    numbers = numbered(owners.values(), networks)
    conditions = list(dict.fromkeys(label.removeprefix(network) for label, network in owners.items()))
    found = {}
    for label, network in owners.items():
        turn, hue = divmod(numbers[network], len(COLORS))
        condition = conditions.index(label.removeprefix(network))
        marker = numbers[network] + turn + 3 * (condition // len(DASHES))  # unlike the networks of the next turns
        dash = condition if len(conditions) > 1 else turn
        found[label] = Look(COLORS[hue], MARKERS[marker % len(MARKERS)], dash, hatch=turn * len(conditions) + condition)
    return found


def numbered(owners: Iterable[str], networks: Sequence[str]) -> dict[str, int]:
    """The number of each owner of a series: its place among all networks, or the first that is free."""
    every = list(dict.fromkeys(owners))
    numbers = {network: number for number, network in enumerate(networks) if network in every}
    free = (number for number in count() if number not in numbers.values())
    for one in every:
        if one not in numbers:
            numbers[one] = next(free)
    return numbers


def owner(label: str, networks: Iterable[str]) -> str:
    """The network that a series is of: the longest name that its own begins with; its own where there is none."""
    return max((one for one in networks if label == one or label.startswith(f"{one}, ")), key=len, default=label)


@dataclass(frozen=True, kw_only=True)
class Chart(Figure):
    """Some series over one axis.

    Attributes:
        x_label: What runs along, with its unit.
        y_label: What runs up, with its unit.
        series: The name of each series to its points; where x is text, bars are drawn.
        intervals: Of series that have them, the interval of each point's y, drawn as a bar.
        log: Whether y is logarithmic.
        from_zero: Whether y begins at 0; where it need not, differences between lines fill the chart.
    """

    x_label: str
    y_label: str
    series: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    intervals: Mapping[str, Sequence[Ends]] = field(default_factory=dict)
    log: bool = False
    from_zero: bool = True

    def _drawn(self) -> bytes:
        return _picture(self)

    def _lines(self) -> Iterable[Sequence[Any]]:
        yield ("series", self.x_label, self.y_label, *(("low", "high") if self.intervals else ()))
        for label, points in self.series.items():
            ends = self.intervals.get(label, [None] * len(points) if self.intervals else [])
            for number, point in enumerate(points):
                yield (label, *point, *((ends[number] or ("", "")) if ends else ()))


def _apart(places: Sequence[Any]) -> bool:
    """Whether a label at each place leaves room for the next one."""
    ordered = sorted(places)
    width = (ordered[-1] - ordered[0]) if ordered else 0
    return all(right - left >= width * TICK_SPACE for left, right in pairwise(ordered))


def height_for(least: float, *, entries: int, note: str) -> float:
    """The height of an image in inches: at least so much, and so that its legend ends above the note below it.

    Args:
        least: Inches.
        entries: Of the legend, which lies in the middle of the right side.
        note: The text at the bottom, in lines.
    """
    return max(least, ENTRY * entries + 2 * NOTE_LINE * (note.count("\n") + 2))


def _bars(places: Sequence[Any], points: Sequence[Point], ends: Sequence[Ends]) -> Iterable[tuple[Any, float, float]]:
    """The place of each bar that is known, and its ends."""
    drawn = [end for (_, y), end in zip(points, ends, strict=False) if math.isfinite(y)]
    return ((x, *end) for x, end in zip(places, drawn, strict=False) if end)


def _picture(chart: Chart) -> bytes:
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import LogLocator, NullFormatter

    note = "\n".join(fill(line, NOTE_WIDTH) for line in chart.note.splitlines())
    series = {label: [(x, y) for x, y in points if math.isfinite(y)] for label, points in chart.series.items()}
    height = height_for(4.5, entries=sum(map(bool, series.values())), note=note)
    figure = Canvas(figsize=(9, height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    places = list(dict.fromkeys(x for points in series.values() for x, _ in points))
    bars = any(isinstance(x, str) for x in places)
    drawn_as = looks(series, chart.networks)
    for number, (label, points) in enumerate(series.items()):
        one = drawn_as[label]
        told = label if points else None  # else the legend would name what is not there
        left: list[Any]
        if bars:
            width = 0.8 / len(series)
            left = [places.index(x) + (number - (len(series) - 1) / 2) * width for x, _ in points]
            hatch = HATCHES[one.hatch % len(HATCHES)]
            axes.bar(left, [y for _, y in points], width, label=told, color=one.color, hatch=hatch)
        else:
            left = [x for x, _ in points]
            heights = [y for _, y in points]
            dashes = DASHES[one.dash % len(DASHES)]
            axes.plot(left, heights, dashes, label=told, color=one.color, marker=one.marker)
        for x, low, high in _bars(left, chart.series[label], chart.intervals.get(label, ())):
            axes.plot([x, x], [low, high], color="#555555" if bars else one.color, linewidth=1)
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
    axes.set_title(fill(chart.title, TITLE_WIDTH))
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(axis="y", alpha=0.3)
    if any(series.values()):
        figure.legend(frameon=False, loc="outside right center")
    if note:
        figure.supxlabel(note, fontsize="small")
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
