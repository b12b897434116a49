"""Shards of a spec: their samples, their names, and what is refused."""

import time
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from capsbench.errors import ParameterError
from capsbench.files.shards import shard_counts, shard_index, shard_name, shard_range


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
        (2, 2, r"A shard of 2 must be 0/2 to 1/2, got 2/2"),
        (0, 12, "as many shards as samples, 11, got 12"),
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
