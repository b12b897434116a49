"""Reading packed files: the same face as a contiguous file's, and nothing hostile is unpacked."""

import os
import pickle
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from capsbench.data.recipes import make_recipe
from capsbench.errors import DataFileError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file, wrong_samples
from capsbench.files.header import _extent, read_header
from capsbench.files.inspection import classes, measure
from capsbench.files.packing import pack_file
from capsbench.files.preview import preview
from capsbench.system import memory

COUNT = 5000  # two blocks, five chunks
PLAIN, PACKED = Path("plain.h5"), Path("packed.h5")


@cache
def generated(name: str, count: int, layers: bool) -> tuple[bytes, bytes]:
    """A file, and the one that it is packed to."""
    parameters = {"size": 28, "shift": 2} if name == "padded" else {}
    recipe = make_recipe(name, split="test", digits="embedded", count=count, parameters=parameters, layers=layers)
    path = generate_file(recipe, PLAIN).path
    return path.read_bytes(), pack_file(path, PACKED).path.read_bytes()


def made(name: str = "padded", count: int = COUNT, layers: bool = False) -> Path:
    for path, content in zip((PLAIN, PACKED), generated(name, count, layers), strict=True):
        path.write_bytes(content)
    return PACKED


@pytest.mark.parametrize(
    ("name", "count"),
    [("padded", COUNT), ("affnist", 1100), ("multimnist", 1100), ("crowded", 1100), ("cluttered", 1100)],
)
def test_a_packed_file_has_the_same_face(name: str, count: int) -> None:
    path = made(name, count, layers=name == "multimnist")
    file, plain = open_dataset(path), open_dataset(PLAIN)
    assert file.packed and not plain.packed
    assert (file.spec, file.digest, len(file), file.shard) == (plain.spec, plain.digest, count, None)
    for key in ("images", "labels", "source", "shift", "transform", "scraps"):
        expected, found = getattr(plain, key), getattr(file, key)
        assert (found is None) == (expected is None)
        if expected is not None:
            assert found.dtype == expected.dtype and type(found) is np.ndarray
            np.testing.assert_array_equal(found, expected)
            with pytest.raises(ValueError, match="read-only"):
                found[0] = 0
    indices = [count - 1, 0, 1024, 1024]
    np.testing.assert_array_equal(file.layers(indices), plain.layers(indices))
    batch, expected = file.batch(indices), plain.batch(indices)
    np.testing.assert_array_equal(batch.images, expected.images)
    batch.images[:] = 0  # a copy, as of any file
    assert measure(file) == measure(plain) and classes(file) == classes(plain)
    assert wrong_samples(file, 50, seed=0) == []


def test_the_picture_of_a_packed_file_is_the_same() -> None:
    file, plain = open_dataset(made("multimnist", 30)), open_dataset(PLAIN)
    assert preview(file, Path("packed.png")) == preview(plain, Path("plain.png")) == 30
    assert Path("packed.png").read_bytes() == Path("plain.png").read_bytes()


def test_a_packed_file_pickles_small_and_works_after() -> None:
    file = open_dataset(made())
    content = pickle.dumps(file)
    assert len(content) < 1000
    os.chdir("/")
    np.testing.assert_array_equal(pickle.loads(content).images, file.images)


