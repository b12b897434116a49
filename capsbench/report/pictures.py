"""Pictures: small images in rows and columns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np

from capsbench.contracts import UInt8Array
from capsbench.report.figures import COLORS, Figure

DPI = 150
TILE = 84  # least pixels of a tile's side: 28 three times over
GAP = 16  # pixels between tiles
EDGE = 24  # pixels around everything
LINE = 22  # pixels a line of text takes
FRAME = 5  # pixels a frame reaches beyond its tile
LONGEST_TEXT = 60  # characters of a caption or a title of a row or column
LARGEST = 64  # rows, and columns, of a picture
NARROWEST = 900  # pixels, so that there is room for a title
HUES = np.array([[int(COLORS[number][k : k + 2], 16) for k in (1, 3, 5)] for number in (1, 4)])
"""Of the two digits of a pair: orange and sky blue; where both are full, nearly white."""
SIGNS = {"": "", "right": "✓", "wrong": "✗"}
FRAMES = {"right": (COLORS[0], "solid"), "wrong": (COLORS[5], "dashed")}
"""Colour and line of a marked tile's frame; the line alone tells them apart, too."""


@dataclass(frozen=True)
class Tile:
    """One small image.

    Attributes:
        image: ``[h, w]`` grey or ``[h, w, 3]`` RGB, uint8.
        caption: What stands above it, in one line or several.
        mark: ``""``, ``"right"`` or ``"wrong"``: a frame and a sign before the caption.
        facts: What else is known of it, for the CSV.
    """

    image: UInt8Array
    caption: str = ""
    mark: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.image.shape
        if self.image.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) or 0 in shape:
            raise ValueError(f"a tile of {self.image.dtype} {list(shape)} is no image of uint8 [h, w] or [h, w, 3]")
        if self.mark not in SIGNS:
            raise ValueError(f"a tile cannot be marked {self.mark!r}")

    @property
    def heading(self) -> list[str]:
        """The lines above the tile."""
        return _lines_of(f"{SIGNS[self.mark]} {self.caption}".strip())


@dataclass(frozen=True, kw_only=True)
class Picture(Figure):
    """Tiles of one size in rows and columns.

    Attributes:
        rows: The tiles, row by row, equally many in each; None leaves a place empty.
        row_titles: What stands left of each row; none where it is empty.
        column_titles: What stands above each column; none where it is empty.
    """

    rows: Sequence[Sequence[Tile | None]]
    row_titles: Sequence[str] = ()
    column_titles: Sequence[str] = ()

    def __post_init__(self) -> None:
        columns = {len(row) for row in self.rows}
        if len(columns) > 1 or max([len(self.rows), *columns]) > LARGEST:
            raise ValueError(f"a picture has up to {LARGEST} rows of up to {LARGEST} tiles, equally many in each")
        if len({tile.image.shape[:2] for tile in self.tiles()}) > 1:
            raise ValueError("the tiles of a picture are of one size")
        if self.row_titles and len(self.row_titles) != len(self.rows):
            raise ValueError(f"{len(self.row_titles)} titles for {len(self.rows)} rows")
        if self.column_titles and {len(self.column_titles)} != columns:
            raise ValueError(f"{len(self.column_titles)} titles for columns of which there are {columns}")

    def tiles(self) -> Iterable[Tile]:
        """Every tile, row by row."""
        return (tile for row in self.rows for tile in row if tile)

    def _drawn(self) -> bytes:
        return _Sheet(self).png()

    def _lines(self) -> Iterable[Sequence[Any]]:
        """A line a tile; its pixels are hexadecimal, row by row, two digits a pixel or six."""
        facts = list(dict.fromkeys(fact for tile in self.tiles() for fact in tile.facts))
        yield ["row", "column", "caption", "mark", *facts, "height", "width", "channels", "pixels"]
        for r, row in enumerate(self.rows):
            for c, tile in enumerate(row):
                if tile:
                    place = [_title(self.row_titles, r), _title(self.column_titles, c)]
                    height, width, *channels = tile.image.shape
                    known = [tile.facts.get(fact, "") for fact in facts]
                    size = [height, width, *(channels or [1])]
                    yield [*place, tile.caption, tile.mark, *known, *size, tile.image.tobytes().hex()]


