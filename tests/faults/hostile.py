"""Thirteen files that mean harm, each made from a contiguous and from a packed one, and opened in a forked child.

What they would have opened is watched by the system: nobody may touch it.
"""

import ctypes
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from capsbench.data.recipes import make_recipe
from capsbench.errors import DataFileError
from capsbench.files.datafile import open_dataset
from capsbench.files.generation import generate_file
from capsbench.files.packing import pack_file

from .forked import forked

COUNT = 1500  # of which a packed file has two chunks
SHAPE = (COUNT, 28, 28)
CHUNKS = (1024, 28, 28)
PATH = Path("hostile.h5")
TARGET = Path("target")
LARGE = 100_000_000  # bytes; more than may be taken
IN_ACCESS, IN_OPEN = 0x1, 0x20  # of Linux's inotify
UNKNOWN_FILTER = 32_015

SECONDS, GROWTH = 1.0, 60_000_000


def remade(file: Any, shape: tuple[int, ...] = SHAPE, **how: Any) -> Any:
    """Another data set in the place of the images."""
    del file["images"]
    return file.create_dataset("images", shape, **({"dtype": "u1"} | how))


def external_link(file: Any) -> None:
    del file["images"]
    file["images"] = h5py.ExternalLink(str(TARGET), "/images")


def soft_link(file: Any) -> None:
    file["other"] = h5py.ExternalLink(str(TARGET), "/images")
    del file["images"]
    file["images"] = h5py.SoftLink("/other")


def external_storage(file: Any) -> None:
    remade(file, external=[(str(TARGET), 0, COUNT * 784)])


def virtual_data_set(file: Any) -> None:
    layout = h5py.VirtualLayout(SHAPE, "u1")
    layout[:] = h5py.VirtualSource(str(TARGET), "images", SHAPE)
    del file["images"]
    file.create_virtual_dataset("images", layout)


def huge_shape(file: Any) -> None:
    """A terabyte and more that is not there."""
    remade(file, (COUNT, 2**18, 2**18))


def huge_chunk(file: Any) -> None:
    """One chunk of 4 GB, of which some bytes are there."""
    data = remade(file, (2**22, 28, 28), chunks=(2**22, 28, 28), compression="gzip")
    data.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(1000)))


