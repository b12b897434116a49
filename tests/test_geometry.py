"""Placement against plain slicing, addition against integers, and warping against the convention and scipy."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from capsbench.contracts import Digits, FloatArray, UInt8Array
from capsbench.data.digits import load_digits
from capsbench.geometry import (
    DIGIT,
    LARGEST_TABLE,
    WARP_CHUNK,
    Frames,
    InkPoints,
    ShiftTable,
    WarpTable,
    affine_matrix,
    inverse_coefficients,
    saturating_add,
    sine_cosine,
)

WIDE = {  # what transforms a generator accepts at most
    "rotation": (-180, 180),
    "shear": (-2, 2),
    "scale_y": (0.25, 4),
    "scale_x": (0.25, 4),
    "dy": (-50, 50),
    "dx": (-50, 50),
}
transforms = st.tuples(*(st.floats(low, high, width=32) for low, high in WIDE.values()))


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load_digits("test", "embedded")


@pytest.fixture(scope="module")
def noise() -> UInt8Array:
    """No pixel is black, so that one too many or one too few shows."""
    return np.random.default_rng(0).integers(1, 256, (3, 28, 28), np.uint8)


def row(**changes: float) -> FloatArray:
    """One transform ``[1, 6]``: the identity, but for what is named."""
    plain = {"rotation": 0.0, "shear": 0.0, "scale_y": 1.0, "scale_x": 1.0, "dy": 0.0, "dx": 0.0}
    return np.array([list((plain | changes).values())])


def matrix(transform: FloatArray) -> FloatArray:
    """``R K S`` ``[2, 2]`` of one transform ``[6]``, as the convention has it: it takes (x, y)."""
    rotation, shear, scale_y, scale_x = transform[:4]
    t = math.radians(rotation)
    turn = np.array([[math.cos(t), math.sin(t)], [-math.sin(t), math.cos(t)]])
    return np.asarray(turn @ np.array([[1, shear], [0, 1]]) @ np.diag([scale_x, scale_y]))


def exact_warp(image: UInt8Array, transform: FloatArray) -> FloatArray:
    """``[40, 40]`` float64 by scipy, whose axes are (y, x)."""
    back = np.linalg.inv(matrix(transform))[::-1, ::-1]
    offset = 13.5 - back @ (19.5 + transform[4:])
    return np.asarray(
        ndimage.affine_transform(image.astype(float), back, offset, (40, 40), order=1, mode="grid-constant")
    )


def warp_one(image: UInt8Array, transform: FloatArray) -> UInt8Array:
    (warped,) = WarpTable(image[None]).warp(np.zeros(1, np.int64), inverse_coefficients(transform))
    return np.asarray(warped)


@given(
    size=st.integers(14, 40).map(lambda half: 2 * half),
    past_margin=st.integers(-34, 30),
    data=st.data(),
)
def test_placing_is_slicing(noise: UInt8Array, size: int, past_margin: int, data: st.DataObject) -> None:
    margin = (size - 28) // 2
    shift = max(0, margin + past_margin)
    table = ShiftTable(noise, size=size, shift=shift)
    shifts = st.integers(-shift, shift)
    dy, dx = (np.array(data.draw(st.tuples(shifts, shifts, shifts))) for _ in range(2))
    placed = table.place(np.array([2, 0, 1]), dy, dx)
    assert placed.dtype == np.uint8
    for canvas, image, down, right in zip(placed, noise[[2, 0, 1]], dy, dx, strict=True):
        wide = np.zeros((size + 2 * shift, size + 2 * shift), np.uint8)
        top, left = shift + margin + down, shift + margin + right
        wide[top : top + 28, left : left + 28] = image
        np.testing.assert_array_equal(canvas, wide[shift : shift + size, shift : shift + size])


def test_placing_keeps_the_axes_of_its_index(noise: UInt8Array) -> None:
    digits, dy, dx = np.array([[0, 2], [1, 1], [2, 0]]), np.array([[-4, 3], [0, 0], [9, 1]]), np.array([[5], [0], [-9]])
    for shift in (9, 4 + 9):  # the second cuts the canvas out of a wider one
        table = ShiftTable(noise, size=36 if shift == 13 else 64, shift=shift)
        placed = table.place(digits, dy, dx)
        for row, column in np.ndindex(3, 2):
            (alone,) = table.place(digits[row, [column]], dy[row, [column]], dx[row])
            np.testing.assert_array_equal(placed[row, column], alone)
        swapped = table.canvases(table.offsets(digits, dy, dx).T)
        np.testing.assert_array_equal(swapped, placed.swapaxes(0, 1))


def test_placing_nothing_gives_nothing(noise: UInt8Array) -> None:
    none = np.zeros(0, np.int64)
    assert ShiftTable(noise, size=40, shift=6).place(none, none, none).shape == (0, 40, 40)


def test_largest_table_keeps_60000_digits_below_a_gigabyte(digits: Digits) -> None:
    tracemalloc.start()
    try:
        table = ShiftTable(digits.images, size=LARGEST_TABLE, shift=LARGEST_TABLE // 2)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert table.place(np.zeros(1, np.int64), np.array([32]), np.array([-32])).any()
    assert (LARGEST_TABLE - DIGIT) // 2 + DIGIT // 2 == LARGEST_TABLE // 2  # the largest shift that is offered
    assert held / len(digits) * 60_000 < 0.9e9


@pytest.mark.parametrize(("size", "shift"), [(28, 0), (36, 4), (28, 14), (64, 32)])
def test_frames_are_placed_as_by_a_table(noise: UInt8Array, size: int, shift: int) -> None:
    random = np.random.default_rng(0)
    digits, dy, dx = random.integers(0, 3, 50), *random.integers(-shift, shift + 1, (2, 50))
    expected = ShiftTable(noise, size=size, shift=shift).place(digits, dy, dx)
    found = Frames(noise, size=size, shift=shift).place(digits, dy, dx)
    np.testing.assert_array_equal(found, expected)
    assert found.flags.c_contiguous and found.flags.writeable


def test_placed_canvases_are_no_views_of_the_table(noise: UInt8Array) -> None:
    table = ShiftTable(noise, size=36, shift=4)
    zero = np.zeros(1, np.int64)
    first = table.place(zero, zero, zero)
    kept = first.copy()
    first[:] = 77
    np.testing.assert_array_equal(table.place(zero, zero, zero), kept)


def test_every_sum_of_two_grey_levels_is_clipped_at_255() -> None:
    first, second = (np.ascontiguousarray(half) for half in np.mgrid[:256, :256].astype(np.uint8))
    expected = np.minimum(first.astype(int) + second, 255)
    before = first.copy(), second.copy()
    np.testing.assert_array_equal(saturating_add(first, second), expected)
    out = np.full_like(first, 77)
    assert saturating_add(first, second, out=out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal((first, second), before)


def test_bright_ink_on_bright_ink_does_not_wrap_around() -> None:
    """The authors' code added in uint8 until 2018-01-29: 200 + 100 was 44."""
    assert (
        saturating_add(np.array([200, 255, 128], np.uint8), np.array([100, 255, 128], np.uint8)).tolist() == [255] * 3
    )


