"""What a file holds, against what can be counted by hand."""

from collections import Counter

import numpy as np
import pytest

from capsbench.errors import DataFileError, DigitsError
from capsbench.files import inspection
from capsbench.files.datafile import DataFile
from capsbench.files.inspection import classes, measure

from .shown_files import made, overwrite, recipe, without_digits


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
    with pytest.raises(DataFileError, match="have digits or shifts that its spec does not draw"):
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
