"""Pictures: their lines by hand, and what they show pixel by pixel."""

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from capsbench.report.figures import COLORS
from capsbench.report.pictures import LARGEST, TILE, Picture, Tile, overlaid, shared_out

BLUE, VERMILION = ([int(color[k : k + 2], 16) for k in (1, 3, 5)] for color in (COLORS[0], COLORS[5]))
TEAL, PINK = (1, 180, 130), (250, 20, 140)  # in nothing else that is drawn


def plain(color: tuple[int, int, int], side: int = 28) -> Any:
    return np.broadcast_to(np.array(color, np.uint8), (side, side, 3)).copy()


def picture(*rows: Any, **changes: Any) -> Picture:
    return Picture(**({"name": "some", "title": "Some", "rows": rows} | changes))


def pixels(path: Path) -> Any:
    """``[H, W, 3]`` 0..255."""
    return np.rint(255 * matplotlib.image.imread(path)[..., :3]).astype(int)


def box(image: Any, color: Any) -> tuple[int, int, int, int]:
    """First and last row, first and last column of a colour."""
    found = (abs(image - np.array(color)) <= 2).all(-1)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    return rows[0], rows[-1], columns[0], columns[-1]


def drawn(shown: Picture, folder: Path) -> Any:
    return pixels(shown.save(folder)[0])


def test_each_tile_has_a_line_with_its_facts_and_its_pixels(tmp_path: Path) -> None:
    grey = Tile(np.array([[0, 255], [16, 1]], np.uint8), "a, b", "right", {"label": 3, "psnr": 20.5})
    colored = Tile(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), facts={"drawn": "7"})
    shown = picture([grey, None], [None, colored], row_titles=["up", "down"], column_titles=["left", "right"])
    png, lines = shown.save(tmp_path)
    assert [png.name, lines.name] == ["some.png", "some.csv"]
    assert lines.read_text().splitlines() == [
        "row,column,caption,mark,label,psnr,drawn,height,width,channels,pixels",
        'up,left,"a, b",right,3,20.5,,2,2,1,00ff1001',
        "down,right,,,,,7,2,2,3,000102030405060708090a0b",
    ]
    untitled = picture([None, colored]).csv().decode().splitlines()
    assert untitled[1].startswith("0,1,,,7,")


