"""A digit at a random place: every place equally often, and nothing lost unless the ink is cut."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from capsbench.contracts import ArrayBatch, Digits
from capsbench.errors import ParameterError
from capsbench.generators.padded import Padded


def draw(digits: Digits, number: int, **parameters: Any) -> ArrayBatch:
    return Padded(**parameters).sampler(digits, 0).batch(np.arange(number))


def test_all_169_places_are_equally_likely(digits: Digits) -> None:
    shift = draw(digits, 33_800).shift
    assert shift is not None
    counts = np.zeros((13, 13), int)
    np.add.at(counts, tuple(shift.T.astype(int) + 6), 1)
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_dy_moves_down_and_dx_to_the_right(digits: Digits) -> None:
    batch = draw(digits, 200)
    assert batch.shift is not None
    for image, (dy, dx), digit in zip(batch.images, batch.shift.astype(int), digits.images, strict=False):
        np.testing.assert_array_equal(image[6 + dy : 34 + dy, 6 + dx : 34 + dx], digit)
        assert image.sum() == digit.sum()


def test_centered_digits_have_a_margin_of_six(digits: Digits) -> None:
    batch = draw(digits, len(digits), **Padded.presets["centered"])
    assert batch.shift is not None
    assert not batch.shift.any()
    np.testing.assert_array_equal(batch.images, np.pad(digits.images, ((0, 0), (6, 6), (6, 6))))


def test_plain_mnist_with_the_papers_augmentation_cuts_what_leaves_the_frame(digits: Digits) -> None:
    batch = draw(digits, 3000, size=28, shift=2)
    assert batch.images.shape == (3000, 28, 28)
    assert batch.shift is not None
    assert np.unique(batch.shift).tolist() == [-2, -1, 0, 1, 2]
    cut = batch.images.sum((1, 2), dtype=int) < digits.images[np.arange(3000) % 1000].sum((1, 2), dtype=int)
    assert 0 < cut.mean() < 0.2
    still = ~batch.shift.any(1)
    np.testing.assert_array_equal(batch.images[still], digits.images[np.arange(3000) % 1000][still])


@pytest.mark.parametrize(("size", "shift"), [(28, 14), (40, 20), (64, 32), (66, 33), (128, 64)])
def test_largest_shift_leaves_half_of_the_frame(digits: Digits, size: int, shift: int) -> None:
    batch = draw(digits, 1000, size=size, shift=shift)
    assert batch.shift is not None
    assert np.abs(batch.shift.astype(int)).max() == shift
    corner = shift + (size - 28) // 2
    for image, (dy, dx), digit in zip(batch.images, batch.shift.astype(int), digits.images, strict=True):
        wide = np.zeros((size + 2 * shift, size + 2 * shift), np.uint8)
        wide[corner + dy : corner + dy + 28, corner + dx : corner + dx + 28] = digit
        np.testing.assert_array_equal(image, wide[shift : shift + size, shift : shift + size])


@pytest.mark.parametrize("size", [66, 128])
def test_on_a_large_canvas_all_of_the_digit_is_there(digits: Digits, size: int) -> None:
    batch = draw(digits, 1000, size=size, shift=(size - 28) // 2)
    np.testing.assert_array_equal(batch.images.sum((1, 2), dtype=int), digits.images.sum((1, 2), dtype=int))
    assert batch.shift is not None and np.abs(batch.shift.astype(int)).max() == (size - 28) // 2


@pytest.mark.parametrize("size", [29, 41, 127])
def test_odd_canvas_is_refused(size: int) -> None:
    with pytest.raises(ParameterError, match=f"size must be even, .* got {size}"):
        Padded(size=size)


def test_measures_are_the_ink_and_the_shift(digits: Digits) -> None:
    sampler = Padded().sampler(digits, 0)
    batch = sampler.batch(np.arange(1000))
    measures = sampler.measures(batch)
    assert batch.shift is not None
    np.testing.assert_array_equal(measures["ink (pixels)"], (digits.images > 0).sum((1, 2)))
    np.testing.assert_array_equal(measures["dy (pixels)"], batch.shift[:, 0])
    np.testing.assert_array_equal(measures["dx (pixels)"], batch.shift[:, 1])
