"""Packing and unpacking: the same data set there and back, whatever goes wrong meanwhile."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsbench.data.recipes import Recipe, make_recipe
from capsbench.errors import DataFileError, SpecMismatchError, StorageError, UsageError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file, repair_file
from capsbench.files.merging import merge_files
from capsbench.files.packing import LEVEL, Sink, pack_file, unpack_file
from capsbench.files.shards import shard_range
from capsbench.files.sidecar import read_sidecar, sidecar_of

COUNT = 5000  # two blocks, five chunks, of which the last is not full
FEW = 1100  # a block of two chunks
PLAIN, PACKED, BACK = Path("plain.h5"), Path("packed.h5"), Path("back.h5")


def recipe(name: str = "padded", count: int = COUNT, **options: Any) -> Recipe:
    parameters = {"size": 28, "shift": 2} if name == "padded" else {}
    return make_recipe(name, split="test", digits="embedded", count=count, parameters=parameters, **options)


@cache
def generated(name: str, count: int, layers: bool) -> tuple[bytes, bytes]:
    """A file and its sidecar, which many tests pack."""
    path = generate_file(recipe(name, count, layers=layers), PLAIN).path
    return path.read_bytes(), sidecar_of(path).read_bytes()


def plain(name: str = "padded", count: int = COUNT, layers: bool = False) -> Path:
    content, sidecar = generated(name, count, layers)
    PLAIN.write_bytes(content)
    sidecar_of(PLAIN).write_bytes(sidecar)
    return PLAIN


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


@pytest.mark.parametrize(
    ("name", "layers", "count"),
    [
        *(("padded", False, COUNT), ("padded", True, COUNT), ("affnist", False, FEW)),
        *(("multimnist", True, FEW), ("crowded", False, FEW), ("cluttered", True, FEW)),
    ],
)
def test_a_file_packed_and_unpacked_is_the_same_bytes(name: str, layers: bool, count: int) -> None:
    path = plain(name, count, layers)
    told: list[tuple[int, int]] = []
    made = pack_file(path, PACKED, report=lambda done, total: told.append((done, total)))
    assert (made.path, made.written, made.reused, made.size) == (PACKED, count, 0, PACKED.stat().st_size)
    blocks = [(4096, COUNT)] if count == COUNT else []
    assert made.digest == DataFile(path).digest and told == [*blocks, (count, count)]
    assert made.size < path.stat().st_size / 4.5
    back = unpack_file(PACKED, BACK)
    assert BACK.read_bytes() == path.read_bytes()
    assert back.digest == made.digest and back.written == count
    assert read_sidecar(BACK) == (DataFile(path).spec, None)
    assert names() == ["back.h5", "back.json", "packed.h5", "plain.h5", "plain.json"]


@settings(max_examples=settings().max_examples // 20)
@given(st.one_of(st.integers(1, 5), st.sampled_from([1023, 1024, 1025, 2048, 4095, 4096, 4097, 5120, 8192])))
def test_of_any_size_a_file_comes_back_the_same(count: int) -> None:
    for path in (PLAIN, PACKED, BACK):
        path.unlink(missing_ok=True)
    path = plain(count=count)
    pack_file(path, PACKED)
    np.testing.assert_array_equal(open_dataset(PACKED).images, open_dataset(path).images)
    unpack_file(PACKED, BACK)
    assert BACK.read_bytes() == path.read_bytes()


def test_a_packed_file_is_read_by_every_hdf5_tool() -> None:
    path = plain("multimnist", FEW, layers=True)
    pack_file(path, PACKED)
    with h5py.File(PACKED) as packed, h5py.File(path) as contiguous:
        assert set(packed) == set(contiguous) and dict(packed.attrs) == dict(contiguous.attrs)
        for name, data in contiguous.items():
            assert packed[name].dtype == data.dtype
            np.testing.assert_array_equal(packed[name][()], data[()])
            if name not in ("digests", "root"):
                assert packed[name].chunks == (1024, *data.shape[1:])
                assert (packed[name].compression, packed[name].compression_opts) == ("gzip", LEVEL)
                assert packed[name].maxshape == data.shape
                creation = packed[name].id.get_create_plist()
                assert creation.get_nfilters() == 1 and not creation.get_obj_track_times()
    assert PACKED.read_bytes()[8] == 3  # the superblock's version, which has checksums


def test_packing_twice_makes_the_same_bytes() -> None:
    path = plain()
    pack_file(path, PACKED)
    time.sleep(1.01 - time.time() % 1)  # no time of day stands in it, which HDF5 has in seconds
    pack_file(path, BACK)
    assert PACKED.read_bytes() == BACK.read_bytes()


@pytest.mark.parametrize("index", range(3))
def test_shards_are_packed_unpacked_and_merged_from_packed_ones(index: int) -> None:
    one = recipe()
    path = generate_file(one, PLAIN, shard=shard_range(index, 3, COUNT)).path
    pack_file(path, PACKED)
    assert DataFile(PACKED).shard == shard_range(index, 3, COUNT)
    np.testing.assert_array_equal(open_dataset(PACKED).images, open_dataset(path).images)
    unpack_file(PACKED, BACK)
    assert BACK.read_bytes() == path.read_bytes()
    others = [generate_file(one, Path(f"{i}.h5"), shard=shard_range(i, 3, COUNT)).path for i in range(3) if i != index]
    merged = merge_files(Path("merged.h5"), [PACKED, *others]).path
    assert merged.read_bytes() == generate_file(one, Path("whole.h5")).path.read_bytes()


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(content)


def test_a_damaged_file_is_not_packed() -> None:
    path = plain()
    place = DataFile(path).extents["images"]
    overwrite(path, place.offset + 4100 * place.sample_bytes, b"\x55")
    with pytest.raises(DataFileError, match=r"block 1 \(samples 4096\.\.4999\)\. Repair it with: capsbench verify"):
        pack_file(path, PACKED)
    overwrite(path, place.offset, b"\x55")
    with pytest.raises(DataFileError, match=r"block 0 .* block 1"):
        pack_file(path, PACKED)
    repair_file(path)
    overwrite(path, DataFile(path).extents["root"].offset, b"\0\0\0\0")
    with pytest.raises(DataFileError, match="its root digest is not that of its blocks"):
        pack_file(path, PACKED)
    assert names() == ["plain.h5", "plain.json"]


def test_an_unfinished_file_is_not_packed() -> None:
    partial = Path("x.h5.partial")
    plain().rename(partial)
    overwrite(partial, DataFile(partial).extents["digests"].offset + 32, bytes(32))
    with pytest.raises(DataFileError, match="unfinished: 1 of its 2 blocks are missing"):
        pack_file(partial, PACKED)
    assert not PACKED.exists()


def test_a_file_that_changes_while_it_is_packed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    path = plain()
    monkeypatch.setattr(DataFile, "holds", lambda self, block: False)
    monkeypatch.setattr(DataFile, "check", lambda self: None)
    with pytest.raises(DataFileError, match="was changed while it was being packed"):
        pack_file(path, PACKED)
    assert names() == ["plain.h5", "plain.json"]


def test_a_canvas_too_large_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsbench.files.packing.LARGEST_CHUNK", 1024 * 784 - 1)
    with pytest.raises(DataFileError, match="has 784 bytes a sample in one array; at most 783 can be packed"):
        pack_file(plain(), PACKED)


def test_what_stands_where_the_packed_file_goes_is_left_or_refused() -> None:
    path = plain(count=50)
    for content in (b"", b"a text", path.read_bytes()):
        PACKED.write_bytes(content)
        with pytest.raises((UsageError, DataFileError), match="Add --force to overwrite it, or choose another name"):
            pack_file(path, PACKED)
        assert PACKED.read_bytes() == content
    made = pack_file(path, PACKED, force=True)
    whole = PACKED.read_bytes()
    again = pack_file(path, PACKED)
    assert (again.written, again.reused, again.digest, again.size) == (0, 50, made.digest, made.size)
    damaged = bytearray(whole)
    offset, size = DataFile(PACKED).extents["images"].chunks[0]
    damaged[offset + size // 2] ^= 1
    PACKED.write_bytes(damaged)
    with pytest.raises(DataFileError, match=r"damaged in block 0 .* Add --force"):
        pack_file(path, PACKED)
    other = generate_file(recipe(count=51), Path("other.h5")).path
    with pytest.raises(UsageError, match=r"packed\.h5 exists, and is not the packed other\.h5"):
        pack_file(other, PACKED)
    pack_file(path, PACKED, force=True)
    assert PACKED.read_bytes() == whole
    PACKED.unlink()
    PACKED.mkdir()
    with pytest.raises(StorageError, match="it is a folder"):
        pack_file(path, PACKED, force=True)


def test_a_sidecar_of_another_file_goes_with_it() -> None:
    generate_file(recipe(count=51), PACKED)
    pack_file(plain(count=50), PACKED, force=True)
    assert names() == ["packed.h5", "plain.h5", "plain.json"]
    Path("packed.json").write_text("mine")
    pack_file(PLAIN, PACKED, force=True)
    assert Path("packed.json").read_text() == "mine"


def test_a_file_is_not_packed_onto_itself_nor_twice_nor_unpacked_twice() -> None:
    path = plain(count=50)
    pack_file(path, PACKED)
    before = path.read_bytes(), PACKED.read_bytes()
    Path("soft.h5").symlink_to(path)
    os.link(path, "hard.h5")
    for same in (path, Path("soft.h5"), Path("hard.h5"), Path("../") / Path.cwd().name / path):
        with pytest.raises(UsageError, match="cannot be made from itself"):
            pack_file(path, same, force=True)
    for ending in ("h5.new", "h5.partial", "h5.lock", "json", "json.new"):
        for act, source in ((pack_file, path), (unpack_file, PACKED)):
            meanwhile = source.rename(f"back.{ending}")
            with pytest.raises(UsageError, match=r"has a name that is needed while back\.h5 is made"):
                act(meanwhile, BACK, force=True)
            meanwhile.rename(source)
    os.link(PACKED, "packed-too.h5")
    with pytest.raises(UsageError, match="cannot be made from itself"):
        unpack_file(PACKED, Path("packed-too.h5"), force=True)
    with pytest.raises(UsageError, match=r"packed already\. Unpack it with: capsbench pack FILE OUT --undo"):
        pack_file(PACKED, BACK)
    with pytest.raises(UsageError, match="is not packed"):
        unpack_file(path, BACK)
    Path("loop.h5").symlink_to("loop.h5")
    unpack_file(PACKED, Path("loop.h5"))
    assert Path("loop.h5").read_bytes() == before[0]
    for act in (pack_file, unpack_file):
        with pytest.raises(DataFileError, match=r"There is no file missing\.h5"):
            act(Path("missing.h5"), BACK)
    assert (path.read_bytes(), PACKED.read_bytes()) == before and not BACK.exists()


def test_a_packed_file_is_not_written_in_place() -> None:
    pack_file(plain(count=50), PACKED)
    before = PACKED.read_bytes()
    way_out = (
        r"packed and cannot be written in place\. If it is undamaged, unpack it with: capsbench pack packed\.h5 OUT"
    )
    with pytest.raises(UsageError, match=way_out):
        repair_file(PACKED)
    with pytest.raises(UsageError, match=way_out):
        generate_file(recipe(count=50), PACKED)
    with pytest.raises(UsageError, match=way_out):
        unpack_to_packed()
    assert PACKED.read_bytes() == before
    generate_file(recipe(count=50), PACKED, force=True)
    assert PACKED.read_bytes() == PLAIN.read_bytes()


def unpack_to_packed() -> None:
    pack_file(PLAIN, Path("other.h5"))
    unpack_file(Path("other.h5"), PACKED)


def test_a_contiguous_file_is_repaired_from_its_packed_copy() -> None:
    path = plain()
    whole = path.read_bytes()
    pack_file(path, PACKED)
    place = DataFile(path).extents["images"]
    overwrite(path, place.offset + 4100 * place.sample_bytes, b"\x55")
    made = unpack_file(PACKED, path)
    assert (made.written, made.reused) == (904, 4096) and path.read_bytes() == whole
    for key in ("digests", "root"):
        overwrite(path, DataFile(path).extents[key].offset, b"\x55")
        assert unpack_file(PACKED, path).written == (4096 if key == "digests" else 5000)
        assert path.read_bytes() == whole
    assert unpack_file(PACKED, path).written == 0


def test_a_file_of_another_spec_is_not_unpacked_over() -> None:
    pack_file(plain(count=50), PACKED)
    other = generate_file(recipe(count=51), BACK).path
    content = other.read_bytes()
    with pytest.raises(SpecMismatchError, match="count: asked 50, found 51"):
        unpack_file(PACKED, BACK)
    assert other.read_bytes() == content
    unpack_file(PACKED, BACK, force=True)
    assert BACK.read_bytes() == PLAIN.read_bytes()


def forged(path: Path, name: str) -> Path:
    """A file of the same spec with other samples, and digests that hold for them."""
    from hashlib import sha256

    Path(name).write_bytes(path.read_bytes())
    path = Path(name)
    places = DataFile(path).extents
    overwrite(path, places["images"].offset, b"\x99")
    digest = sha256(b"".join(array.tobytes() for array in DataFile(path).block(0).values())).digest()
    overwrite(path, places["digests"].offset, digest)
    root = sha256(DataFile(path).spec.to_json().encode() + DataFile(path).digests.tobytes()).digest()
    overwrite(path, places["root"].offset, root)
    open_dataset(path)
    return path


@pytest.mark.parametrize("name", ["back.h5", "back.h5.partial"])
def test_other_samples_of_the_same_spec_are_not_taken_for_a_beginning(name: str) -> None:
    pack_file(plain(), PACKED)
    path = forged(PLAIN, name)
    content = path.read_bytes()
    with pytest.raises(DataFileError, match=r"same spec as packed\.h5, but holds other samples"):
        unpack_file(PACKED, BACK)
    assert path.read_bytes() == content


def test_damage_and_forgery_of_a_packed_file_are_refused_before_there_is_a_file() -> None:
    pack_file(plain(), PACKED)
    whole = PACKED.read_bytes()
    offset, size = DataFile(PACKED).extents["images"].chunks[4]
    overwrite(PACKED, offset + size // 2, bytes([whole[offset + size // 2] ^ 16]))
    with pytest.raises(DataFileError, match=r"packed\.h5 is damaged in block 1 .*back\.h5\.partial keeps what was"):
        unpack_file(PACKED, BACK)
    assert not BACK.exists() and Path("back.h5.partial").exists()
    PACKED.write_bytes(whole)  # got again: what was unpacked already is kept
    made = unpack_file(PACKED, BACK)
    assert (made.written, made.reused) == (904, 4096) and BACK.read_bytes() == PLAIN.read_bytes()
    BACK.unlink()
    overwrite(PACKED, DataFile(PACKED).extents["root"].offset, b"\0\0\0\0")
    with pytest.raises(DataFileError, match=r"root digest is not that of its blocks\. A packed file"):
        unpack_file(PACKED, BACK)
    assert not BACK.exists() and not Path("back.h5.partial").exists()


def test_of_two_runs_on_one_file_the_second_ends_at_once() -> None:
    from capsbench.system.disk import lock

    path = plain(count=50)
    with lock(PACKED), pytest.raises(StorageError, match=r"Another run is writing packed\.h5"):
        pack_file(path, PACKED)
    assert names() == ["plain.h5", "plain.json"]


def test_what_a_sink_is_told_after_its_first_failure_goes_nowhere() -> None:
    handle = os.open("x", os.O_RDWR | os.O_CREAT)
    sink = Sink(handle)
    assert sink.write(memoryview(b"abcdef")) == 6 and sink.tell() == 6
    assert sink.seek(2) == 2
    found = bytearray(6)
    assert sink.readinto(memoryview(found)) == 6 and found == b"cdef\0\0"
    os.close(handle)
    assert sink.write(memoryview(b"gh")) == 2
    assert sink.failure is not None and sink.failure.errno == errno.EBADF
    first = sink.failure
    assert sink.seek(0, os.SEEK_END) == 10 and sink.truncate(4) == 4 and sink.seek(-1, os.SEEK_END) == 3
    assert sink.readinto(memoryview(found)) == 6 and found == bytes(6)
    assert sink.failure is first and Path("x").read_bytes() == b"abcdef"


FAILING = """
import errno, os, sys
from collections import Counter
from functools import cache
from pathlib import Path
from capsbench.errors import StorageError
from capsbench.files import packing
from capsbench.files.packing import pack_file
from capsbench.system import disk as durability

