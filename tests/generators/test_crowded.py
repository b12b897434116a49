"""A target and its flankers: who flanks whom and where, what shuffling keeps and loses, and what is cut."""

from collections import Counter
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from capsbench.contracts import Digits, IndexArray, UInt8Array
from capsbench.data.recipes import make_recipe
from capsbench.errors import DataFileError, DigitsError, ParameterError, UnknownNameError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file
from capsbench.files.inspection import measure
from capsbench.files.preview import preview
from capsbench.generators.crowded import Crowded, CrowdedSampler

APART: dict[str, Any] = {"spacing": 28, "jitter": 0}
"""Three frames side by side: each is seen by itself."""


def sampler_of(digits: Digits, **parameters: Any) -> CrowdedSampler:
    return Crowded(**parameters).sampler(digits, 0)


def frames(digits: Digits, indices: IndexArray, **parameters: Any) -> UInt8Array:
    """``[n, 3, 28, 28]``: left flanker, target, right flanker of samples that keep them apart."""
    images = sampler_of(digits, **APART, **parameters).batch(indices).images
    return np.stack(np.split(images, 3, axis=2), 1)


def drawn_by_hand(image: npt.NDArray[Any], side: int) -> Digits:
    """Two digits of two classes that both look like an image, put at rows and columns from ``side`` on."""
    images = np.zeros((2, 28, 28), np.uint8)
    images[:, side : side + image.shape[0], side : side + image.shape[1]] = image
    return Digits(images, np.array([3, 5], np.uint8), "test", "embedded")


def test_target_moves_sideways_only_and_to_all_places_equally_often(digits: Digits) -> None:
    shift = sampler_of(digits).batch(np.arange(18_000)).shift
    assert shift is not None
    assert not shift[:, 0].any()
    counts = np.bincount(shift[:, 1].astype(int) + 4)
    assert len(counts) == 9
    assert stats.chisquare(counts).pvalue > 1e-3


def test_dx_moves_the_whole_group_to_the_right(digits: Digits) -> None:
    indices = np.arange(200)
    batch, still = sampler_of(digits).batch(indices), sampler_of(digits, jitter=0).batch(indices)
    assert batch.shift is not None
    for image, middle, (_, dx) in zip(batch.images, still.images, batch.shift.astype(int), strict=True):
        np.testing.assert_array_equal(image, np.roll(middle, dx, axis=1))


def test_flankers_are_whole_digits_whose_classes_are_told(digits: Digits) -> None:
    indices = np.arange(500)
    known = {image.tobytes(): label for image, label in zip(digits.images, digits.labels, strict=True)}
    seen = np.array([[known[frame.tobytes()] for frame in three] for three in frames(digits, indices)])
    np.testing.assert_array_equal(seen[:, 1], digits.labels[indices])
    np.testing.assert_array_equal(sampler_of(digits).flankers(indices), seen[:, [0, 2]])
    assert (seen[:, [0, 2]] != seen[:, [1]]).all()


def test_each_flanker_is_any_digit_of_the_other_classes_equally_often_whatever_the_other_is(digits: Digits) -> None:
    variants = 7 + len(digits) * np.arange(20_000)  # of one target
    label = digits.labels[7]
    known = {image.tobytes(): k for k, image in enumerate(digits.images)}
    seen = frames(digits, variants)
    others = digits.labels != label
    for side in (0, 2):
        counts = np.bincount([known[frame.tobytes()] for frame in seen[:, side]], minlength=len(digits))
        assert not counts[~others].any()
        assert stats.chisquare(counts[others]).pvalue > 1e-3
    left, right = sampler_of(digits).flankers(variants).T.astype(int)
    together = np.bincount(left * 10 + right, minlength=100).reshape(10, 10)
    together = np.delete(np.delete(together, label, 0), label, 1)
    assert stats.chisquare(together.ravel()).pvalue > 1e-3


