"""Checkpoints: tensors and plain values, nothing that could run code, with the SHA-256 of each file beside it."""

import hashlib
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from capsbench.durability import storage_errors, write_atomically

CHECKPOINT_FORMAT = 2
KEPT_CHECKPOINTS = 2  # the newest may be cut by a power failure; the one before it is whole


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors and plain values, with the file's SHA-256 beside it, which goes first.

    Raises:
        StorageError: It could not be written.
    """
    buffer = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, **content}, buffer)
    write_atomically(_digest_path(path), hashlib.sha256(buffer.getbuffer()).hexdigest().encode())
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, on the CPU; None where the file is not what its SHA-256 says."""
    try:
        content = path.read_bytes()
        stated = _digest_path(path).read_text()
        if hashlib.sha256(content).hexdigest() != stated:
            return None
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError):
        return None
    return loaded if isinstance(loaded, dict) and loaded.get("format") == CHECKPOINT_FORMAT else None


def remove_checkpoint(path: Path) -> None:
    """Removes a checkpoint and its SHA-256.

    Raises:
        StorageError: It could not be removed.
    """
    with storage_errors(path):
        path.unlink()
        _digest_path(path).unlink(missing_ok=True)


class CheckpointFolder:
    """The checkpoints of one training, the newest two of which are kept.

    Args:
        folder: Where they lie; it is made when the first is saved.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, step: int, content: dict[str, Any]) -> None:
        """Saves the checkpoint after a step, and removes all but the newest.

        Raises:
            StorageError: It could not be written.
        """
        save_checkpoint(self._folder / f"step-{step:08d}.pt", content)
        for old in self._paths()[:-KEPT_CHECKPOINTS]:
            remove_checkpoint(old)

    def newest_first(self) -> Iterator[tuple[Path, dict[str, Any] | None]]:
        """Every checkpoint with its content, None where it is damaged, from the newest on."""
        for path in reversed(self._paths()):
            yield path, load_checkpoint(path)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.pt"))


def _digest_path(path: Path) -> Path:
    return path.with_suffix(".pt.sha256")
