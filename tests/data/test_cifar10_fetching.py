"""Fetching CIFAR-10, from a source that is made up: no test goes to the network."""

import tarfile
from pathlib import Path

import pytest

from capsbench.data import cifar10_fetching
from capsbench.data.cifar10 import load_images, read_batches, status
from capsbench.data.cifar10_fetching import ARCHIVE, fetch_cifar10
from capsbench.errors import DigitsError, StorageError

from .cifar_batches import NAMES, pass_for_cifar10, write_folder


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files pass for CIFAR-10's; and a cache of the test's own."""
    folder = write_folder(tmp_path / "source")
    pass_for_cifar10(folder, monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return folder


def delivered(monkeypatch: pytest.MonkeyPatch, source: Path, *, leave_out: str = "") -> None:
    """Puts an archive of the folder where torchvision's download would put CIFAR-10's."""

    def run(command: list[str], folder: Path) -> None:
        assert f'filename="{ARCHIVE}"' in command[2] and command[3] == str(folder)
        with tarfile.open(folder / ARCHIVE, "w:gz") as tar:
            for name in NAMES:
                if name != leave_out:
                    tar.add(source / name, f"cifar-10-batches-py/{name}")

    monkeypatch.setattr(cifar10_fetching, "run_program", run)


def test_the_batches_come_into_the_cache_and_are_found_there(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delivered(monkeypatch, batches)
    lines: list[str] = []
    folder = fetch_cifar10(report=lines.append)
    assert {path.name for path in folder.iterdir()} == set(NAMES)
    assert [path.name for path in folder.parent.iterdir()] == ["cifar10"]  # nothing is left of the download
    assert load_images("test", full=True).origin == "cifar10" and lines[-1] == f"CIFAR-10 is in {folder}."
    monkeypatch.setattr(cifar10_fetching, "run_program", None)
    assert fetch_cifar10(report=lines.append) == folder and lines[-1].endswith("already.")


def test_a_damaged_file_in_the_cache_is_replaced(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delivered(monkeypatch, batches)
    folder = fetch_cifar10()
    (folder / "test_batch").write_bytes(b"")
    (folder / "mine.txt").touch()
    fetch_cifar10()
    assert (folder / "test_batch").read_bytes() == (batches / "test_batch").read_bytes()
    assert read_batches(folder) and (folder / "mine.txt").exists()


@pytest.mark.parametrize("fault", ["no network", "another archive", "a file too few", "another file"])
def test_what_cannot_be_fetched_leaves_nothing(
    fault: str, batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: list[str], folder: Path) -> None:
        if fault == "no network":
            raise DigitsError("URLError: no route to host")
        (folder / ARCHIVE).write_bytes(b"<html>sign in</html>")

    if fault == "a file too few":
        delivered(monkeypatch, batches, leave_out="data_batch_4")
    elif fault == "another file":
        other = write_folder(tmp_path / "other", count=30)
        delivered(monkeypatch, other)
    else:
        monkeypatch.setattr(cifar10_fetching, "run_program", broken)
    with pytest.raises(DigitsError, match=r"could not be fetched\. torchvision's source: (.|\n)*--digits DIR"):
        fetch_cifar10()
    assert not list((tmp_path / "caches" / "capsbench").iterdir())


def test_a_full_disk_is_an_error_before_anything_is_downloaded(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10_fetching, "free_bytes", lambda _: 1000)
    with pytest.raises(StorageError, match=r"needs .* is free"):
        fetch_cifar10()


def test_the_status_is_of_what_is_in_the_cache(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (status().name, status().state) == ("cifar10", "absent")
    delivered(monkeypatch, batches)
    folder = fetch_cifar10()
    assert (status().path, status().state, status().detail) == (folder, "complete", "")
    content = (folder / NAMES[0]).read_bytes()
    (folder / NAMES[0]).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert status().state == "damaged" and f"is not CIFAR-10's {NAMES[0]}" in status().detail
    (folder / NAMES[0]).unlink()
    assert status().state == "incomplete"
