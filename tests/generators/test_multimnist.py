"""Two digits on top of one another: who is paired with whom, how far apart, and how much of them is shared."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from capsbench.contracts import INK_OVERLAP, ArrayBatch, Digits
from capsbench.errors import DigitsError, ParameterError
from capsbench.generators.multimnist import MultiMNIST, MultiMNISTSampler

NUMBER = 90_000


@pytest.fixture(scope="module")
def sampler(digits: Digits) -> MultiMNISTSampler:
    return MultiMNIST().sampler(digits, 0)


def pairs_of(sampler: MultiMNISTSampler, base: int, number: int, digits: Digits) -> ArrayBatch:
    """The first variants of one base digit."""
    return sampler.batch(base + len(digits) * np.arange(number))


def shifts(batch: ArrayBatch) -> npt.NDArray[np.int64]:
    assert batch.shift is not None
    return batch.shift.astype(np.int64)


def test_never_two_digits_of_one_class_and_all_45_kinds_of_pairs(sampler: MultiMNISTSampler) -> None:
    labels = sampler.batch(np.arange(20_000)).labels
    assert (labels[:, 0] != labels[:, 1]).all()
    assert len({tuple(sorted(pair)) for pair in labels.tolist()}) == 45
    assert len({tuple(pair) for pair in labels.tolist()}) == 90


@pytest.mark.parametrize("label", [0, 4, 9])
def test_partner_is_any_digit_of_the_other_classes_equally_often(
    sampler: MultiMNISTSampler, digits: Digits, label: int
) -> None:
    base = int(np.flatnonzero(digits.labels == label)[-1])
    batch = pairs_of(sampler, base, 45_000, digits)
    assert batch.source is not None
    assert (batch.source[:, 0] == base).all()
    counts = np.bincount(batch.source[:, 1], minlength=len(digits))
    others = digits.labels != label
    assert not counts[~others].any()
    assert stats.chisquare(counts[others]).pvalue > 1e-3


def test_all_81_places_are_equally_likely_for_both_digits_independently(
    sampler: MultiMNISTSampler,
) -> None:
    shift = shifts(sampler.batch(np.arange(NUMBER))) + 4
    places = shift[:, :, 0] * 9 + shift[:, :, 1]  # [n, 2]
    assert 0 <= places.min() <= places.max() < 81
    together = np.bincount(places[:, 0] * 81 + places[:, 1], minlength=81 * 81).reshape(81, 81)
    assert stats.chisquare(together.sum(0)).pvalue > 1e-3
    assert stats.chisquare(together.sum(1)).pvalue > 1e-3
    assert stats.chisquare(together.ravel()).pvalue > 1e-3


def test_partner_and_places_are_independent(sampler: MultiMNISTSampler, digits: Digits) -> None:
    batch = pairs_of(sampler, 0, 40_000, digits)
    assert batch.source is not None
    columns = np.column_stack([batch.source[:, 1], shifts(batch).reshape(-1, 4)]).T
    assert np.abs(np.corrcoef(columns) - np.eye(5)).max() < 4 / np.sqrt(40_000)


@pytest.mark.parametrize(
    ("name", "side", "expected"), [("overlap of frames (%)", 28, 79.96), ("overlap of boxes (%)", 20, 72.57)]
)
def test_overlap_is_that_of_the_paper(sampler: MultiMNISTSampler, name: str, side: int, expected: float) -> None:
    apart = np.abs(np.subtract.outer(np.arange(-4, 5), np.arange(-4, 5)))
    assert 100 * (1 - apart / side).mean() ** 2 == pytest.approx(expected, abs=0.01)
    measured = sampler.measures(sampler.batch(np.arange(20_000)))[name]
    assert measured.mean() == pytest.approx(expected, abs=4 * measured.std() / np.sqrt(20_000))


def test_overlap_of_ink_is_counted_on_the_layers(sampler: MultiMNISTSampler) -> None:
    indices = np.arange(300)
    base, partner = np.moveaxis(sampler.layers(indices) >= 128, 1, 0)
    both = (base & partner).sum((1, 2))
    mean = (base.sum((1, 2)) + partner.sum((1, 2))) / 2
    measured = sampler.measures(sampler.batch(indices))[INK_OVERLAP]
    np.testing.assert_allclose(measured, 100 * both / mean)
    assert 0 < measured.mean() < 50


def test_bright_ink_on_bright_ink_is_white(sampler: MultiMNISTSampler) -> None:
    """The authors' code added in uint8 until 2018-01-29 and made it dark."""
    indices = np.arange(2000)
    layers = sampler.layers(indices).astype(int)
    images = sampler.batch(indices).images
    crossing = layers.sum(1) > 255
    assert crossing.any((1, 2)).mean() > 0.9
    assert (images[crossing] == 255).all()
    assert (images >= layers.max(1)).all()


