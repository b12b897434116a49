"""Checkpoints: a read gives what was written, or nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch

from capsbench.errors import StorageError, TrainingError
from capsbench.training.checkpoints import CheckpointFolder, load_checkpoint, save_checkpoint
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
    aside = folder.put_aside(tmp_path / "step-00000005.pt")
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


def test_a_checkpoint_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "step-00000001.pt").mkdir()  # root may read whatever a mode forbids, but no folder
    with pytest.raises(StorageError, match="cannot be read"):
        list(CheckpointFolder(tmp_path).newest_first())


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be made"):
        CheckpointFolder(tmp_path / "file").save(1, CONTENT)
