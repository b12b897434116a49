"""A sample's random words from (seed, stream, index), by Philox4x32-10: counter-based, so nothing depends on order.

Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The counter's words are (index low,
index high, stream, draw), the key (seed low, seed high); each counter gives four words of 32 bits.
"""

import numpy as np
import numpy.typing as npt

from capsbench.contracts import SPLITS, FloatArray, IndexArray
from capsbench.errors import ParameterError

Words = npt.NDArray[np.uint64]
"""32-bit words, each in an unsigned integer of 64 bits, where their products do not overflow."""

SEED_LIMIT = 2**64
ROUNDS = 10
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)

ORDER_STREAM = 1
"""The stream of the order in which training visits its samples; generators have theirs from 16 on."""


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Philox4x32-10 of counters ``[n]`` x 4 words under one key of 2 words: ``[n]`` x 4 words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> SHIFT) ^ c1 ^ np.uint64(k0), p1 & MASK, (p0 >> SHIFT) ^ c3 ^ np.uint64(k1), p0 & MASK
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def words(indices: IndexArray, *, seed: int, stream: int, draw: int = 0) -> tuple[Words, Words, Words, Words]:
    """Four random words for each index ``[n]`` int64."""
    index = indices.astype(np.uint64)
    counter = (index & MASK, index >> SHIFT, np.full_like(index, stream), np.full_like(index, draw))
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


def stream_number(generator: int, split: str) -> int:
    """The published number of the stream that a generator draws a split's parameters from."""
    return 16 * generator + SPLITS.index(split)


def check_seed(seed: int) -> int:
    """The seed, if it is one.

    Raises:
        ParameterError: It is no whole number in 0..2**64-1.
    """
    if type(seed) is not int or not 0 <= seed < SEED_LIMIT:
        raise ParameterError(f"A seed of {seed} was asked for; it must be a whole number in 0..2**64-1.")
    return seed