def test_sine_and_cosine_are_within_rounding_of_numpys() -> None:
    degrees = np.linspace(-360, 360, 100_001)
    sine, cosine = sine_cosine(degrees)
    # Ours are within 1e-15; the rest is what rounding an angle to radians costs numpy.
    np.testing.assert_allclose(sine, np.sin(np.radians(degrees)), rtol=0, atol=2e-15)
    np.testing.assert_allclose(cosine, np.cos(np.radians(degrees)), rtol=0, atol=2e-15)


@given(degrees=st.floats(-360, 360))
def test_sine_and_cosine_of_any_angle(degrees: float) -> None:
    sine, cosine = sine_cosine(np.array([degrees]))
    assert sine[0] == pytest.approx(math.sin(math.radians(degrees)), rel=0, abs=2e-15)
    assert cosine[0] == pytest.approx(math.cos(math.radians(degrees)), rel=0, abs=2e-15)


def test_sine_and_cosine_of_right_angles_are_exact() -> None:
    sine, cosine = sine_cosine(np.arange(-360.0, 361, 90))
    assert sine.tolist() == [0, 1, 0, -1, 0, 1, 0, -1, 0]
    assert cosine.tolist() == [1, 0, -1, 0, 1, 0, -1, 0, 1]


@given(transform=transforms)
def test_affine_matrix_is_rotation_after_shear_after_scale(transform: tuple[float, ...]) -> None:
    a, b, c, d = affine_matrix(np.array([transform]))
    np.testing.assert_allclose([[a[0], b[0]], [c[0], d[0]]], matrix(np.array(transform)), rtol=0, atol=1e-13)


