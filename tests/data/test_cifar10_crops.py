"""Crops: where they are cut is a function of seed, split and index, as a plain loop over Philox draws them again."""

import numpy as np
import pytest

from capsbench.data.cifar10_crops import NUMBER, Crops
from capsbench.data.cifar10_made import made_images
from capsbench.errors import ParameterError
from capsbench.randomness import words
from capsbench.spec import SPLITS, DataSpec

IMAGES = made_images("train")


@pytest.mark.parametrize("size", [24, 32, 1])
def test_random_crops_are_drawn_as_is_said(size: int) -> None:
    data = Crops(IMAGES, size=size, random=True, variants=3, seed=7)
    some = np.array([0, 399, 400, 801, 1199, 5, 5])
    batch = data.batch(some)
    mirrored = []
    for number, index in enumerate(some.tolist()):
        word = [int(one[0]) for one in words(np.array([index]), seed=7, stream=16 * NUMBER + SPLITS.index("train"))]
        dy, dx = divmod(word[0] * (33 - size) ** 2 >> 32, 33 - size)
        image = IMAGES.images[index % 400][:, dy : dy + size, dx : dx + size]
        mirrored.append(word[1] >> 31)
        expected = image[:, :, ::-1] if mirrored[-1] else image
        assert np.array_equal(batch.images[number], expected)
        assert batch.labels[number] == IMAGES.labels[index % 400] and batch.shift is not None
        assert batch.shift[number].tolist() == [dy, dx]
    assert set(mirrored) == {0, 1} and batch.source is not None and batch.source.tolist() == (some % 400).tolist()


def test_places_and_mirroring_are_even() -> None:
    data = Crops(IMAGES, size=24, random=True, variants=50)
    shift = data.batch(np.arange(len(data))).shift
    assert shift is not None
    counts = np.bincount(9 * shift[:, 0].astype(int) + shift[:, 1], minlength=81)
    assert len(counts) == 81
    expected = len(data) / 81
    assert ((counts - expected) ** 2 / expected).sum() < 130  # chi-square of 80 degrees: 1 in 3,000 is above
    _, mirrored = data._drawn(np.arange(len(data)))
    assert abs(mirrored.mean() - 0.5) < 0.013  # 4 deviations of 20,000 coins are 0.014


@pytest.mark.parametrize(("size", "corner"), [(24, 4), (32, 0), (23, 4), (1, 15)])
def test_a_crop_in_the_centre_is_cut_there_and_not_mirrored(size: int, corner: int) -> None:
    data = Crops(IMAGES, size=size, random=False, seed=3)
    assert len(data) == 400
    batch = data.batch(np.arange(400))
    end = corner + size
    assert np.array_equal(batch.images, IMAGES.images[:, :, corner:end, corner:end])


def test_a_sample_depends_on_its_index_alone() -> None:
    data = Crops(IMAGES, size=24, random=True, variants=2)
    together = data.batch(np.arange(100, 500))
    again = [data.batch(np.array([index])).images[0] for index in range(499, 99, -37)]
    assert all(
        np.array_equal(one, together.images[index - 100]) for one, index in zip(again, range(499, 99, -37), strict=True)
    )
    other = [Crops(IMAGES, size=24, random=True, seed=1), Crops(made_images("trainval"), size=24, random=True)]
    assert all(not np.array_equal(one.batch(np.arange(100, 150)).images, together.images[:50]) for one in other)
    assert IMAGES.images.sum() == made_images("train").images.sum()  # what was mirrored was a copy


def test_the_spec_says_all_that_determines_them() -> None:
    data = Crops(IMAGES, size=24, random=True, variants=2, seed=5)
    assert data.spec == DataSpec(
        generator="cifar10", version=1, split="train", seed=5, count=800, parameters={"size": 24, "random": True},
        layers=False, digits=IMAGES.sha256,
    )  # fmt: skip


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": 33}, {"variants": 0}, {"seed": -1}])
def test_what_makes_no_crops_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        Crops(IMAGES, **{"size": 24, "random": True, **wrong})  # type: ignore[arg-type]


def test_samples_that_are_not_there_are_refused() -> None:
    data = Crops(IMAGES, size=24, random=False)
    with pytest.raises(IndexError):
        data.batch(np.array([400]))
    with pytest.raises(ParameterError, match="no layers"):
        data.layers(np.array([0]))
