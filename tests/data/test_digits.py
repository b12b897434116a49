"""The source digits: splits, checks, and where they are looked for."""

import gzip
import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from capsbench.contracts import UInt8Array
from capsbench.data import embedded
from capsbench.data.digits import KNOWN, KnownDigits, digits_by_hash, load_digits, name_of
from capsbench.data.idx import FILES, IdxFile
from capsbench.data.places import auto_source, cache_folder, places, status
from capsbench.errors import DigitsError, UnknownNameError
from capsbench.spec import SPLITS

TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
FULL_MNIST = auto_source()  # of the machine, before a test hides it


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides whatever digits the machine has, the embedded ones aside."""
    for variable in ("CAPSBENCH_DIGITS", "TORCH_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of MNIST's names and sizes: digit i has i in its first four pixels and the label i % 10."""
    folder = tmp_path_factory.mktemp("written")
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        images = np.zeros((count, 28 * 28), np.uint8)
        images[:, :4] = np.arange(count, dtype=">u4").view(np.uint8).reshape(count, 4)
        labels = np.arange(count) % 10
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_header(count, 28, 28) + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_header(count) + labels.astype(np.uint8).tobytes())
    return folder


@pytest.fixture(scope="session")
def sums(written: Path) -> dict[str, str]:
    return {name: hashlib.md5((written / name).read_bytes(), usedforsecurity=False).hexdigest() for name in FILES}


