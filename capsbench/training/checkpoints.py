"""Checkpoints: tensors and plain values, nothing that could run code, with the SHA-256 of each file beside it."""

import hashlib
import io
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from capsbench.errors import StorageError, TrainingError, first_line
from capsbench.system import memory
from capsbench.system.disk import is_regular, storage_errors, write_atomically
from capsbench.training.plain import from_plain, to_plain

CHECKPOINT_FORMAT = 3
ASIDE = ".aside"
DIGEST_BYTES = 64  # hexadecimal digits
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


def load_checkpoint(path: Path, *, largest: int | None = None) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, on the CPU.

    Args:
        path: The file.
        largest: More bytes than a checkpoint of this network can have; a larger file is not read.

    Returns:
        None if the file is missing, damaged, too large, of another format, or no regular file.

    Raises:
        StorageError: The file exists but cannot be read.
        TrainingError: It is undamaged but cannot be loaded, because memory is short.
    """
    if not (is_regular(path) and is_regular(_digest_path(path))):
        return None
    try:
        if _digest_path(path).stat().st_size > DIGEST_BYTES or path.stat().st_size > (largest or sys.maxsize):
            return None
        content = path.read_bytes()
        stated = _digest_path(path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}. Make it readable, or move it away.") from None
    if hashlib.sha256(content).hexdigest().encode() != stated or not is_as_large_as_it_seems(content):
        return None
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, MemoryError) as error:
        if not (isinstance(error, MemoryError) or memory.is_out_of_memory(error)):
            return None
        reason = first_line(error)
        raise TrainingError(
            f"{path} is undamaged, but cannot be loaded: {reason}. Run again, or move it away."
        ) from None
    except Exception:  # it names what is neither a tensor nor a plain value, or anyone wrote it in any way
        return None
    return from_plain(loaded) if isinstance(loaded, dict) and loaded.get("format") == CHECKPOINT_FORMAT else None


def is_as_large_as_it_seems(content: bytes) -> bool:
    """Whether a file is as torch writes it: an archive whose parts are stored as they are, and lie side by side.

    What is compressed, or lies in one place under several names, can grow to any size when it is unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
    except Exception:  # zipfile raises what it likes for what is no archive
        return False
    stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
    return stored and sum(part.file_size for part in parts) <= len(content)


def largest_checkpoint(state: Mapping[str, Any], *, steps: int) -> int:
    """Bytes that no checkpoint of a training exceeds.

    It holds the state once, twice more as Adam's averages, and up to three times as selected; and for each step less
    than a loss and a row of the history.

    Args:
        state: The network's state.
        steps: All steps of the training.
    """
    buffer = io.BytesIO()
    torch.save(to_plain(dict(state)), buffer)
    return 7 * buffer.getbuffer().nbytes + 1024 * steps + 2**24


def fits(state: Any, own: Mapping[str, Any]) -> bool:
    """Whether a state has the names, shapes and types of another; extra state may be anything."""
    return state.keys() == own.keys() and all(
        _alike(state[name], one) for name, one in own.items() if not name.endswith("_extra_state")
    )


def _alike(first: Any, second: Any) -> bool:
    if not (isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)):
        return type(first) is type(second)
    return first.shape == second.shape and first.dtype == second.dtype


def put_aside(path: Path) -> Path:
    """Renames a checkpoint, so that it is not found again; returns its new path.

    Raises:
        StorageError: It could not be renamed.
    """
    with storage_errors(path):
        aside = _put_aside(path)
        _remove(_digest_path(path))
    return aside


class CheckpointFolder:
    """The checkpoints of one training, the newest two of which are kept.

    Args:
        folder: Their folder; the first `save` makes it.
        largest: Bytes; a larger file is no checkpoint of this network.
    """

    def __init__(self, folder: Path, *, largest: int | None = None) -> None:
        self._folder = folder
        self._largest = largest

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
                if name not in kept and ASIDE not in name:
                    _remove(path)

    def clear(self) -> None:
        """Removes every checkpoint, and their folder where nothing else is in it.

        Raises:
            StorageError: One could not be removed.
        """
        with storage_errors(self._folder):
            for path in self._paths():
                _remove(_digest_path(path))
                _remove(path)
        with suppress(OSError):
            self._folder.rmdir()

    def newest_first(self) -> Iterator[tuple[Path, dict[str, Any] | None]]:
        """Every checkpoint, the newest first, with its content; None stands for a damaged one.

        Raises:
            StorageError: One cannot be read.
            TrainingError: One is undamaged but cannot be loaded.
        """
        for path in reversed(self._paths()):
            yield path, load_checkpoint(path, largest=self._largest)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.pt"))


def _put_aside(path: Path) -> Path:
    """Renames anything, a folder too, to a name that nothing has; what was put aside before is written over."""
    number = 0
    while True:
        aside = path.with_name(f"{path.name}{ASIDE}{number or ''}")
        if not aside.is_dir() and not (path.is_dir() and os.path.lexists(aside)):
            return path.replace(aside)
        number += 1


def _remove(path: Path) -> None:
    """Removes a file; a folder, which is not ours, is put aside."""
    if path.is_dir() and not path.is_symlink():
        _put_aside(path)
    else:
        path.unlink(missing_ok=True)


def _digest_path(path: Path) -> Path:
    return path.with_suffix(".pt.sha256")
