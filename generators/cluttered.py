"""A digit among scraps of other digits: cluttered MNIST, after Mnih et al. 2014 and Jaderberg et al. 2015."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from capsbench.contracts import ArrayBatch, Batch, Digits, FloatArray, IndexArray, UInt8Array
from capsbench.errors import DigitsError, ParameterError
from capsbench.geometry import DIGIT, LARGEST_CANVAS, saturating_add, squares
from capsbench.parameters import check_number, check_range
from capsbench.randomness import MASK, SHIFT, Words, integers, philox, stream_number, words

MOST_SCRAPS = 32
FRAME = DIGIT * DIGIT
CHUNK = 512  # samples at a time; with a quarter of them, numpy's calls take longer than the work


@dataclass(frozen=True, kw_only=True)
class Cluttered:
    """A digit at a random place, and scraps of other digits of the split at random places around and upon it.

    The target of sample i is digit i of the split, modulo their number. Its frame's corner lies at (m + dy, m + dx),
    ``m = (size - 28) / 2`` the margin, at any of the ``(2 m + 1)**2`` places where the frame is on the canvas, row by
    row: word 0 of draw 0. The number of scraps is uniform over ``scraps``, both ends included: word 1 of draw 0.

    Scrap k has words 2 (k mod 2) and 2 (k mod 2) + 1 of draw 1 + k div 2. The first gives the digit that it is cut
    from, any but the target's own: each equally likely, of the target's class too, and drawn with replacement. The
    second gives its cut and its place. It is cut around a pixel of ink (> 0), row by row, so that no scrap is blank:
    that pixel is pixel ``scrap_size div 2`` of the scrap, both ways, unless the scrap would leave the frame. Its
    corner lies at any place where all of it is on the canvas, row by row; the cut is the quotient by the number of
    places, the place is the remainder. Target and scraps are added and clipped at 255.

    A sample has the same target, place and scraps whatever their number: with fewer, the last ones are left out.
    """

    size: int = 60
    scraps: tuple[int, int] = (4, 8)
    scrap_size: int = 8

    version: ClassVar[int] = 1
    number: ClassVar[int] = 5
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"clean": {"scraps": (0, 0)}, "paper": {}}
    pairs: ClassVar[bool] = False
    motion: ClassVar[str] = "shift"
    extras: ClassVar[Sequence[str]] = ("scraps",)

    def __post_init__(self) -> None:
        check_number("size", self.size, DIGIT, LARGEST_CANVAS)
        if self.size % 2:
            raise ParameterError(f"size must be even, so that the digit can be centered, got {self.size}.")
        check_range("scraps", self.scraps, 0, MOST_SCRAPS)
        check_number("scrap_size", self.scrap_size, 1, DIGIT)

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size, self.size

    def sampler(self, digits: Digits, seed: int) -> "ClutteredSampler":
        """Binds the parameters to source digits and a seed."""
        return ClutteredSampler(self, digits, seed)


class ClutteredSampler:
    """`Cluttered` bound to digits and a seed.

    Raises:
        DigitsError: There are scraps, and no other digit to cut them from.
    """

    def __init__(self, generator: Cluttered, digits: Digits, seed: int) -> None:
        self._size = generator.size
        self._least, self._most = generator.scraps
        self._side = generator.scrap_size
        self._digits = digits
        self._seed = seed
        self._stream = stream_number(generator.number, digits.split)
        if self._most and len(digits) < 2:
            raise DigitsError(f"There is one {digits.split} digit alone; its scraps are cut from others.")
        pixels = np.ascontiguousarray(digits.images).reshape(-1)
        self._frames = squares(pixels, DIGIT, DIGIT)
        self._scraps = squares(pixels, DIGIT, self._side)
        self._first, self._ways, self._cuts = _cuts(digits.images, self._side)

    def batch(self, indices: IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]``; labels and source are the target's."""
        base, shift, number = self._draw(indices)
        images = np.empty((len(indices), self._size, self._size), np.uint8)
        scrap, row, begin, cut = self._scraps_of(indices, base, number)
        # Scraps come in the order of (scrap, row), so that those of a chunk with one number are neighbours.
        firsts = np.arange(0, len(indices), CHUNK)
        wanted = np.arange(self._most)[:, None] * len(indices) + firsts
        starts = np.searchsorted(scrap * len(indices) + row, wanted.ravel())
        stops = np.append(starts, len(row))[1:]
        runs = np.stack([starts, stops], 1).reshape(*wanted.shape, 2)
        for chunk, first in enumerate(firsts.tolist()):
            part = slice(first, first + CHUNK)
            self._put_targets(images[part], base[part], shift[part])
            for start, stop in runs[:, chunk].tolist():
                self._add_scraps(images, begin[start:stop], cut[start:stop])
        return Batch(
            images=images,
            labels=self._digits.labels[base],
            source=base.astype(np.int32),
            shift=shift.astype(np.int8),
            scraps=number.astype(np.uint8),
        )

    def layers(self, indices: IndexArray) -> UInt8Array:
        """``[n, 1, size, size]``: the target alone."""
        base, shift, _ = self._draw(indices)
        return self._targets(base, shift)[:, None]

    def measures(self, batch: ArrayBatch) -> dict[str, FloatArray]:
        """Facts about each sample ``[n]``.

        The target is covered where the image is brighter than the target alone. White pixels of the target (255) are
        left out, for nothing is seen to be added to them.

        Raises:
            IndexError: A digit or a shift is out of range.
        """
        assert batch.source is not None and batch.shift is not None and batch.scraps is not None
        source, shift = batch.source.astype(np.int64), batch.shift.astype(np.int64)
        margin = (self._size - DIGIT) // 2
        if np.abs(shift).max(initial=0) > margin or not 0 <= source.min() <= source.max() < len(self._digits):
            raise IndexError("a digit or a shift is out of range")  # the target would be drawn into another image
        target = self._targets(source, shift)
        ink = (target > 0) & (target < 255)
        covered = ink & (batch.images > target)
        return {
            "ink (pixels)": (batch.images > 0).sum((1, 2)).astype(np.float64),
            "dy (pixels)": shift[:, 0].astype(np.float64),
            "dx (pixels)": shift[:, 1].astype(np.float64),
            "scraps": batch.scraps.astype(np.float64),
            "target covered (%)": 100 * covered.sum((1, 2)) / np.maximum(ink.sum((1, 2)), 1),
        }

    def scraps(self, indices: IndexArray) -> IndexArray:
        """``[m, 2]``: of every scrap of samples ``indices`` ``[n]``, its row in them and the digit it is cut from."""
        base, _, number = self._draw(indices)
        _, row, source, _, _ = self._drawn_scraps(indices, base, number)
        return np.stack([row, source], 1)

    def _draw(self, indices: IndexArray) -> tuple[IndexArray, IndexArray, IndexArray]:
        """Which target ``[n]``, its (dy, dx) ``[n, 2]``, and how many scraps ``[n]``."""
        place, many, _, _ = words(indices, seed=self._seed, stream=self._stream)
        margin = (self._size - DIGIT) // 2
        places = 2 * margin + 1
        shift = np.stack(np.divmod(integers(place, places * places), places), 1) - margin
        return indices % len(self._digits), shift, self._least + integers(many, self._most - self._least + 1)

    def _targets(self, base: IndexArray, shift: IndexArray) -> UInt8Array:
        """``[n, size, size]``: targets alone."""
        images = np.empty((len(base), self._size, self._size), np.uint8)
        self._put_targets(images, base, shift)
        return images

    def _put_targets(self, images: UInt8Array, base: IndexArray, shift: IndexArray) -> None:
        """Draws targets alone into ``[n, size, size]``."""
        images[...] = 0
        corner = shift + (self._size - DIGIT) // 2
        begin = (np.arange(len(base)) * self._size + corner[:, 0]) * self._size + corner[:, 1]
        squares(images.reshape(-1), self._size, DIGIT)[begin] = self._frames[base * FRAME]

    def _add_scraps(self, images: UInt8Array, begin: IndexArray, cut: IndexArray) -> None:
        """Adds scraps to ``[n, size, size]``, no two of them to one image.

        Args:
            images: All of them.
            begin: ``[m]`` the pixel of all images at a scrap's corner.
            cut: ``[m]`` the pixel of all digits at its corner.
        """
        every = squares(images.reshape(-1), self._size, self._side)
        total = saturating_add(every[begin].view(np.uint8), self._scraps[cut].view(np.uint8))
        every[begin] = total.view(every.dtype)

    def _scraps_of(
        self, indices: IndexArray, base: IndexArray, number: IndexArray
    ) -> tuple[IndexArray, IndexArray, IndexArray, IndexArray]:
        """``[m]`` each: which of an image's scraps it is, its row, and `_add_scraps`'s ``begin`` and ``cut``.

        First the first scrap of every sample that has one, in their order, then the second of every one, and so on.
        """
        scrap, row, source, way, place = self._drawn_scraps(indices, base, number)
        down, right = np.divmod(place, self._size - self._side + 1)
        begin = (row * self._size + down) * self._size + right
        return scrap, row, begin, source * FRAME + self._cuts[self._first[source] + way]

    def _drawn_scraps(
        self, indices: IndexArray, base: IndexArray, number: IndexArray
    ) -> tuple[IndexArray, IndexArray, IndexArray, IndexArray, IndexArray]:
        """``[m]`` each: which of an image's scraps it is, its row, its digit, the way it is cut, and its place."""
        scrap, row = np.nonzero(np.arange(self._most)[:, None] < number)
        which, where = (word[scrap, row] for word in self._scrap_words(indices))
        other = integers(which, len(self._digits) - 1)
        other += other >= base[row]  # all but the target's own
        places = (self._size - self._side + 1) ** 2
        way, place = np.divmod(integers(where, self._ways[other] * places), places)
        return scrap, row, other, way, place

    def _scrap_words(self, indices: IndexArray) -> tuple[Words, Words]:
        """``[scraps, n]`` twice: the two words of each of the most scraps; there may be one scrap more."""
        index = indices.astype(np.uint64)
        draws = np.arange(1, 1 + -(-self._most // 2), dtype=np.uint64)[:, None]
        counter = (index & MASK, index >> SHIFT, np.array(self._stream, np.uint64), draws)
        four = np.stack(philox(counter, (self._seed & 0xFFFFFFFF, self._seed >> 32)), 1)  # [draws, 4, n]
        which, where = (four[:, word::2].reshape(2 * len(draws), len(indices)) for word in (0, 1))
        return which, where


def _cuts(images: UInt8Array, side: int) -> tuple[IndexArray, IndexArray, npt.NDArray[np.int16]]:
    """The ways to cut a scrap out of each digit ``[m, 28, 28]``; out of a blank one only its middle.

    Returns:
        For each digit its first way, and how many it has. For each way, the pixel of the frame at the scrap's corner.
    """
    inked: npt.NDArray[np.bool_] = np.greater(images, 0)
    blank = ~np.logical_or.reduce(inked, (1, 2))
    inked[blank, DIGIT // 2, DIGIT // 2] = True
    ways = np.count_nonzero(inked, (1, 2)).astype(np.int64)
    frame = np.arange(FRAME, dtype=np.int16)
    down, right = (np.clip(middle - side // 2, 0, DIGIT - side) for middle in np.divmod(frame, DIGIT))
    corner = np.broadcast_to((down * DIGIT + right).astype(np.int16).reshape(DIGIT, DIGIT), inked.shape)
    return np.cumsum(ways) - ways, ways, corner[inked]
