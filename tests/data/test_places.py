"""The places that `auto` searches for digits, and their states."""

from pathlib import Path

import pytest

from capsbench.data.digits import load_digits
from capsbench.data.places import auto_source, cache_folder, places, status
from capsbench.data.sets import SETS
from capsbench.errors import DigitsError

from .idx_folders import TEST_LABELS, Placer

pytestmark = pytest.mark.usefixtures("nowhere")


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


def test_status_tells_every_place(place: Placer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["$CAPSBENCH_DIGITS", "cache", "torch's cache", "torchvision's data", "embedded", *SETS]
    assert [row.name for row in status()] == names
    assert [row.state for row in status()] == ["absent"] * 4 + ["complete"] + ["absent"] * len(SETS)
    monkeypatch.setenv("CAPSBENCH_DIGITS", str(place(tmp_path / "named")))
    place(tmp_path / "caches/torch/MNIST/raw", without=TEST_LABELS)
    place(tmp_path / "data/MNIST/raw", without=TEST_LABELS)
    (tmp_path / "data/MNIST/raw" / TEST_LABELS).touch()
    rows = status()
    assert [row.name for row in rows] == names
    assert [row.state for row in rows[:5]] == ["complete", "absent", "incomplete", "damaged", "complete"]
    assert f"{TEST_LABELS} is not MNIST's" in rows[3].detail
