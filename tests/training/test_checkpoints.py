"""Checkpoints: a read gives what was written, or nothing."""

import copy
import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from capsbench.errors import StorageError, TrainingError
from capsbench.training.checkpoints import (
    CHECKPOINT_FORMAT,
    CheckpointFolder,
    largest_checkpoint,
    load_checkpoint,
    put_aside,
    save_checkpoint,
)
from capsbench.training.plain import UnsavableError

CONTENT: dict[str, Any] = {"weights": {"a": torch.arange(3.0)}, "steps": 7, "names": ["x"], "nothing": None}


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "one.pt", CONTENT)
    found = load_checkpoint(tmp_path / "one.pt")
    assert found is not None and torch.equal(found["weights"]["a"], CONTENT["weights"]["a"])
    assert {key: found[key] for key in ("steps", "names", "nothing")} == {"steps": 7, "names": ["x"], "nothing": None}


def test_any_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "one.pt"
    save_checkpoint(path, CONTENT)
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 20):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert load_checkpoint(path) is None
    path.write_bytes(whole[:-1])
    assert load_checkpoint(path) is None


def test_without_its_sha256_or_its_file_there_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "one.pt"
    assert load_checkpoint(path) is None
    save_checkpoint(path, CONTENT)
    path.with_suffix(".pt.sha256").unlink()
    assert load_checkpoint(path) is None


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.pt"
    with pytest.raises(UnsavableError, match="model holds a PosixPath"):
        save_checkpoint(path, {"model": Path("x")})  # a Path is no tensor and no plain value
    monkeypatch.setattr("capsbench.training.checkpoints.to_plain", lambda content: content)
    save_checkpoint(path, {"model": Path("x")})
    assert load_checkpoint(path) is None


def test_a_checkpoint_of_another_format_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsbench.training.checkpoints.CHECKPOINT_FORMAT", 1)
    save_checkpoint(tmp_path / "one.pt", CONTENT)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "one.pt") is None


def test_a_folder_keeps_the_newest_two_and_gives_the_newest_first(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "deep" / "folder")
    assert list(folder.newest_first()) == []
    for step in (9, 10, 100):
        folder.save(step, {"steps": step})
    found = list(folder.newest_first())
    assert [path.name for path, _ in found] == ["step-00000100.pt", "step-00000010.pt"]
    assert [content and content["steps"] for _, content in found] == [100, 10]
    assert len(list((tmp_path / "deep" / "folder").iterdir())) == 4


def test_the_next_checkpoint_removes_what_a_kill_left_half_written(tmp_path: Path) -> None:
    for name in ("step-00000003.pt.new", "step-00000004.pt.sha256", "step-00000005.pt.sha256.new"):
        (tmp_path / name).write_text("left behind")
    CheckpointFolder(tmp_path).save(9, CONTENT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000009.pt", "step-00000009.pt.sha256"]


def test_keep_1_keeps_the_newest_alone(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, CONTENT)
    folder.save(2, CONTENT, keep=1)
    assert [path.name for path, _ in folder.newest_first()] == ["step-00000002.pt"]


def test_a_checkpoint_put_aside_is_neither_found_again_nor_lost(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(5, CONTENT)
    content = (tmp_path / "step-00000005.pt").read_bytes()
    aside = put_aside(tmp_path / "step-00000005.pt")
    assert list(folder.newest_first()) == []
    for step in (6, 7, 8):
        folder.save(step, CONTENT)
    assert aside.read_bytes() == content


def test_an_undamaged_checkpoint_that_cannot_be_loaded_now_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "one.pt", CONTENT)

    def fail(*rest: object, **options: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory\nmore")

    monkeypatch.setattr("torch.load", fail)
    with pytest.raises(TrainingError, match=r"is undamaged, but cannot be loaded: .*can't allocate memory\. Run again"):
        load_checkpoint(tmp_path / "one.pt")


def folder_there(path: Path) -> None:
    path.mkdir()
    (path / "inside").touch()


def link_there(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def another(path: Path) -> None:
    save_checkpoint(path, {"format": 1})


def bomb(path: Path) -> None:
    """Ten kilobytes that become ten megabytes."""
    content = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, "weights": torch.zeros(2_500_000)}, content)
    with zipfile.ZipFile(content) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    signed(path)


def two_names_in_one_place(path: Path) -> None:
    save_checkpoint(path, {"weights": torch.zeros(100_000)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more", b"")  # so that the list of parts is written again
        largest = max(archive.filelist, key=lambda part: part.file_size)
        for number in range(3):
            part = copy.copy(largest)
            part.filename += str(number)
            archive.filelist.append(part)
    signed(path)


def not_torchs(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
    signed(path)


def signed(path: Path) -> None:
    path.with_suffix(".pt.sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())


IN_THE_WAY: dict[str, Callable[[Path], None]] = {
    "a folder": folder_there,
    "a FIFO": os.mkfifo,
    "a link to nothing": link_there("nowhere"),
    "a link to itself": link_there("step-00000009.pt"),
    "a device without an end": link_there("/dev/zero"),
    "of another format": another,
    "a bomb": bomb,
    "two names in one place": two_names_in_one_place,
    "no file of torch": not_torchs,
}


@pytest.mark.parametrize("beside", [False, True], ids=["checkpoint", "digest"])
@pytest.mark.parametrize("what", IN_THE_WAY)
def test_what_is_no_checkpoint_is_put_aside_unread(what: str, beside: bool, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, largest=2**27)
    folder.save(8, CONTENT)
    folder.save(9, CONTENT)
    newest = tmp_path / "step-00000009.pt"
    place = newest.with_suffix(".pt.sha256") if beside else newest
    place.unlink()
    IN_THE_WAY[what](place)
    found = list(folder.newest_first())
    assert [content is not None for _, content in found] == [False, True]
    for _ in range(2):  # the second time its name is taken
        put_aside(newest)
        assert [path.name for path, _ in folder.newest_first()] == ["step-00000008.pt"]
        if beside:
            break
        IN_THE_WAY[what](newest)
    for step in (10, 11, 12):
        folder.save(step, CONTENT)
    assert [path.name for path, _ in folder.newest_first()][:2] == ["step-00000012.pt", "step-00000011.pt"]


def test_a_file_larger_than_any_checkpoint_of_the_network_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.pt"
    save_checkpoint(path, CONTENT)
    size = path.stat().st_size
    assert load_checkpoint(path, largest=size) is not None
    assert load_checkpoint(path, largest=size - 1) is None


def test_a_checkpoint_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "step-00000001.pt"
    save_checkpoint(path, CONTENT)

    def forbidden(path: Path) -> bytes:  # root may read whatever a mode forbids
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(StorageError, match="cannot be read: Permission denied"):
        list(CheckpointFolder(tmp_path).newest_first())


def test_no_checkpoint_of_a_training_is_larger_than_stated(tmp_path: Path) -> None:
    model = torch.nn.Linear(300, 300)
    largest = largest_checkpoint(model.state_dict(), steps=10)
    weights = {name: torch.rand_like(value) for name, value in model.state_dict().items()}
    copies = [{name: value + number for name, value in weights.items()} for number in range(6)]
    save_checkpoint(tmp_path / "one.pt", {"copies": copies, "losses": torch.zeros(10)})
    assert 6 * 4 * 300 * 301 < (tmp_path / "one.pt").stat().st_size < largest < 2**25


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be made"):
        CheckpointFolder(tmp_path / "file").save(1, CONTENT)