def test_digests_are_checked_whatever_is_asked() -> None:
    path = made()
    offset, size = DataFile(path).extents["labels"].chunks[4]
    content = bytearray(path.read_bytes())
    content[offset + size // 2] ^= 1
    path.write_bytes(content)
    told = (
        r"packed\.h5 is damaged in block 1 \(samples 4096\.\.4999\)\. A packed file cannot be repaired\. Get it again"
    )
    file = DataFile(path)
    acts: list[Callable[[], object]] = [
        lambda: open_dataset(path, verify=False),
        lambda: open_dataset(path),
        lambda: DataFile(path).check(),
        lambda: file.images,
        lambda: file.batch([0]),
        lambda: file.block(0),
    ]
    for act in acts:
        with pytest.raises(DataFileError, match=told):
            act()


def test_a_check_without_the_samples_in_memory_reads_them_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    path = made()
    monkeypatch.setattr(memory, "available", lambda: 0)
    file = DataFile(path)
    file.check()
    with pytest.raises(DataFileError, match=r"needs 4\.0 MB of memory; only 0 B is available.*OUT --undo"):
        _ = file.images


def available(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("meminfo").write_text(text)
    monkeypatch.setattr(memory, "MEMINFO", Path("meminfo"))


def test_memory_is_asked_for_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    path = made()
    total = sum(column.sample_bytes for column in DataFile(path).columns) * COUNT
    available(f"MemTotal: 9 kB\nMemAvailable:   {total // 1024} kB\n", monkeypatch)
    with pytest.raises(DataFileError, match=r"Unpack it to disk: capsbench pack FILE OUT --undo"):
        open_dataset(path)
    available(f"MemTotal: 9 kB\nMemAvailable:   {total // 1024 + 1} kB\n", monkeypatch)
    open_dataset(path)
    for text in ("", "MemAvailable:", "MemAvailable: much"):  # what the system does not say is guessed
        available(text, monkeypatch)
        open_dataset(path)

    def little(shape: Any, dtype: Any = float) -> Any:
        if shape[0] >= COUNT:
            raise MemoryError
        return np.zeros(shape, dtype)

    monkeypatch.setattr(np, "empty", little)
    with pytest.raises(DataFileError, match="less is available"):
        open_dataset(path)


def test_samples_that_are_no_block_are_not_given() -> None:
    samples = DataFile(made()).packed_samples
    assert len(samples) == COUNT and len(samples(4096, 5000)["labels"]) == 904
    for start, stop in ((0, 5000), (1, 4096), (0, 4095), (4096, 5001)):
        with pytest.raises(ValueError, match="are not a block"):
            samples(start, stop)


def test_a_file_that_goes_away_or_is_cut_after_its_header_was_read_is_refused() -> None:
    path = made()
    file = DataFile(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: file.extents["images"].chunks[4][0] + 10])
    with pytest.raises(DataFileError, match="damaged in block 1"):
        file.check()
    path.unlink()
    with pytest.raises(DataFileError, match=r"packed\.h5 cannot be read: No such file"):
        file.check()


Change = Callable[[h5py.File], object]


def remade(name: str, *, chunks: Any = True, content: Any = None, rows: Any = None, **how: Any) -> Change:
    """Puts another data set in the place of one: its chunks, filters, shape or type changed."""

    def change(file: h5py.File) -> None:
        old = file[name]
        values = old[()] if content is None else content(old[()])
        shape = values.shape if rows is None else rows
        kind = how.pop("dtype", values.dtype)
        settings = {"compression": "gzip", "chunks": old.chunks if chunks is True else chunks} | how
        del file[name]
        file.create_dataset(name, shape, kind, data=values if rows is None else None, **settings)

    return change


def rewritten(name: str, chunk: int, content: Callable[[bytes], bytes], mask: int = 0) -> Change:
    """Puts other bytes in the place of a chunk's."""

    def change(file: h5py.File) -> None:
        data = file[name]
        start = (chunk * 1024, *(0 for _ in data.shape[1:]))
        data.id.write_direct_chunk(start, content(data.id.read_direct_chunk(start)[1]), mask)

    return change


def without_chunk(file: h5py.File) -> None:
    old = file["labels"]
    values, chunks = old[()], old.chunks
    del file["labels"]
    new = file.create_dataset("labels", values.shape, values.dtype, chunks=chunks, compression="gzip")
    new[:4096] = values[:4096]


def contiguous(file: h5py.File) -> None:
    values = file["labels"][()]
    del file["labels"]
    file["labels"] = values


def chunked_digests(file: h5py.File) -> None:
    values = file["digests"][()]
    del file["digests"]
    file.create_dataset("digests", data=values, chunks=values.shape, compression="gzip")


def bomb(data: bytes) -> bytes:
    """A gigabyte of zeros in one of a megabyte."""
    deflate = zlib.compressobj()
    first, again = (deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    assert len(again) < 1200
    return first + 1000 * again


def resized(count: int) -> Change:
    return lambda file: file["labels"].resize((count,))


HOSTILE: dict[str, tuple[Change, str]] = {
    "a chunk that is a bomb": (rewritten("images", 0, bomb), "damaged in block 0"),
    "a chunk that is too short": (rewritten("images", 4, lambda data: zlib.compress(b"")), "damaged in block 1"),
    "chunks of nothing": (
        lambda file: [rewritten("images", chunk, lambda data: zlib.compress(b""))(file) for chunk in range(5)],
        "states 4,014,080 bytes, which its chunks cannot unpack to",
    ),
    "a chunk that is a byte too short": (
        rewritten("images", 0, lambda data: zlib.compress(zlib.decompress(data)[:-1])),
        "damaged in block 0",
    ),
    "a chunk that is a byte too long": (
        rewritten("images", 0, lambda data: zlib.compress(zlib.decompress(data) + b"\0")),
        "damaged in block 0",
    ),
    "a chunk without its end": (rewritten("images", 0, lambda data: data[:-4]), "damaged in block 0"),
    "a chunk with something after it": (rewritten("images", 0, lambda data: data + b"more"), "damaged in block 0"),
    "a chunk that is no deflate": (rewritten("labels", 0, lambda data: b"\xff" * 100), "damaged in block 0"),
    "a chunk far too long": (rewritten("labels", 0, lambda data: bytes(10_000)), "chunks that do not fit"),
    "a chunk that is not deflated": (rewritten("labels", 0, zlib.decompress, mask=1), "others than its own"),
    "a chunk with other samples": (
        rewritten("labels", 0, lambda data: zlib.compress(bytes(1024))),
        "damaged in block 0",
    ),
    "a chunk that is missing": (without_chunk, "lacks chunks"),
    "no chunks at all": (remade("images", rows=(COUNT, 28, 28), dtype="u1"), "lacks chunks"),
    "other chunks": (remade("images", chunks=(1000, 28, 28)), "nor in chunks of 1,024"),
    "chunks of images' parts": (remade("images", chunks=(1024, 14, 28)), "nor in chunks of 1,024"),
    "one chunk": (remade("images", chunks=(COUNT, 28, 28)), "nor in chunks of 1,024"),
    "a huge chunk": (
        remade("images", rows=(COUNT, 2048, 2048), dtype="u1", chunks=(1, 2048, 2048)),
        "nor in chunks of 1,024",
    ),
    "huge chunks": (
        remade("images", rows=(COUNT, 1500, 1500), dtype="u1", chunks=(1024, 1500, 1500)),
        "chunks of 2,304,000,000 bytes",
    ),
    "a huge shape": (
        remade("images", rows=(2**40, 28, 28), dtype="u1", chunks=(1024, 28, 28)),
        "which [0-9,]+ cannot unpack to",
    ),
    "a shape past numbers": (
        remade("images", rows=(2**62, 28, 28), dtype="u1", chunks=(1024, 28, 28)),
        "which [0-9,]+ cannot unpack to",
    ),
    "shuffled, too": (remade("images", shuffle=True), "other filters than deflate"),
    "checked by HDF5, too": (remade("images", fletcher32=True), "other filters than deflate"),
    "another filter": (remade("images", compression="lzf"), "other filters than deflate"),
    "no filter": (remade("images", compression=None), "other filters than deflate"),
    "deflated with a filter nobody has": (
        remade("images", compression=32_123, allow_unknown_filter=True, rows=(COUNT, 28, 28), dtype="u1"),
        "other filters than deflate",
    ),
    "room to grow": (remade("labels", maxshape=(None,)), "nor in chunks of 1,024"),
    "another type": (remade("images", content=lambda old: old.astype("<u2")), "types and sizes"),
    "objects": (
        remade("labels", content=lambda old: old.astype("S1").astype(object), dtype=h5py.string_dtype()),
        "types and sizes|nor in chunks",
    ),
    "a sample fewer": (remade("labels", content=lambda old: old[:-1]), "types and sizes"),
    "some packed and some not": (contiguous, "some of its arrays are packed"),
    "packed digests": (chunked_digests, "not stored contiguously"),
}


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_packed_file_is_refused(change: Change, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made()
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        change(file)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("libhdf5 read data"))
    for read in (open_dataset, lambda path: open_dataset(path, verify=False), lambda path: DataFile(path).check()):
        before = time.perf_counter()
        with pytest.raises(DataFileError, match=message) as told:
            read(path)
        assert time.perf_counter() - before < 1
        assert len(str(told.value)) < 400 and "\n" not in str(told.value)


MEASURED = """
import re, sys, time
from pathlib import Path
from capsbench.errors import DataFileError
from capsbench.files.datafile import open_dataset

open_dataset("plain.h5")  # what is imported when it is first needed
for path in sys.argv[1:]:
    before = time.perf_counter()
    try:
        open_dataset(path)
    except DataFileError as error:
        most = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
        print(time.perf_counter() - before, most, error)
"""


def test_bombs_take_neither_time_nor_memory() -> None:
    path = made()
    whole = path.read_bytes()
    bombs = ["a chunk that is a bomb", "a huge chunk", "huge chunks", "a huge shape", "a shape past numbers"]
    for number, name in enumerate(bombs):
        Path(f"{number}.h5").write_bytes(whole)
        with h5py.File(f"{number}.h5", "r+", libver=("v110", "v110")) as file:
            HOSTILE[name][0](file)
    command = [sys.executable, "-c", MEASURED, *(f"{number}.h5" for number in range(len(bombs)))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    told = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert len(told) == len(bombs)
    for seconds, kilobytes, _ in told:
        assert float(seconds) < 1 and int(kilobytes) < 200_000


def test_a_label_that_is_no_class_is_refused_in_packed_files_too() -> None:
    path = made()
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        labels = file["labels"][()]
        labels[4999] = 10
        parts = [file[name][4096:] for name in ("images", "labels", "source", "shift")]
        parts[1] = labels[4096:]
        digests = file["digests"][()]
        digests[1] = np.frombuffer(sha256(b"".join(part.tobytes() for part in parts)).digest(), np.uint8)
        root = sha256(DataFile(PLAIN).spec.to_json().encode() + digests.tobytes()).digest()
        file["labels"][...], file["digests"][...], file["root"][...] = labels, digests, np.frombuffer(root, np.uint8)
    for read in (open_dataset, lambda path: DataFile(path).check()):
        with pytest.raises(DataFileError, match="a label is 10"):
            read(path)


def test_what_fills_the_last_chunk_does_not_matter() -> None:
    path = made()
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        rewritten("labels", 4, lambda data: zlib.compress(zlib.decompress(data)[:904] + b"\xff" * 120))(file)
    np.testing.assert_array_equal(open_dataset(path).labels, open_dataset(PLAIN).labels)


def test_a_packed_file_cut_anywhere_is_refused() -> None:
    content = made().read_bytes()
    for length in [*range(0, 8192, 311), *range(8192, len(content), 30_000), len(content) - 1]:
        Path("x.h5").write_bytes(content[:length])
        with pytest.raises(DataFileError, match=r"x\.h5"):
            open_dataset("x.h5")


def test_a_chunk_that_ends_past_the_file_is_refused() -> None:
    path = made()
    place = read_header(path).extents["images"]
    end = max(begin + size for begin, size in place.chunks)
    with h5py.File(path, "r") as file:
        assert _extent(path, file, b"images", end) == place
        with pytest.raises(DataFileError, match="chunks that do not fit the file"):
            _extent(path, file, b"images", end - 1)


MUTATE = """
import random, struct, sys
from pathlib import Path
from capsbench.errors import DataFileError
from capsbench.files.header import read_header
from capsbench.files.datafile import open_dataset

def rotated(x, k):
    return (x << k | x >> 32 - k) & 0xFFFFFFFF

def checksum(content):
    # HDF5's of its metadata: Jenkins's lookup3.
    words = [(0xDEADBEEF + len(content)) & 0xFFFFFFFF] * 3
    blocks = [content[start:start + 12].ljust(12, b"\\0") for start in range(0, len(content), 12)]
    for block in blocks[:-1]:
        a, b, c = ((x + y) & 0xFFFFFFFF for x, y in zip(words, struct.unpack("<III", block)))
        for k in (4, 6, 8, 16, 19, 4):
            a = (a - c & 0xFFFFFFFF) ^ rotated(c, k)
            c = c + b & 0xFFFFFFFF
            a, b, c = b, c, a
        words = [a, b, c]
    a, b, c = ((x + y) & 0xFFFFFFFF for x, y in zip(words, struct.unpack("<III", blocks[-1])))
    for k in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - rotated(b, k) & 0xFFFFFFFF
        a, b, c = b, c, a
    return struct.pack("<I", b)

def parts(content):
    # Where the pieces of metadata are, up to their checksums.
    for mark in (b"FAHD", b"FADB", b"OHDR", b"OCHK", b"\\x89HDF"):
        start = content.find(mark)
        while start >= 0:
            ends = (start + size for size in range(8, 1000))
            stop = next((end for end in ends if content[end:end + 4] == checksum(content[start:end])), None)
            if stop:
                yield start, stop
            start = content.find(mark, start + 1)

good = Path("packed.h5").read_bytes()
believed = list(parts(good))
assert len(believed) > 15
# The file but for its chunks: the header, and the index of the chunks.
places = read_header(Path("packed.h5")).extents.values()
chunks = sorted(chunk for place in places for chunk in place.chunks)
inside = [False] * len(good)
for offset, size in chunks:
    inside[offset:offset + size] = [True] * size
header = [place for place, chunk in enumerate(inside) if not chunk]
def content(file):
    parts = [getattr(file, name).tobytes() for name in ("images", "labels", "source", "shift")]
    return [file.spec, file.digest, *parts]
expected = content(open_dataset("packed.h5"))
refused = same = 0
for seed in range(int(sys.argv[1])):
    draw = random.Random(seed)
    data = bytearray(good)
    kinds = "bits", "header bits", "header bytes", "cut", "grown", "hole", "spliced", *["believed"] * 4
    kind = draw.choice(kinds)
    places = header if "header" in kind else range(len(data))
    if kind in ("bits", "header bits"):
        for _ in range(draw.choice((1, 1, 2, 8))):
            data[draw.choice(places)] ^= 1 << draw.randrange(8)
    elif kind == "header bytes":
        for _ in range(draw.choice((1, 2, 8))):
            data[draw.choice(places)] = draw.choice((0, 1, 127, 128, 255))
    elif kind == "cut":
        del data[draw.randrange(len(data)):]
    elif kind == "believed":
        start, stop = draw.choice(believed)
        place, width = draw.randrange(start + 4, stop), draw.choice((1, 1, 2, 4, 8))
        most = 2 ** (8 * width) - 1
        value = draw.choice((0, 1, most, draw.randint(0, most), 1 << draw.randrange(8 * width)))
        data[place:place + width] = value.to_bytes(width, "little")
        data[stop:stop + 4] = checksum(bytes(data[start:stop]))
        del data[len(good):]
    elif kind == "grown":
        data += bytes(draw.randrange(1, 9000))
    elif kind == "spliced":
        (to, size), (start, other) = draw.sample(chunks, 2)
        data[to:to + min(size, other)] = data[start:start + min(size, other)]
    else:
        start = draw.randrange(len(data))
        data[start:start + draw.randrange(1, 600)] = b""
    path = Path("mutated.h5")
    path.write_bytes(data)
    print(seed, kind, file=sys.stderr, flush=True)
    try:
        found = content(open_dataset(path))
    except DataFileError as error:
        assert "\\n" not in str(error), error
        refused += 1
    else:
        assert found == expected, (seed, kind)
        same += 1
print(refused, same)
"""


def test_a_mutated_packed_file_is_refused_or_the_same(scale: Callable[[int, int], int]) -> None:
    made(count=1100)
    number = scale(100, 2000)
    # In a process of its own, with a bound on memory: libhdf5 has been known to crash on what is damaged.
    done = subprocess.run(
        [sys.executable, "-c", MUTATE, str(number)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30)),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    refused, same = map(int, done.stdout.split())
    assert refused + same == number and refused > 0.6 * number and same > 0.06 * number


def test_the_index_of_the_chunks_is_read_in_step_with_them() -> None:
    places = read_header(made()).extents
    assert [len(places[name].chunks) for name in ("images", "labels", "source", "shift")] == [5] * 4
    assert places["digests"].chunks == () and places["root"].chunks == ()
    content = PACKED.read_bytes()
    labels = b"".join(zlib.decompress(content[begin : begin + size]) for begin, size in places["labels"].chunks)
    assert labels[:COUNT] == open_dataset(PLAIN).labels.tobytes() and labels[COUNT:] == bytes(120)
