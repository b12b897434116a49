"""Charts: the numbers beside a picture by hand, and what a picture shows by its pixels."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from capsbench.errors import StorageError
from capsbench.report.charts import Chart, _apart, looks
from capsbench.report.figures import COLORS
from capsbench.report.groups import figures_by_group
from capsbench.report.pictures import Picture, Tile
from capsbench.results.result import load_results
from capsbench.suites.affine_field import FieldChart


def chart(**changes: Any) -> Chart:
    stated: dict[str, Any] = {"name": "some", "title": "Some", "x_label": "along", "y_label": "up"}
    return Chart(**(stated | changes))


def pixels(path: Path) -> Any:
    """``[H, W, 3]`` 0..255."""
    return np.rint(255 * matplotlib.image.imread(path)[..., :3]).astype(int)


def painted(image: Any, number: int) -> Any:
    """``[H, W]``, where the colour of a series is, left of the legend."""
    color = [int(COLORS[number][k : k + 2], 16) for k in (1, 3, 5)]
    found = (abs(image - color) <= 2).all(-1)
    found[:, int(0.85 * found.shape[1]) :] = False
    return found


def height(image: Any, number: int) -> float:
    """Of the middle of what a series shows, in pixels above the axis."""
    dark = (image < 60).all(-1).mean(1) > 0.5  # the frame's two lines
    return float(np.flatnonzero(dark).max() - np.flatnonzero(painted(image, number).any(1)).mean())


@pytest.mark.usefixtures("undrawn")
def test_the_numbers_are_a_table_of_their_own(tmp_path: Path) -> None:
    series = {"a, b": [(1, 0.5), (3, 2.25)], "c": [(1, 4)]}
    paths = chart(x_label="iterations", y_label="time, ms", series=series).save(tmp_path / "new" / "folder")
    assert paths == [tmp_path / "new" / "folder" / name for name in ("some.png", "some.csv")]
    assert paths[1].read_bytes() == b'series,iterations,"time, ms"\n"a, b",1,0.5\n"a, b",3,2.25\nc,1,4\n'


def test_a_picture_has_each_series_in_a_colour_of_its_own(tmp_path: Path) -> None:
    path, _ = chart(series={"one": [(1, 1), (2, 2)], "two": [(1, 3), (2, 3)]}).save(tmp_path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") and 5_000 < path.stat().st_size < 500_000
    image = pixels(path)
    assert image.shape == (675, 1350, 3)
    found = [painted(image, number).sum() for number in range(len(COLORS) - 1)]
    assert min(found[:2]) > 500 and max(found[2:]) == 0


@pytest.mark.parametrize(("from_zero", "low"), [(True, True), (False, False)])
def test_where_y_need_not_begin_at_zero_differences_fill_the_chart(tmp_path: Path, from_zero: bool, low: bool) -> None:
    series = {"one": [(1, 90), (2, 90)], "two": [(1, 92), (2, 92)]}
    image = pixels(chart(series=series, from_zero=from_zero).save(tmp_path)[0])
    apart = height(image, 1) - height(image, 0)
    assert (apart < 30) is low  # of some 500 pixels


def test_more_series_than_colours_differ_all_the_same(tmp_path: Path) -> None:
    every = looks(map(str, range(49)), ()).values()
    assert len({(one.color, one.marker) for one in every}) == 49
    series: dict[str, Any] = {str(number): [(1, number), (2, number)] for number in range(10)}
    image = pixels(chart(series=series).save(tmp_path)[0])
    assert all(painted(image, number).any() for number in range(len(COLORS) - 1))
    before: dict[str, Any] = {str(number): [] for number in range(len(COLORS))}
    one: dict[str, Any] = {"one": [(1, 1), (2, 2)]}
    solid, dashed = (
        painted(pixels(chart(series=every).save(tmp_path)[0]), 0) for every in (one | before, before | one)
    )
    assert solid.sum() > 1.2 * dashed.sum() > 0
    bar: dict[str, Any] = {"one": [("a", 1)]}
    plain, hatched = (
        painted(pixels(chart(series=every).save(tmp_path)[0]), 0) for every in (bar | before, before | bar)
    )
    filled = [found.sum() / (found.any(0).sum() * found.any(1).sum()) for found in (plain, hatched)]
    assert filled[0] == 1 and 0.5 < filled[1] < 0.9  # of the bar; the rest is hatched in black


def test_a_network_has_one_colour_in_all_charts_whatever_their_order(tmp_path: Path) -> None:
    networks = ["net", "net (wide=True)", "other"]
    found = looks(["other, far", "net (wide=True), near", "other, near", "of nobody"], networks)
    assert [one.color for one in found.values()] == [COLORS[2], COLORS[1], COLORS[2], COLORS[0]]
    assert [one.marker for one in found.values()] == ["^", "s", "^", "o"]
    assert [(one.dash, one.hatch) for one in found.values()] == [(0, 0), (1, 1), (1, 1), (2, 2)]
    longest = looks(["net, wide, far", "net"], ["net", "net, wide"])["net, wide, far"]
    assert longest.color == COLORS[1]
    of_no_network = looks(["near", "far"], networks).values()
    assert [one.color for one in of_no_network] == [COLORS[0], COLORS[1]]
    image = pixels(chart(series={"other": [(1, 1), (2, 2)]}, networks=networks).save(tmp_path)[0])
    assert painted(image, 2).any() and not painted(image, 0).any()


def test_conditions_differ_in_the_same_way_whatever_the_network(tmp_path: Path) -> None:
    networks = [str(number) for number in range(9)]
    every = looks([f"{one}, {condition}" for one in networks for condition in "abcde"], networks)
    assert {every[f"{one}, b"].dash for one in networks} == {1}
    assert len({(one.color, one.marker, one.dash % 4) for one in every.values()}) == len(every)
    bars = looks([f"{one}, {condition}" for one in ("0", "7") for condition in "ab"], networks)
    assert len({(one.color, one.hatch % 4) for one in bars.values()}) == 4


def test_a_series_without_points_is_not_in_the_legend(recwarn: pytest.WarningsRecorder) -> None:
    some: dict[str, Any] = {"one": [(1, 1), (2, 2)]}
    empty: dict[str, Any] = {str(number): [] for number in range(30)}
    assert chart(series=some | empty).png() == chart(series=some).png()
    assert chart(series=empty).png() and not recwarn.list


def test_all_charts_of_a_protocol_give_a_network_one_colour() -> None:
    results = load_results(Path(__file__).parents[2] / "results" / "affine" / "small")
    drawn = [figure for _, figures in figures_by_group(results) for figure in figures]
    assert len({tuple(one.networks) for one in drawn}) == 1 and len(drawn[0].networks) > 3
    field = drawn[0]
    assert isinstance(field, FieldChart) and list(field.series) != list(field.networks)
    network = field.networks[1]
    assert list(field.series).index(network) != 1
    for one in (replace(field, series={network: field.series[network]}, stars={}), drawn[1]):
        shown = matplotlib.image.imread(BytesIO(one.png()))[..., :3]
        assert painted(np.rint(255 * shown).astype(int), 1).any()


def test_heights_start_at_zero(tmp_path: Path) -> None:
    image = pixels(chart(series={"low": [(1, 100)], "high": [(1, 200)]}).save(tmp_path)[0])
    assert height(image, 1) / height(image, 0) == pytest.approx(2, rel=0.03)


def test_a_logarithmic_chart_shows_ratios(tmp_path: Path) -> None:
    series = {"one": [(1, 1)], "ten": [(1, 10)], "hundred": [(1, 100)]}
    image = pixels(chart(series=series, log=True).save(tmp_path)[0])
    low, middle, high = (height(image, number) for number in range(3))
    assert high - middle == pytest.approx(middle - low, rel=0.03) and middle - low > 100


def test_a_logarithmic_axis_has_numbers_within_a_decade(tmp_path: Path) -> None:
    narrow, wide = ({"one": [(1, 0.57), (2, high)]} for high in (1.6, 160))
    shown = []
    for series in (narrow, wide):
        image = pixels(chart(series=series, log=True, y_label="").save(tmp_path)[0])
        left = int(np.flatnonzero((image < 60).all(-1).mean(0) > 0.5).min())  # the frame
        dark = (image[:, : left - 15] < 120).all(-1).any(1)
        shown.append(int((np.diff(dark.astype(int)) == 1).sum()))
    assert min(shown) >= 3, shown


def test_text_along_the_axis_makes_bars(tmp_path: Path) -> None:
    series: dict[str, list[tuple[float | str, float]]] = {
        "ours": [("mnist", 2), ("affine", 4)],
        "paper": [("affine", 2)],
    }
    path, numbers = chart(series=series).save(tmp_path)
    image = pixels(path)
    ours, paper = (painted(image, number) for number in range(2))
    assert ours.sum() / paper.sum() == pytest.approx(3, rel=0.05)  # areas of equal width: 2 + 4 against 2
    assert np.flatnonzero(ours.any(0)).min() < np.flatnonzero(paper.any(0)).min()
    assert numbers.read_text().splitlines()[1:] == ["ours,mnist,2", "ours,affine,4", "paper,affine,2"]


def test_intervals_are_drawn_and_told(tmp_path: Path) -> None:
    series: dict[str, list[tuple[float | str, float]]] = {"one": [(1, 5), (2, 5), (3, 5), (5, 5)], "two": [(1, 0)]}
    intervals = {"one": [(1.0, 9.0), None, (3.0, 7.0), None]}
    path, numbers = chart(series=series, intervals=intervals).save(tmp_path)
    assert numbers.read_text().splitlines() == [
        "series,along,up,low,high", "one,1,5,1.0,9.0", "one,2,5,,", "one,3,5,3.0,7.0", "one,5,5,,", "two,1,0,,",
    ]  # fmt: skip
    lines = painted(pixels(path), 0)
    tall = lines.sum(0)  # of each column
    columns = np.flatnonzero(lines.any(0))
    third = columns.min() + (columns.max() - columns.min()) // 4
    assert tall[:third].max() / tall[third:].max() == pytest.approx(2, rel=0.1)  # 8 and 4 high


def test_bars_have_intervals_too(tmp_path: Path) -> None:
    series: dict[str, list[tuple[float | str, float]]] = {"ours": [("mnist", 2), ("affine", 4)]}
    shown = chart(series=series, intervals={"ours": [(1.0, 3.0), (3.0, 5.0)]}).save(tmp_path)[0]
    grey = (abs(pixels(shown) - 0x55) <= 2).all(-1)
    assert (grey.sum(0) > 80).sum() >= 2  # a line over each bar


def test_a_note_stands_below(tmp_path: Path) -> None:
    series = {"one": [(1, 1), (2, 2)]}
    bottoms = []
    for note in ("", "A machine, 1 thread"):
        image = pixels(chart(series=series, note=note).save(tmp_path)[0])
        bottoms.append(np.flatnonzero((image < 60).all(-1).mean(1) > 0.5).max())
    assert bottoms[1] < bottoms[0]


@pytest.mark.parametrize(("series", "lines"), [(2, 1), (16, 5), (20, 2), (20, 9), (30, 1)])
def test_a_long_legend_ends_above_the_note(series: int, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    save = Figure.savefig

    def kept(figure: Figure, *args: Any, **given: Any) -> None:
        figures.append(figure)
        save(figure, *args, **given)

    monkeypatch.setattr(Figure, "savefig", kept)
    points = {f"network {number}": [(0.0, 1.0), (1.0, 2.0)] for number in range(series)}
    chart(series=points, note="\n".join(["What it shows."] * lines)).png()
    (figure,) = figures
    legend, note = figure.legends[0].get_window_extent(), figure._supxlabel.get_window_extent()
    assert legend.y0 > note.y1 and legend.y1 < figure.bbox.y1
    assert figure.get_figheight() == 4.5 or series > 2


def test_a_chart_without_series_has_no_legend_to_complain_of(tmp_path: Path) -> None:
    path, numbers = chart().save(tmp_path)
    assert path.exists() and numbers.read_text() == "series,along,up\n"


def test_a_dollar_sign_begins_no_formula(tmp_path: Path) -> None:
    series = {"$a_$": [(1, 1), (2, 2)]}
    chart(title="mine$_.py:Net$", note="$^$", series=series).save(tmp_path)
    plain = matplotlib.rcParams["text.parse_math"]
    assert plain is True  # ours alone


@pytest.mark.parametrize("odd", ["a\ud800", "net\udcff.py:Net", "\x1b[2J\x00", "\u202eright to left"])
def test_text_that_no_font_has_is_drawn_all_the_same(tmp_path: Path, odd: str) -> None:
    bars = {odd: [(odd, 1.0), ("plain", 2.0)]}
    picture = Picture(
        name=odd, title=odd, note=odd, rows=[[Tile(np.zeros((4, 4), np.uint8), caption=odd)]], row_titles=[odd]
    )
    for one in (chart(title=odd, note=odd, series=bars), chart(series={odd: [(1.0, 1.0)]}), picture):
        png, csv = one.save(tmp_path)
        assert png.stat().st_size > 1000
        csv.read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_a_name_from_elsewhere_stays_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "charts"
    paths = chart(name="../../out of/here").save(folder)
    assert [path.name for path in paths] == ["..-..-out-of-here.png", "..-..-out-of-here.csv"]
    assert sorted(tmp_path.rglob("*.*")) == sorted(paths)


def test_a_file_is_written_over_by_what_a_page_gets_which_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    series = {"one": [(1, 1), (2, 2)]}
    for name in ("some.png", "some.csv"):
        (tmp_path / name).write_text("an older and longer file" * 10_000)
    for_a_page, saved = chart(series=series), chart(series=series).save(tmp_path)
    assert [path.read_bytes() for path in saved] == [for_a_page.png(), for_a_page.csv()]


def test_a_file_in_the_folders_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a file stands there"):
        chart().save(tmp_path / "file")


@pytest.mark.parametrize(
    ("places", "apart"),
    [
        ([1, 2, 3], True),
        ([-60, -20, -2.5, 0, 20], False),
        ([14, 16, 18, 20, 22, 24, 26, 28], True),
        ([5], True),
        ([], True),
    ],
)
def test_each_place_has_a_label_where_there_is_room(places: list[float], apart: bool) -> None:
    assert _apart(places) is apart