@pytest.mark.parametrize("other", [{"spacing": 14}, {"flankers": "shuffled"}, {"flankers": "none"}])
def test_samples_differ_in_spacing_and_kind_alone(digits: Digits, other: dict[str, Any]) -> None:
    """So that conditions are compared on the same targets between the same flankers."""
    indices = np.arange(300)
    one, two = sampler_of(digits), sampler_of(digits, **other)
    first, second = one.batch(indices), two.batch(indices)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(np.asarray(first.shift), np.asarray(second.shift))
    np.testing.assert_array_equal(one.layers(indices), two.layers(indices))
    if other.get("flankers") == "none":
        np.testing.assert_array_equal(second.images, one.layers(indices)[:, 0])
        assert two.flankers(indices).shape == (300, 0)
    else:
        np.testing.assert_array_equal(one.flankers(indices), two.flankers(indices))
        assert (first.images != second.images).any((1, 2)).all()


@pytest.mark.parametrize("spacing", [14, 20, 28])
def test_boxes_of_20_never_leave_the_strip(spacing: int) -> None:
    box = drawn_by_hand(np.full((20, 20), 255), 4)
    batch = sampler_of(box, spacing=spacing, jitter=32 - spacing).batch(np.arange(500))
    assert batch.shift is not None
    assert np.abs(batch.shift.astype(int)).max() == 32 - spacing
    assert (batch.images.any(1).sum(1) == 20 + 2 * min(spacing, 20)).all()


def test_ink_is_rarely_cut_at_the_largest_spacing(digits: Digits) -> None:
    indices = np.arange(4000)
    ends, whole = (sampler_of(digits, spacing=28, jitter=jitter).batch(indices).images for jitter in (4, 0))
    lost = whole.sum((1, 2), dtype=int) - ends.sum((1, 2), dtype=int)
    assert 0.02 < (lost > 0).mean() < 0.04
    assert lost.sum() / whole.sum() < 0.0003
    near, middle = (sampler_of(digits, spacing=24, jitter=jitter).batch(indices).images for jitter in (4, 0))
    np.testing.assert_array_equal(near.sum((1, 2)), middle.sum((1, 2)))


def test_shuffled_flankers_keep_their_pixels_in_the_box_of_their_ink_and_lose_their_shape(digits: Digits) -> None:
    indices = np.arange(300)
    plain, shuffled = frames(digits, indices), frames(digits, indices, flankers="shuffled")
    np.testing.assert_array_equal(shuffled[:, 1], plain[:, 1])
    for before, after in zip(plain[:, ::2].reshape(-1, 28, 28), shuffled[:, ::2].reshape(-1, 28, 28), strict=True):
        box = np.zeros((28, 28), bool)
        (top, left), (bottom, right) = np.argwhere(before).min(0), np.argwhere(before).max(0)
        box[top : bottom + 1, left : right + 1] = True
        assert not after[~box].any()
        assert Counter(after[box].tolist()) == Counter(before[box].tolist())
        moved = (after != before)[box].mean()
        assert moved > 0.2, "most of what differs from its neighbours has moved"


def test_all_orders_of_the_pixels_are_equally_likely_on_both_sides_independently() -> None:
    four = drawn_by_hand(np.array([[10, 20], [30, 40]]), 13)
    seen = frames(four, np.arange(24_000), flankers="shuffled")[:, :, 13:15, 13:15].reshape(-1, 3, 4)
    ranks = {order: rank for rank, order in enumerate(permutations((10, 20, 30, 40)))}
    left, right = (np.array([ranks[tuple(four)] for four in seen[:, side].tolist()]) for side in (0, 2))
    assert stats.chisquare(np.bincount(left * 24 + right, minlength=576)).pvalue > 1e-3


def test_bright_ink_on_bright_ink_is_white(digits: Digits) -> None:
    indices = np.arange(1000)
    three = frames(digits, indices).astype(int)
    images = sampler_of(digits, spacing=14, jitter=0).batch(indices).images
    left, target, right = np.moveaxis(three, 1, 0)
    total = target.copy()
    total[:, :, :14] += left[:, :, 14:]
    total[:, :, 14:] += right[:, :, :14]
    assert (total > 255).any((1, 2)).mean() > 0.1
    np.testing.assert_array_equal(images[:, :, 28:56], np.minimum(total, 255))


