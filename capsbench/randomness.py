"""A sample's random words from (seed, stream, index), by Philox4x32-10: counter-based, so nothing depends on order.

Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The counter's words are (index low,
index high, stream, draw), the key (seed low, seed high); each counter gives four words of 32 bits.
"""

import math

import numpy as np
import numpy.typing as npt

from capsbench.contracts import CLASSES, Digits, FloatArray, IndexArray, UInt8Array
from capsbench.errors import DigitsError
from capsbench.spec import SPLITS

Words = npt.NDArray[np.uint64]
"""32-bit words, each in an unsigned integer of 64 bits, where their products do not overflow."""

ROUNDS = 10
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)

ORDER_STREAM = 1
"""The stream of the order in which training visits its samples; generators have theirs from 16 on."""

SHUFFLE_STREAM = 2
"""The stream of `Shuffle`."""

FEISTEL_ROUNDS = 8
"""Four are the least that look random (Luby and Rackoff 1988); the others cost 2 ns a position each."""

SHORT = 4096
"""Up to here an order is sorted as a whole: on a grid of a few cells a Feistel network favours some orders."""


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Philox4x32-10 of counters ``[n]`` x 4 words under one key of 2 words: ``[n]`` x 4 words.

    A word that all counters share may be an array of no axes; what is the same for all is then computed once.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c2 = (p1 >> SHIFT) ^ c1, (p0 >> SHIFT) ^ c3
        # In place, which takes a quarter less time.
        c0 ^= np.uint64(k0)
        c2 ^= np.uint64(k1)
        p0 &= MASK
        p1 &= MASK
        c1, c3 = p1, p0
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def words(indices: IndexArray, *, seed: int, stream: int, draw: int = 0) -> tuple[Words, Words, Words, Words]:
    """Four random words for each index ``[n]`` int64."""
    index = indices.astype(np.uint64)
    counter = (index & MASK, index >> SHIFT, np.array(stream, np.uint64), np.array(draw, np.uint64))
    return philox(counter, (seed & 0xFFFFFFFF, seed >> 32))


def integers(word: Words, limit: int | IndexArray) -> IndexArray:
    """Integers of 0..limit-1 by multiply-high; for limit << 2**32 the bias is below limit / 2**32."""
    return ((word * np.asarray(limit, np.uint64)) >> SHIFT).astype(np.int64)


def uniforms(word: Words, low: float | FloatArray, high: float | FloatArray) -> FloatArray:
    """Float64 between low and high: the midpoint of one of 2**32 equal steps, so that neither end is hit."""
    fraction = (word.astype(np.float64) + 0.5) * 2.0**-32
    return np.asarray(low + (np.asarray(high) - low) * fraction, np.float64)


def permutation(count: int, *, seed: int, epoch: int) -> IndexArray:
    """The order ``[count]`` int64 in which an epoch visits its samples, a function of (seed, epoch)."""
    high, low, _, _ = words(np.arange(count), seed=seed, stream=ORDER_STREAM, draw=epoch)
    return np.argsort((high << SHIFT) | low, kind="stable")


class Shuffle:
    """A random order of ``count`` samples, any part of which is computed alone: nothing of length ``count`` is kept.

    A Feistel network over a grid of a x a cells, a = ceil(sqrt(count)), and a walk along its cycle from cells past the
    last sample to one that is a sample: methods 3 and 2 of Black and Rogaway, "Ciphers with arbitrary finite domains",
    CT-RSA 2002. The functions of its rounds are tables of random words: round r takes word r mod 4 of the counter
    (cell's column, r div 4, `SHUFFLE_STREAM`, epoch). They take 32 sqrt(count) bytes: 0.25 MB for 60 million samples.

    The order is a function of (seed, epoch, count). Up to `SHORT` samples it is that of `permutation`; beyond, another.

    Args:
        count: How many samples there are, up to 2**40.
        seed: 0..2**64-1.
        epoch: 0..2**32-1.
    """

    def __init__(self, count: int, *, seed: int, epoch: int) -> None:
        self._count = count
        self._short = permutation(count, seed=seed, epoch=epoch) if count <= SHORT else None
        self._side = math.isqrt(max(count - 1, 0)) + 1
        columns = np.arange(self._side)
        self._tables = np.array(
            [
                integers(word, self._side)
                for group in range(FEISTEL_ROUNDS // 4)
                for word in words(columns | group << 32, seed=seed, stream=SHUFFLE_STREAM, draw=epoch)
            ],
            np.uint32,
        )

    def rows(self, positions: IndexArray) -> IndexArray:
        """Which samples ``[n]`` int64 come at positions ``[n]``, each 0..count-1."""
        if self._short is not None:
            return self._short[positions]
        rows = self._permuted(positions)
        while (past := np.flatnonzero(rows >= self._count)).size:
            rows[past] = self._permuted(rows[past])
        return rows

    def _permuted(self, cells: IndexArray) -> IndexArray:
        """A permutation of all cells, 0..a*a-1."""
        left, right = np.divmod(cells, self._side)
        for table in self._tables:
            total = left + table[right]
            # The sum modulo a: of it and it less a, the one that is not negative, for a negative number is a huge one.
            left, right = right, np.minimum(total.view(np.uint64), (total - self._side).view(np.uint64)).view(np.int64)
        return left * self._side + right


def stream_number(generator: int, split: str) -> int:
    """The published number of the stream that a generator draws a split's parameters from."""
    return 16 * generator + SPLITS.index(split)


class OtherClasses:
    """Draws digits of another class than a given one, each of them equally likely, with replacement.

    Args:
        digits: Of at least two classes.

    Raises:
        DigitsError: They are all of one class.
    """

    def __init__(self, digits: Digits) -> None:
        # Sorted by class, the digits of the other classes are all but one run of them.
        self._order = np.argsort(digits.labels, kind="stable")
        self._starts = np.searchsorted(digits.labels[self._order], np.arange(CLASSES + 1)).astype(np.int64)
        if np.count_nonzero(np.diff(self._starts)) < 2:
            raise DigitsError(f"The {digits.split} digits are all of one class; this data set needs two classes.")

    def pick(self, labels: UInt8Array, word: Words) -> IndexArray:
        """A digit ``[n]`` int64 for each of ``labels`` ``[n]``, of another class, by its word ``[n]``."""
        label = labels.astype(np.int64)
        first, past = self._starts[label], self._starts[label + 1]
        rank = integers(word, len(self._order) - (past - first))
        return self._order[np.where(rank < first, rank, rank + past - first)]
