"""Checkpoints: tensors and plain values, nothing that could run code, with the SHA-256 of each file beside it."""

import hashlib
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from capsbench.errors import StorageError, TrainingError, first_line
from capsbench.system.disk import storage_errors, write_atomically
from capsbench.training.plain import from_plain, to_plain

CHECKPOINT_FORMAT = 3
ASIDE = ".aside"
KEPT_CHECKPOINTS = 2  # a power failure may cut the newest; the one before it is whole


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors and plain values. The file's SHA-256 is written beside it, and before it.

    Raises:
        StorageError: It could not be written.
        UnsavableError: It holds something else.
    """
    buffer = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, **to_plain(content)}, buffer)
    write_atomically(_digest_path(path), hashlib.sha256(buffer.getbuffer()).hexdigest().encode())
    write_atomically(path, buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, on the CPU; None if the file is missing, damaged or of another format.

    Raises:
        StorageError: The file exists but cannot be read.
        TrainingError: It is undamaged but cannot be loaded, for instance because memory is short.
    """
    try:
        content = path.read_bytes()
        stated = _digest_path(path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}. Make it readable, or move it away.") from None
    if hashlib.sha256(content).hexdigest().encode() != stated:
        return None
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # the file names something that is neither a tensor nor a plain value
        return None
    except RuntimeError as error:
        reason = first_line(error)
        raise TrainingError(
            f"{path} is undamaged, but cannot be loaded: {reason}. Run again, or move it away."
        ) from None
    return from_plain(loaded) if isinstance(loaded, dict) and loaded.get("format") == CHECKPOINT_FORMAT else None


class CheckpointFolder:
    """The checkpoints of one training, the newest two of which are kept.

    Args:
        folder: Their folder; the first `save` makes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, step: int, content: dict[str, Any], *, keep: int = KEPT_CHECKPOINTS) -> None:
        """Saves the checkpoint after a step, and removes all but the newest and whatever an interrupted save left.

        Raises:
            StorageError: It could not be written, or an old one could not be removed.
        """
        save_checkpoint(self._folder / f"step-{step:08d}.pt", content)
        kept = {path.name for path in self._paths()[-keep:]}
        with storage_errors(self._folder):
            for path in self._folder.glob("step-*"):
                name = path.name.removesuffix(".sha256")
                if name not in kept and not name.endswith(ASIDE):
                    path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes every checkpoint.

        Raises:
            StorageError: One could not be removed.
        """
        with storage_errors(self._folder):
            for path in self._paths():
                _digest_path(path).unlink(missing_ok=True)
                path.unlink()

    def newest_first(self) -> Iterator[tuple[Path, dict[str, Any] | None]]:
        """Every checkpoint, the newest first, with its content; None stands for a damaged one.

        Raises:
            StorageError: One cannot be read.
            TrainingError: One is undamaged but cannot be loaded.
        """
        for path in reversed(self._paths()):
            yield path, load_checkpoint(path)

    def put_aside(self, path: Path) -> Path:
        """Renames a checkpoint, so that it is not found again; returns its new path.

        Raises:
            StorageError: It could not be renamed.
        """
        aside = path.with_name(path.name + ASIDE)
        with storage_errors(path):
            path.replace(aside)
            _digest_path(path).unlink(missing_ok=True)
        return aside

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.pt"))


def _digest_path(path: Path) -> Path:
    return path.with_suffix(".pt.sha256")
