"""What a file holds, against what can be counted by hand."""

import errno
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from capsbench.contracts import UInt8Array
from capsbench.data.columns import columns_of
from capsbench.data.recipes import Recipe, make_recipe
from capsbench.errors import DataFileError, DigitsError, StorageError, UsageError
from capsbench.files import inspection
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file
from capsbench.files.header import create_header
from capsbench.files.inspection import classes, measure
from capsbench.files.preview import _coloured, preview

FULL = "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b"
"""The digits of full MNIST's test split, which no test has."""


def recipe(name: str, **options: Any) -> Recipe:
    defaults: dict[str, Any] = {"split": "test", "digits": "embedded", "count": 100}
    return make_recipe(name, **(defaults | options))


def made(name: str, **options: Any) -> DataFile:
    return open_dataset(generate_file(recipe(name, **options), Path(f"{name}.h5")).path)


def without_digits(name: str) -> DataFile:
    """A file whose digits are not here: full MNIST's, by its spec."""
    one = recipe(name)
    spec = replace(one.spec, digits=FULL)
    create_header(Path("full.h5"), spec.to_json(), columns_of(one.generator, spec), 100)
    path = Path("full.h5")
    place = DataFile(path).extents["images"]
    with path.open("r+b") as file:
        file.seek(place.offset)
        file.write(made(name).images.tobytes())
    return DataFile(path)


def picture(path: Path) -> UInt8Array:
    """``[H, W, 3]`` uint8."""
    image: UInt8Array = np.round(matplotlib.image.imread(path)[..., :3] * 255).astype(np.uint8)
    return image


def overwrite(file: DataFile, key: str, sample: int, content: bytes) -> None:
    place = file.extents[key]
    with file.path.open("r+b") as raw:
        raw.seek(place.offset + sample * place.sample_bytes)
        raw.write(content)


def test_the_measures_of_pairs_are_those_of_their_shifts() -> None:
    file = made("multimnist", count=5000)
    assert file.shift is not None
    apart = np.abs(file.shift[:, 0].astype(int) - file.shift[:, 1].astype(int))
    found = {one.name: one for one in measure(file)}
    for name, side in (("overlap of frames (%)", 28), ("overlap of boxes (%)", 20)):
        overlap = 100 * (side - apart).prod(1) / side**2
        assert found[name].samples == 5000
        assert found[name].mean == pytest.approx(overlap.mean())
        assert found[name].percentiles == pytest.approx(np.percentile(overlap, (5, 50, 95)))
    both = (recipe("multimnist", count=5000).sampler.layers(np.arange(5000)) >= 128).astype(int)
    shared = both.prod(1).sum((1, 2)) / np.maximum(both.sum((1, 2, 3)) / 2, 1)
    assert found["overlap of ink (%)"].mean == pytest.approx(100 * shared.mean())
    assert 79.5 < found["overlap of frames (%)"].mean < 80.5


def test_of_a_large_file_evenly_spread_samples_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "MEASURED", 10)
    monkeypatch.setattr(inspection, "AT_ONCE", 3)
    file = made("padded", count=95)
    assert file.shift is not None
    chosen = [0, 9, 19, 28, 38, 47, 57, 66, 76, 85]
    (one,) = (one for one in measure(file) if one.name == "dy (pixels)")
    assert one.samples == 10
    assert one.mean == pytest.approx(file.shift[chosen, 0].mean())


def test_measures_need_the_digits_where_they_are_not_here() -> None:
    with pytest.raises(DigitsError, match="capsbench data fetch"):
        measure(without_digits("multimnist"))


@pytest.mark.parametrize(
    ("name", "key", "content"),
    [
        ("multimnist", "source", b"\xff\xff\xff\x7f"),
        ("multimnist", "source", b"\0\0\0\x80"),
        ("multimnist", "shift", b"\x7f\x7f"),
        ("multimnist", "shift", b"\x80\x80"),
        ("affnist", "source", b"\xff\xff\xff\x7f"),
    ],
)
def test_samples_that_cannot_be_are_told(name: str, key: str, content: bytes) -> None:
    file = made(name)
    overwrite(file, key, 3, content)
    with pytest.raises(DataFileError, match="name digits or shifts that its spec does not draw"):
        measure(DataFile(file.path))


@pytest.mark.parametrize("many", [2**20, 7])
@pytest.mark.parametrize("name", ["padded", "multimnist"])
def test_classes_are_counted(name: str, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "MANY", many)
    file = made(name, count=500)
    found = classes(file)
    labels = file.labels.reshape(500, -1).tolist()
    counts = Counter(label for row in labels for label in row)
    assert found["classes"] == [counts[label] for label in range(10)]
    assert sum(found["classes"]) == 500 * file.labels.reshape(500, -1).shape[1]
    if name == "multimnist":
        assert found["kinds of pairs"] == len({tuple(sorted(row)) for row in labels})
        assert found["pairs of one class"] == 0
    else:
        assert set(found) == {"classes"}


def test_pairs_of_one_class_are_counted() -> None:
    file = made("multimnist")
    overwrite(file, "labels", 3, b"\x07\x07")
    overwrite(file, "labels", 5, b"\x02\x02")
    assert classes(DataFile(file.path))["pairs of one class"] == 2


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
    with pytest.raises(UsageError, match=r"over padded\.h5 itself"):
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
