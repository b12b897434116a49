"""The arrays of a data set, worked out by hand: shapes, blocks, and the digests over them."""

import hashlib
from typing import Any

import numpy as np
import pytest

from capsbench.data.columns import BLOCK, block_count, block_digest, block_range, columns_of, root_digest, stored_arrays
from capsbench.data.recipes import Recipe, make_recipe

COLUMNS = {
    "padded": {"images": ("u1", (40, 40)), "labels": ("u1", ()), "source": ("<i4", ()), "shift": ("i1", (2,))},
    "affnist": {"images": ("u1", (40, 40)), "labels": ("u1", ()), "source": ("<i4", ()), "transform": ("<f4", (6,))},
    "multimnist": {
        "images": ("u1", (36, 36)),
        "labels": ("u1", (2,)),
        "source": ("<i4", (2,)),
        "shift": ("i1", (2, 2)),
    },
    "cluttered": {
        "images": ("u1", (60, 60)),
        "labels": ("u1", ()),
        "source": ("<i4", ()),
        "shift": ("i1", (2,)),
        "scraps": ("u1", ()),
    },
}
LAYERS = {"padded": (40, 40), "affnist": (40, 40), "multimnist": (2, 36, 36), "cluttered": (60, 60)}
ORDER = ("images", "labels", "layers", "source", "shift", "transform", "scraps")


def recipe(name: str, **options: Any) -> Recipe:
    defaults: dict[str, Any] = {"split": "test", "digits": "embedded", "count": 10}
    return make_recipe(name, **(defaults | options))


@pytest.mark.parametrize("layers", [False, True])
@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_columns_are_those_of_the_format(name: str, layers: bool) -> None:
    one = recipe(name, layers=layers)
    expected = dict(COLUMNS[name])
    if layers:
        expected["layers"] = ("u1", LAYERS[name])
    parts = columns_of(one.generator, one.spec)
    assert {part.name: (part.dtype.str.replace("|", ""), part.shape) for part in parts} == expected
    assert [part.name for part in parts] == [column for column in ORDER if column in expected]


@pytest.mark.parametrize("layers", [False, True])
@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_samples_are_stored_as_their_columns_say(name: str, layers: bool) -> None:
    one = recipe(name, layers=layers)
    parts = columns_of(one.generator, one.spec)
    indices = np.array([3, 1, 4, 1, 5])
    arrays = stored_arrays(parts, one.sampler, indices)
    batch = one.sampler.batch(indices)
    assert list(arrays) == [part.name for part in parts]
    for part in parts:
        array = arrays[part.name]
        assert array.dtype == part.dtype and array.shape == (5, *part.shape) and array.flags.c_contiguous
        drawn = one.sampler.layers(indices) if part.name == "layers" else getattr(batch, part.name)
        assert array.tobytes() == np.asarray(drawn).tobytes()


@pytest.mark.parametrize(
    ("count", "blocks"),
    [(1, [(0, 1)]), (4095, [(0, 4095)]), (4096, [(0, 4096)]), (4097, [(0, 4096), (4096, 4097)])],
)
def test_a_block_is_4096_samples_and_the_last_one_the_rest(count: int, blocks: list[tuple[int, int]]) -> None:
    assert BLOCK == 4096
    assert [block_range(block, count) for block in range(block_count(count))] == blocks


def test_a_blocks_digest_takes_its_arrays_in_the_order_of_the_format() -> None:
    arrays = {
        "transform": np.full((2, 6), 0.5, "<f4"),
        "source": np.array([7, 8], "<i4"),
        "layers": np.full((2, 3, 3), 3, "u1"),
        "labels": np.array([1, 2], "u1"),
        "images": np.full((2, 3, 3), 9, "u1"),
    }
    content = b"\x09" * 18 + b"\x01\x02" + b"\x03" * 18 + b"\x07\0\0\0\x08\0\0\0" + b"\0\0\0\x3f" * 12
    assert block_digest(arrays) == hashlib.sha256(content).digest()


def test_the_root_digest_takes_the_spec_and_then_the_digests() -> None:
    assert root_digest("spec ü", b"abc") == hashlib.sha256("spec üabc".encode()).digest()


def test_the_root_digest_of_a_shard_takes_where_it_starts_and_stops() -> None:
    assert root_digest("spec", b"abc", range(5, 9)) == hashlib.sha256(b"spec\n5 9\nabc").digest()
