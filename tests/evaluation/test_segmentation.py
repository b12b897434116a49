"""Taking images apart: four pixels worked by hand, and pictures whose scores are known."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsbench.data.streaming import stream
from capsbench.evaluation.segmentation import SegmentationTally, segmentation


def four_pixels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One image of one row: a's ink, a's and b's ink, b's ink, black."""
    layers = np.array([[[[255, 200, 0, 0]], [[0, 128, 255, 127]]]], np.uint8)
    images = np.array([[[255, 255, 255, 127]]], np.uint8)
    drawn = np.array([[[[0.8, 0.4, 0.3, 0.9]], [[0.2, 0.3, 0.3, 0.9]]]])
    return drawn, layers, images


def test_four_pixels_worked_by_hand() -> None:
    # Ink: a 1100, b 0110 (127 is none), image 1110. Single ink: pixel 0 is a's, where a draws 0.8 against 0.2: right;
    # pixel 2 is b's, 0.3 against 0.3: a tie, half. owner = 1.5 / 2.
    # S: half of the larger is 0.4, 0.2, 0.15 in the image's ink: S_a = 1110, S_b = 0110 (0.2 < 0.4).
    # IoU: a |1100| / |1110| = 2/3, b |0110| / |0110| = 1: mean 5/6.
    # Shared ink: drawn 0110, true 0100: precision 1/2, recall 1, F1 = 2 * 1 / (2 + 1).
    found = segmentation(*four_pixels())
    assert found.owner == pytest.approx(0.75)
    assert found.relative_iou == pytest.approx(5 / 6)
    assert found.shared_f1 == pytest.approx(2 / 3)
    # The image shared out, in 255ths: a 255 * 0.8, 255 * 4/7, 255 / 2, 127 / 2; b the rest.
    a = np.array([255 * 0.8 - 255, 255 * 4 / 7 - 200, 127.5, 63.5]) / 255
    b = np.array([255 * 0.2, 255 * 3 / 7 - 128, 127.5 - 255, 63.5 - 127]) / 255
    expected = np.mean([-10 * np.log10(np.mean(error**2)) for error in (a, b)])
    assert found.split_psnr == pytest.approx(expected)


def test_half_of_the_larger_is_ink_and_less_is_not() -> None:
    # Two pixels, ink of both digits; b draws 0.4 and 0.39 where a draws 0.8: S_a = 11, S_b = 10, IoU 1 and 1/2.
    layers, images = np.full((1, 2, 1, 2), 255, np.uint8), np.full((1, 1, 2), 255, np.uint8)
    found = segmentation(np.array([[[[0.8, 0.8]], [[0.4, 0.39]]]]), layers, images)
    assert found.relative_iou == pytest.approx(3 / 4)
    assert found.shared_f1 == pytest.approx(2 / 3)  # precision 1, recall 1/2


def test_a_digit_that_was_missed_scores_nothing() -> None:
    # b is not found: pixel 2 has no owner. S_a = 1110, S_b = 0000. IoU of a 2/3, of b 0. No shared ink is drawn.
    found = segmentation(*four_pixels(), found=np.array([[True, False]]))
    assert found.owner == pytest.approx(1 / 2)
    assert found.relative_iou == pytest.approx(1 / 3)
    assert found.shared_f1 == 0


def test_what_was_found_instead_of_a_digit_competes_with_the_one_that_was_found() -> None:
    # a is found; what was found instead of b draws more than a on pixel 0, so a owns none of its single ink there.
    drawn, layers, images = four_pixels()
    drawn[0, 1, 0] = [1.0, 0.3, 0.3, 0.9]
    drawn[0, 0, 0] = [0.4, 0.4, 0.3, 0.9]
    found = segmentation(drawn, layers, images, found=np.array([[True, False]]))
    assert found.owner == 0  # pixel 0: 0.4 against 1; pixel 2 is b's, who was missed
    assert found.relative_iou == pytest.approx((1 / 3 + 0) / 2)  # S_a = 0110 against 1100
    # And where a wrong digit is drawn exactly as a layer is, swapped drawings own nothing, as with true labels.
    layers, images = pairs()
    seen = np.tile([True, False], (len(layers), 1))
    assert segmentation(layers[:, ::-1] / 255, layers, images, seen).owner == 0


def pairs(number: int = 200) -> tuple[np.ndarray, np.ndarray]:
    data = stream("multimnist", split="test", digits="embedded", count=number)
    indices = np.arange(number)
    return data.layers(indices), data.batch(indices).images


def test_true_layers_are_nearly_perfect() -> None:
    layers, images = pairs()
    found = segmentation(layers / 255, layers, images)
    assert found.owner == 1
    assert found.relative_iou > 0.95 and found.shared_f1 > 0.9  # faint ink beside dark ink is not half of it
    assert found.split_psnr > 24  # where both are dark, the image says less than their sum


def test_the_image_for_both_owns_half() -> None:
    layers, images = pairs()
    found = segmentation(np.repeat(images[:, None] / 255, 2, axis=1), layers, images)
    assert found.owner == 0.5
    assert 0.4 < found.relative_iou < 0.7


def test_swapped_layers_own_nothing() -> None:
    layers, images = pairs()
    assert segmentation(layers[:, ::-1] / 255, layers, images).owner == 0


@given(st.floats(0.01, 1))
def test_it_does_not_matter_how_dark_reconstructions_are(factor: float) -> None:
    layers, images = pairs(20)
    drawn = np.random.default_rng(0).random(layers.shape)
    full, dim = segmentation(drawn, layers, images), segmentation(factor * drawn, layers, images)
    assert dim.owner == full.owner and dim.split_psnr == pytest.approx(full.split_psnr)
    assert dim.relative_iou == pytest.approx(full.relative_iou, abs=1e-3)  # a half may round to the other side


@given(st.lists(st.integers(1, 14), max_size=4, unique=True))
def test_pairs_in_parts_are_as_at_once(cuts: list[int]) -> None:
    layers, images = pairs(15)
    generator = np.random.default_rng(0)
    drawn, found = generator.random(layers.shape), generator.random((15, 2)) < 0.7
    tally = SegmentationTally()
    for start, stop in pairwise([0, *sorted(cuts), 15]):
        part = slice(start, stop)
        tally.add(drawn[part], layers[part], images[part], found[part])
    at_once = segmentation(drawn, layers, images, found).to_dict()
    assert tally.score().to_dict() == pytest.approx(at_once)


def test_parts_of_unequal_size_count_by_their_pairs() -> None:
    # Three times the pair of four pixels, once with both digits missed: IoU (3 * 5/6 + 0) / 4.
    drawn, layers, images = four_pixels()
    tally = SegmentationTally()
    tally.add(*(np.repeat(one, 3, axis=0) for one in (drawn, layers, images)))
    tally.add(drawn, layers, images, np.zeros((1, 2), bool))
    found = tally.score()
    assert found.relative_iou == pytest.approx(3 / 4 * 5 / 6)
    assert found.owner == pytest.approx(3 / 4 * 0.75)


def test_nothing_has_no_score() -> None:
    with pytest.raises(ValueError, match="no pair was added"):
        SegmentationTally().score()


def test_shapes_that_do_not_fit_are_refused() -> None:
    drawn, layers, images = four_pixels()
    for wrong in ((drawn[:, :1], layers, images), (drawn, layers[:, :1], images), (drawn, layers, images[:, :, :2])):
        with pytest.raises(ValueError, match="got reconstructions"):
            segmentation(*wrong)
