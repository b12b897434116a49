"""A target and its scraps: where they come from and lie, how many there are, what is covered, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from capsbench.contracts import Digits, IndexArray
from capsbench.data.recipes import make_recipe
from capsbench.errors import DataFileError, DigitsError, ParameterError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file
from capsbench.files.inspection import measure
from capsbench.files.preview import preview
from capsbench.generators.cluttered import Cluttered, ClutteredSampler


def sampler_of(digits: Digits, **parameters: Any) -> ClutteredSampler:
    return Cluttered(**parameters).sampler(digits, 0)


def alike(count: int, value: int = 255) -> Digits:
    """Digits of one grey, all of their frame, of classes 0 and 1 in turns."""
    return Digits(
        np.full((count, 28, 28), value, np.uint8), (np.arange(count) % 2).astype(np.uint8), "test", "embedded"
    )


def test_target_is_at_all_places_equally_often(digits: Digits) -> None:
    batch = sampler_of(digits, size=32, scraps=(0, 0)).batch(np.arange(20_000))
    assert batch.shift is not None
    down, right = batch.shift.astype(int).T + 2
    assert stats.chisquare(np.bincount(5 * down + right, minlength=25)).pvalue > 1e-3
    for image, dy, dx, source in zip(batch.images[:50], down, right, np.asarray(batch.source), strict=False):
        np.testing.assert_array_equal(image[dy : dy + 28, dx : dx + 28], digits.images[source])


def test_every_number_of_scraps_is_equally_likely_and_is_told(digits: Digits) -> None:
    sampler = sampler_of(digits, scraps=(3, 6), size=28)
    indices = np.arange(8000)
    batch = sampler.batch(indices)
    assert batch.scraps is not None
    counts = np.bincount(batch.scraps)
    assert len(counts) == 7 and not counts[:3].any()
    assert stats.chisquare(counts[3:]).pvalue > 1e-3
    np.testing.assert_array_equal(np.bincount(sampler.scraps(indices)[:, 0]), batch.scraps)


def test_scraps_come_from_every_other_digit_equally_often_and_never_from_the_targets_own(digits: Digits) -> None:
    few = replace(digits, images=digits.images[:20], labels=digits.labels[:20])
    sampler = sampler_of(few, scraps=(5, 5))
    row, source = sampler.scraps(np.arange(20_000)).T
    assert len(row) == 100_000
    assert (source != row % 20).all()
    pairs = np.bincount(20 * (row % 20) + source, minlength=400).reshape(20, 20)
    assert stats.chisquare(pairs[~np.eye(20, dtype=bool)]).pvalue > 1e-3


@pytest.mark.parametrize("side", [1, 7, 8, 28])
def test_a_scrap_is_a_piece_of_the_digit_it_is_told_to_be_cut_from_and_never_blank(digits: Digits, side: int) -> None:
    sampler = sampler_of(digits, scraps=(1, 1), scrap_size=side, size=60)
    indices = np.arange(200)
    batch, targets = sampler.batch(indices), sampler.layers(indices)[:, 0]
    seen = 0
    for image, target, (_, source) in zip(batch.images, targets, sampler.scraps(indices), strict=True):
        if ((image > target) & (target > 0)).any() or (image == target).all():
            continue  # it lies upon the target, perhaps on white
        scrap = image - target
        (top, left), (bottom, right) = np.argwhere(scrap).min(0), np.argwhere(scrap).max(0)
        piece = scrap[top : bottom + 1, left : right + 1]
        assert max(piece.shape) <= side
        windows = np.lib.stride_tricks.sliding_window_view(digits.images[source], piece.shape)
        assert (windows == piece).all((2, 3)).any()
        seen += 1
    assert seen > 60


def test_scraps_lie_at_every_place_of_the_canvas_equally_often() -> None:
    """Black targets and white scraps: nothing else is seen."""
    images = np.zeros((2, 28, 28), np.uint8)
    images[1] = 255
    sampler = sampler_of(replace(alike(2), images=images), size=30, scraps=(1, 1), scrap_size=26)
    found = sampler.batch(2 * np.arange(10_000)).images
    assert (found.sum((1, 2), dtype=int) == 255 * 26 * 26).all()
    top, left = found.any(2).argmax(1), found.any(1).argmax(1)
    assert stats.chisquare(np.bincount(5 * top + left, minlength=25)).pvalue > 1e-3


def test_every_pixel_of_ink_is_the_middle_of_a_scrap_equally_often() -> None:
    images = np.zeros((2, 28, 28), np.uint8)
    images[1, 5, 5], images[1, 5, 20], images[1, 24, 12] = 100, 150, 200
    sampler = sampler_of(replace(alike(2), images=images), size=28, scraps=(1, 1), scrap_size=1)
    seen = sampler.batch(2 * np.arange(9000)).images.max((1, 2))
    assert stats.chisquare([np.count_nonzero(seen == grey) for grey in (100, 150, 200)]).pvalue > 1e-3


def test_a_scrap_is_cut_around_its_pixel_but_inside_the_frame() -> None:
    images = np.zeros((2, 28, 28), np.uint8)
    images[1] = 1
    images[1, 0, 27] = images[1, 14, 14] = 255
    only = np.zeros_like(images)
    only[1, 0, 27] = 255
    corner = sampler_of(replace(alike(2), images=only), scraps=(1, 1), size=28).batch(2 * np.arange(20)).images
    assert (corner.max((1, 2)) == 255).all(), "the pixel in the corner of the frame is in the scrap"
    middle = np.zeros_like(images)
    middle[1, 14, 14] = 255
    sampler = sampler_of(replace(alike(2), images=middle), scraps=(1, 1), size=28)
    found = sampler.batch(2 * np.arange(4000)).images
    down = found.any(2).argmax(1)
    assert down.min() == 4 and down.max() == 20 + 4, "pixel 4 of 8, at the 21 places of a canvas of 28"


def test_a_sample_with_fewer_scraps_has_the_first_of_those_with_more(digits: Digits) -> None:
    indices = np.arange(300)
    none, two, five = (sampler_of(digits, scraps=(count, count)).batch(indices) for count in (0, 2, 5))
    some = sampler_of(digits, scraps=(0, 5)).batch(indices)
    for other in (two, five, some):
        np.testing.assert_array_equal(np.asarray(none.shift), np.asarray(other.shift))
    assert (none.images <= two.images).all() and (two.images <= five.images).all()
    assert (two.images < five.images).any((1, 2)).all()
    assert some.scraps is not None
    for count, batch in ((0, none), (2, two), (5, five)):
        rows = some.scraps == count
        np.testing.assert_array_equal(some.images[rows], batch.images[rows])


def test_scraps_that_meet_are_added_and_clipped(digits: Digits) -> None:
    grey = sampler_of(alike(3, 90), size=28, scraps=(32, 32), scrap_size=28)
    assert (grey.batch(np.arange(20)).images == 255).all()
    two = sampler_of(alike(3, 90), size=28, scraps=(1, 1), scrap_size=28)
    assert (two.batch(np.arange(20)).images == 180).all()


def test_a_blank_digit_gives_its_middle() -> None:
    blank = sampler_of(alike(3, 0), scraps=(8, 8))
    batch = blank.batch(np.arange(50))
    assert not batch.images.any()
    assert np.asarray(batch.scraps).tolist() == [8] * 50


def test_measures_are_the_ink_the_shift_the_scraps_and_the_covered_share_of_the_target(digits: Digits) -> None:
    indices = np.arange(400)
    sampler = sampler_of(digits, size=40, scraps=(0, 12))
    batch = sampler.batch(indices)
    measures = sampler.measures(batch)
    target = sampler.layers(indices)[:, 0].astype(int)
    ink = (target > 0) & (target < 255)
    np.testing.assert_array_equal(measures["ink (pixels)"], np.count_nonzero(batch.images, (1, 2)))
    np.testing.assert_array_equal(
        np.stack([measures["dy (pixels)"], measures["dx (pixels)"]], 1), np.asarray(batch.shift)
    )
    np.testing.assert_array_equal(measures["scraps"], np.asarray(batch.scraps))
    covered = 100 * (ink & (batch.images > target)).sum((1, 2)) / ink.sum((1, 2))
    np.testing.assert_allclose(measures["target covered (%)"], covered)
    assert not covered[measures["scraps"] == 0].any()
    assert 5 < covered.mean() < 40


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 26}, "size must be in 28..128"),
        ({"size": 130}, "size must be in 28..128"),
        ({"size": 41}, "size must be even"),
        ({"scraps": (-1, 4)}, "scraps must be in 0..32"),
        ({"scraps": (4, 33)}, "scraps must be in 0..32"),
        ({"scraps": (5, 4)}, "scraps must be two ascending numbers"),
        ({"scrap_size": 0}, "scrap_size must be in 1..28"),
        ({"scrap_size": 29}, "scrap_size must be in 1..28"),
    ],
)
def test_parameters_out_of_range_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Cluttered(**change)


def test_a_single_digit_has_no_scraps_but_can_be_alone(digits: Digits) -> None:
    one = replace(digits, images=digits.images[:1], labels=digits.labels[:1])
    with pytest.raises(DigitsError, match="one test digit alone"):
        sampler_of(one)
    assert sampler_of(one, scraps=(0, 0)).batch(np.arange(5)).images.any((1, 2)).all()


def test_no_samples_are_none(digits: Digits) -> None:
    empty: IndexArray = np.arange(0)
    assert sampler_of(digits).batch(empty).images.shape == (0, 60, 60)


def made(count: int = 100, **parameters: Any) -> DataFile:
    recipe = make_recipe("cluttered", split="test", digits="embedded", count=count, parameters=parameters, layers=True)
    return open_dataset(generate_file(recipe, Path("cluttered.h5")).path)


def test_a_file_holds_the_target_the_number_of_scraps_and_is_measured(digits: Digits) -> None:
    file = made()
    sampler = sampler_of(digits)
    batch = sampler.batch(np.arange(100))
    np.testing.assert_array_equal(np.asarray(file.scraps), np.asarray(batch.scraps))
    np.testing.assert_array_equal(np.asarray(file.batch([3, 5]).scraps), np.asarray(batch.scraps)[[3, 5]])
    np.testing.assert_array_equal(file.layers(range(100)), sampler.layers(np.arange(100)))
    found = {one.name: one.mean for one in measure(file)}
    assert found.keys() == sampler.measures(batch).keys()
    assert found["scraps"] == np.asarray(batch.scraps).mean()
    assert preview(file, Path("x.png")) == 48


@pytest.mark.parametrize(("column", "forged"), [("shift", b"\x7f"), ("source", b"\xff\xff\xff\xff")])
def test_a_forged_shift_or_source_is_told(column: str, forged: bytes) -> None:
    file = made()
    with file.path.open("r+b") as raw:
        raw.seek(file.extents[column].offset)
        raw.write(forged)
    with pytest.raises(DataFileError, match="have digits or shifts that its spec does not draw"):
        measure(DataFile(file.path))