def _title(titles: Sequence[str], number: int) -> str | int:
    return titles[number] if titles else number


def _lines_of(text: str) -> list[str]:
    """The lines of a text, each as far as there is room for it."""
    return [line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…" for line in text.splitlines()]


class _Sheet:
    """A picture as it is drawn: places in pixels from the upper left, so that each pixel of a tile is a square.

    Args:
        picture: What to draw.
    """

    def __init__(self, picture: Picture) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Canvas
        from matplotlib.font_manager import FontProperties

        self._picture = picture
        self._font = FontProperties(size=8)
        self._bold = FontProperties(size=10)
        self._canvas = FigureCanvasAgg(Canvas(dpi=DPI))
        self._renderer = self._canvas.get_renderer()  # type: ignore[no-untyped-call]
        height, width = next((tile.image.shape[:2] for tile in picture.tiles()), (1, 1))
        self._scale = -(-TILE // max(height, width))
        self._tile = (height * self._scale, width * self._scale)
        self._placed: list[tuple[int, int, UInt8Array]] = []  # left, top and image of each tile

    def png(self) -> bytes:
        """The image."""
        picture = self._picture
        row_titles = [_lines_of(title) for title in picture.row_titles] or [[] for _ in picture.rows]
        column_titles = [_lines_of(title) for title in picture.column_titles]
        left = EDGE + max([self._width(lines) + GAP for lines in row_titles if lines], default=0)
        widths = list(self._widths(column_titles))
        total = max(NARROWEST, left + sum(widths) + GAP * max(len(widths) - 1, 0) + EDGE)
        title, note = (self._wrapped(text, total - 2 * EDGE, font) for text, font in self._around())
        top = EDGE + self._high(title) + GAP * bool(title) + self._high(*column_titles)
        above = [self._high(*(tile.heading for tile in row if tile)) + FRAME for row in picture.rows]
        bottom = top + sum(above) + len(above) * (self._tile[0] + FRAME)
        axes = self._axes(total, bottom + GAP + self._high(note) + EDGE)
        self._write(axes, title, EDGE, EDGE, self._bold)
        self._write(axes, note, EDGE, bottom + GAP)
        lefts = [left + sum(widths[:c]) + GAP * c for c in range(len(widths))]
        for lines, x, width in zip(column_titles, lefts, widths, strict=False):
            self._write(axes, lines, x + width / 2, top - self._high(lines), align="center")
        y = top
        for row, lines, room in zip(picture.rows, row_titles, above, strict=True):
            y += room
            middle = y + (self._tile[0] - self._high(lines)) / 2
            self._write(axes, lines, left - GAP, middle, align="right")
            for tile, x, width in zip(row, lefts, widths, strict=True):
                if tile:
                    self._place(axes, tile, x + (width - self._tile[1]) // 2, y)
            y += self._tile[0] + FRAME
        return self._encoded()

    def _encoded(self) -> bytes:
        """What is drawn, and the tiles: matplotlib would scale each of hundreds on its own, for seconds."""
        from matplotlib.image import imsave

        self._canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.array(self._canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        for x, y, image in self._placed:
            squares = image.repeat(self._scale, 0).repeat(self._scale, 1)
            pixels[y : y + len(squares), x : x + squares.shape[1], :3] = squares
        buffer = BytesIO()
        imsave(buffer, pixels, format="png", dpi=DPI)
        return buffer.getvalue()

    def _around(self) -> Iterable[tuple[str, Any]]:
        """What stands above and below all tiles; below also what the signs mean."""
        marks = {tile.mark for tile in self._picture.tiles()}
        legend = ", ".join(f"{sign} {mark}" for mark, sign in SIGNS.items() if mark and mark in marks)
        yield self._picture.title, self._bold
        yield "\n".join(filter(None, [legend, self._picture.note])), self._font

    def _widths(self, column_titles: Sequence[list[str]]) -> Iterable[int]:
        """Pixels of each column: of its tiles, or of the widest text in it; one without tiles is a wider gap."""
        for c, column in enumerate(zip(*self._picture.rows, strict=True)):
            texts = [*column_titles[c : c + 1], *(tile.heading for tile in column if tile)]
            yield max([self._tile[1] if any(column) else GAP, *(self._width(lines) for lines in texts)])

    def _width(self, lines: Sequence[str], font: Any = None) -> int:
        """Pixels of the widest line."""
        sizes = [self._renderer.get_text_width_height_descent(line, font or self._font, False) for line in lines]
        return int(max([np.ceil(width) for width, _, _ in sizes], default=0))

    def _high(self, *texts: Sequence[str]) -> int:
        """Pixels of the text of most lines."""
        return LINE * max([len(lines) for lines in texts], default=0)

    def _wrapped(self, text: str, room: int, font: Any) -> list[str]:
        """A text in lines that are no wider than there is room, but for words that are."""
        lines = []
        for paragraph in text.splitlines():
            line = ""
            for word in paragraph.split():
                longer = f"{line} {word}".strip()
                if line and self._width([longer], font) > room:
                    lines.append(line)
                    longer = word
                line = longer
            lines.append(line)
        return lines

    def _axes(self, width: int, height: int) -> Any:
        """The whole canvas, a unit a pixel."""
        figure = self._canvas.figure
        figure.set_size_inches(width / DPI, height / DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.set_autoscale_on(False)
        return axes

    def _write(
        self, axes: Any, lines: Sequence[str], x: float, y: float, font: Any = None, align: str = "left"
    ) -> None:
        for number, line in enumerate(lines):
            middle = y + (number + 0.5) * LINE
            axes.text(x, middle, line, fontproperties=font or self._font, ha=align, va="center_baseline")

    def _place(self, axes: Any, tile: Tile, x: int, y: int) -> None:
        from matplotlib.patches import Rectangle

        height, width = self._tile
        self._placed.append((x, y, tile.image if tile.image.ndim == 3 else tile.image[..., None]))
        lines = tile.heading
        self._write(axes, lines, x + width / 2, y - FRAME - LINE * len(lines), align="center")
        if tile.mark:
            color, style = FRAMES[tile.mark]
            corner, thick = (x - FRAME / 2, y - FRAME / 2), 72 / DPI * FRAME  # in points
            frame = Rectangle(corner, width + FRAME, height + FRAME, fill=False, edgecolor=color)
            frame.set(linewidth=thick, linestyle=style, snap=False)
            axes.add_patch(frame)


def overlaid(drawn: UInt8Array) -> UInt8Array:
    """Two reconstructions ``[2, H, W]`` in one image ``[H, W, 3]``: the first orange, the second blue, added."""
    light = np.einsum("khw,kc->hwc", drawn / 255, HUES)
    shown: UInt8Array = np.rint(np.minimum(light, 255)).astype(np.uint8)
    return shown


def shared_out(image: UInt8Array, drawn: UInt8Array) -> UInt8Array:
    """An image ``[H, W]`` with each pixel in the colours of the reconstructions ``[2, H, W]`` that claim it.

    The larger one does, and the other where it is at least half of it: the sets ``S_k`` of
    `capsbench.evaluation.segmentation`, but of all pixels that are not black.
    """
    claims = 2 * drawn.astype(np.int64) >= drawn.max(0)
    hues = overlaid(np.where(claims, 255, 0).astype(np.uint8))
    shown: UInt8Array = np.rint(hues * (image / 255)[..., None]).astype(np.uint8)
    return shown
