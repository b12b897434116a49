"""The picture of a file: what it shows, and when it is not written."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from capsbench.contracts import UInt8Array
from capsbench.data.columns import columns_of
from capsbench.errors import StorageError, UsageError
from capsbench.files.datafile import DataFile
from capsbench.files.header import create_header
from capsbench.files.preview import _coloured, preview

from .shown_files import made, overwrite, recipe, without_digits


def picture(path: Path) -> UInt8Array:
    """``[H, W, 3]`` uint8."""
    image: UInt8Array = np.round(matplotlib.image.imread(path)[..., :3] * 255).astype(np.uint8)
    return image


@pytest.mark.parametrize("name", ["padded", "affnist", "multimnist"])
def test_a_preview_is_a_picture_of_the_samples(name: str) -> None:
    number = preview(made(name), Path("deep/er/x.png"))
    assert number == 48
    image = picture(Path("deep/er/x.png"))
    assert image.shape[1] == 1200 and image.shape[0] > 300
    black = (image == 0).all(2).mean()
    assert 0.2 < black < 0.9
    coloured = (image[..., 0] != image[..., 2]).mean()
    assert (coloured > 0.02) == (name == "multimnist")
    assert [path.name for path in Path("deep/er").iterdir()] == ["x.png"]


def test_pairs_are_in_two_colours_by_the_shares_of_their_digits() -> None:
    file = made("multimnist")
    pixels, said = _coloured(file, np.arange(20))
    assert "orange" in said and "blue" in said
    layers = file.layers(range(20))
    first, second = (layers[:, 0] > 0) & (layers[:, 1] == 0), (layers[:, 1] > 0) & (layers[:, 0] == 0)
    bright = file.images[:20] > 200
    assert (pixels[first & bright][:, 0] > pixels[first & bright][:, 2]).all()
    assert (pixels[second & bright][:, 2] > pixels[second & bright][:, 0]).all()
    assert (pixels[file.images[:20] == 0] == 0).all()


def test_a_preview_shows_the_file_and_not_what_its_spec_would_draw() -> None:
    file = made("multimnist")
    preview(file, Path("before.png"), rows=1, columns=2)
    overwrite(file, "images", 0, b"\xff" * 36 * 36)
    pixels, _ = _coloured(file, np.arange(1))
    assert (pixels.max(3) >= 150).all()
    preview(file, Path("after.png"), rows=1, columns=2)
    assert (picture(Path("before.png")) != picture(Path("after.png"))).any()


def test_pairs_are_in_grey_where_the_digits_are_not_here() -> None:
    file = without_digits("multimnist")
    pixels, said = _coloured(file, np.arange(20))
    assert "grey" in said
    assert (pixels == file.images[:20, :, :, None]).all()
    assert preview(file, Path("x.png")) == 48
    assert (picture(Path("x.png")) == 255).any() and Path("x.png").stat().st_size > 5000


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (5, (2, 3)), (13, (5, 3))])
def test_a_preview_of_few_samples_shows_them_all(count: int, shape: tuple[int, int]) -> None:
    assert preview(made("padded", count=count), Path("x.png"), rows=5, columns=3) == count
    assert picture(Path("x.png")).shape[1] == 300


def test_a_preview_is_the_same_bytes_each_time() -> None:
    file = made("affnist")
    preview(file, Path("a.png"), rows=2, columns=3)
    preview(file, Path("b.png"), rows=2, columns=3)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_a_name_that_looks_like_a_formula_is_a_name() -> None:
    one = recipe("padded")
    spec = replace(one.spec, generator=r"$\frac{$")
    create_header(Path("x.h5"), spec.to_json(), columns_of(one.generator, spec), 100)
    assert preview(DataFile(Path("x.h5")), Path("x.png"), rows=1, columns=2) == 2


@pytest.mark.parametrize("out", ["padded.h5", "./padded.h5", "link.png"])
def test_a_preview_is_not_written_over_the_file(out: str) -> None:
    file = made("padded")
    Path("link.png").symlink_to("padded.h5")
    before = file.path.read_bytes()
    with pytest.raises(UsageError, match=r"overwrite padded\.h5 itself"):
        preview(file, Path(out))
    assert file.path.read_bytes() == before


def test_a_preview_that_cannot_be_written_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    file = made("padded")
    Path("folder").mkdir()
    before = sorted(Path().iterdir())
    for out in ("/proc/x.png", "folder", "padded.json/x.png"):
        with pytest.raises(StorageError):
            preview(file, Path(out), rows=1, columns=2)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        preview(file, Path("x.png"), rows=1, columns=2)
    assert sorted(Path().iterdir()) == before
