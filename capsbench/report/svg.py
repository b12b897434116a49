"""Charts as SVG for a page: its styles give colours for light and dark, every network has one, and text is text.

Colour and marker show the network, dashes the condition, so that a chart reads in grey, too. Where there
would be more lines than an eye can follow, there are several panels. Matplotlib, which draws the charts as PNG, writes
style attributes, which the page's policy forbids, and colours that do not follow the page's.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

from capsbench.errors import escaped
from capsbench.report.charts import Chart, Ends, Point, numbered, owner

WIDTH, HEIGHT = 420, 230  # of a panel without its legend, in pixels at its natural size
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 22, 34
LINE = 17  # pixels a line of the legend takes
LINES = 6  # that a panel has at most
LONGEST = 52  # letters of a legend
HUES = 7  # colours that the page's styles define
DASHES = ("", "7 4", "2 4", "9 3 2 3")
MARKED = 30  # points of a line that all get a marker
SMALLEST, LARGEST = 1e-300, 1e300  # of what an axis spans
ROWS, ROW = 12, 38  # rows of a picture, and pixels of each


@dataclass(frozen=True)
class Line:
    """One line of a panel, or the points of one network.

    Attributes:
        network: Gives it its colour and marker.
        label: What the legend says.
        points: Places and values.
        ends: For each point the interval of its value; empty where there are none.
        across: For each point the interval of its place; empty where there are none.
        dash: The number of its condition.
        joined: Whether a line joins the points.
    """

    network: str
    label: str
    points: Sequence[Point]
    ends: Sequence[Ends] = ()
    across: Sequence[Ends] = ()
    dash: int = 0
    joined: bool = True


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What one picture shows.

    Attributes:
        lines: At most `LINES` of them.
        x_label: What runs along.
        y_label: What runs up.
        log: Whether values are logarithmic.
        from_zero: Whether values begin at 0.
        description: What a screen reader says.
        places: Of points at words instead of numbers, all words in order.
        every: The lines of all panels that share these axes.
    """

    lines: Sequence[Line]
    every: Sequence[Line]
    x_label: str
    y_label: str
    log: bool = False
    from_zero: bool = False
    description: str = ""
    places: Sequence[str] = field(default_factory=list)


def panels_of(chart: Chart, networks: Sequence[str]) -> list[Panel]:
    """A chart as panels of few enough lines, those of a network together.

    Args:
        chart: Its series are called after a network, or ``NETWORK, CONDITION``.
        networks: The labels of all networks.
    """
    lines = [_line(chart, label, points, networks) for label, points in chart.series.items()]
    conditions = list(dict.fromkeys(_condition(line) for line in lines))
    lines = [
        Line(one.network, one.label, one.points, one.ends, (), conditions.index(_condition(one)))
        for one in lines
        if any(math.isfinite(y) for _, y in one.points)
    ]
    places = list(dict.fromkeys(x for one in lines for x, _ in one.points if isinstance(x, str)))
    return [
        Panel(
            lines=part,
            every=lines,
            x_label=chart.x_label,
            y_label=chart.y_label,
            log=chart.log,
            from_zero=chart.from_zero,
            description=f"{chart.title}: {', '.join(one.label for one in part)}.",
            places=places,
        )
        for part in in_parts(lines)
    ]


def _line(chart: Chart, label: str, points: Sequence[Point], networks: Sequence[str]) -> Line:
    return Line(owner(label, networks), label, points, chart.intervals.get(label, ()))


def _condition(line: Line) -> str:
    return line.label.removeprefix(line.network)


def in_parts(lines: Sequence[Line]) -> list[list[Line]]:
    """Parts of at most `LINES` lines; the lines of a network stay together where one part can hold them."""
    parts: list[list[Line]] = []
    for network in dict.fromkeys(one.network for one in lines):
        own = [one for one in lines if one.network == network]
        if not parts or len(parts[-1]) + len(own) > LINES:
            parts.append([])
        for one in own:
            if len(parts[-1]) == LINES:
                parts.append([])
            parts[-1].append(one)
    return parts