@cache
def bomb() -> bytes:
    """A tenth of a megabyte, less than a chunk of samples has, that inflates to a tenth of a gigabyte."""
    deflate = zlib.compressobj(9)
    part = bytes(LARGE // 100)
    first, again = (deflate.compress(part) + deflate.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + 99 * again + deflate.flush()


def gzip_bomb(file: Any) -> None:
    """Chunks of the right shape, of which far too much comes out."""
    data = remade(file, chunks=CHUNKS, compression="gzip")
    for start in (0, CHUNKS[0]):
        data.id.write_direct_chunk((start, 0, 0), bomb())


def object_type(file: Any) -> None:
    remade(file, dtype=h5py.string_dtype())


def unknown_filter(file: Any) -> None:
    del file["images"]
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk(CHUNKS)
    layout.set_filter(UNKNOWN_FILTER, h5py.h5z.FLAG_OPTIONAL, (1,))
    kind, space = h5py.h5t.STD_U8LE, h5py.h5s.create_simple(SHAPE)
    h5py.h5d.create(file.id, b"images", kind, space, layout).write_direct_chunk((0, 0, 0), b"filtered")


def big_attribute(file: Any) -> None:
    """A tenth of a gigabyte where a spec of some hundred bytes should be."""
    del file.attrs["spec"]
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(LARGE)
    h5py.h5a.create(file.id, b"spec", kind, h5py.h5s.create(h5py.h5s.SCALAR))


def deep_nesting(file: Any) -> None:
    del file["images"]
    group = file
    for _ in range(3000):
        group = group.create_group("images")


def link_cycle(file: Any) -> None:
    del file["images"]
    file["images"] = file["/"]


def negative_sizes(file: Any) -> None:
    """Of a file in HDF5's first format, which has no checksums, so that its sizes can be written over."""
    with h5py.File("early.h5", "w") as early:
        early.attrs.update(file.attrs)
        for name in file:
            file.copy(name, early)
    content = Path("early.h5").read_bytes()
    sizes = struct.pack("<3q", *SHAPE)
    assert sizes in content
    Path("early.h5").write_bytes(content.replace(sizes, struct.pack("<3q", -COUNT, 28, 28)))


HARMS: tuple[Callable[[Any], None], ...] = (
    external_link,
    soft_link,
    external_storage,
    virtual_data_set,
    huge_shape,
    huge_chunk,
    gzip_bomb,
    object_type,
    unknown_filter,
    big_attribute,
    deep_nesting,
    link_cycle,
    negative_sizes,
)


@contextmanager
def watched(path: Path) -> Iterator[Callable[[], int]]:
    """Has the system watch who opens or reads a file; the function says how often that was so far."""
    system = ctypes.CDLL(None, use_errno=True)
    handle = system.inotify_init1(os.O_NONBLOCK)
    assert handle >= 0 and system.inotify_add_watch(handle, os.fsencode(path), IN_ACCESS | IN_OPEN) >= 0

    def events() -> int:
        try:
            return len(os.read(handle, 65536)) // 16
        except BlockingIOError:
            return 0

    try:
        yield events
    finally:
        os.close(handle)


def harmful(good: bytes, harm: Callable[[Any], None]) -> None:
    """Puts a file that does harm into its place."""
    PATH.write_bytes(good)
    with h5py.File(PATH, "r+", libver=("v110", "v110")) as file:
        harm(file)
    if harm is negative_sizes:
        Path("early.h5").replace(PATH)


def opened() -> str:
    """What becomes of somebody who opens the file and looks at all of it."""
    try:
        file = open_dataset(PATH)
        return f"opened: {int(file.images.max())}"
    except DataFileError as error:
        return f"refused: {error}"


def followed() -> str:
    """What becomes of somebody who opens it with h5py, and looks at an image."""
    try:
        with h5py.File(PATH, "r") as file:
            return f"opened: {int(file['images'][0].max())}"
    except Exception as error:
        return f"refused: {error}"


def main(seed: str) -> None:
    """Opens every hostile file, and prints what that took."""
    recipe = make_recipe("padded", split="test", digits="embedded", count=COUNT, parameters={"size": 28, "shift": 2})
    contiguous = generate_file(recipe, Path("good.h5")).path
    packed = pack_file(contiguous, Path("packed.h5")).path
    with h5py.File(TARGET, "w") as file:
        file["images"] = np.full(SHAPE, 66, np.uint8)
    slowest, largest, refused, lured = 0.0, 0, 0, 0
    with watched(TARGET) as events:
        for good in (contiguous, packed):
            for harm in HARMS:
                harmful(good.read_bytes(), harm)
                events()
                end = forked(opened, seconds=10)
                name = f"{harm.__name__}, {good.stem}"
                assert end.code == 0, f"{name}: ended with {end.code}\n{end.said}"
                assert end.said.startswith("refused: ") and end.said.count("\n") <= 1, f"{name}: {end.said}"
                assert end.seconds < SECONDS, f"{name}: {end.seconds} s"
                assert end.growth < GROWTH, f"{name}: {end.growth:,} bytes"
                assert events() == 0, f"{name}: the target was opened"
                refused += 1
                slowest, largest = max(slowest, end.seconds), max(largest, end.growth)
                if harm in (external_link, soft_link, external_storage, virtual_data_set):
                    forked(followed, seconds=10)
                    assert events() > 0, f"{name}: h5py itself does not open the target"
                    lured += 1
    PATH.unlink()
    told = {"hostile files": refused, "refused": refused, "targets opened": 0, "targets that h5py opens": lured}
    told |= {"ms the slowest": round(1000 * slowest), "MB the largest": round(largest / 1e6)}
    print(json.dumps(told))  # noqa: T201
