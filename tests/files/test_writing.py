"""Files from a source: whole or not there, resumed where they were left, never over another's."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from capsbench.data.recipes import make_recipe
from capsbench.errors import DataFileError, SpecMismatchError, StorageError, UsageError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file, repair_file
from capsbench.system import disk as durability

from .small_files import MANY, SMALL, counting, flip, names, overwrite, recipe, stop_after


def test_nothing_but_the_file_and_its_sidecar_is_left() -> None:
    generate_file(recipe(), Path("deep/er/x.h5"))
    assert names(Path("deep/er")) == ["x.h5", "x.json"]


def test_the_final_name_is_not_there_before_the_file_is_whole() -> None:
    seen = []
    generate_file(recipe(count=MANY), Path("x.h5"), report=lambda done, total: seen.append((done, total, names())))
    assert [done for done, _, _ in seen] == [0, 4096, 8192, MANY]
    assert {total for _, total, _ in seen} == {MANY}
    assert all(there == ["x.h5.lock", "x.h5.partial"] for _, _, there in seen)


@pytest.mark.parametrize(("done", "missing"), [(0, 0), (1, 4096), (8192, 8192)])
def test_an_interrupted_run_goes_on_where_it_was(done: int, missing: int) -> None:
    whole = generate_file(recipe(count=MANY), Path("whole.h5")).path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        generate_file(recipe(count=MANY), Path("x.h5"), report=stop_after(done))
    assert "x.h5" not in names() and "x.h5.partial" in names() and "x.h5.lock" not in names()
    again = recipe(count=MANY)
    counter = counting(again)
    made = generate_file(again, Path("x.h5"))
    assert (made.written, made.reused) == (MANY - missing, missing)
    assert counter.drawn == list(range(missing, MANY))
    assert Path("x.h5").read_bytes() == whole
    assert names() == ["whole.h5", "whole.json", "x.h5", "x.json"]


def test_of_a_partial_file_only_what_is_not_right_is_drawn_anew() -> None:
    whole = generate_file(recipe(count=MANY), Path("whole.h5")).path
    with pytest.raises(KeyboardInterrupt):
        generate_file(recipe(count=MANY), Path("x.h5"), report=stop_after(MANY))
    flip(Path("x.h5.partial"), DataFile(whole).extents["images"].offset + 28 * 28 * 5000)
    made = generate_file(recipe(count=MANY), Path("x.h5"))
    assert (made.written, made.reused) == (4096, MANY - 4096)
    assert Path("x.h5").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "flipped header"])
def test_a_partial_file_that_does_not_read_as_ours_is_started_anew(damage: str) -> None:
    whole = generate_file(recipe(count=MANY), Path("whole.h5")).path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        generate_file(recipe(count=MANY), Path("x.h5"), report=stop_after(4096))
    partial = Path("x.h5.partial")
    if damage == "flipped header":
        flip(partial, 100)
    else:
        partial.write_bytes({"cut": partial.read_bytes()[:50_000], "empty": b"", "garbage": b"x" * 9000}[damage])
    assert generate_file(recipe(count=MANY), Path("x.h5")).written == MANY
    assert Path("x.h5").read_bytes() == whole


def test_a_whole_file_is_verified_and_left() -> None:
    generate_file(recipe(), Path("x.h5"))
    before = [Path(name).stat() for name in names()]
    again = recipe()
    counter = counting(again)
    made = generate_file(again, Path("x.h5"))
    assert (made.written, made.reused) == (0, 100)
    after = [Path(name).stat() for name in names()]
    assert [(one.st_ino, one.st_mtime_ns) for one in after] == [(one.st_ino, one.st_mtime_ns) for one in before]
    assert not counter.drawn


@pytest.mark.parametrize("key", ["images", "labels", "source", "shift", "digests", "root"])
def test_a_damaged_file_is_healed_by_generating_it_again(key: str) -> None:
    path = generate_file(recipe(count=MANY), Path("x.h5")).path
    whole = path.read_bytes()
    flip(path, DataFile(path).extents[key].offset + 1)
    assert path.read_bytes() != whole
    assert generate_file(recipe(count=MANY), path).written == (MANY if key == "root" else 4096)
    assert path.read_bytes() == whole


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"seed": 1}, "seed: asked 1, found 0"),
    ({"count": 99}, "count: asked 99, found 100"),
    ({"layers": True}, "layers: asked True, found False"),
    ({"split": "validation"}, "split: asked validation, found test"),
    ({"parameters": SMALL | {"shift": 1}}, "shift: asked 1, found 2"),
    ({"name": "affnist", "parameters": None}, "generator: asked affnist, found padded"),
]


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "partial"])
@pytest.mark.parametrize(("change", "difference"), CHANGES, ids=[difference for _, difference in CHANGES])
def test_a_file_of_another_spec_is_refused_and_kept(change: dict[str, Any], difference: str, finished: bool) -> None:
    if finished:
        generate_file(recipe(), Path("x.h5"))
    else:
        with pytest.raises(KeyboardInterrupt):
            generate_file(recipe(), Path("x.h5"), report=stop_after(0))
    there = {name: Path(name).read_bytes() for name in names()}
    other = recipe(**change)
    with pytest.raises(SpecMismatchError) as told:
        generate_file(other, Path("x.h5"))
    assert difference in str(told.value) and "--force" in str(told.value)
    assert {name: Path(name).read_bytes() for name in names()} == there
    made = generate_file(other, Path("x.h5"), force=True)
    assert made.written == other.spec.count
    assert open_dataset("x.h5").spec == other.spec
    assert names() == ["x.h5", "x.json"]
    assert json.loads(Path("x.json").read_text())["spec"] == other.spec.to_dict()


def test_force_keeps_the_old_file_until_the_new_one_is_whole() -> None:
    old = generate_file(recipe(), Path("x.h5")).path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        generate_file(recipe(seed=1), Path("x.h5"), force=True, report=stop_after(0))
    assert Path("x.h5").read_bytes() == old
    open_dataset("x.h5")


def test_a_partial_file_is_said_to_be_unfinished_and_not_damaged() -> None:
    with pytest.raises(KeyboardInterrupt):
        generate_file(recipe(count=MANY), Path("x.h5"), report=stop_after(4096))
    with pytest.raises(DataFileError, match=r"x\.h5\.partial is unfinished: 2 of its 3 blocks are missing"):
        open_dataset("x.h5.partial")


def test_a_forced_run_that_was_stopped_goes_on() -> None:
    generate_file(recipe(), Path("x.h5"))
    other = recipe(seed=1, count=MANY)
    with pytest.raises(KeyboardInterrupt):
        generate_file(other, Path("x.h5"), force=True, report=stop_after(4096))
    assert generate_file(other, Path("x.h5"), force=True).reused == 4096


def test_force_draws_a_whole_file_anew() -> None:
    whole = generate_file(recipe(), Path("x.h5")).path.read_bytes()
    assert generate_file(recipe(), Path("x.h5"), force=True).written == 100
    assert Path("x.h5").read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n"])
def test_what_is_no_data_file_is_not_overwritten_unless_forced(content: bytes) -> None:
    Path("x.h5").write_bytes(content)
    with pytest.raises(DataFileError, match="--force"):
        generate_file(recipe(), Path("x.h5"))
    assert Path("x.h5").read_bytes() == content
    assert names() == ["x.h5"]
    generate_file(recipe(), Path("x.h5"), force=True)
    open_dataset("x.h5")


@pytest.mark.parametrize("force", [True, False])
def test_a_folder_where_the_file_should_go_is_refused_before_anything_is_drawn(force: bool) -> None:
    Path("x.h5").mkdir()
    one = recipe()
    counter = counting(one)
    with pytest.raises(StorageError, match="it is a folder"):
        generate_file(one, Path("x.h5"), force=force)
    assert names() == ["x.h5"] and not counter.drawn


def test_too_little_space_is_refused_before_there_is_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(StorageError, match=r"needs 8\.0 MB; only 1\.0 MB is free"):
        generate_file(recipe(count=MANY), Path("x.h5"))
    assert names() == []


def test_a_system_that_writes_little_at_a_time_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = generate_file(recipe(), Path("whole.h5")).path.read_bytes()
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, content, offset: real(handle, content[:997], offset))
    generate_file(recipe(), Path("x.h5"))
    assert Path("x.h5").read_bytes() == whole


def test_a_file_is_synced_before_it_takes_its_name_even_when_another_run_wrote_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        generate_file(recipe(), Path("x.h5"), report=stop_after(100))
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: stop_after(0)(0, 0))
        generate_file(recipe(), Path("x.h5"))
    events: list[tuple[str, int]] = []
    sync, rename = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        events.append(("sync", os.fstat(handle).st_ino))
        sync(handle)

    def replace_(path: Path, target: Path) -> Path:
        events.append(("rename", path.stat().st_ino))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace_)
    assert generate_file(recipe(), Path("x.h5")).written == 0
    file, folder = Path("x.h5").stat().st_ino, Path().stat().st_ino
    assert events.index(("sync", file)) < events.index(("rename", file))
    assert events[-1] == ("sync", folder)


def test_two_runs_on_one_file_the_second_is_refused_and_the_first_goes_on() -> None:
    whole = generate_file(recipe(count=MANY), Path("whole.h5")).path.read_bytes()
    begun, go_on = threading.Event(), threading.Event()

    def wait(done: int, total: int) -> None:
        begun.set()
        go_on.wait(20)

    first = threading.Thread(target=lambda: generate_file(recipe(count=MANY), Path("x.h5"), report=wait))
    first.start()
    assert begun.wait(20)
    before = time.perf_counter()
    for force in (False, True):
        with pytest.raises(StorageError, match=r"Another run is writing x\.h5"):
            generate_file(recipe(count=MANY), Path("x.h5"), force=force)
    assert time.perf_counter() - before < 1
    go_on.set()
    first.join()
    assert Path("x.h5").read_bytes() == whole
    assert "x.h5.lock" not in names()


@pytest.mark.parametrize("workers", [2, 3, 16])
def test_several_processes_make_the_same_bytes(workers: int) -> None:
    whole = generate_file(recipe("multimnist", count=MANY, layers=True), Path("whole.h5")).path.read_bytes()
    seen: list[int] = []
    made = generate_file(
        recipe("multimnist", count=MANY, layers=True),
        Path("x.h5"),
        workers=workers,
        report=lambda done, total: seen.append(done),
    )
    assert (made.written, made.reused) == (MANY, 0)
    assert Path("x.h5").read_bytes() == whole
    assert seen[0] == 0 and seen[-1] == MANY and seen == sorted(seen) and len(seen) == 4


def test_a_data_set_of_a_users_own_file_is_drawn_by_several_processes() -> None:
    shutil.copy(Path(__file__).parents[1] / "plugin" / "blank_digits.py", "mine.py")
    one = make_recipe("mine.py:Blank", split="test", digits="embedded", count=20_000)
    whole = generate_file(one, Path("whole.h5")).path.read_bytes()
    assert generate_file(one, Path("x.h5"), workers=2).path.read_bytes() == whole


def test_a_recipe_goes_to_another_process_without_its_tables() -> None:
    one = recipe("affnist")
    batch = one.sampler.batch(np.arange(5))
    sent = pickle.dumps(one)
    assert len(sent) < one.digits.images.nbytes + 20_000
    np.testing.assert_array_equal(pickle.loads(sent).sampler.batch(np.arange(5)).images, batch.images)


def test_a_disk_that_fails_while_more_is_drawn_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "FLUSH_SECONDS", 0.001)

    def fail(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            generate_file(recipe(count=MANY), Path("x.h5"), report=lambda done, total: time.sleep(0.05))
    assert names() == ["x.h5.partial"]
    # What the disk refused still shows in the system's cache, so that no block may count as written.
    assert generate_file(recipe(count=MANY), Path("x.h5")).written == MANY


def test_blocks_that_a_disk_did_not_take_are_written_again_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    path = generate_file(recipe(count=MANY), Path("x.h5")).path
    whole = path.read_bytes()
    flip(path, DataFile(path).extents["images"].offset)
    sync = os.fsync

    def fail(handle: int) -> None:
        if os.fstat(handle).st_ino == path.stat().st_ino:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            generate_file(recipe(count=MANY), path)
    assert generate_file(recipe(count=MANY), path).written == 4096
    assert path.read_bytes() == whole


def test_a_file_system_that_cannot_sync_meanwhile_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "FLUSH_SECONDS", 0.001)

    def refuse(handle: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fdatasync", refuse)
    assert generate_file(recipe(count=MANY), Path("x.h5")).written == MANY


@pytest.mark.parametrize("name", ["x.json", "x", "x.h5.partial", "below/x.hdf5"])
def test_a_file_of_another_ending_is_not_made(name: str) -> None:
    with pytest.raises(UsageError, match=r"name of a data file must end in \.h5"):
        generate_file(recipe(), Path(name))
    assert names() == []


def test_a_finished_file_without_its_root_digest_is_written_anew_whatever_its_blocks_say() -> None:
    path = generate_file(recipe(count=MANY), Path("x.h5")).path
    whole = path.read_bytes()
    file = DataFile(path)
    flip(path, file.extents["images"].offset)
    digest = hashlib.sha256(b"".join(array.tobytes() for array in DataFile(path).read(0, 4096).values())).digest()
    overwrite(path, file.extents["digests"].offset, digest)
    overwrite(path, file.extents["root"].offset, bytes(32))
    with pytest.raises(DataFileError, match="root digest"):
        open_dataset(path)
    assert repair_file(path).written == MANY
    assert path.read_bytes() == whole


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_what_could_not_be_synced_counts_as_not_written(fault: int, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "FLUSH_SECONDS", 0.001)

    def fail(handle: int) -> None:
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageError, match=os.strerror(fault)):
            generate_file(recipe(count=MANY), Path("x.h5"), report=lambda done, total: time.sleep(0.03))
    assert names() == ["x.h5.partial"]
    assert not DataFile(Path("x.h5.partial")).digests.any()


def test_a_disk_that_fails_ends_the_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "FLUSH_SECONDS", 0.001)

    def fail(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    seen: list[int] = []

    def report(done: int, total: int) -> None:
        seen.append(done)
        time.sleep(0.02)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(StorageError):
            generate_file(recipe(count=10 * MANY), Path("x.h5"), report=report)
    assert len(seen) < 10


def test_labels_forged_with_their_digests_are_refused() -> None:
    path = generate_file(recipe(), Path("x.h5")).path
    file = DataFile(path)
    overwrite(path, file.extents["labels"].offset, b"\xc8")
    digest = hashlib.sha256(b"".join(array.tobytes() for array in DataFile(path).read(0, 100).values())).digest()
    overwrite(path, file.extents["digests"].offset, digest)
    overwrite(path, file.extents["root"].offset, hashlib.sha256(file.spec.to_json().encode() + digest).digest())
    with pytest.raises(DataFileError, match="a label is 200"):
        generate_file(recipe(), path)


def test_a_whole_file_in_a_folder_that_cannot_be_written_is_verified_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    path = generate_file(recipe(), Path("x.h5")).path
    monkeypatch.setattr(os, "access", lambda place, mode: False)

    def forbidden(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(durability, "_open_locked", forbidden)
        assert generate_file(recipe(), path).reused == 100
        with pytest.raises(SpecMismatchError):
            generate_file(recipe(seed=1), path)
        flip(path, DataFile(path).extents["images"].offset)
        with pytest.raises(DataFileError, match="damaged in block 0"):
            generate_file(recipe(), path)
