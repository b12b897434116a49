"""Files that are whole or not there at all: atomic writes, locks, and what the system's refusals mean."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from capsbench.errors import StorageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def human_bytes(count: float) -> str:
    """``1536`` to ``"1.5 kB"``, in steps of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


@contextmanager
def storage_errors(path: Path, *, needed: int | None = None) -> Iterator[None]:
    """Turns an `OSError` into a `StorageError` of one or two lines that names the file, the cause and the way out.

    Args:
        path: What is being written.
        needed: Its size in bytes, where it is known.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(_explanation(path, error, needed)) from error


def _explanation(path: Path, error: OSError, needed: int | None) -> str:
    if error.errno in FULL:
        size = f" It needs {human_bytes(needed)}, free are {human_bytes(free_bytes(path))}." if needed else ""
        return f"{path} could not be written: {os.strerror(error.errno or 0)}.{size} Free some space and run the same again."
    if error.errno in FORBIDDEN:
        return f"{path} could not be written: {os.strerror(error.errno or 0)}. Choose another place with --out."
    return f"{path} could not be written: {error.strerror or error}."


def free_bytes(path: Path) -> int:
    """Free bytes where a file that need not exist yet would lie."""
    for place in (path, *path.absolute().parents):
        if place.exists():
            return shutil.disk_usage(place).free
    return 0


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        StorageError: It cannot be made, or a file stands there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise StorageError(
            f"The folder {folder} cannot be made: a file stands there. Choose another with --out."
        ) from None
    except NotADirectoryError:
        raise StorageError(
            f"The folder {folder} cannot be made: its parent is a file. Choose another with --out."
        ) from None
    except OSError as error:
        raise StorageError(
            f"The folder {folder} cannot be made: {error.strerror}. Choose another with --out."
        ) from None


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that is seen whole or not at all: to a temporary name, synced, renamed, the folder synced.

    Raises:
        StorageError: It could not be written; what stood there before still does.
    """
    make_folder(path.parent)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with storage_errors(path, needed=len(content)):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds ``PATH.lock`` for one process at a time; the lock goes with the process, however it ends.

    Raises:
        StorageError: Another process holds it, or it cannot be made.
    """
    name = path.with_name(path.name + ".lock")
    with storage_errors(name):
        handle = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StorageError(
                f"Another run is writing {path}. Wait for it, or choose another place with --out."
            ) from None
        # The holder before us may have removed the name between our opening and locking it.
        if not name.exists() or not os.path.samestat(os.fstat(handle), name.stat()):
            raise StorageError(f"Another run was just finishing {path}. Run the same again.")
        try:
            yield
        finally:
            name.unlink(missing_ok=True)
    finally:
        os.close(handle)
