"""The source digits: their splits, and how a spec finds them by their hash."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from capsbench.data.digits import KNOWN, KnownDigits, digits_by_hash, load_digits, name_of
from capsbench.data.places import auto_source, cache_folder
from capsbench.errors import DigitsError, UnknownNameError
from capsbench.spec import SPLITS

from .idx_folders import TEST_LABELS, Placer, numbers

FULL_MNIST = auto_source()  # of the machine, before a test hides it


pytestmark = pytest.mark.usefixtures("nowhere")


# The embedded digits


@pytest.mark.parametrize(("split", "count"), [("train", 3200), ("validation", 800), ("trainval", 4000), ("test", 1000)])
def test_embedded_splits_are_balanced(split: str, count: int) -> None:
    found = load_digits(split, "embedded")
    assert found.images.shape == (count, 28, 28)
    assert found.images.dtype == found.labels.dtype == np.uint8
    assert np.bincount(found.labels).tolist() == [count // 10] * 10
    assert (found.split, found.origin) == (split, "embedded")


def test_embedded_train_and_validation_share_nothing_and_make_up_trainval() -> None:
    train, validation, trainval = (
        [image.tobytes() for image in load_digits(split, "embedded").images] for split in SPLITS[:3]
    )
    assert not set(train) & set(validation)
    kept = set(train)
    assert train == [image for image in trainval if image in kept]  # the order of the file
    assert validation == [image for image in trainval if image not in kept]


def test_of_each_class_the_first_embedded_digits_train() -> None:
    trainval, train = load_digits("trainval", "embedded"), load_digits("train", "embedded")
    for label in range(10):
        of_class = trainval.images[trainval.labels == label]
        np.testing.assert_array_equal(train.images[train.labels == label], of_class[:320])


def test_arrays_cannot_be_written_to(stand_in: Path) -> None:
    for source in ("embedded", stand_in):
        found = load_digits("test", source)
        for array in (found.images, found.labels):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0


# A folder


@pytest.mark.parametrize(
    ("split", "start", "stop"),
    [("train", 0, 50_000), ("validation", 50_000, 60_000), ("trainval", 0, 60_000), ("test", 0, 10_000)],
)
def test_full_splits(stand_in: Path, split: str, start: int, stop: int) -> None:
    found = load_digits(split, str(stand_in))
    assert numbers(found.images) == list(range(start, stop))
    np.testing.assert_array_equal(found.labels, np.arange(start, stop) % 10)
    assert (found.split, found.origin) == (split, "mnist")


def test_unknown_split() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        load_digits("trian", "embedded")


# Where "auto" looks


def test_auto_without_full_mnist_is_embedded() -> None:
    assert auto_source() is None
    assert load_digits("test").origin == "embedded"


def test_auto_loads_what_it_finds(place: Placer, tmp_path: Path) -> None:
    place(tmp_path / "data/MNIST/raw")
    assert load_digits("test").origin == "mnist"


def test_damaged_cache_is_an_error_not_a_reason_to_take_other_digits(place: Placer, tmp_path: Path) -> None:
    damaged = place(cache_folder()) / TEST_LABELS
    damaged.unlink()
    damaged.write_bytes(bytes(10_008))
    place(tmp_path / "data/MNIST/raw")
    with pytest.raises(DigitsError, match=f"{damaged} is not MNIST's"):
        load_digits("test")


def test_full_is_never_embedded(stand_in: Path) -> None:
    for source in ("auto", "embedded"):
        with pytest.raises(DigitsError, match=r"needed(.|\n)*`capsbench data fetch`"):
            load_digits("test", source, full=True)
    assert load_digits("test", stand_in, full=True).origin == "mnist"


# By hash


@pytest.mark.parametrize("known", KNOWN.values(), ids=lambda known: f"{known.origin}-{known.split}")
def test_the_table_is_that_of_the_digits(known: KnownDigits) -> None:
    assert name_of(known.sha256) == known.origin
    if known.origin == "mnist" and FULL_MNIST is None:
        pytest.skip("full MNIST is not on this machine")
    found = digits_by_hash(known.sha256, known.split, FULL_MNIST if known.origin == "mnist" and FULL_MNIST else "auto")
    labels = hashlib.sha256(found.labels.tobytes()).hexdigest()
    assert known == KnownDigits(found.origin, found.split, len(found), found.sha256, labels)


def test_every_set_is_known() -> None:
    assert sorted((one.origin, one.split) for one in KNOWN.values()) == sorted(
        (origin, split) for origin in ("embedded", "mnist") for split in SPLITS
    )


def test_hash_finds_embedded_digits_where_auto_would_take_the_full_set(place: Placer) -> None:
    place(cache_folder())
    sha256 = load_digits("test", "embedded").sha256
    assert digits_by_hash(sha256, "test").origin == "embedded"


def test_hash_passes_over_a_damaged_place(place: Placer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = place(tmp_path / "caches/torch/MNIST/raw") / TEST_LABELS
    damaged.unlink()
    damaged.touch()
    sha256 = load_digits("test", place(tmp_path / "data/MNIST/raw")).sha256
    monkeypatch.setitem(KNOWN, sha256, KNOWN[hash_of("mnist", "test")])
    assert digits_by_hash(sha256, "test").sha256 == sha256
    (tmp_path / "data/MNIST/raw" / TEST_LABELS).unlink()
    with pytest.raises(DigitsError, match=f"{damaged} is not MNIST's"):
        digits_by_hash(sha256, "test")


def hash_of(origin: str, split: str) -> str:
    return next(one.sha256 for one in KNOWN.values() if (one.origin, one.split) == (origin, split))


@pytest.mark.parametrize("source", ["auto", "embedded"])
def test_hash_of_a_full_set_that_is_not_there(source: str) -> None:
    with pytest.raises(DigitsError, match=r"Full MNIST's test digits(.|\n)*`capsbench data fetch`"):
        digits_by_hash(hash_of("mnist", "test"), "test", source)


def test_hash_of_the_embedded_digits_with_a_folder(stand_in: Path) -> None:
    with pytest.raises(DigitsError, match="--digits embedded"):
        digits_by_hash(hash_of("embedded", "test"), "test", stand_in)


def test_hash_of_another_split() -> None:
    with pytest.raises(DigitsError, match=r"test digits are needed.* embedded's train digits"):
        digits_by_hash(hash_of("embedded", "train"), "test")


def test_unknown_hash() -> None:
    assert name_of("0" * 64) is None
    with pytest.raises(DigitsError, match="No known digits have"):
        digits_by_hash("0" * 64, "test")
