"""Digits that are not MNIST's: what a folder or an npz file of anyone's must be, and what each is refused for."""

import gzip
import hashlib
import io
import pickle
import shutil
import tracemalloc
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import capsbench
from capsbench.contracts import UInt8Array
from capsbench.data import others
from capsbench.data.digits import KNOWN, digits_by_hash, load_digits, sums_of
from capsbench.data.places import cache_folder
from capsbench.data.samples import Subset, writers_of
from capsbench.data.sets import SETS
from capsbench.errors import DigitsError

from .idx_folders import idx_header

pytestmark = pytest.mark.usefixtures("nowhere")

Arrays = dict[str, npt.NDArray[Any]]

TRAIN, TEST = 60, 20
NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def images(count: int, first: int = 0) -> UInt8Array:
    """Image i is i everywhere."""
    return np.broadcast_to(np.arange(first, first + count, dtype=np.uint8)[:, None, None], (count, 28, 28)).copy()


@pytest.fixture
def arrays() -> Arrays:
    """Balanced and shuffled: label i % 10."""
    return {
        "x_train": images(TRAIN),
        "y_train": (np.arange(TRAIN) % 10).astype(np.uint8),
        "x_test": images(TEST, 100),
        "y_test": (np.arange(TEST) % 10).astype(np.uint8),
    }