@pytest.mark.parametrize("shape", [(28, 28), (36, 36, 3), (1, 5), (90, 100)])
def test_a_tiles_pixels_are_squares_of_their_exact_colour(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    whole = Tile(image)
    found = drawn(picture([Tile(np.broadcast_to(np.array(TEAL, np.uint8), (*shape[:2], 3)).copy()), whole]), tmp_path)
    top, bottom, left, right = box(found, TEAL)
    scale = (bottom + 1 - top) // shape[0]
    assert scale * max(shape[:2]) >= TILE
    assert (bottom + 1 - top, right + 1 - left) == (scale * shape[0], scale * shape[1])
    gap = 16
    beside = found[top : bottom + 1, right + 1 + gap : right + 1 + gap + scale * shape[1]]
    squares = np.kron(image if image.ndim == 3 else image[..., None], np.ones((scale, scale, 1), int))
    assert np.array_equal(beside, np.broadcast_to(squares, beside.shape))


def test_rows_run_down_and_columns_to_the_right(tmp_path: Path) -> None:
    black = Tile(plain((0, 0, 0)))
    found = drawn(picture([black, Tile(plain(TEAL))], [Tile(plain(PINK)), None]), tmp_path)
    upper, lower = box(found, TEAL), box(found, PINK)
    assert upper[1] < lower[0] and lower[3] < upper[2]
    assert (found[lower[0] : lower[1], upper[2] : upper[3]] == 255).all()  # the place left empty


def test_a_column_without_tiles_is_a_wider_gap(tmp_path: Path) -> None:
    lefts = []
    for between in ([], [None]):
        row = [Tile(plain(TEAL)), *between, Tile(plain(PINK))]
        found = drawn(picture(row), tmp_path)
        lefts.append(box(found, PINK)[2] - box(found, TEAL)[3])
    assert lefts[0] < lefts[1] < lefts[0] + TILE


def edge(image: Any, color: Any) -> Any:
    """Which pixels of a frame's upper edge are of its colour."""
    top, bottom, left, right = box(image, color)
    assert bottom - top == right - left > TILE  # around the tile
    return (abs(image[top + 2, left : right + 1] - np.array(color)) <= 2).all(-1)


def test_marks_are_told_apart_without_colours(tmp_path: Path) -> None:
    tiles = {mark: Tile(plain((0, 0, 0)), mark=mark) for mark in ("right", "wrong")}
    found = {mark: drawn(picture([tile]), tmp_path) for mark, tile in tiles.items()}
    assert edge(found["right"], BLUE).mean() > 0.98  # solid
    assert 0.4 < edge(found["wrong"], VERMILION).mean() < 0.9  # dashed
    signs = []
    for mark, color in (("right", BLUE), ("wrong", VERMILION)):
        top, _, left, right = box(found[mark], color)
        signs.append((found[mark][top - 22 : top, left : right + 1] < 128).all(-1))
    assert all(sign.any() for sign in signs) and not np.array_equal(*signs)
    bare = drawn(picture([Tile(plain((0, 0, 0)))]), tmp_path)
    for color in (BLUE, VERMILION):
        with pytest.raises(IndexError):
            box(bare, color)


def test_a_frame_reaches_as_far_beyond_its_tile_on_all_sides(tmp_path: Path) -> None:
    found = drawn(picture([Tile(plain(TEAL), mark="right"), Tile(plain(PINK))]), tmp_path)
    tile, frame = box(found, TEAL), box(found, BLUE)
    assert [tile[0] - frame[0], frame[1] - tile[1], tile[2] - frame[2], frame[3] - tile[3]] == [5] * 4


def test_text_makes_room_for_itself_and_covers_no_tile(tmp_path: Path) -> None:
    tile = Tile(plain(TEAL))
    bare = box(drawn(picture([tile], title=""), tmp_path), TEAL)
    titled = box(drawn(picture([tile], column_titles=["a"], row_titles=["a row"], note="a note"), tmp_path), TEAL)
    captioned = box(drawn(picture([Tile(plain(TEAL), "one\ntwo")], title=""), tmp_path), TEAL)
    assert titled[0] > bare[0] and titled[2] > bare[2] and captioned[0] > bare[0]
    for one in (bare, titled, captioned):
        assert one[1] - one[0] == one[3] - one[2] == TILE - 1


def test_a_long_note_takes_lines_and_not_width(tmp_path: Path) -> None:
    tile = Tile(plain(TEAL))
    short, long = (drawn(picture([tile], note=note), tmp_path).shape for note in ("a", "a long note " * 40))
    assert long[1] == short[1] and long[0] > short[0] + 60


def test_title_and_note_stand_above_and_below(tmp_path: Path) -> None:
    tile = Tile(plain(TEAL))
    inked = []
    for changes in ({"title": ""}, {"title": "a title"}, {"title": "", "note": "a note"}):
        found = drawn(picture([tile], **changes), tmp_path)
        top, bottom, _, _ = box(found, TEAL)
        inked.append([bool((part < 100).any()) for part in (found[:top], found[bottom + 1 :])])
    assert inked == [[False, False], [True, False], [False, True]]


def test_a_caption_from_elsewhere_cannot_make_a_picture_endless(tmp_path: Path) -> None:
    found = drawn(picture([Tile(plain(TEAL), "x" * 10_000)], row_titles=["y" * 10_000]), tmp_path)
    assert found.shape[1] < 2000


def test_the_same_picture_is_the_same_bytes_and_a_dollar_sign_no_formula(tmp_path: Path) -> None:
    shown = picture([Tile(plain(TEAL), "$a_$", "wrong")], title="$_$", note="$^$")
    assert shown.png() == shown.png()
    assert picture().png().startswith(b"\x89PNG")  # nothing in it is no error


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 2)), "float64"),
        (np.zeros((2, 2, 4), np.uint8), r"\[2, 2, 4\]"),
        (np.zeros(3, np.uint8), r"\[3\]"),
        (np.zeros((0, 2), np.uint8), r"\[0, 2\]"),
    ],
)
def test_what_is_no_image_is_no_tile(image: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tile(image)


def test_a_picture_that_cannot_be_is_refused() -> None:
    tile, other = Tile(plain(TEAL)), Tile(plain(TEAL, 27))
    with pytest.raises(ValueError, match="equally many"):
        picture([tile], [tile, tile])
    with pytest.raises(ValueError, match="up to 64"):
        picture([tile] * (LARGEST + 1))
    with pytest.raises(ValueError, match="up to 64"):
        picture(*[[tile]] * (LARGEST + 1))
    with pytest.raises(ValueError, match="of one size"):
        picture([tile, other])
    with pytest.raises(ValueError, match="2 titles for 1 rows"):
        picture([tile], row_titles=["a", "b"])
    with pytest.raises(ValueError, match="2 titles for columns"):
        picture([tile], column_titles=["a", "b"])
    with pytest.raises(ValueError, match="'splendid'"):
        Tile(plain(TEAL), mark="splendid")


def test_two_drawings_are_one_image_in_two_colours() -> None:
    drawn = np.array([[[255, 0, 255, 0, 51]], [[0, 255, 255, 0, 0]]], np.uint8)
    orange, blue = [230, 159, 0], [86, 180, 233]
    assert overlaid(drawn).tolist() == [[orange, blue, [255, 255, 233], [0, 0, 0], [46, 32, 0]]]


def test_a_pixel_belongs_to_the_larger_drawing_and_to_both_from_half_of_it_on() -> None:
    image = np.array([[255, 255, 51, 0, 255, 255]], np.uint8)
    drawn = np.array([[[200, 99, 50, 9, 0, 200]], [[99, 200, 100, 9, 0, 100]]], np.uint8)
    orange, blue, white = [230, 159, 0], [86, 180, 233], [255, 255, 233]
    fifth = [51, 51, 47]  # of white: a fifth of the image's light
    assert shared_out(image, drawn).tolist() == [[orange, blue, fifth, [0, 0, 0], white, white]]
