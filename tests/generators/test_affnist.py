"""A digit under a random affine map: redrawn by a stranger from its numbers, and its distributions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy import typing as npt
from scipy import ndimage, stats

from capsbench.contracts import ArrayBatch, Digits, FloatArray
from capsbench.errors import ParameterError
from capsbench.generators.affnist import FACTORS, AffNIST, AffNISTSampler

NUMBER = 20_000
BORDER = 30  # room around a canvas for what would leave it


@pytest.fixture(scope="module")
def sampler(digits: Digits) -> AffNISTSampler:
    return AffNIST().sampler(digits, 0)


@pytest.fixture(scope="module")
def batch(sampler: AffNISTSampler) -> ArrayBatch:
    return sampler.batch(np.arange(NUMBER))


def factors(batch: ArrayBatch) -> dict[str, FloatArray]:
    assert batch.transform is not None
    return dict(zip(FACTORS, batch.transform.T.astype(np.float64), strict=True))


def matrices(batch: ArrayBatch) -> FloatArray:
    """``R K S`` ``[n, 2, 2]`` by the convention; it takes (x, y)."""
    drawn = factors(batch)
    t, zero, one = np.radians(drawn["rotation"]), np.zeros(len(batch.images)), np.ones(len(batch.images))

    def stack(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray) -> FloatArray:
        return np.stack([a, b, c, d], 1).reshape(-1, 2, 2)

    turn = stack(np.cos(t), np.sin(t), -np.sin(t), np.cos(t))
    shear = stack(one, drawn["shear"], zero, one)
    return np.asarray(turn @ shear @ stack(drawn["scale_x"], zero, zero, drawn["scale_y"]))


def redraw(digit: npt.NDArray[np.uint8], forward: FloatArray, dx: float, dy: float, size: int = 40) -> FloatArray:
    """The sample on a canvas with `BORDER` pixels more on each side, by scipy, whose axes are (y, x)."""
    back = np.linalg.inv(forward)[::-1, ::-1]
    centre = np.array([dy, dx]) + (size - 1) / 2 + BORDER
    large = size + 2 * BORDER
    return np.asarray(
        ndimage.affine_transform(
            digit.astype(float), back, 13.5 - back @ centre, (large, large), order=1, mode="grid-constant"
        )
    )


def intervals(batch: ArrayBatch, digits: Digits) -> FloatArray:
    """``[n, 2, 2]``: lowest and highest dx, lowest and highest dy, from every inked pixel and its skirt."""
    assert batch.source is not None
    forward, ends = matrices(batch), np.empty((len(batch.source), 2, 2))
    for source in np.unique(batch.source):
        rows = np.flatnonzero(batch.source == source)
        inked = np.argwhere(digits.images[source] > 0)[:, ::-1]
        skirt = np.concatenate([inked + corner for corner in ((-1, -1), (-1, 1), (1, -1), (1, 1))])
        reach = (skirt - 13.5) @ forward[rows].swapaxes(1, 2) + 19.5  # [rows, points, 2]
        ends[rows] = np.stack([-1 - reach.min(1), 40 - reach.max(1)], 2)
    return ends


def test_a_stranger_redraws_every_sample_from_its_numbers(
    batch: ArrayBatch, digits: Digits, scale: Callable[[int, int], int]
) -> None:
    """Within two grey levels, and with no ink outside the canvas."""
    assert batch.source is not None
    drawn = factors(batch)
    worst = 0.0
    for i, forward in enumerate(matrices(batch)[: scale(400, 1000)]):
        large = redraw(digits.images[batch.source[i]], forward, drawn["dx"][i], drawn["dy"][i])
        inner = slice(BORDER, BORDER + 40)
        worst = max(worst, np.abs(large[inner, inner] - batch.images[i]).max())
        large[inner, inner] = 0
        assert large.max() < 0.01, f"ink of sample {i} lies outside"  # 0, but for the rounding of dx to float32
    assert worst <= 2


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("rotation", -20, 20), ("shear", -0.2, 0.2), ("scale_y", 0.8, 1.2), ("scale_x", 0.8, 1.2)],
)
def test_factor_is_uniform_over_its_range(batch: ArrayBatch, name: str, low: float, high: float) -> None:
    values = factors(batch)[name]
    assert values.min() >= np.float32(low)
    assert values.max() <= np.float32(high)
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


@pytest.fixture(scope="module")
def places(batch: ArrayBatch, digits: Digits) -> FloatArray:
    """``[n, 2]``: where dx and dy lie in their intervals, from 0 to 1."""
    ends = intervals(batch, digits)
    drawn = factors(batch)
    translation = np.stack([drawn["dx"], drawn["dy"]], 1)
    assert (ends[:, :, 0] < ends[:, :, 1]).all()  # with affnist's ranges the ink always fits
    return np.asarray((translation - ends[:, :, 0]) / (ends[:, :, 1] - ends[:, :, 0]))


@pytest.mark.parametrize("axis", [0, 1], ids=["dx", "dy"])
def test_translation_is_uniform_over_all_places_that_keep_the_ink(places: FloatArray, axis: int) -> None:
    assert places[:, axis].min() > -1e-6
    assert places[:, axis].max() < 1 + 1e-6
    assert stats.kstest(places[:, axis], "uniform").pvalue > 1e-3


def test_factors_are_independent(batch: ArrayBatch, places: FloatArray) -> None:
    drawn = factors(batch)
    columns = np.stack([*(drawn[name] for name in FACTORS[:4]), places[:, 0], places[:, 1]])
    assert np.abs(np.corrcoef(columns) - np.eye(6)).max() < 4 / np.sqrt(NUMBER)


def test_ink_is_never_cut_within_affnists_ranges(sampler: AffNISTSampler, batch: ArrayBatch) -> None:
    assert not sampler.measures(batch)["ink is cut"].any()


@pytest.mark.parametrize(
    "ranges",
    [
        {"scale": (2.0, 2.0)},
        {"scale": (1.5, 2.0), "rotation": (180.0, 180.0)},
        {"rotation": (-180.0, 180.0), "shear": (-1.0, 1.0)},
    ],
    ids=["all large", "large and upside down", "any angle, slanted"],
)
def test_past_the_ranges_ink_that_cannot_fit_is_centered_cut_and_counted(
    digits: Digits, ranges: dict[str, Any]
) -> None:
    sampler = AffNIST(**ranges).sampler(digits, 0)
    batch = sampler.batch(np.arange(1000))
    ends, drawn = intervals(batch, digits), factors(batch)
    empty = ends[:, :, 0] > ends[:, :, 1]  # [n, 2]
    assert 0 < empty.any(1).mean() < 1
    translation = np.stack([drawn["dx"], drawn["dy"]], 1)
    np.testing.assert_allclose(translation[empty], ends.mean(2)[empty], rtol=0, atol=1e-5)
    inside = (ends[:, :, 0] - 1e-5 <= translation) & (translation <= ends[:, :, 1] + 1e-5)
    assert inside[~empty].all()
    np.testing.assert_array_equal(sampler.measures(batch)["ink is cut"], empty.any(1))


def test_ink_lies_outside_exactly_where_it_is_said_to_be_cut(digits: Digits) -> None:
    sampler = AffNIST(scale=(1.6, 2.0), rotation=(-90.0, 90.0)).sampler(digits, 0)
    batch = sampler.batch(np.arange(300))
    assert batch.source is not None
    drawn, cut = factors(batch), sampler.measures(batch)["ink is cut"]
    for i, forward in enumerate(matrices(batch)):
        large = redraw(digits.images[batch.source[i]], forward, drawn["dx"][i], drawn["dy"][i])
        large[BORDER : BORDER + 40, BORDER : BORDER + 40] = 0
        if not cut[i]:
            assert large.max() < 0.01
    assert 0.1 < cut.mean() < 0.9


@pytest.mark.parametrize("size", [28, 41, 128])
def test_a_canvas_of_another_size_has_the_same_maps_and_keeps_the_ink(
    batch: ArrayBatch, digits: Digits, size: int
) -> None:
    sampler = AffNIST(size=size, scale=(0.5, 0.8), rotation=(0.0, 0.0)).sampler(digits, 0)
    plain = AffNIST(scale=(0.5, 0.8), rotation=(0.0, 0.0)).sampler(digits, 0)
    indices = np.arange(500)
    other, usual = sampler.batch(indices), plain.batch(indices)
    assert other.images.shape == (500, size, size) and sampler.layers(indices).shape == (500, 1, size, size)
    drawn, known = factors(other), factors(usual)
    for name in FACTORS[:4]:
        np.testing.assert_array_equal(drawn[name], known[name])
    assert not sampler.measures(other)["ink is cut"].any()
    assert other.source is not None
    for i, forward in enumerate(matrices(other)[:100]):
        large = redraw(digits.images[other.source[i]], forward, drawn["dx"][i], drawn["dy"][i], size)
        inner = slice(BORDER, BORDER + size)
        assert np.abs(large[inner, inner] - other.images[i]).max() <= 2
        large[inner, inner] = 0
        assert large.max() < 0.01
    reach = (size - 40) / 2  # how much farther a digit comes, each way
    for name in ("dx", "dy"):
        farther = (drawn[name] - known[name]) / reach
        assert np.abs(farther).max() < 1 + 1e-5 and farther.min() < -0.9 and farther.max() > 0.9


@pytest.mark.parametrize(
    ("change", "column"), [({"rotation": (30.0, 30.0)}, 0), ({"shear": (0.5, 0.5)}, 1), ({"scale": (1.1, 1.1)}, 2)]
)
def test_fixed_factor_is_fixed(digits: Digits, change: dict[str, Any], column: int) -> None:
    transform = AffNIST(**change).sampler(digits, 0).batch(np.arange(50)).transform
    assert transform is not None
    ((value, _),) = change.values()
    assert (transform[:, column] == np.float32(value)).all()


def test_one_factor_past_its_range_leaves_the_others_as_they_were(batch: ArrayBatch, digits: Digits) -> None:
    """So that a sweep compares the same samples."""
    swept = factors(AffNIST(rotation=(60.0, 60.0)).sampler(digits, 0).batch(np.arange(200)))
    for name in ("shear", "scale_y", "scale_x"):
        np.testing.assert_array_equal(swept[name], factors(batch)[name][:200])


def test_no_factors_at_all_leave_the_digit_as_it_is(digits: Digits) -> None:
    """But for its place: its ink is moved, and by a fraction of a pixel."""
    sampler = AffNIST(rotation=(0.0, 0.0), shear=(0.0, 0.0), scale=(1.0, 1.0)).sampler(digits, 0)
    batch = sampler.batch(np.arange(500))
    assert batch.transform is not None
    ink = batch.images.sum((1, 2), dtype=int) / digits.images[:500].sum((1, 2), dtype=int)
    np.testing.assert_allclose(ink, 1, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    "change",
    [
        {"rotation": (-181.0, 0.0)},
        {"rotation": (20.0, -20.0)},
        {"rotation": (float("nan"), 0.0)},
        {"shear": (0.0, 2.1)},
        {"scale": (0.2, 1.0)},
        {"scale": (1.0, 4.1)},
        {"scale": (-1.0, 1.0)},
        {"size": 27},
        {"size": 129},
    ],
)
def test_ranges_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        AffNIST(**change)


def test_measures_are_the_ink_and_every_factor(sampler: AffNISTSampler) -> None:
    batch = sampler.batch(np.arange(100))
    measures = sampler.measures(batch)
    np.testing.assert_array_equal(measures["ink (pixels)"], np.count_nonzero(batch.images, (1, 2)))
    for name, values in factors(batch).items():
        np.testing.assert_array_equal(measures[name], values)


def test_transforms_are_those_of_the_images(digits: Digits) -> None:
    sampler, rows = AffNIST().sampler(digits, 5), np.array([3, 1, 4, 1, 2999])
    drawn = sampler.batch(rows).transform
    assert drawn is not None and np.array_equal(sampler.transforms(rows), drawn)