def test_measures_are_the_ink_the_shift_and_the_covered_share_of_the_target(digits: Digits) -> None:
    indices = np.arange(400)
    sampler = sampler_of(digits, spacing=14, jitter=0)
    batch = sampler.batch(indices)
    measures = sampler.measures(batch)
    np.testing.assert_array_equal(measures["ink (pixels)"], np.count_nonzero(batch.images, (1, 2)))
    assert not measures["dx (pixels)"].any()
    left, target, right = np.moveaxis(frames(digits, indices), 1, 0)
    over = np.concatenate([left[:, :, 14:], right[:, :, :14]], 2) > 0
    ink = (target > 0) & (target < 255)
    np.testing.assert_allclose(measures["target covered (%)"], 100 * (ink & over).sum((1, 2)) / ink.sum((1, 2)))
    assert 2 < measures["target covered (%)"].mean() < 10
    jittered = sampler_of(digits)
    moved = jittered.batch(indices)
    assert moved.shift is not None
    np.testing.assert_array_equal(jittered.measures(moved)["dx (pixels)"], moved.shift[:, 1])


@pytest.mark.parametrize("parameters", [{"spacing": 28}, {"flankers": "none"}])
def test_nothing_is_covered_by_what_is_not_there(digits: Digits, parameters: dict[str, Any]) -> None:
    sampler = sampler_of(digits, **parameters)
    assert not sampler.measures(sampler.batch(np.arange(200)))["target covered (%)"].any()


@pytest.mark.parametrize(
    "change",
    [{"spacing": 13}, {"spacing": 29}, {"jitter": -1}, {"spacing": 14, "jitter": 19}, {"spacing": 28, "jitter": 5}],
)
def test_parameters_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        Crowded(**change)


def test_unknown_kind_of_flankers_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'shuffled'"):
        Crowded(flankers="shufled")


def test_digits_of_a_single_class_have_no_flankers_but_can_be_alone(digits: Digits) -> None:
    threes = digits.labels == 3
    some = replace(digits, images=digits.images[threes], labels=digits.labels[threes])
    with pytest.raises(DigitsError, match="all of one class"):
        sampler_of(some)
    assert (sampler_of(some, flankers="none").batch(np.arange(50)).labels == 3).all()


def made(count: int = 100, **parameters: Any) -> DataFile:
    recipe = make_recipe("crowded", split="test", digits="embedded", count=count, parameters=parameters, layers=True)
    return open_dataset(generate_file(recipe, Path("crowded.h5")).path)


def test_a_file_holds_the_target_and_is_measured(digits: Digits) -> None:
    file = made(flankers="shuffled", spacing=14)
    assert file.images.shape == (100, 28, 84)
    assert file.labels.tolist() == digits.labels[:100].tolist()
    np.testing.assert_array_equal(
        file.layers(range(100)), sampler_of(digits, flankers="none").batch(np.arange(100)).images[:, None]
    )
    assert [one.name for one in measure(file)] == ["ink (pixels)", "dx (pixels)", "target covered (%)"]


def test_a_forged_shift_is_told() -> None:
    file = made()
    place = file.extents["shift"]
    with file.path.open("r+b") as raw:
        raw.seek(place.offset)
        raw.write(b"\0\x7f")
    with pytest.raises(DataFileError, match="have digits or shifts that its spec does not draw"):
        measure(DataFile(file.path))


@pytest.mark.parametrize(("count", "rows"), [(48, 12), (5, 2)])
def test_a_preview_shows_a_strip_three_times_as_wide_as_a_digit(count: int, rows: int) -> None:
    assert preview(made(count), Path("x.png")) == count
    height, width = matplotlib.image.imread("x.png").shape[:2]
    assert width == 1200
    assert height == round(100 * (rows * 1.25 + 0.5))
