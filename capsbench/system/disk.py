"""Files that are complete or not there: atomic writes, locks, and errors of the system in words."""

import errno
import fcntl
import os
import shutil
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

from capsbench.errors import LockedError, StorageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
NOT_SUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of file systems that cannot reserve space, or cannot sync a folder."""

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of file systems without locks, such as NFS without its lock daemon and Lustre without the option ``flock``."""

NO_MAPS = (errno.ENODEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOMEM)
"""Errors of file systems that cannot map a file, and of a process that may not take the addresses for it."""

FLUSH_SECONDS = 0.05
"""Time between two syncs while a file is written: some ten megabytes, so that little is left for the end."""


class UnsyncedError(OSError):
    """A sync failed: the data may not be on the disk, although the system's cache shows them."""


def human_bytes(count: float) -> str:
    """``1536`` to ``"1.5 kB"``, in steps of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


@contextmanager
def storage_errors(path: Path, *, needed: int | None = None) -> Iterator[None]:
    """Turns an `OSError` into a `StorageError` of one or two lines: the file, the cause and what to do.

    Args:
        path: The file that is being written.
        needed: Its size in bytes, if it is known.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(_explanation(path, error, needed)) from error


def _explanation(path: Path, error: OSError, needed: int | None) -> str:
    problem = f"{path} could not be written: {error.strerror or error}."
    if error.errno in FULL:
        free = human_bytes(free_bytes(path))
        size = f"It needs {human_bytes(needed)}; only {free} is free." if needed else f"Only {free} is free."
        return f"{problem} {size} Free some space and run the same command again."
    if error.errno in FORBIDDEN:
        return f"{problem} Choose another place, or get the permission."
    return problem


def free_bytes(path: Path) -> int:
    """Free bytes in the place of a file, which need not exist yet."""
    for place in (path, *path.absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return 0


def same_file(one: Path, other: Path) -> bool:
    """Whether two names lead to the same existing file, through links or not."""
    with suppress(OSError, ValueError):
        return one.samefile(other)
    return False


def kind_of(path: Path) -> str | None:
    """``"file"``, ``"folder"``, or None if there is neither, or the name cannot be resolved."""
    with suppress(OSError, ValueError):  # too long a name, or links in a circle
        return "file" if path.is_file() else "folder" if path.is_dir() else None
    return None


def is_regular(path: Path) -> bool:
    """Whether a path leads to a regular file: to read a FIFO would wait for ever, and a device has no end."""
    with suppress(OSError, ValueError):
        return path.is_file()
    return False


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        StorageError: It cannot be made, or a file stands there.
    """
    try:
        for place in (*reversed(folder.parents), folder):  # of any depth: `Path.mkdir` calls itself for each
            if not place.is_dir():
                place.mkdir(exist_ok=True)
    except FileExistsError:
        reason = "a file stands there" if place == folder else "its parent is a file"
    except NotADirectoryError:
        reason = "its parent is a file"
    except OSError as error:
        reason = str(error.strerror)
    else:
        return
    raise StorageError(f"The folder {folder} cannot be made: {reason}. Choose another place.")


def sync(path: Path) -> None:
    """Makes a file's content, or the renames in a folder, survive a power cut.

    Raises:
        UnsyncedError: The disk or a quota refused the data.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise UnsyncedError(error.errno, error.strerror) from error
    finally:
        os.close(handle)


@contextmanager
def flushing(handle: int) -> Iterator[Callable[[], None]]:
    """Syncs a file again and again while it is written, so that the sync at the end has little left to do.

    It gives a function that raises an error if the disk has failed; long work calls it now and then.

    Raises:
        UnsyncedError: The disk failed. The system reports a handle's failure only once: a later sync may succeed.
    """
    ended = threading.Event()
    failures: list[OSError] = []

    def flush() -> None:
        while not ended.wait(FLUSH_SECONDS):
            try:
                os.fdatasync(handle)
            except OSError as error:
                if error.errno not in NOT_SUPPORTED:
                    failures.append(error)
                return

    def check() -> None:
        if failures:
            raise UnsyncedError(failures[0].errno, failures[0].strerror) from failures[0]

    thread = threading.Thread(target=flush, name="flushing", daemon=True)
    thread.start()
    try:
        yield check
    finally:
        ended.set()
        thread.join()
    check()


def reserve(handle: int, size: int) -> None:
    """Reserves a file's space on the disk, so that a full disk is an error now and not at a later write.

    Raises:
        OSError: The disk is full; the attempt may have taken all free space, so remove the file.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Writes a file that appears complete or not at all: to ``PATH.new``, synced, renamed, the folder synced.

    If two processes write one file, one waits for the other; a file that a killed one left behind is overwritten. On a
    file system without locks each process has a temporary file of its own.

    Raises:
        StorageError: It could not be written; an older file stays as it is.
    """
    make_folder(path.parent)
    with storage_errors(path, needed=len(content)):
        temporary, handle = _open_temporary(path)
        with os.fdopen(handle, "wb") as file:
            try:
                file.truncate(0)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        sync(path.parent)


def _open_temporary(path: Path) -> tuple[Path, int]:
    """A file to be renamed to a path, and a handle of it for writing, held by this process alone."""
    shared = path.with_name(path.name + ".new")
    try:
        return shared, _open_locked(shared, wait=True)
    except UnlockableError:
        own = path.with_name(f"{path.name}.{uuid4().hex[:8]}.new")
        return own, os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)


@contextmanager
def lock(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds ``PATH.lock`` for one process at a time; the lock goes with the process, however it ends.

    On a file system without locks nothing is held, and a warning says so.

    Args:
        path: The file that is going to be written.
        wait: Whether to wait until another process releases it.

    Raises:
        LockedError: Another process holds it and ``wait`` is False.
        StorageError: It cannot be made.
    """
    name = path.with_name(path.name + ".lock")
    with storage_errors(path):
        try:
            handle = _open_locked(name, wait=wait)
        except BlockingIOError:
            raise LockedError(f"Another run is writing {path}. Wait for it, or choose another place.") from None
        except UnlockableError:
            _warn_unguarded(path.absolute().parent)
            handle = None
    if handle is None:
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # a lock file that stays behind does no harm
            name.unlink()
        os.close(handle)


@cache
def _warn_unguarded(folder: Path) -> None:
    """Says once for each folder that a second run there is not noticed."""
    warnings.warn(
        f"The file system of {folder} has no locks: nothing guards against a second run there. Run one at a time.",
        stacklevel=2,
    )


class UnlockableError(OSError):
    """A file system cannot lock files."""


def _open_locked(name: Path, *, wait: bool) -> int:
    """A handle, for writing, of a file that one process at a time holds; the file is made if it is missing.

    Raises:
        BlockingIOError: Another process holds it, and ``wait`` is False.
        UnlockableError: The file system has no locks; the file is removed.
    """
    while True:
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)  # a pipe would wait for a reader
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EEXIST, f"{name} is in its way, and is no file")
            _flock(handle, name, wait=wait)
            # The process that held it before may have renamed or removed it between our opening and our locking it.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), name.stat()):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _flock(handle: int, name: Path, *, wait: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        name.unlink(missing_ok=True)
        raise UnlockableError(error.errno, error.strerror) from error