def written(folder: Path, arrays: Arrays, *, prefix: str = "", ending: str = "") -> Path:
    """A folder of four IDX files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        content = idx_header(*array.shape) + array.tobytes()
        packed = gzip.compress(content, 1) if ending else content
        (folder / f"{prefix}{NAMES[name]}{ending}").write_bytes(packed)
    return folder


def savez(path: Path, arrays: Mapping[str, Any]) -> None:
    save: Any = np.savez
    save(path, **arrays)


@pytest.fixture
def folder(tmp_path: Path, arrays: Arrays) -> Path:
    return written(tmp_path / "mine", arrays)


# Splits


@pytest.mark.parametrize(
    ("split", "start", "stop"), [("train", 0, 50), ("validation", 50, 60), ("trainval", 0, 60), ("test", 100, 120)]
)
def test_splits_of_a_folder(folder: Path, split: str, start: int, stop: int) -> None:
    found = load_digits(split, f"Mine={folder}")
    assert found.images[:, 5, 5].tolist() == list(range(start, stop))
    assert found.labels.tolist() == [number % 10 for number in range(start, stop)]
    assert (found.split, found.origin) == (split, "Mine")
    assert found.images.dtype == found.labels.dtype == np.uint8
    for array in (found.images, found.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_digits_sorted_by_class_are_cut_in_each_class(tmp_path: Path, arrays: Arrays) -> None:
    arrays["y_train"] = np.repeat(np.arange(10), 6).astype(np.uint8)
    source = f"Sorted={written(tmp_path / 'sorted', arrays)}"
    train, validation = (load_digits(split, source).images[:, 0, 0].tolist() for split in ("train", "validation"))
    assert validation == list(range(5, 60, 6))
    assert sorted(train + validation) == list(range(60))
    assert train == sorted(train)


def test_two_images_a_class_are_enough(tmp_path: Path, arrays: Arrays) -> None:
    arrays |= {"x_train": images(20), "y_train": np.repeat(np.arange(10), 2).astype(np.uint8)}
    source = f"Few={written(tmp_path / 'few', arrays)}"
    assert load_digits("train", source).labels.tolist() == load_digits("validation", source).labels.tolist()


# What files may look like


@pytest.mark.parametrize("layout", [".", "raw", "FashionMNIST/raw"])
@pytest.mark.parametrize(("prefix", "ending"), [("", ""), ("", ".gz"), ("emnist-digits-", ".gz")])
def test_folders_as_they_are_published(tmp_path: Path, arrays: Arrays, layout: str, prefix: str, ending: str) -> None:
    written(tmp_path / "mine" / layout, arrays, prefix=prefix, ending=ending)
    assert len(load_digits("test", f"mine={tmp_path / 'mine'}")) == TEST


def test_a_file_beside_its_packed_copy_is_one(tmp_path: Path, arrays: Arrays) -> None:
    written(tmp_path / "mine", arrays, ending=".gz")
    assert len(load_digits("test", f"mine={written(tmp_path / 'mine', arrays)}")) == TEST


def test_two_sets_in_one_folder_are_not_mixed(tmp_path: Path, arrays: Arrays) -> None:
    for prefix in ("emnist-digits-", "emnist-letters-"):
        written(tmp_path / "gzip", arrays, prefix=prefix)
    with pytest.raises(DigitsError, match="several files of the images to test with: emnist-digits-t10k-images"):
        load_digits("test", f"mine={tmp_path / 'gzip'}")


def as_qmnist(folder: Path, writers: Any, part: str = "test") -> str:
    """The folder, with labels of a part as QMNIST has them: eight columns, and in the third the writers."""
    count = TEST if part == "test" else TRAIN
    facts = np.zeros((count, 8), ">i4")
    facts[:, 0], facts[:, 2] = np.arange(count) % 10, writers
    (folder / NAMES[f"y_{part}"]).unlink(missing_ok=True)
    header = bytes([0, 0, 0x0C, 2, 0, 0, 0, count, 0, 0, 0, 8])
    (folder / f"qmnist-{part}-labels-idx2-int").write_bytes(header + facts.tobytes())
    return f"mine={folder}"


def test_labels_as_qmnist_has_them(folder: Path) -> None:
    found = load_digits("test", as_qmnist(folder, 7))
    assert found.labels.tolist() == [number % 10 for number in range(TEST)]
    assert found.writers is None  # one for all says nothing


def test_the_writers_of_qmnists_labels_are_numbered_from_0_on(folder: Path) -> None:
    as_qmnist(folder, np.arange(TRAIN) // 5 + 100, part="train")
    source = as_qmnist(folder, 2599 - np.arange(TEST) // 2)
    found = {split: load_digits(split, source).writers for split in ("test", "trainval", "train", "validation")}
    assert {split: one.tolist() for split, one in found.items() if one is not None} == {
        "test": [9 - number // 2 for number in range(TEST)],
        "trainval": [number // 5 for number in range(60)],
        "train": [number // 5 for number in range(50)],
        "validation": [10] * 5 + [11] * 5,
    }
    stream = capsbench.stream("padded", split="test", digits=folder, digits_as="mine")
    assert stream.writers is not None and stream.writers.tolist() == [9 - number // 2 for number in range(TEST)]
    some = Subset(stream, np.arange(3))
    assert some.writers is not None and some.writers.tolist() == stream.writers.tolist()
    assert writers_of(capsbench.stream("padded", split="validation", digits=folder, digits_as="mine")) is None


def test_labels_without_writers_have_none(folder: Path) -> None:
    assert load_digits("test", f"mine={folder}").writers is None
    assert load_digits("test", "embedded").writers is None
    nine = load_digits("test", as_qmnist(folder, np.arange(TEST) % 9))  # too few to be drawn from
    assert nine.writers is None


def test_writers_are_part_of_what_identifies_digits_and_not_of_the_digits(folder: Path) -> None:
    plain = sums_of(f"mine={folder}")
    ours, theirs = (sums_of(as_qmnist(folder, np.arange(TEST) // size)) for size in (1, 2))
    assert {**plain, "writers": ours["writers"]} == ours
    assert ours["writers"] != theirs["writers"]


def test_a_file_of_such_digits_finds_their_writers_where_the_digits_are(folder: Path, tmp_path: Path) -> None:
    as_qmnist(folder, np.arange(TEST) // 2)
    (path,) = capsbench.generate("padded", split="test", out=tmp_path, digits=folder, digits_as="mine")
    found = capsbench.open_dataset(path, digits=f"mine={folder}").writers
    assert found is not None and found.tolist() == [number // 2 for number in range(TEST)]
    assert capsbench.open_dataset(path).writers is None
    other = shutil.copytree(folder, tmp_path / "other")
    content = bytearray((other / NAMES["x_test"]).read_bytes())
    content[-1] ^= 1
    (other / NAMES["x_test"]).write_bytes(content)
    assert capsbench.open_dataset(path, digits=f"mine={other}").writers is None  # of a run of other digits


def test_a_writer_below_0_is_refused(folder: Path) -> None:
    source = as_qmnist(folder, np.arange(TEST) - 3)
    with pytest.raises(DigitsError, match=r"names a writer -3 of images to test with; .* give labels \[n\]"):
        load_digits("test", source)


def test_labels_of_qmnist_that_are_cut_or_have_other_columns_are_refused(folder: Path) -> None:
    source = as_qmnist(folder, np.arange(TEST))
    path = folder / "qmnist-test-labels-idx2-int"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DigitsError, match=r"shape \[20, 8\]: 640 bytes should follow, found 639"):
        load_digits("test", source)
    path.write_bytes(whole[:11] + bytes([7]) + whole[12:])
    with pytest.raises(DigitsError, match=r"labels \[20, 7\]; expected \[n\], or QMNIST's \[n, 8\]"):
        load_digits("test", source)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("labels", [np.uint8, np.int64])
def test_a_file_like_keras(tmp_path: Path, arrays: Arrays, save: Any, labels: type) -> None:
    arrays |= {name: arrays[name].astype(labels) for name in ("y_train", "y_test")}
    save(tmp_path / "mine.npz", **arrays)
    same = written(tmp_path / "idx", {name: array.astype(np.uint8) for name, array in arrays.items()})
    for split in ("train", "test"):
        assert load_digits(split, f"mine={tmp_path / 'mine.npz'}").sha256 == load_digits(split, f"mine={same}").sha256


def test_fortran_order_is_the_same_images(tmp_path: Path, arrays: Arrays) -> None:
    arrays["x_test"][:, 3, :] = 9
    savez(tmp_path / "mine.npz", {**arrays, "x_test": np.asfortranarray(arrays["x_test"])})
    np.testing.assert_array_equal(load_digits("test", f"mine={tmp_path / 'mine.npz'}").images, arrays["x_test"])


def test_keras_file_without_a_name_must_hold_mnist(
    tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mnist.npz"
    savez(path, arrays)
    with pytest.raises(DigitsError, match=r"mnist\.npz does not hold full MNIST.*--digits-as NAME"):
        load_digits("test", path)
    sha256 = load_digits("test", f"mine={path}").sha256
    one = next(one for one in KNOWN.values() if (one.origin, one.split) == ("mnist", "test"))
    monkeypatch.setitem(KNOWN, sha256, replace(one, sha256=sha256))
    assert load_digits("test", path).origin == "mnist"


# What is refused


def test_mnists_own_folder_without_a_name_says_how_to_name_others(folder: Path) -> None:
    with pytest.raises(DigitsError, match=r"is not MNIST's(.|\n)*--digits-as NAME"):
        load_digits("test", folder)


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (lambda labels: labels % 7, "lacks classes to {} with: 7, 8, 9"),
        (lambda labels: labels + 1, "labels that are no digit, to {} with: 10. .*10 classes.*EMNIST's letters"),
        (lambda labels: np.arange(len(labels)) % 26 + 1, "no digit.*EMNIST's letters"),
        (lambda labels: labels + 0 * labels, None),
    ],
)
def test_other_classes_are_refused_by_name(
    tmp_path: Path, arrays: Arrays, part: str, labels: Any, reason: str | None
) -> None:
    arrays[f"y_{part}"] = labels(arrays[f"y_{part}"]).astype(np.uint8)
    source = f"mine={written(tmp_path / 'mine', arrays)}"
    split = "test" if part == "test" else "trainval"
    if reason is None:
        assert len(load_digits(split, source))
        return
    with pytest.raises(DigitsError, match=reason.format(part)):
        load_digits(split, source)


@pytest.mark.parametrize("shape", [(20, 32, 32), (20, 28, 28, 3), (20, 784), (20,), (20, 27, 28)])
@pytest.mark.parametrize("packed", ["idx", "npz"])
def test_other_sizes_are_refused_with_what_they_are(
    tmp_path: Path, arrays: Arrays, shape: tuple[int, ...], packed: str
) -> None:
    arrays["x_test"] = np.zeros(shape, np.uint8)
    place = written(tmp_path / "mine", arrays)
    if packed == "npz":
        place = tmp_path / "mine.npz"
        savez(place, arrays)
    with pytest.raises(DigitsError) as error:
        load_digits("test", f"mine={place}")
    assert str(list(shape)) in str(error.value)
    assert "28" in str(error.value)
    assert str(error.value).count("\n") <= 1


def test_images_and_labels_must_be_as_many(tmp_path: Path, arrays: Arrays) -> None:
    arrays["y_test"] = arrays["y_test"][:19]
    with pytest.raises(DigitsError, match=r"20 images to test with, and labels \[19\]"):
        load_digits("test", f"mine={written(tmp_path / 'mine', arrays)}")


@pytest.mark.parametrize("dtype", [np.float32, np.int16, bool])
def test_pixels_that_are_no_bytes(tmp_path: Path, arrays: Arrays, dtype: type) -> None:
    arrays["x_test"] = arrays["x_test"].astype(dtype)
    savez(tmp_path / "mine.npz", arrays)
    with pytest.raises(DigitsError, match=f"x_test must be bytes.*got {np.dtype(dtype)}"):
        load_digits("test", f"mine={tmp_path / 'mine.npz'}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no IDX file: it begins with nothing"),
        (b"\x93NUM", "no IDX file"),
        (bytes([0, 0, 0x0D, 3]), "IDX type 0x0d"),
        (bytes([0, 0, 8, 9]), "no IDX file"),
        (bytes([0, 0, 8, 3, 0, 0]), r"holds images \[0, 0, 0\]"),
        (idx_header(20, 28, 28) + bytes(100), r"shape \[20, 28, 28\]: 15,680 bytes should follow, found 100"),
        (idx_header(20, 28, 28) + bytes(20 * 784 + 1), "found more"),
        (idx_header(0, 28, 28), "states 0 images"),
        (idx_header(2**32 - 1, 28, 28), "states 4,294,967,295 images"),
        (idx_header(1_000_000, 28, 28) + bytes(9), "784,000,000 bytes should follow, found 9"),
    ],
)
def test_files_that_are_cut_or_none(folder: Path, content: bytes, reason: str) -> None:
    (folder / NAMES["x_test"]).write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DigitsError, match=reason):
            load_digits("test", f"mine={folder}")
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("damage", ["cut", "garbage", "bomb"])
def test_damaged_gz(folder: Path, damage: str) -> None:
    path = folder / NAMES["y_test"]
    content = gzip.compress(idx_header(TEST) + bytes(TEST))
    path.unlink()
    bomb = gzip.compress(idx_header(TEST)) + gzip.compress(bytes(1_000_000)) * 1000  # 1 GB of nothing
    made = {"cut": content[:-9], "garbage": b"no gzip", "bomb": bomb}[damage]
    path.with_name(f"{path.name}.gz").write_bytes(made)
    with pytest.raises(DigitsError, match="found more" if damage == "bomb" else "cannot be read"):
        load_digits("test", f"mine={folder}")


@pytest.mark.parametrize("missing", NAMES.values())
def test_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(DigitsError, match=f"lacks {missing}"):
        load_digits("trainval" if missing.startswith("train") else "test", f"mine={folder}")


@pytest.mark.parametrize("place", ["nowhere/at/all", "n" * 300])
def test_folder_that_is_not_there(place: str) -> None:
    with pytest.raises(DigitsError, match=f"There is no folder {place} with the digits 'mine'"):
        load_digits("test", f"mine={place}")


# Hostile npz files


class Runs:
    """Unpickled, it makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def archive_of(path: Path, arrays: Arrays, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(f"{name}.npy", members.get(name, buffer.getvalue()))
    return path


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("{'descr': '|O', 'fortran_order': False, 'shape': (20, 28, 28)}", "Python objects, which are not read"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (10**12, 28, 28)}", "header of x_test cannot be read"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (999999999999, 28, 28)}", "states 999,999,999,999 images"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 28, 28)}", "is cut short"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (-20, 28, 28)}", "impossible shape"),
        ("{'descr': '<U9', 'fortran_order': False, 'shape': (20, 28, 28)}", "must be bytes"),
        ("__import__('os').abort()", "header of x_test cannot be read"),
    ],
)
def test_hostile_arrays_are_refused_unread(tmp_path: Path, arrays: Arrays, header: str, reason: str) -> None:
    made = tmp_path / "it-ran"
    path = archive_of(tmp_path / "bad.npz", arrays, x_test=npy(header, pickle.dumps(Runs(str(made)))))
    tracemalloc.start()
    try:
        with pytest.raises(DigitsError, match=reason):
            load_digits("test", f"mine={path}")
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
    assert not made.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"a text"])
