"""Random words against the known answers of Random123, and what is made of them."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from capsbench.contracts import Digits, IndexArray
from capsbench.errors import DigitsError
from capsbench.generators import CATALOG
from capsbench.randomness import (
    FEISTEL_ROUNDS,
    ORDER_STREAM,
    SHORT,
    SHUFFLE_STREAM,
    OtherClasses,
    Shuffle,
    integers,
    permutation,
    philox,
    stream_number,
    uniforms,
    words,
)
from capsbench.registry import load
from capsbench.spec import SPLITS

ONES = 0xFFFFFFFF
KNOWN_ANSWERS = {  # counter, key, words: Random123's kat_vectors for philox4x32 with 10 rounds
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}

word32 = st.integers(0, ONES)


def as_words(*values: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array(values, np.uint64)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS.values(), ids=KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(
    counter: Sequence[int], key: tuple[int, int], answer: tuple[int, int, int, int]
) -> None:
    c0, c1, c2, c3 = (as_words(word) for word in counter)
    assert tuple(int(word[0]) for word in philox((c0, c1, c2, c3), key)) == answer


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS.values(), ids=KNOWN_ANSWERS)
def test_counter_is_index_low_index_high_stream_draw_and_key_is_seed_low_seed_high(
    counter: Sequence[int], key: tuple[int, int], answer: tuple[int, int, int, int]
) -> None:
    index = as_words(counter[0] | counter[1] << 32).view(np.int64)
    drawn = words(index, seed=key[0] | key[1] << 32, stream=counter[2], draw=counter[3])
    assert tuple(int(word[0]) for word in drawn) == answer


@given(indices=st.lists(st.integers(0, 2**63 - 1), max_size=20), seed=st.integers(0, 2**64 - 1), data=st.data())
def test_words_of_an_index_depend_on_no_other_index(indices: list[int], seed: int, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(range(len(indices))), max_size=20)) if indices else []
    together = np.stack(words(np.array(indices, np.int64), seed=seed, stream=33))
    apart = np.stack(words(np.array(indices, np.int64)[chosen], seed=seed, stream=33))
    np.testing.assert_array_equal(apart, together[:, chosen])


@given(change=st.sampled_from(["seed", "stream", "draw"]), bit=st.integers(0, 31))
def test_seed_stream_and_draw_each_change_every_word(change: str, bit: int) -> None:
    index = np.arange(8)
    plain = {"seed": 0, "stream": 16, "draw": 0}
    changed = plain | {change: plain[change] ^ 1 << bit}
    first, second = (np.stack(words(index, **arguments)) for arguments in (plain, changed))
    assert (first != second).mean() > 0.9


@given(word=word32, limit=st.integers(1, 2**31))
def test_integers_are_the_high_word_of_the_product(word: int, limit: int) -> None:
    (drawn,) = integers(as_words(word), limit)
    assert drawn == word * limit // 2**32
    assert 0 <= drawn < limit


def test_integers_take_a_limit_for_each_word() -> None:
    drawn = integers(as_words(ONES, ONES, 0, 0), np.array([7, 81, 7, 81]))
    assert drawn.dtype == np.int64
    assert drawn.tolist() == [6, 80, 0, 0]


def test_integers_are_uniform() -> None:
    word, _, _, _ = words(np.arange(81_000), seed=5, stream=16)
    counts = np.bincount(integers(word, 81), minlength=81)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_uniforms_are_the_midpoints_of_equal_steps() -> None:
    assert uniforms(as_words(0, 2**31, ONES), -1, 1).tolist() == [-1 + 2**-32, 2**-32, 1 - 2**-32]


def test_uniforms_take_ends_for_each_word() -> None:
    drawn = uniforms(as_words(0, ONES), np.array([0.0, 10.0]), np.array([1.0, 12.0]))
    np.testing.assert_allclose(drawn, [0, 12], atol=1e-9)
    assert drawn[0] > 0
    assert drawn[1] < 12


@given(word=word32, ends=st.tuples(*[st.floats(-1e6, 1e6)] * 2).map(sorted))
def test_uniforms_never_leave_their_range(word: int, ends: list[float]) -> None:
    low, high = ends
    assert low <= uniforms(as_words(word), low, high)[0] <= high


@given(word=word32, value=st.floats(-1e6, 1e6))
def test_uniforms_between_equal_ends_are_that_value(word: int, value: float) -> None:
    assert uniforms(as_words(word), value, value)[0] == value


def test_the_four_words_are_uniform_and_independent() -> None:
    drawn = np.stack([uniforms(word, 0, 1) for word in words(np.arange(20_000), seed=7, stream=32)])
    for fraction in drawn:
        assert stats.kstest(fraction, "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 4 / math.sqrt(20_000)


@given(count=st.integers(0, 300), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**32 - 1))
def test_permutation_visits_each_sample_once_and_depends_on_seed_and_epoch_alone(
    count: int, seed: int, epoch: int
) -> None:
    order = permutation(count, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(count))
    np.testing.assert_array_equal(order, permutation(count, seed=seed, epoch=epoch))


def test_permutation_differs_by_seed_and_by_epoch() -> None:
    orders = {permutation(50, seed=seed, epoch=epoch).tobytes() for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def everything(count: int, seed: int = 0, epoch: int = 0) -> IndexArray:
    return Shuffle(count, seed=seed, epoch=epoch).rows(np.arange(count))


@pytest.mark.parametrize(
    "order", [lambda epoch: permutation(5, seed=3, epoch=epoch), lambda epoch: everything(5, 3, epoch)]
)
def test_every_order_is_equally_likely(order: Callable[[int], IndexArray], scale: Callable[[int, int], int]) -> None:
    powers, number = 5 ** np.arange(5), scale(1200, 2400)
    ranks, counts = np.unique([int(order(epoch) @ powers) for epoch in range(number)], return_counts=True)
    assert len(ranks) == math.factorial(5)
    assert stats.chisquare(counts).pvalue > 1e-3


seeds, epochs = st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)


@given(count=st.integers(1, 5000) | st.integers(SHORT + 1, 20_000), seed=seeds, epoch=epochs)
def test_shuffle_visits_each_sample_once(count: int, seed: int, epoch: int) -> None:
    order = everything(count, seed, epoch)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(count))


@pytest.mark.parametrize("count", [SHORT, SHORT + 1, 65**2, 65**2 + 1, 100**2 - 1, 100**2, 100**2 + 1, 7 * 11 * 101])
def test_shuffle_is_whole_at_the_edges_of_its_grids(count: int) -> None:
    np.testing.assert_array_equal(np.sort(everything(count)), np.arange(count))


@given(count=st.sampled_from([10, SHORT, SHORT + 1, 60_000, 60_000_000]), seed=seeds, epoch=epochs, data=st.data())
def test_any_part_of_a_shuffle_is_computed_alone(count: int, seed: int, epoch: int, data: st.DataObject) -> None:
    chosen = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=20)), np.int64)
    shuffle = Shuffle(count, seed=seed, epoch=epoch)
    found = shuffle.rows(chosen)
    assert ((found >= 0) & (found < count)).all()
    np.testing.assert_array_equal(found, [shuffle.rows(np.array([position]))[0] for position in chosen])
    assert len(set(found.tolist())) == len(set(chosen.tolist()))


def plain_shuffle(position: int, count: int, seed: int, epoch: int) -> int:
    """The definition, one position at a time: a Feistel network on a grid, walked until it hits a sample."""
    side = math.ceil(math.sqrt(count))
    while True:
        left, right = divmod(position, side)
        for turn in range(FEISTEL_ROUNDS):
            index = np.array([right + 2**32 * (turn // 4)])
            word = int(words(index, seed=seed, stream=SHUFFLE_STREAM, draw=epoch)[turn % 4][0])
            left, right = right, (left + word * side // 2**32) % side
        position = left * side + right
        if position < count:
            return position


@pytest.mark.parametrize("count", [SHORT + 1, 5000, 60_000_000, 2**40])
def test_shuffle_is_its_definition(count: int) -> None:
    positions = np.random.default_rng(0).integers(0, count, 20)
    found = Shuffle(count, seed=2**40 + 7, epoch=3).rows(positions)
    assert found.tolist() == [plain_shuffle(int(position), count, 2**40 + 7, 3) for position in positions]


def test_short_shuffle_is_the_permutation_of_training() -> None:
    np.testing.assert_array_equal(everything(SHORT, 5, 6), permutation(SHORT, seed=5, epoch=6))


@pytest.mark.parametrize("count", [50, SHORT + 1, 60_000_000])
def test_shuffle_differs_by_seed_and_by_epoch(count: int) -> None:
    first = np.arange(50)
    orders = {
        Shuffle(count, seed=seed, epoch=epoch).rows(first).tobytes()
        for seed in (0, 1, 2**32, 2**63)
        for epoch in range(5)
    }
    assert len(orders) == 20


def test_each_sample_may_come_first_and_any_other_after_it(scale: Callable[[int, int], int]) -> None:
    count, bins = SHORT + 4, 41  # 4,100
    found = np.array([Shuffle(count, seed=3, epoch=epoch).rows(np.arange(2)) for epoch in range(scale(820, 4100))])
    for column in (found[:, 0], found[:, 1], (found[:, 1] - found[:, 0]) % count):
        assert stats.chisquare(np.bincount(column * bins // count, minlength=bins)).pvalue > 1e-3
    pairs = (found * 5 // count) @ (5, 1)
    assert stats.chisquare(np.bincount(pairs, minlength=25)).pvalue > 1e-3


@pytest.mark.parametrize("count", [SHORT + 1, 60_000, 60_000_000])
def test_neighbours_in_a_shuffle_have_nothing_to_do_with_one_another(count: int) -> None:
    order = Shuffle(count, seed=1, epoch=0).rows(np.arange(min(count, 100_000)))
    where = order / count
    if count > 1_000_000:  # a whole short one is uniform by itself
        assert stats.kstest(where, "uniform").pvalue > 1e-3
    assert stats.kstest(np.diff(order) % count / count, "uniform").pvalue > 1e-3
    assert abs(stats.pearsonr(where, np.arange(len(where))).statistic) < 4 / math.sqrt(len(where))
    assert abs(stats.pearsonr(where[1:], where[:-1]).statistic) < 4 / math.sqrt(len(where))


def test_shuffle_of_nothing_is_nothing() -> None:
    assert everything(0).tolist() == []


def test_stream_numbers_are_those_published() -> None:
    published = {
        "padded": (16, 17, 18, 19),
        "affnist": (32, 33, 34, 35),
        "multimnist": (48, 49, 50, 51),
        "crowded": (64, 65, 66, 67),
        "cluttered": (80, 81, 82, 83),
    }
    for name, numbers in published.items():
        assert tuple(stream_number(load("data set", name).number, split) for split in SPLITS) == numbers


def test_no_two_streams_share_a_number() -> None:
    numbers = [load("data set", name).number for name in CATALOG]
    streams = [ORDER_STREAM, SHUFFLE_STREAM, *(stream_number(number, split) for number in numbers for split in SPLITS)]
    assert len(set(streams)) == len(streams)
    assert all(1 <= number <= 255 for number in numbers)


def test_a_digit_of_another_class_is_any_of_them_equally_often() -> None:
    labels = np.array([0, 0, 0, 4, 4, 9], np.uint8)
    others = OtherClasses(Digits(np.zeros((6, 28, 28), np.uint8), labels, "test", "embedded"))
    word = (np.arange(1, 6000, 2, dtype=np.uint64) << np.uint64(32)) // np.uint64(6000)
    for label, expected in ((0, {3: 1000, 4: 1000, 5: 1000}), (4, {0: 750, 1: 750, 2: 750, 5: 750})):
        picked = others.pick(np.full(3000, label, np.uint8), word)
        assert dict(zip(*np.unique(picked, return_counts=True), strict=True)) == expected


def test_digits_of_one_class_have_no_others() -> None:
    digits = Digits(np.zeros((2, 28, 28), np.uint8), np.full(2, 7, np.uint8), "test", "embedded")
    with pytest.raises(DigitsError, match="all of one class; this data set needs two classes"):
        OtherClasses(digits)
