"""MNIST's IDX files: where they are found, and how damaged ones are refused."""

import gzip
import hashlib
import tracemalloc
from pathlib import Path

import pytest

from capsbench.data.digits import load_digits
from capsbench.data.idx import FILES, IdxFile
from capsbench.errors import DigitsError

from .idx_folders import TEST_IMAGES, TEST_LABELS, Placer, numbers

pytestmark = pytest.mark.usefixtures("nowhere")


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
    with pytest.raises(DigitsError, match=f"{TEST_LABELS}: it should have 10,008 bytes, found 10,000"):
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
    with pytest.raises(DigitsError, match=f"{folder} lacks {missing} of full MNIST.\n.*capsbench data fetch"):
        load_digits("test", folder)


def test_folder_that_is_not_there() -> None:
    with pytest.raises(DigitsError, match="There is no folder nowhere/at/all"):
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
        with pytest.raises(DigitsError, match="should have 10,008 bytes, found more"):
            load_digits("test", folder)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000  # the test images take 8 MB
    finally:
        tracemalloc.stop()
