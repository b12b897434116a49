"""CIFAR-10 in a folder: both layouts, what is damaged or missing, what is CIFAR-10 and what only looks like it."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capsbench.data.cifar10 import LIKE, MD5S, ORIGIN, load_images
from capsbench.data.cifar10_made import COLOURS, MADE, SHADES, SIDE, made_images
from capsbench.errors import DataFileError, DigitsError, UnknownNameError, UsageError

from .cifar_batches import NAMES, binary_batch, pass_for_cifar10, python_batch, write_folder

SPLITS = {"train": 32, "validation": 8, "trainval": 40, "test": 40}


@pytest.mark.parametrize("binary", [False, True])
def test_both_layouts_give_the_images_and_labels_that_were_written(binary: bool, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, binary=binary)
    found = {split: load_images(split, folder) for split in SPLITS}
    assert {split: len(one) for split, one in found.items()} == SPLITS
    written = made_images("trainval").images[:40], made_images("test").images[:40]
    assert np.array_equal(found["trainval"].images, written[0]) and np.array_equal(found["test"].images, written[1])
    assert np.array_equal(found["train"].images, written[0][:32])
    assert np.array_equal(found["validation"].images, written[0][32:])
    assert np.array_equal(found["trainval"].labels, np.arange(40) % 10)
    assert {one.origin for one in found.values()} == {LIKE}
    assert not found["train"].images.flags.writeable and found["train"].images.shape[1:] == (COLOURS, SIDE, SIDE)


@pytest.mark.parametrize(("folder", "binary"), [("cifar-10-batches-py", False), ("cifar-10-batches-bin", True)])
def test_the_folder_that_the_archive_unpacks_to_need_not_be_named(folder: str, binary: bool, tmp_path: Path) -> None:
    write_folder(tmp_path / folder, binary=binary)
    assert len(load_images("test", tmp_path)) == 40


def test_files_with_the_md5s_are_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(MD5S) == set(NAMES) and MD5S["test_batch"] == "40351d587109b95175f43aff81a1287e"
    folder = write_folder(tmp_path / "caches" / "capsbench" / "cifar10")
    pass_for_cifar10(folder, monkeypatch)
    assert load_images("test", folder, full=True).origin == ORIGIN
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert load_images("train", full=True).origin == ORIGIN
    assert load_images("train").origin == MADE  # where the full set is not needed, tests are the same everywhere
    content = bytearray((folder / "data_batch_3").read_bytes())
    content[-2000] ^= 1
    (folder / "data_batch_3").write_bytes(content)
    for split in SPLITS:  # of CIFAR-10's files one is damaged: that is no other set
        with pytest.raises(DataFileError, match=r"data_batch_3 is not CIFAR-10's data_batch_3, though data_batch_1"):
            load_images(split, folder)


def test_the_md5s_are_those_that_torchvision_has() -> None:
    from torchvision.datasets import CIFAR10

    from capsbench.data.cifar10_fetching import ARCHIVE, ARCHIVE_MD5

    assert dict([*map(tuple, CIFAR10.train_list), *map(tuple, CIFAR10.test_list)]) == MD5S
    assert (CIFAR10.filename, CIFAR10.tgz_md5) == (ARCHIVE, ARCHIVE_MD5)


def test_without_cifar10_the_way_to_it_is_said(tmp_path: Path) -> None:
    for source, why in (("auto", "it was not found"), ("embedded", "embedded was given")):
        with pytest.raises(DigitsError, match=rf"{why}\.\nFetch CIFAR-10 with `capsbench data fetch cifar10`"):
            load_images("test", source, full=True)
    with pytest.raises(DigitsError, match=r"There is no folder .*nowhere"):
        load_images("test", tmp_path / "nowhere")
    with pytest.raises(DigitsError, match=r"lacks data_batch_1, data_batch_2, .*test_batch of CIFAR-10"):
        load_images("test", tmp_path)
    (write_folder(tmp_path) / "data_batch_2").unlink()
    with pytest.raises(DigitsError, match=r"lacks data_batch_2 of CIFAR-10"):
        load_images("test", tmp_path)
    with pytest.raises(UnknownNameError, match="'train'"):
        load_images("training")
    with pytest.raises(UsageError):
        load_images("test", "a\0b")


class Hostile:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


IMAGES, LABELS = made_images("test").images[:3], made_images("test").labels[:3]
ROWS = IMAGES.reshape(3, -1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"data": Hostile(), "labels": [1]}), r"is refused: it names posix\.system|nt\.system"),
        (pickle.dumps([1, 2], 4), "has no array 'data'"),
        (pickle.dumps({"labels": [1]}, 4), "has no array 'data'"),
        (pickle.dumps({"data": ROWS[:, 1:], "labels": [1, 2, 3]}, 4), "no array 'data' of 3,072 bytes"),
        (pickle.dumps({"data": ROWS, "labels": [1, 2]}, 4), "has 3 images and 2 labels"),
        (pickle.dumps({"data": ROWS, "labels": [1, 2, 10]}, 4), r"no list 'labels' of whole numbers of 0\.\.9"),
        (pickle.dumps({"data": ROWS, "labels": [1, 2, -1]}, 4), r"no list 'labels'"),
        (pickle.dumps({"data": ROWS, "labels": [1, True, 2]}, 4), r"no list 'labels'"),
        (pickle.dumps({"data": ROWS, "fine_labels": [1, 2, 3]}, 4), r"no list 'labels'"),  # CIFAR-100's
        (python_batch(IMAGES[:0], LABELS[:0]), "has 0 images"),
        (b"", "damaged"),
    ],
)
def test_a_python_batch_that_is_none_is_refused_and_runs_nothing(content: bytes, message: str, tmp_path: Path) -> None:
    (write_folder(tmp_path) / "test_batch").write_bytes(content)
    with pytest.raises(DataFileError, match=message):
        load_images("test", tmp_path)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (binary_batch(IMAGES, LABELS)[:-1], "should have 3,073 bytes for each image, found 9,218"),
        (b"", "3,073 bytes"),
        (binary_batch(IMAGES, LABELS + np.uint8(8)), "has the label 10"),
    ],
)
def test_a_binary_batch_that_is_none_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (write_folder(tmp_path, binary=True) / "test_batch.bin").write_bytes(content)
    with pytest.raises(DataFileError, match=message):
        load_images("test", tmp_path)


def test_the_made_set_is_the_same_everywhere_and_its_classes_have_their_colours() -> None:
    train, validation, test = (made_images(split) for split in ("train", "validation", "test"))
    assert [len(one) for one in (train, validation, test)] == [400, 100, 100]
    both = made_images("trainval")
    assert np.array_equal(both.images, np.concatenate([train.images, validation.images]))
    means = test.images.astype(float).mean((2, 3))  # [n, 3]
    assert np.abs(means - SHADES[test.labels]).max() < 5  # noise of +-50 over 1,024 pixels has a deviation of 0.9
    seen = {image.tobytes() for one in (train, validation, test) for image in one.images}
    assert len(seen) == 600
    assert test.sha256 == "9dc92771116ee5b8e956ea5c8a86810bed6248bd558be72ae0ffec247c976465"