@pytest.fixture
def stand_in(written: Path, sums: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files that pass for MNIST's."""
    for name, md5 in sums.items():
        monkeypatch.setitem(FILES, name, IdxFile(md5, FILES[name].shape))
    return written


Placer = Callable[..., Path]


@pytest.fixture
def place(stand_in: Path) -> Placer:
    """Puts the stand-ins into a folder, as links; ``without`` leaves one out."""

    def put(folder: Path, *, without: str = "") -> Path:
        folder.mkdir(parents=True)
        for name in FILES:
            if name != without:
                (folder / name).symlink_to(stand_in / name)
        return folder

    return put


def idx_header(*shape: int) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()


def numbers(images: UInt8Array) -> list[int]:
    """Which digits of `written` these are."""
    first_pixels = images.reshape(len(images), -1)[:, :4]
    return np.ascontiguousarray(first_pixels).view(">u4").ravel().tolist()


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


def test_the_first_embedded_digits_are_those_everyone_knows() -> None:
    assert load_digits("trainval", "embedded").labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert load_digits("test", "embedded").labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_arrays_cannot_be_written_to(stand_in: Path) -> None:
    for source in ("embedded", stand_in):
        found = load_digits("test", source)
        for array in (found.images, found.labels):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0


def test_damaged_package_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(embedded.FILE.read_bytes())
    content[1000] ^= 1
    damaged = tmp_path / "digits.npz"
    damaged.write_bytes(content)
    monkeypatch.setattr(embedded, "FILE", damaged)
    with pytest.raises(DigitsError, match=r"digits\.npz is damaged(.|\n)*Install capsbench anew"):
        load_digits("test", "embedded")
    assert status()[-1].state == "damaged"
    damaged.unlink()
    with pytest.raises(DigitsError, match="cannot be read"):
        load_digits("test", "embedded")


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


@pytest.mark.parametrize("layout", [".", "raw", "MNIST/raw"])
@pytest.mark.parametrize("spelling", ["-idx", ".idx"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_every_layout_is_read(stand_in: Path, tmp_path: Path, layout: str, spelling: str, ending: str) -> None:
    folder = tmp_path / "mine" / layout
    folder.mkdir(parents=True)
    for name in FILES:
        path = folder / name.replace("-idx", spelling)
        if name.startswith("t10k") and ending:
            path.with_name(path.name + ending).write_bytes(gzip.compress((stand_in / name).read_bytes(), 1))
        else:
            path.symlink_to(stand_in / name)
    assert numbers(load_digits("test", tmp_path / "mine").images) == list(range(10_000))


@pytest.mark.parametrize("name", [TEST_IMAGES, TEST_LABELS])
@pytest.mark.parametrize("position", [3, -1])
def test_one_flipped_byte_is_refused(place: Placer, tmp_path: Path, name: str, position: int) -> None:
    path = place(tmp_path / "mine") / name
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.unlink()
    path.write_bytes(content)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    with pytest.raises(DigitsError) as error:
        load_digits("test", tmp_path / "mine")
    for part in (str(path), FILES[name].md5, md5, "capsbench data fetch"):
        assert part in str(error.value)
    assert str(error.value).count("\n") <= 1


def test_a_file_that_is_cut_is_told_its_size_whatever_its_md5(
    place: Placer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place(tmp_path / "mine") / TEST_LABELS
    content = path.read_bytes()[:10_000]
    path.unlink()
    path.write_bytes(content)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(FILES, TEST_LABELS, IdxFile(md5, FILES[TEST_LABELS].shape))
    with pytest.raises(DigitsError, match=f"{TEST_LABELS}: it should hold 10,008 bytes, found 10,000"):
        load_digits("test", tmp_path / "mine")


def test_each_load_checks_anew(place: Placer, tmp_path: Path) -> None:
    folder = place(tmp_path / "mine")
    load_digits("test", folder)
    (folder / TEST_LABELS).unlink()
    (folder / TEST_LABELS).write_bytes(bytes(10_008))
    with pytest.raises(DigitsError, match="MD5"):
        load_digits("test", folder)


@pytest.mark.parametrize("missing", FILES)
def test_missing_file_is_named(place: Placer, tmp_path: Path, missing: str) -> None:
    folder = place(tmp_path / "mine", without=missing)
    with pytest.raises(DigitsError, match=f"{folder} lacks {missing}.\n.*capsbench data fetch"):
        load_digits("test", folder)


def test_folder_that_is_not_there() -> None:
    with pytest.raises(DigitsError, match="there is no folder nowhere/at/all"):
        load_digits("test", "nowhere/at/all")


def test_folder_that_cannot_be_looked_into() -> None:
    with pytest.raises(DigitsError, match="n" * 300):  # longer than a name may be
        load_digits("test", "n" * 300)


def test_unreadable_file(place: Placer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place(tmp_path / "mine")

    def forbid(path: Path, mode: str = "r") -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", forbid)  # root, who runs many a test, may read everything
    with pytest.raises(DigitsError, match=f"{TEST_IMAGES} cannot be read: Permission denied"):
        load_digits("test", folder)


@pytest.mark.parametrize("damage", ["cut", "garbage", "flipped"])
def test_damaged_gz(place: Placer, tmp_path: Path, damage: str) -> None:
    folder = place(tmp_path / "mine", without=TEST_LABELS)
    content = bytearray(gzip.compress((tmp_path / "mine" / TEST_IMAGES).read_bytes()[:10_000]))
    content[len(content) // 2] ^= 255
    path = folder / f"{TEST_LABELS}.gz"
    path.write_bytes({"cut": bytes(content[:100]), "garbage": b"no gzip at all", "flipped": bytes(content)}[damage])
    with pytest.raises(DigitsError, match=rf"{TEST_LABELS}\.gz (cannot be read|is not MNIST's)"):
        load_digits("test", folder)


def test_gzip_bomb_is_not_inflated(place: Placer, tmp_path: Path) -> None:
    folder = place(tmp_path / "mine", without=TEST_LABELS)
    (folder / f"{TEST_LABELS}.gz").write_bytes(gzip.compress(bytes(1_000_000)) * 1000)  # 1 GB of nothing
    tracemalloc.start()
    try:
        with pytest.raises(DigitsError, match="should hold 10,008 bytes, found more"):
            load_digits("test", folder)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000  # the test images take 8 MB
    finally:
        tracemalloc.stop()


def test_unknown_split() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        load_digits("trian", "embedded")


# Where "auto" looks


def test_auto_without_full_mnist_is_embedded() -> None:
    assert auto_source() is None
    assert load_digits("test").origin == "embedded"


def test_auto_takes_the_first_complete_place(place: Placer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSBENCH_DIGITS", str(tmp_path / "named"))
    folders = [folder for _, folder in places()]
    assert folders == [
        tmp_path / "named",
        tmp_path / "caches/capsbench/mnist",
        tmp_path / "caches/torch/MNIST/raw",
        tmp_path / "data/MNIST/raw",
    ]
    for folder in folders:
        place(folder)
    for folder in folders:
        assert auto_source() == folder
        monkeypatch.delenv("CAPSBENCH_DIGITS", raising=False)
        (folder / TEST_LABELS).unlink()  # an incomplete folder is passed over
    assert auto_source() is None


def test_auto_loads_what_it_finds(place: Placer, tmp_path: Path) -> None:
    place(tmp_path / "data/MNIST/raw")
    assert load_digits("test").origin == "mnist"


def test_variables_move_the_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert cache_folder() == tmp_path / ".cache/capsbench/mnist"
    assert tmp_path / "torch/MNIST/raw" in [folder for _, folder in places()]


def test_account_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert load_digits("test").origin == "embedded"


def test_wrong_variable_is_an_error_even_where_other_places_are_good(
    place: Placer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(cache_folder())
    monkeypatch.setenv("CAPSBENCH_DIGITS", str(tmp_path / "typo"))
    with pytest.raises(DigitsError, match=r"^\$CAPSBENCH_DIGITS .* no folder .*typo"):
        load_digits("test")


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


def test_status_tells_every_place(place: Placer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["$CAPSBENCH_DIGITS", "cache", "torch's cache", "torchvision's data", "embedded"]
    assert [row.name for row in status()] == names
    assert [row.state for row in status()] == ["absent"] * 4 + ["complete"]
    monkeypatch.setenv("CAPSBENCH_DIGITS", str(place(tmp_path / "named")))
    place(tmp_path / "caches/torch/MNIST/raw", without=TEST_LABELS)
    place(tmp_path / "data/MNIST/raw", without=TEST_LABELS)
    (tmp_path / "data/MNIST/raw" / TEST_LABELS).touch()
    rows = status()
    assert [row.name for row in rows] == names
    assert [row.state for row in rows] == ["complete", "absent", "incomplete", "damaged", "complete"]
    assert f"{TEST_LABELS} is not MNIST's" in rows[3].detail


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
    with pytest.raises(DigitsError, match=r"test digits were asked for.* embedded's train digits"):
        digits_by_hash(hash_of("embedded", "train"), "test")


def test_unknown_hash() -> None:
    assert name_of("0" * 64) is None
    with pytest.raises(DigitsError, match="No digits are known"):
        digits_by_hash("0" * 64, "test")
