"""Which digits imported samples show: ids and labels, where they agree, where they do not, and where one is missing."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsbench.contracts import UInt8Array
from capsbench.data.digits import load_digits
from capsbench.importing.matfile import NO_ID, RefusedError
from capsbench.importing.sources import by_order, find_sources

Ids = npt.NDArray[np.int32]


def order(variants: int = 2) -> Ids:
    """Shuffled indices of the embedded validation digits."""
    return np.random.default_rng(0).permutation(np.arange(800 * variants, dtype=np.int32) % 800)


def labels_of(source: Ids) -> UInt8Array:
    return load_digits("validation", "embedded").labels[source]


@settings(max_examples=30)
@given(variants=st.integers(1, 4), by_digit=st.booleans(), place=st.integers(0, 799), other=st.integers(1, 9))
def test_labels_are_recognised_if_every_one_is_right(variants: int, by_digit: bool, place: int, other: int) -> None:
    digits = load_digits("validation", "embedded")
    source = np.repeat(np.arange(800), variants) if by_digit else np.tile(np.arange(800), variants)
    labels = digits.labels[source]
    found = by_order(labels)
    assert found is not None and found.digits == digits.sha256
    np.testing.assert_array_equal(found.index, source)
    wrong: UInt8Array = labels.copy()
    wrong[place * variants] = (wrong[place * variants] + other) % 10
    assert by_order(wrong) is None
    assert by_order(labels[:-1]) is None


@pytest.mark.parametrize("first", [1, 0, 50_001])
@pytest.mark.parametrize("variants", [1, 3])
def test_ids_of_a_whole_split_tell_its_digits(variants: int, first: int) -> None:
    source = order(variants)
    found = find_sources(labels_of(source), source + np.int32(first))
    assert found.digits == load_digits("validation", "embedded").sha256 and found.by_ids
    np.testing.assert_array_equal(found.index, source)


def test_ids_of_some_digits_tell_which_samples_belong_together() -> None:
    source = order()[:700]
    found = find_sources(labels_of(source), source + np.int32(1))
    assert found.digits == "unknown" and found.by_ids
    np.testing.assert_array_equal(found.index, source)


def test_where_some_ids_are_missing_the_order_of_the_labels_decides() -> None:
    source = np.arange(800, dtype=np.int32)
    ids = np.where(source < 400, source + 1, NO_ID).astype(np.int32)
    assert find_sources(labels_of(source), ids).index.tolist() == source.tolist()
    assert set(find_sources(labels_of(order()), np.full(1600, NO_ID, np.int32)).index) == {-1}


def test_one_digit_with_two_labels_is_refused() -> None:
    source = order()
    labels = labels_of(source).copy()
    first, second = np.flatnonzero(source == source[3])
    labels[second] = (labels[second] + 1) % 10
    message = (
        f"samples {first + 1:,} and {second + 1:,} are both of digit {source[3] + 1}, but one is a {labels[first]}"
    )
    with pytest.raises(RefusedError, match=message):
        find_sources(labels, source + np.int32(1))


def test_ids_of_another_order_than_the_labels_are_refused() -> None:
    source = np.arange(800, dtype=np.int32)
    with pytest.raises(RefusedError, match=r"the order of its labels.* sample 1 should have 1, got 800"):
        find_sources(labels_of(source), source[::-1] + np.int32(1))
    same = np.flatnonzero(labels_of(source) == labels_of(source)[5])[:2]  # two digits of one class
    swapped = source + np.int32(1)
    swapped[same] = swapped[same[::-1]]
    with pytest.raises(RefusedError, match=rf"sample {same[0] + 1} should have {same[0] + 1}, got {same[1] + 1}"):
        find_sources(labels_of(source), swapped)


def test_a_zero_that_no_labels_explain_is_refused() -> None:
    source = np.arange(700, dtype=np.int32)
    with pytest.raises(RefusedError, match="original_id has a 0, but counts from 1"):
        find_sources(labels_of(source), source)


def test_ids_of_a_whole_split_with_other_labels_leave_the_digits_unknown_and_say_so() -> None:
    source = order()
    labels = (labels_of(source) + 1).astype(np.uint8) % np.uint8(10)
    with pytest.warns(UserWarning, match=r"from 1 to 800, but the labels of these 800 digits are not those of any"):
        found = find_sources(labels, source + np.int32(1))
    assert found.digits == "unknown"
    np.testing.assert_array_equal(found.index, source)