@given(transform=transforms, point=st.tuples(*[st.floats(0, 27)] * 2))
def test_inverse_coefficients_lead_back_to_the_source(transform: tuple[float, ...], point: tuple[float, float]) -> None:
    x, y = matrix(np.array(transform)) @ (np.array(point) - 13.5) + 19.5 + np.array(transform)[[5, 4]]
    a, b, c, d, e, f = inverse_coefficients(np.array([transform]))[0] / 65536
    back = np.array([a * x + b * y + c, d * x + e * y + f])
    # A coefficient is off by half a unit of Q16 at most, and half of a weight's last bit is added on purpose.
    tolerance = (abs(x) + abs(y) + 1) * 0.5 / 65536 + 1e-9
    np.testing.assert_allclose(back - 0.5 / 256, point, rtol=0, atol=tolerance)


def test_identity_puts_the_digit_in_the_middle(noise: UInt8Array) -> None:
    np.testing.assert_array_equal(warp_one(noise[0], row()), np.pad(noise[0], 6))


@given(dy=st.integers(-60, 60), dx=st.integers(-60, 60))
def test_whole_pixel_translation_is_slicing(noise: UInt8Array, dy: int, dx: int) -> None:
    wide = np.zeros((160, 160), np.uint8)
    wide[66 + dy : 94 + dy, 66 + dx : 94 + dx] = noise[0]
    np.testing.assert_array_equal(warp_one(noise[0], row(dy=dy, dx=dx)), wide[60:100, 60:100])


@pytest.mark.parametrize("quarter", [-2, -1, 1, 2])
def test_positive_rotation_turns_counter_clockwise(noise: UInt8Array, quarter: int) -> None:
    turned = np.pad(np.rot90(noise[0], quarter), 6)  # rot90 turns counter-clockwise with y downwards
    np.testing.assert_array_equal(warp_one(noise[0], row(rotation=90 * quarter)), turned)


def test_shear_moves_x_by_shear_times_y() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[3, 13] = image[24, 13] = 255  # 10.5 above and below the centre
    warped = warp_one(image, row(shear=1.0, dx=0.5))
    assert [tuple(map(int, place)) for place in np.argwhere(warped)] == [(9, 9), (30, 30)]


def test_scales_of_y_and_of_x_are_not_confused() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[8:20, 8:20] = 255
    warped = warp_one(image, row(scale_y=2.0, scale_x=0.5)) > 127
    assert np.ptp(np.flatnonzero(warped.any(1))) + 1 == 24
    assert np.ptp(np.flatnonzero(warped.any(0))) + 1 == 6


@given(
    place=st.tuples(*[st.integers(8, 19)] * 2),
    transform=st.tuples(
        st.floats(-180, 180), st.floats(-0.3, 0.3), st.floats(0.8, 1.2), st.floats(0.8, 1.2), *[st.floats(-4, 4)] * 2
    ),
)
def test_ink_lands_where_the_convention_says(place: tuple[int, int], transform: tuple[float, ...]) -> None:
    y, x = place
    image = np.zeros((28, 28), np.uint8)
    image[y - 1 : y + 2, x - 1 : x + 2] = [[64, 128, 64], [128, 255, 128], [64, 128, 64]]
    warped = warp_one(image, np.array([transform])).astype(float)
    target = matrix(np.array(transform)) @ (np.array([x, y]) - 13.5) + 19.5 + np.array(transform)[[5, 4]]
    rows, columns = np.mgrid[:40, :40]
    found = np.array([(columns * warped).sum(), (rows * warped).sum()]) / warped.sum()
    np.testing.assert_allclose(
        found, target, rtol=0, atol=0.2
    )  # of a pixel; sampling moves the centre of mass a little


@settings(max_examples=2 * settings().max_examples)
@given(transform=transforms)
def test_warp_is_within_two_grey_levels_of_scipys(noise: UInt8Array, transform: tuple[float, ...]) -> None:
    """On noise, where neighbours differ the most, and over every transform that a generator accepts."""
    warped = warp_one(noise[0], np.array([transform]))
    assert np.abs(warped - exact_warp(noise[0], np.array(transform))).max() <= 2