def test_file_that_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(DigitsError, match=r"cannot be read as a file of numpy\.savez"):
        load_digits("test", f"mine={path}")


def test_npz_without_an_array(tmp_path: Path, arrays: Arrays) -> None:
    del arrays["y_test"]
    savez(tmp_path / "mine.npz", arrays)
    with pytest.raises(DigitsError, match="has no array 'y_test'; it has x_train"):
        load_digits("test", f"mine={tmp_path / 'mine.npz'}")


# Known sets, and digits by their hash


@pytest.fixture
def fashion(arrays: Arrays, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files that pass for Fashion-MNIST's, in the cache."""
    place = written(cache_folder("fashion"), arrays, ending=".gz")
    sums = {
        name: hashlib.md5((place / name).read_bytes(), usedforsecurity=False).hexdigest()
        for name in SETS["fashion"].files
    }
    monkeypatch.setitem(SETS, "fashion", replace(SETS["fashion"], files=sums))
    return place


@pytest.mark.parametrize("place", [None, ".", "raw", "FashionMNIST/raw"])
def test_known_set(fashion: Path, tmp_path: Path, place: str | None) -> None:
    source = "fashion"
    if place is not None:
        (tmp_path / "mine" / place).parent.mkdir(parents=True, exist_ok=True)
        fashion.rename(tmp_path / "mine" / place)
        source = f"fashion={tmp_path / 'mine'}"
    found = load_digits("train", source)
    assert (len(found), found.origin) == (50, "fashion")


def test_qmnist_and_a_file_made_from_it_have_its_writers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("train", "test"):
        as_qmnist(folder, np.arange(TEST if part == "test" else TRAIN) // 2 + 2100, part=part)
    place, sums = cache_folder("qmnist"), {}
    place.mkdir(parents=True)
    for name in SETS["qmnist"].files:
        raw = folder / name.removesuffix(".gz")
        if "images" in name:
            raw = folder / NAMES["x_train" if "train" in name else "x_test"]
        packed = gzip.compress(raw.read_bytes(), 1)
        (place / name).write_bytes(packed)
        sums[name] = hashlib.md5(packed, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(SETS, "qmnist", replace(SETS["qmnist"], files=sums))
    (path,) = capsbench.generate("multimnist", out=tmp_path, split="test", digits="qmnist")
    for found in (load_digits("test", "qmnist").writers, capsbench.open_dataset(path, digits="qmnist").writers):
        assert found is not None and found.tolist() == [number // 2 for number in range(TEST)]
    assert capsbench.open_dataset(path).writers is None  # in a run of MNIST, whether QMNIST is here or not


@pytest.mark.parametrize("name", SETS["fashion"].files)
def test_known_set_with_one_byte_changed(fashion: Path, name: str) -> None:
    content = bytearray((fashion / name).read_bytes())
    content[9] ^= 1  # the system of the gzip header: what it unpacks to is the same
    (fashion / name).write_bytes(content)
    with pytest.raises(DigitsError, match=f"{name} is not Fashion-MNIST's: its MD5 should be"):
        load_digits("trainval" if name.startswith("train") else "test", "fashion")


@pytest.mark.parametrize("name", SETS)
def test_known_set_that_is_not_here(name: str) -> None:
    with pytest.raises(DigitsError, match=f"`capsbench data fetch {name}`(.|\n)*{cache_folder(name)}"):
        load_digits("test", name)


def test_raw_files_cannot_be_checked_so_they_are_no_known_set(tmp_path: Path, arrays: Arrays) -> None:
    with pytest.raises(DigitsError, match="Fashion-MNIST is not in"):
        load_digits("test", f"fashion={written(tmp_path / 'raw', arrays)}")


def test_hash_and_name_find_the_digits_again(fashion: Path, folder: Path) -> None:
    sha256 = load_digits("test", "fashion").sha256
    assert digits_by_hash(sha256, "test", name="fashion").origin == "fashion"
    # The same bytes under a name of the user's, in a folder that need not be named again.
    for source in (str(folder), f"mine={folder}", f"other={folder}"):
        assert digits_by_hash(sha256, "test", source, name="mine").origin == "mine"


def test_hash_that_is_not_that_of_the_digits(fashion: Path, folder: Path) -> None:
    for source, name in (("auto", "fashion"), (str(folder), "mine")):
        with pytest.raises(DigitsError, match="SHA-256 000000000000 are needed"):
            digits_by_hash("0" * 64, "test", source, name=name)
    with pytest.raises(DigitsError, match="'mine' are needed"):
        digits_by_hash("0" * 64, "test", name="mine")
    with pytest.raises(DigitsError, match="'mine' are needed, and --digits embedded was given"):
        digits_by_hash("0" * 64, "test", "embedded", name="mine")


def test_hash_of_mnist_with_other_digits(folder: Path) -> None:
    sha256 = load_digits("test", "embedded").sha256
    with pytest.raises(DigitsError, match="MNIST's test digits are needed"):
        digits_by_hash(sha256, "test", f"mine={folder}")


def test_sums_tell_digits_of_one_name_apart(folder: Path, tmp_path: Path, arrays: Arrays) -> None:
    arrays["x_train"][0, 0, 0] ^= 1
    others_of_it = written(tmp_path / "others", arrays)
    ours, theirs = sums_of(f"mine={folder}"), sums_of(f"mine={others_of_it}")
    assert ours["test"] == theirs["test"]
    assert ours["trainval"] != theirs["trainval"]
    assert sums_of("embedded") == {}


def test_limit_of_images_holds_the_largest_set_of_the_kind() -> None:
    assert others.LARGEST > 814_255  # EMNIST's