def test_each_digit_lies_where_its_shift_says(sampler: MultiMNISTSampler, digits: Digits) -> None:
    indices = np.arange(300)
    batch, layers = sampler.batch(indices), sampler.layers(indices)
    assert batch.source is not None
    for i in indices:
        for k in range(2):
            dy, dx = shifts(batch)[i, k]
            expected = np.zeros((36, 36), np.uint8)
            expected[4 + dy : 32 + dy, 4 + dx : 32 + dx] = digits.images[batch.source[i, k]]
            np.testing.assert_array_equal(layers[i, k], expected)


def test_release_preset_gives_all_pairs_of_a_base_the_same_shift_of_the_base(digits: Digits) -> None:
    sampler = MultiMNIST(**MultiMNIST.presets["release"]).sampler(digits, 0)
    bases = []
    for base in range(200):
        shift = shifts(pairs_of(sampler, base, 30, digits))
        assert (shift[:, 0] == shift[0, 0]).all()
        assert len(np.unique(shift[:, 1], axis=0)) > 15
        bases.append(shift[0, 0])
    assert np.unique(bases).tolist() == list(range(-6, 7))
    assert len(np.unique(bases, axis=0)) > 80  # of 169


def test_without_reuse_each_pair_of_a_base_has_its_own_shift(sampler: MultiMNISTSampler, digits: Digits) -> None:
    shift = shifts(pairs_of(sampler, 0, 30, digits))
    assert len(np.unique(shift[:, 0], axis=0)) > 15


def test_release_preset_cuts_ink_that_leaves_the_canvas(digits: Digits) -> None:
    sampler = MultiMNIST(**MultiMNIST.presets["release"]).sampler(digits, 0)
    assert sampler.batch(np.arange(2)).images.shape == (2, 36, 36)
    batch = sampler.batch(np.arange(1000))
    assert batch.source is not None
    ink = sampler.layers(np.arange(1000)).sum((2, 3), dtype=int)
    whole = digits.images[batch.source].sum((2, 3), dtype=int)
    far = np.abs(shifts(batch)).max(2) > 4
    np.testing.assert_array_equal(ink[~far], whole[~far])
    assert (ink[far] <= whole[far]).all()
    assert (ink[far] < whole[far]).any()


@pytest.mark.parametrize(("shift", "margin", "side"), [(4, 4, 36), (0, 0, 28), (14, 0, 28), (8, 10, 48), (32, 18, 64)])
def test_image_is_the_frame_and_two_margins(digits: Digits, shift: int, margin: int, side: int) -> None:
    generator = MultiMNIST(shift=shift, margin=margin)
    assert generator.image_shape == (side, side)
    assert generator.sampler(digits, 0).batch(np.arange(3)).images.shape == (3, side, side)


@pytest.mark.parametrize("change", [{"shift": 19}, {"shift": -1}, {"margin": -1}, {"margin": 19}])
def test_parameters_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        MultiMNIST(**change)


def test_digits_of_a_single_class_make_no_pairs(digits: Digits) -> None:
    threes = digits.labels == 3
    with pytest.raises(DigitsError, match="all of one class"):
        MultiMNIST().sampler(replace(digits, images=digits.images[threes], labels=digits.labels[threes]), 0)


def test_classes_need_not_all_be_there_nor_be_equally_many(digits: Digits) -> None:
    few = np.concatenate([np.flatnonzero(digits.labels == 7)[:5], np.flatnonzero(digits.labels == 2)[:1]])
    some = replace(digits, images=digits.images[few], labels=digits.labels[few])
    batch = MultiMNIST().sampler(some, 0).batch(np.arange(600))
    assert batch.source is not None
    assert (np.sort(batch.labels, axis=1) == [2, 7]).all()
    partners_of_the_two = batch.source[batch.labels[:, 0] == 2, 1]
    assert stats.chisquare(np.bincount(partners_of_the_two, minlength=5)).pvalue > 1e-3