durability.FLUSH_SECONDS = 0.001
plain, packed = Path("plain.h5"), Path("packed.h5")
owners = {"open": os, "pwrite": os, "pread": os, "ftruncate": os, "fsync": os, "replace": Path}
os.fsync = os.fdatasync = lambda handle: None  # nothing here needs the disk
deflated = cache(packing._deflated)  # the same bytes again and again
packing._deflated = lambda content, missing: deflated(bytes(content), missing)
real = {name: getattr(owner, name) for name, owner in owners.items()}
expected = None
met = Counter()

def run(name, number, fault, lasting):
    calls = 0
    def doomed(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == number or (lasting and calls > number):
            raise OSError(fault, os.strerror(fault))
        return real[name](*arguments, **options)
    if name:
        setattr(owners[name], name, doomed)
    try:
        pack_file(plain, packed)
    except StorageError as error:
        assert os.strerror(fault) in str(error) and "\\n" not in str(error), error
        return True
    finally:
        if name:
            setattr(owners[name], name, real[name])
    return False

assert not run(None, 0, 0, False)
expected = packed.read_bytes()
packed.unlink()
for fault, lasting in ((errno.ENOSPC, True), (errno.EIO, False)):
    for name in real:
        for number in range(1, 1000):
            failed = run(name, number, fault, lasting)
            if not failed:
                assert packed.read_bytes() == expected, (name, number)
                packed.unlink()
                break
            met[name] += 1
            if packed.exists():  # the folder could not be synced
                assert packed.read_bytes() == expected, (name, number)
                packed.unlink()
            else:
                left = {path.name for path in Path().iterdir()} - {"plain.h5", "plain.json"}
                assert not left, (name, number, left)
print(*met.elements(), sep="\\n")
"""


def test_a_write_that_fails_whichever_it_is_ends_in_one_line_and_leaves_nothing() -> None:
    # In a process of its own: after a failure that libhdf5 sees, it has been known to crash when the process ends.
    plain(count=1100)
    done = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    met = done.stdout.split()
    assert met.count("pwrite") > 50 and set(met) >= {"open", "pwrite", "ftruncate", "fsync", "replace"}


KILLED = """
import os, sys, time
from pathlib import Path
from capsbench.files import packing as packing

real = os.pwrite
def slow(*arguments):
    time.sleep(0.004)
    return real(*arguments)
os.pwrite = slow
def report(done, total):
    print(done, flush=True)
act = packing.unpack_file if sys.argv[1] == "undo" else packing.pack_file
for _ in sys.stdin:
    if not os.fork():
        print(os.getpid(), flush=True)
        act(Path(sys.argv[2]), Path(sys.argv[3]), report=report)
        os._exit(0)
    os.wait()
    print("ended", flush=True)
"""
"""A run for each line of stdin, which says its process and how far it came."""


@pytest.mark.parametrize("undo", [False, True], ids=["pack", "undo"])
def test_a_run_killed_anywhere_leaves_nothing_under_the_name_and_the_next_makes_the_same(undo: bool) -> None:
    path = plain()
    pack_file(path, PACKED)
    source, expected = (PACKED, path.read_bytes()) if undo else (path, PACKED.read_bytes())
    out, draw, interrupted = Path("out.h5"), random.Random(0), 0
    command = [sys.executable, "-c", KILLED, "undo" if undo else "", source, out]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        for _ in range(5):
            process.stdin.write("go\n")
            process.stdin.flush()
            pid = int(process.stdout.readline())
            for _ in range(draw.randrange(3)):
                process.stdout.readline()
            time.sleep(draw.random() * 0.03)
            with suppress(ProcessLookupError):  # it has ended
                os.kill(pid, signal.SIGKILL)
            while process.stdout.readline() != "ended\n":
                assert process.poll() is None
            interrupted += not out.exists()
            if out.exists():
                assert out.read_bytes() == expected
                out.unlink()
        process.stdin.close()
    assert interrupted >= 2
    (unpack_file if undo else pack_file)(source, out)
    assert out.read_bytes() == expected
    assert {path.name for path in Path().glob("out*")} == {"out.h5", *(["out.json"] if undo else [])}


def test_ctrl_c_is_not_lost_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    path = plain()
    raised, real = 0, os.pwrite
    for number in range(1, 40, 4):
        calls = 0

        def interrupting(*arguments: Any, number: int = number) -> int:
            nonlocal calls
            calls += 1
            if calls == number:
                signal.raise_signal(signal.SIGINT)  # in the middle of what libhdf5 has called
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", interrupting)
            try:
                pack_file(path, PACKED)
                break
            except KeyboardInterrupt:
                raised += 1
        assert names() == ["plain.h5", "plain.json"]
    assert raised >= 5
    pack_file(path, PACKED, force=True)
    open_dataset(PACKED)
