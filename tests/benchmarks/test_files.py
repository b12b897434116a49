"""How fast files are made: against what the disk and the generator need alone, and by two processes against one.

Where benchmarks are disabled each runs once, on few samples.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capsbench.data.columns import block_count, block_digest, block_range, columns_of, stored_arrays
from capsbench.data.recipes import Recipe, make_recipe
from capsbench.files.generation import generate_file
from capsbench.files.packing import pack_file, unpack_file

FILE_COUNT = {"multimnist": 250_000, "affnist": 100_000}  # 330 and 160 MB
FILE_LIMIT = 1.5  # times the slower of drawing with its SHA-256, and a raw synced write
WORKERS_COUNT = 250_000
WORKERS_GAIN = 1.7
PACKED_COUNT = 20_000
PACKED_RATIO = 4.5  # about 6 where there is one digit or two in a square; a strip of three has more ink

Contestant = Callable[[int], object]


def recipe(name: str, count: int, enabled: bool) -> Recipe:
    return make_recipe(name, split="trainval", digits="embedded", count=count if enabled else 5_000)


def whole_file(one: Recipe, **how: Any) -> Contestant:
    """A finished, synced file."""
    return lambda turn: generate_file(one, Path("made/x.h5"), **how)


def drawing(one: Recipe) -> Contestant:
    """Every block drawn, and its SHA-256."""
    columns, count = columns_of(one.generator, one.spec), one.spec.count

    def run(turn: int) -> object:
        return [
            block_digest(stored_arrays(columns, one.sampler, np.arange(*block_range(block, count))))
            for block in range(block_count(count))
        ]

    return run


def raw_write(size: int) -> Contestant:
    """As many bytes as the file has, from memory, synced."""
    content = np.random.default_rng(0).integers(0, 256, size, np.uint8)

    def run(turn: int) -> object:
        Path("made").mkdir()
        handle = os.open("made/x", os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            left = content.data
            while left:
                left = left[os.write(handle, left[: 2**22]) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        return None

    return run


def clean() -> None:
    """What one leaves on the disk, or still has to write or to free there, must not cost another time."""
    shutil.rmtree("made", ignore_errors=True)
    os.sync()


@pytest.mark.parametrize("name", FILE_COUNT)
def test_a_file_takes_little_more_than_its_slower_half(
    benchmark: Any, alternate: Callable[..., dict[str, float]], compare: Callable[..., None], name: str
) -> None:
    one = recipe(name, FILE_COUNT[name], benchmark.enabled)
    size = generate_file(one, Path("made/x.h5")).size
    benchmark.group = f"{name} file"
    benchmark.extra_info.update(batch=one.spec.count, device="cpu", dtype="uint8", bytes=size)
    contestants = {
        "capsbench, synced": whole_file(one),
        "drawing and SHA-256": drawing(one),
        "raw synced write": raw_write(size),
    }
    minima = alternate(contestants, tidy=clean)
    ours, *parts = minima.values()
    benchmark.extra_info["times the slower of the two"] = round(ours / max(parts), 2)
    compare("capsbench, synced", "the slower of the two", max(parts) / ours, 1 / FILE_LIMIT)


def test_two_workers_gain(benchmark: Any, alternate: Callable[..., dict[str, float]]) -> None:
    one = recipe("affnist", WORKERS_COUNT, benchmark.enabled)
    _ = one.sampler  # this process's tables are no worker's gain
    benchmark.group = "affnist file"
    benchmark.extra_info.update(batch=one.spec.count, device="cpu", dtype="uint8")
    contestants = {"two workers": whole_file(one, workers=2), "one": whole_file(one)}
    alternate(contestants, gates={"one": WORKERS_GAIN}, tidy=clean)


@pytest.mark.parametrize("name", ["padded", "affnist", "multimnist", "crowded", "cluttered"])
def test_a_packed_file_is_small(benchmark: Any, compare: Callable[..., None], name: str) -> None:
    one = make_recipe(name, split="trainval", digits="embedded", count=PACKED_COUNT if benchmark.enabled else 2_000)
    plain = generate_file(one, Path("plain.h5"))
    benchmark.group = "packed"
    packed = benchmark.pedantic(pack_file, (plain.path, Path("packed.h5")), {"force": True}, rounds=5)
    unpacked = unpack_file(packed.path, Path("again.h5"))
    assert unpacked.path.read_bytes() == plain.path.read_bytes()
    benchmark.extra_info.update(batch=one.spec.count, dataset=name, bytes=plain.size, packed=packed.size)
    compare(f"{name}, packed", "contiguous", plain.size / packed.size, PACKED_RATIO, measure="bytes")
