"""Checkpoints: what is read is what was written, or nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch

from capsbench.checkpoints import CheckpointFolder, load_checkpoint, save_checkpoint
from capsbench.errors import StorageError

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


def test_what_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.pt"
    save_checkpoint(path, {"model": Path("x")})  # a Path is no tensor and no plain value
    assert load_checkpoint(path) is None


def test_a_checkpoint_of_another_format_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsbench.checkpoints.CHECKPOINT_FORMAT", 1)
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


def test_what_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be made"):
        CheckpointFolder(tmp_path / "file").save(1, CONTENT)
