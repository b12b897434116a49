"""What stands in a file, worked out by hand: shapes, blocks, and the digests over them."""

import hashlib
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from capsbench.data.columns import BLOCK, block_count, block_digest, block_range, columns_of, root_digest, stored_arrays
from capsbench.data.recipes import Recipe, make_recipe
from capsbench.data.samples import checked_indices
from capsbench.errors import ParameterError
from capsbench.files.layout import Outline
from capsbench.files.shards import shard_counts, shard_index, shard_name, shard_range

COLUMNS = {
    "padded": {"images": ("u1", (40, 40)), "labels": ("u1", ()), "source": ("<i4", ()), "shift": ("i1", (2,))},
    "affnist": {"images": ("u1", (40, 40)), "labels": ("u1", ()), "source": ("<i4", ()), "transform": ("<f4", (6,))},
    "multimnist": {
        "images": ("u1", (36, 36)),
        "labels": ("u1", (2,)),
        "source": ("<i4", (2,)),
        "shift": ("i1", (2, 2)),
    },
}
LAYERS = {"padded": (40, 40), "affnist": (40, 40), "multimnist": (2, 36, 36)}
ORDER = ("images", "labels", "layers", "source", "shift", "transform")


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


def test_the_bytes_of_a_file_are_those_of_its_samples_and_digests() -> None:
    one = recipe("multimnist", layers=True)
    sample = 36 * 36 + 2 + 2 * 36 * 36 + 2 * 4 + 2 * 2
    whole = replace(one.spec, count=4097)
    assert Outline(whole, columns_of(one.generator, whole)).data_bytes == 4097 * sample + 2 * 32 + 32
    assert Outline(whole, columns_of(one.generator, whole), range(96, 4096)).data_bytes == 4000 * sample + 32 + 32


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


@pytest.mark.parametrize("asked", [[3, 0, 3], (3, 0, 3), np.array([3, 0, 3], np.uint8), np.array([3, 0, 3], ">i4")])
def test_samples_are_asked_for_by_whole_numbers(asked: Any) -> None:
    chosen = checked_indices(asked, 4)
    assert chosen.dtype == np.int64 and chosen.dtype.isnative
    assert chosen.tolist() == [3, 0, 3]


@pytest.mark.parametrize("asked", [[], (), np.zeros(0, np.int64)])
def test_no_samples_may_be_asked_for(asked: Any) -> None:
    chosen = checked_indices(asked, 4)
    assert chosen.dtype == np.int64 and chosen.shape == (0,)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([1.9], r"found float64\."),
        (np.array([1.0], np.float32), r"found float32\."),
        ([True, False], r"found bool; of a mask take np\.flatnonzero\(mask\)\."),
        (["1"], "found <U1"),
        ([None], "found object"),
        (slice(3), "found object"),
        (2, r"shape \(\)"),
        ([[0, 1], [2, 3]], r"shape \(2, 2\)"),
    ],
)
def test_what_is_no_list_of_whole_numbers_is_refused(asked: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        checked_indices(asked, 4)


@pytest.mark.parametrize("asked", [[4], [-1], [0, 4], [2**63], [-(2**63)]])
def test_samples_that_are_not_there_are_an_index_error(asked: Any) -> None:
    with pytest.raises(IndexError, match=r"were asked for; there are 0\.\.3\."):
        checked_indices(asked, 4)


def test_the_root_digest_of_a_shard_takes_where_it_starts_and_stops() -> None:
    assert root_digest("spec", b"abc", range(5, 9)) == hashlib.sha256(b"spec\n5 9\nabc").digest()


@pytest.mark.parametrize(
    ("shards", "ends"), [(2, [0, 5, 11]), (3, [0, 3, 7, 11]), (11, [*range(12)])], ids=["two", "three", "eleven"]
)
def test_shards_are_those_of_the_contract(shards: int, ends: list[int]) -> None:
    found = [shard_range(index, shards, 11) for index in range(shards)]
    assert found == [range(start, stop) for start, stop in pairwise(ends)]


def test_one_shard_is_no_shard() -> None:
    assert shard_range(0, 1, 11) is None


@pytest.mark.parametrize(
    ("index", "shards", "message"),
    [
        (2, 2, r"Shard 2/2 was asked for; shards of 2 are 0/2 to 1/2"),
        (0, 12, "12 shards were asked for, of 11 samples"),
    ],
)
def test_shards_that_are_not_there_are_refused(index: int, shards: int, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        shard_range(index, shards, 11)


@given(st.integers(2, 300), st.integers(0, 299), st.integers(2, 5000))
def test_the_name_of_a_shard_names_its_samples(shards: int, index: int, count: int) -> None:
    assume(index < shards <= count)
    shard = shard_range(index, shards, count)
    assert shard is not None
    numbers = list(shard_counts([shard], count))
    assert shards in numbers and numbers == sorted(set(numbers))
    assert all(shard_range(shard_index(shard, number, count) or 0, number, count) == shard for number in numbers)
    assert shard_name(shard, count) == (f"{index}/{shards}" if len(numbers) == 1 else None)


def test_several_shards_tell_how_many_there_are() -> None:
    shards = [shard for index in range(64) if index != 9 and (shard := shard_range(index, 64, 1000))]
    assert len(list(shard_counts(shards[:1], 1000))) > 1 and list(shard_counts(shards, 1000)) == [64]


def test_what_is_no_shard_has_no_name() -> None:
    assert shard_name(range(1, 9), 10) is None
    assert shard_name(range(6), 10) is None


def test_of_a_tiny_shard_of_a_huge_data_set_no_name_is_searched_for() -> None:
    begun = time.perf_counter()
    assert shard_name(range(5, 6), 2**40) is None
    assert time.perf_counter() - begun < 1