def plain_warp(image: UInt8Array, coefficients: Any) -> Any:
    """``[40, 40]``: every pixel of the canvas by integers alone, in 1/65536 of a pixel, weights in 1/256."""
    a, b, c, d, e, f = (int(value) for value in coefficients)
    y, x = np.mgrid[:40, :40]
    wide = np.pad(image.astype(int), 2)
    places = [np.clip(place, -2 * 65536, 30 * 65536 - 1) for place in (d * x + e * y + f, a * x + b * y + c)]
    (row, column), (down, right) = (
        [place // 65536 + 2 for place in places],
        [place % 65536 // 256 for place in places],
    )
    wide = np.pad(wide, ((0, 1), (0, 1)))
    upper = wide[row, column] * (256 - right) + wide[row, column + 1] * right
    lower = wide[row + 1, column] * (256 - right) + wide[row + 1, column + 1] * right
    return (upper * (256 - down) + lower * down + 32768) // 65536


@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["drawn", "any", "flat", "nearly flat"]))
def test_no_pixel_of_small_ink_is_left_out(seed: int, kind: str) -> None:
    """Only the part of a canvas that the box of the ink falls on is drawn; that must be all there is to see."""
    random = np.random.default_rng(seed)
    images = np.zeros((9, 28, 28), np.uint8)
    for image in images[1:]:  # the first stays blank
        (top, bottom), (left, right) = (np.sort(random.integers(0, 29, 2)) for _ in range(2))
        image[top:bottom, left:right] = random.integers(0, 256, (bottom - top, right - left))
    chosen = random.integers(0, len(images), 12)
    if kind == "drawn":
        low, high = np.array(list(WIDE.values())).T
        coefficients = inverse_coefficients(random.uniform(low, high, (12, 6)))
    else:
        coefficients = random.integers(-(2**18), 2**18, (12, 6)).astype(np.int32)
        coefficients[:, [2, 5]] = random.integers(-(2**21), 2**21, (12, 2))
    if kind.endswith("flat"):  # a line of the source, or a point, fills the canvas
        coefficients[:, 3:5] = coefficients[:, :2] * random.integers(-1, 2, (12, 1))
    if kind == "nearly flat":
        coefficients[:, 3] += random.integers(-3, 4, 12)
    warped = WarpTable(images).warp(chosen, coefficients)
    for image, one, found in zip(images[chosen], coefficients, warped, strict=True):
        np.testing.assert_array_equal(found, plain_warp(image, one))


def test_many_warps_equal_one_at_a_time(digits: Digits) -> None:
    number = 2 * WARP_CHUNK + 5
    generator = np.random.default_rng(1)
    low, high = np.array(list(WIDE.values())).T
    chosen = generator.integers(0, len(digits), number)
    coefficients = inverse_coefficients(generator.uniform(low, high, (number, 6)))
    table = WarpTable(digits.images)
    together = table.warp(chosen, coefficients)
    assert together.shape == (number, 40, 40)
    assert together.dtype == np.uint8
    apart = [table.warp(chosen[[i]], coefficients[[i]])[0] for i in range(number)]
    np.testing.assert_array_equal(together, apart)


@given(weights=st.tuples(*[st.floats(-4, 4)] * 2))
def test_interval_keeps_all_ink_and_its_skirt_on_the_canvas(digits: Digits, weights: tuple[float, float]) -> None:
    chosen = np.array([0, 17, 999])
    x_weight, y_weight = (np.full(3, weight) for weight in weights)
    low, high = InkPoints(digits.images).interval(chosen, x_weight, y_weight)
    for k, image in enumerate(digits.images[chosen]):
        inked = np.argwhere(image > 0)[:, ::-1]  # x, y
        corners = np.concatenate([inked + corner for corner in ((-1, -1), (-1, 1), (1, -1), (1, 1))])
        along = (corners - 13.5) @ np.array(weights) + 19.5
        assert low[k] == pytest.approx(-1 - along.min(), abs=1e-12)
        assert high[k] == pytest.approx(40 - along.max(), abs=1e-12)


def test_interval_of_a_single_pixel() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[0, 27] = 1  # x = 27, y = 0
    one, none = np.ones(1), np.zeros(1)
    points = InkPoints(image[None])
    first = np.zeros(1, np.int64)
    assert [end[0] for end in points.interval(first, one, none)] == [-33, 6]  # x goes from 33 to 0 or to 39
    assert [end[0] for end in points.interval(first, none, one)] == [-6, 33]


def test_blank_digit_counts_as_a_point_in_the_middle() -> None:
    low, high = InkPoints(np.zeros((1, 28, 28), np.uint8)).interval(np.zeros(1, np.int64), np.ones(1), np.zeros(1))
    assert (low[0], high[0]) == (-19.5, 19.5)