def drawn(panel: Panel, hues: Mapping[str, int]) -> str:
    """A panel as an SVG element.

    Args:
        panel: What to draw.
        hues: The number of each network on the page.
    """
    sheet = _Sheet(HEIGHT + LINE * len(panel.lines) + 4, panel.description)
    heights = [end for one in panel.every for end in _extent([y for _, y in one.points], one.ends)]
    y = _Scale(heights, HEIGHT - BOTTOM, TOP, log=panel.log, from_zero=panel.from_zero)
    if panel.places:
        x = _Scale([-0.3, len(panel.places) - 0.7], LEFT, WIDTH - RIGHT)
        x.ticks = []
    else:
        across = [end for one in panel.every for end in _extent([float(x) for x, _ in one.points], one.across)]
        x = _Scale(across, LEFT, WIDTH - RIGHT)
    for tick in y.ticks:
        sheet.add("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(tick), y2=y(tick), class_="grid")
        sheet.add("text", _number(tick), x=LEFT - 6, y=y(tick) + 4, text_anchor="end")
    below = HEIGHT - BOTTOM + 16
    for tick in x.ticks:
        sheet.add("text", _number(tick), x=x(tick), y=below, text_anchor="middle")
    for number, word in enumerate(panel.places):
        sheet.add("text", word, x=x(number), y=below, text_anchor="middle")
    sheet.add("line", x1=LEFT, x2=WIDTH - RIGHT, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM, class_="axis")
    sheet.add("text", panel.y_label, x=2, y=11)
    sheet.add("text", panel.x_label, x=WIDTH - RIGHT, y=HEIGHT - 2, text_anchor="end")
    numbers = numbered((line.network for line in panel.every), list(hues))
    for number, line in enumerate(panel.lines):
        places = [panel.places.index(at) if isinstance(at, str) else at for at, _ in line.points]
        _draw(sheet, line, places, (x, y), numbers[line.network])
        _legend(sheet, line, HEIGHT + LINE * number + 10, numbers[line.network])
    return sheet.text()


def _draw(sheet: "_Sheet", line: Line, places: Sequence[float], scales: "tuple[_Scale, _Scale]", number: int) -> None:
    """The intervals of a line, the line and its markers."""
    x, y = scales
    points = [(x(at), y(value), k) for k, (at, (_, value)) in enumerate(zip(places, line.points, strict=True))
              if math.isfinite(value)]  # fmt: skip
    for across, up, k in points:
        for low, high in _ends(line.ends, k):
            sheet.add("line", x1=across, x2=across, y1=y(low), y2=y(high), class_=f"bar {_hue(number)}")
        for low, high in _ends(line.across, k):
            sheet.add("line", x1=x(low), x2=x(high), y1=up, y2=up, class_=f"bar {_hue(number)}")
    if line.joined and len(points) > 1:
        path = " ".join(f"{across:.1f},{up:.1f}" for across, up, _ in points)
        sheet.add("polyline", points=path, class_=f"curve {_hue(number)}", **_dashes(line))
    for across, up, _ in points if len(points) <= MARKED else ():
        sheet.marker(across, up, number)


def _legend(sheet: "_Sheet", line: Line, y: float, number: int) -> None:
    if line.joined:
        sheet.add("line", x1=LEFT, x2=LEFT + 34, y1=y, y2=y, class_=f"curve {_hue(number)}", **_dashes(line))
    sheet.marker(LEFT + 17, y, number)
    sheet.add("text", _cut(line.label), x=LEFT + 42, y=y + 4)


def drawn_rows(points: Sequence[Line], x_label: str, description: str, hues: Mapping[str, int]) -> list[str]:
    """One point of each network with its interval, a row each, as SVG elements that share their axis.

    Args:
        points: Of each network one place, along ``x_label``.
        x_label: What runs along.
        description: What a screen reader says.
        hues: The number of each network on the page.
    """
    ends = [end for one in points for end in _extent([float(x) for x, _ in one.points], one.across)]
    x = _Scale(ends, 8, WIDTH - RIGHT)
    made = []
    for start in range(0, len(points), ROWS):
        part = points[start : start + ROWS]
        bottom = 8 + ROW * len(part)
        sheet = _Sheet(bottom + 38, f"{description}: {', '.join(one.label for one in part)}.")
        for tick in x.ticks:
            sheet.add("line", x1=x(tick), x2=x(tick), y1=4, y2=bottom, class_="grid")
            sheet.add("text", _number(tick), x=x(tick), y=bottom + 16, text_anchor="middle")
        sheet.add("line", x1=8, x2=WIDTH - RIGHT, y1=bottom, y2=bottom, class_="axis")
        sheet.add("text", x_label, x=WIDTH - RIGHT, y=bottom + 34, text_anchor="end")
        for number, one in enumerate(part):
            y, hue = 8 + ROW * number + ROW - 10, hues.get(one.network, 0)
            sheet.add("text", _cut(one.label), x=8, y=y - 9)
            for low, high in _ends(one.across, 0):
                sheet.add("line", x1=x(low), x2=x(high), y1=y, y2=y, class_=f"bar {_hue(hue)}")
            sheet.marker(x(float(one.points[0][0])), y, hue)
        made.append(sheet.text())
    return made


def key(number: int) -> str:
    """The marker of a network beside its name, as an SVG element of 12 x 12 pixels."""
    sheet = _Sheet(12, "")
    sheet.marker(6, 6, number)
    sheet.svg.attrib.update({"viewBox": "0 0 12 12", "class": "key", "aria-hidden": "true"})
    return sheet.text()


class _Sheet:
    """An SVG element that is drawn on."""

    def __init__(self, height: float, description: str) -> None:
        box = {"viewBox": f"0 0 {WIDTH} {height}", "class": "chart"}
        self.svg = ElementTree.Element("svg", box | ({"role": "img"} if description else {}))
        if description:
            ElementTree.SubElement(self.svg, "title").text = escaped(description)

    def add(self, tag: str, text: str = "", **attributes: float | str) -> None:
        """Adds an element; a name that Python keeps for itself ends in an underscore."""
        named = {name.strip("_").replace("_", "-"): _written(value) for name, value in attributes.items()}
        ElementTree.SubElement(self.svg, tag, named).text = escaped(text) if text else None

    def marker(self, x: float, y: float, number: int) -> None:
        """A network's dot, square, triangle or diamond, filled or hollow."""
        shape, style = number % 4, f"dot {_hue(number)}{' hollow' * (number // 4 % 2)}"
        if shape == 0:
            self.add("circle", cx=x, cy=y, r=3.6, class_=style)
            return
        outline = {
            1: [(-3.3, -3.3), (3.3, -3.3), (3.3, 3.3), (-3.3, 3.3)],
            2: [(0, -4.4), (4.2, 3.2), (-4.2, 3.2)],
            3: [(0, -4.8), (4.8, 0), (0, 4.8), (-4.8, 0)],
        }[shape]
        self.add("polygon", points=" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in outline), class_=style)

    def text(self) -> str:
        """The element as text."""
        return ElementTree.tostring(self.svg, encoding="unicode", method="html")


class _Scale:
    """From values to pixels along one axis, with the values at which ticks stand."""

    def __init__(
        self, values: Sequence[float], start: float, end: float, *, log: bool = False, from_zero: bool = False
    ) -> None:
        self._log = log and min(values, default=1) > 0
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        self.ticks = _decades(low, high) if self._log else _steps(min(low, 0) if from_zero else low, high)
        inside = [low, high, *self.ticks]
        self._low, self._high = (self._value(end) for end in (min(inside), max(inside)))
        self._start, self._end = start, end

    def _value(self, value: float) -> float:
        return math.log10(value) if self._log else value

    def __call__(self, value: float) -> float:
        part = (self._value(value) - self._low) / ((self._high - self._low) or 1)
        return self._start + part * (self._end - self._start)


def _steps(low: float, high: float) -> list[float]:
    """Round values around a range, about five of them."""
    span = (high - low) or abs(high) or 1.0
    if not SMALLEST < span < LARGEST:
        raise ValueError(f"values from {low:.3g} to {high:.3g} cannot be drawn")
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * 5 >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten around a range."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    first = max(number for number, tick in enumerate(ticks) if tick <= low * (1 + 1e-9))
    last = min((number for number, tick in enumerate(ticks) if tick >= high * (1 - 1e-9)), default=len(ticks) - 1)
    some = ticks[first : last + 1]
    return some if len(some) <= 8 else [tick for tick in some if f"{tick:.0e}".startswith("1")] or some


def _extent(values: Sequence[float], intervals: Sequence[Ends]) -> Iterator[float]:
    """Every value and every end of an interval that is finite."""
    yield from filter(math.isfinite, values)
    yield from (end for ends in intervals if ends for end in ends if math.isfinite(end))


def _ends(intervals: Sequence[Ends], number: int) -> Iterator[tuple[float, float]]:
    """The interval of a point, if it is known."""
    ends = intervals[number] if number < len(intervals) else None
    if ends and all(map(math.isfinite, ends)):
        yield ends


def _hue(number: int) -> str:
    return f"hue{number % HUES}"


def _dashes(line: Line) -> dict[str, str]:
    dash = DASHES[line.dash % len(DASHES)]
    return {"stroke_dasharray": dash} if dash else {}


def _cut(label: str) -> str:
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"


def _written(value: float | str) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return f"{value:,.10g}" if abs(value) < 1e6 else f"{value:.2g}"
