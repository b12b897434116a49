"""Files that are whole or not there at all, whatever the system refuses."""

import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from capsbench.errors import StorageError
from capsbench.system.disk import (
    free_bytes,
    human_bytes,
    lock,
    make_folder,
    reserve,
    storage_errors,
    sync,
    write_atomically,
)


def names(folder: str = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def failing(number: int) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1536, "1.5 kB"), (4_200_000, "4.2 MB"), (77.7e9, "77.7 GB"), (1.5e15, "1500.0 TB")],
)
def test_bytes_are_told_in_steps_of_a_thousand(count: float, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_with_what_is_needed_and_what_is_free(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    told = pytest.raises(StorageError, match=r"It needs 4\.2 MB; only 1\.0 MB is free\. Free some space")
    with told, storage_errors(Path("x.h5"), needed=4_200_000):
        failing(number)()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_missing_permission_is_told_with_the_way_out(number: int) -> None:
    with (
        pytest.raises(StorageError, match=rf"x\.h5 could not be written: {os.strerror(number)}\. Choose another place"),
        storage_errors(Path("x.h5")),
    ):
        failing(number)()


def test_other_failures_keep_the_systems_words() -> None:
    with pytest.raises(StorageError, match="x could not be written: Input/output error"), storage_errors(Path("x")):
        failing(errno.EIO)()
    with pytest.raises(StorageError, match="x could not be written: no number"), storage_errors(Path("x")):
        raise OSError("no number")


def test_what_is_no_failure_of_the_system_passes() -> None:
    with pytest.raises(KeyError), storage_errors(Path("x")):
        raise KeyError("x")


def test_free_bytes_are_those_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    here = shutil.disk_usage(tmp_path).free
    for path in (tmp_path, tmp_path / "a" / "b" / "c.h5", tmp_path / ("long" * 200) / "c.h5", Path("c.h5")):
        assert abs(free_bytes(path) - here) < 1e9, path


def test_free_bytes_of_a_place_that_cannot_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", failing(errno.EACCES))
    assert free_bytes(Path("x")) == 0


def test_folders_are_made_with_those_above_them(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file", "a file stands there"),
        ("file/below", "its parent is a file"),
        ("dangling", "a file stands there"),
        ("/proc/below", "No such file"),
        ("long" * 100, "name too long"),
    ],
)
def test_a_folder_that_cannot_be_made_is_a_storage_error(place: str, reason: str) -> None:
    Path("file").touch()
    Path("dangling").symlink_to("nowhere")
    with pytest.raises(StorageError, match=reason):
        make_folder(Path(place))
    assert names() == ["dangling", "file"]


def test_an_atomic_write_leaves_its_content_and_nothing_else() -> None:
    path = Path("a", "b", "x.json")
    for content in (b"first", b"", b"third and longer"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert names("a/b") == ["x.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_an_atomic_write_that_fails_keeps_what_was_there(
    step: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomically(Path("x"), b"old")
    with monkeypatch.context() as patch:
        if step == "write":

            class Cursed:
                def __init__(self, handle: int) -> None:
                    self.handle = handle

                def __enter__(self) -> "Cursed":
                    return self

                def __exit__(self, *_: object) -> None:
                    os.close(self.handle)

                def truncate(self, size: int) -> None:
                    os.ftruncate(self.handle, size)

                def write(self, content: bytes) -> None:
                    os.write(self.handle, content[:1])
                    failing(number)()

            patch.setattr(os, "fdopen", lambda handle, mode: Cursed(handle))
        elif step == "fsync":
            patch.setattr(os, "fsync", failing(number))
        else:
            patch.setattr(Path, "replace", failing(number))
        with pytest.raises(StorageError, match=os.strerror(number)):
            write_atomically(Path("x"), b"new")
    assert Path("x").read_bytes() == b"old"
    assert names() == ["x"]
    write_atomically(Path("x"), b"new")
    assert Path("x").read_bytes() == b"new"


def test_what_a_killed_writer_left_behind_is_written_over() -> None:
    Path("x.new").write_bytes(b"half of something much longer than what comes")
    write_atomically(Path("x"), b"whole")
    assert Path("x").read_bytes() == b"whole"
    assert names() == ["x"]


@pytest.mark.parametrize("ending", [".new", ".lock"])
@pytest.mark.parametrize("read", [False, True])
def test_a_pipe_in_the_way_is_an_error_and_not_waited_for(tmp_path: Path, ending: str, read: bool) -> None:
    os.mkfifo(tmp_path / f"a{ending}")
    reader = os.open(tmp_path / f"a{ending}", os.O_RDONLY | os.O_NONBLOCK) if read else None
    try:
        with pytest.raises(StorageError):
            write_atomically(tmp_path / "a", b"x")
            with lock(tmp_path / "a"):
                pass
    finally:
        if reader is not None:
            os.close(reader)
    assert (tmp_path / f"a{ending}").is_fifo()


def test_many_writers_of_one_file_never_mix() -> None:
    contents = [bytes([65 + writer]) * 50_000 for writer in range(6)]
    write_atomically(Path("x"), contents[0])
    seen: list[bytes] = []
    failures: list[BaseException] = []
    done = threading.Event()

    def write(content: bytes) -> None:
        try:
            for _ in range(15):
                write_atomically(Path("x"), content)
        except BaseException as error:
            failures.append(error)

    def read() -> None:
        while not done.is_set():
            seen.append(Path("x").read_bytes())

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert not failures
    assert set(seen) <= set(contents)
    assert names() == ["x"]


def test_a_lock_is_held_by_one_and_goes_when_it_is_left() -> None:
    with lock(Path("x.h5")):
        assert names() == ["x.h5.lock"]
        with pytest.raises(StorageError, match=r"Another run is writing x\.h5"), lock(Path("x.h5")):
            pytest.fail("a second holder came in")
        with lock(Path("y.h5")):
            pass
    assert names() == []
    with lock(Path("x.h5")):
        pass


def test_a_lock_goes_when_its_holder_fails() -> None:
    with pytest.raises(KeyError), lock(Path("x.h5")):
        raise KeyError
    assert names() == []


def test_the_lock_of_a_killed_holder_is_taken_over() -> None:
    Path("x.h5.lock").touch()
    with lock(Path("x.h5")):
        pass
    assert names() == []


def test_a_lock_whose_name_goes_between_opening_and_locking_is_taken_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    calls: list[int] = []

    def flock(handle: int, how: int) -> None:
        if not calls:
            Path("x.h5.lock").unlink()  # as the holder before us does when it leaves
        calls.append(handle)
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock(Path("x.h5")):
        assert Path("x.h5.lock").exists()
        with pytest.raises(StorageError), lock(Path("x.h5")):
            pass
    assert len(calls) == 3


def test_a_lock_whose_name_was_removed_by_someone_is_left_quietly() -> None:
    with lock(Path("x.h5")):
        Path("x.h5.lock").unlink()


def test_a_lock_that_cannot_be_made_or_had_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="/proc/x could not be written"), lock(Path("/proc/x")):
        pass
    monkeypatch.setattr(fcntl, "flock", failing(errno.EIO))
    with pytest.raises(StorageError, match="Input/output error"), lock(Path("x")):
        pass


NO_LOCKS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]


@pytest.mark.parametrize("number", NO_LOCKS)
@pytest.mark.parametrize("wait", [True, False])
def test_without_locks_a_file_is_written_and_a_warning_says_so_once(
    number: int, wait: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # of the folder that tests share it may have been said before
    monkeypatch.setattr(fcntl, "flock", failing(number))
    with pytest.warns(UserWarning, match=f"{tmp_path} has no locks: nothing guards against a second run") as told:
        for name in ("x", "y"):
            with lock(Path(name), wait=wait):
                assert names() == []
    assert len(told) == 1


@pytest.mark.parametrize("number", NO_LOCKS)
def test_without_locks_an_atomic_write_is_one(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(number))
    test_many_writers_of_one_file_never_mix()
    test_an_atomic_write_leaves_its_content_and_nothing_else()
    with monkeypatch.context() as patch, pytest.raises(StorageError):
        patch.setattr(Path, "replace", failing(errno.EIO))
        write_atomically(Path("x"), b"new")
    assert names() == ["a", "x"] and Path("x").read_bytes() != b"new"


def test_handles_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(names("/proc/self/fd"))
    for _ in range(5):
        with lock(Path("x")), pytest.raises(StorageError), lock(Path("x")):
            pass
        write_atomically(Path("y"), b"")
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    for _ in range(5):
        with pytest.raises(StorageError):
            write_atomically(Path("y"), b"")
    assert len(names("/proc/self/fd")) == before


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_that_cannot_sync_or_reserve_is_taken_as_it_is(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("x").open("wb") as file:
        monkeypatch.setattr(os, "fsync", failing(number))
        monkeypatch.setattr(os, "posix_fallocate", failing(number))
        sync(Path())
        reserve(file.fileno(), 100)
        monkeypatch.delattr(os, "posix_fallocate")
        reserve(file.fileno(), 100)


def test_a_failure_to_sync_or_to_reserve_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("x").open("wb") as file:
        reserve(file.fileno(), 5000)
        assert os.fstat(file.fileno()).st_size == 5000
        monkeypatch.setattr(os, "fsync", failing(errno.EIO))
        monkeypatch.setattr(os, "posix_fallocate", failing(errno.ENOSPC))
        with pytest.raises(OSError, match="Input/output"):
            sync(Path())
        with pytest.raises(OSError, match="No space"):
            reserve(file.fileno(), 100)
