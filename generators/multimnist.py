"""Two digits of different classes on top of one another: MultiMNIST (Sabour et al. 2017, section 6)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from capsbench.contracts import INK_OVERLAP, ArrayBatch, Batch, Digits, FloatArray, IndexArray, UInt8Array
from capsbench.geometry import CHUNK, DIGIT, LARGEST_TABLE, ShiftTable, saturating_add
from capsbench.parameters import check_number
from capsbench.randomness import OtherClasses, integers, stream_number, words

DIGIT_BOX = 20
"""MNIST fits each digit into a box of 20x20 pixels, and centers it by its mass in the 28x28 frame."""

INK = 128
"""The least grey level (0.5 of white) of a pixel that counts as ink of its digit."""

LARGEST_MARGIN = (LARGEST_TABLE - DIGIT) // 2


@dataclass(frozen=True, kw_only=True)
class MultiMNIST:
    """Two digits of different classes, each shifted at random, added and clipped at 255.

    The base digit of sample i is digit i of the split, modulo their number; its partner is drawn, with replacement,
    from the digits of the other classes of the split: word 0 of draw 0. Each frame's corner lies at (margin + dy,
    margin + dx), dy and dx uniform over -shift..shift: word 1 places the base and word 2 the partner at one of the
    ``(2 shift + 1)**2`` places, row by row. Ink that leaves the canvas is cut.

    ``reuse`` gives all pairs of one base digit the same shift of the base, as the authors' code does: word 0 of draw 1,
    with the base digit's number for an index. The preset ``release`` is the authors' released setting.
    """

    shift: int = 4
    margin: int = 4
    reuse: bool = False

    version: ClassVar[int] = 1
    number: ClassVar[int] = 3
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"variants": 1000},
        "release": {"shift": 6, "reuse": True},
    }
    pairs: ClassVar[bool] = True
    motion: ClassVar[str] = "shift"

    def __post_init__(self) -> None:
        check_number("margin", self.margin, 0, LARGEST_MARGIN)
        check_number("shift", self.shift, 0, self.margin + DIGIT // 2)

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        side = DIGIT + 2 * self.margin
        return side, side

    def sampler(self, digits: Digits, seed: int) -> "MultiMNISTSampler":
        """Binds the parameters to source digits and a seed."""
        return MultiMNISTSampler(self, digits, seed)


class MultiMNISTSampler:
    """`MultiMNIST` bound to digits and a seed."""

    def __init__(self, generator: MultiMNIST, digits: Digits, seed: int) -> None:
        self._generator = generator
        self._digits = digits
        self._seed = seed
        self._stream = stream_number(generator.number, digits.split)
        self._table = ShiftTable(digits.images, size=generator.image_shape[0], shift=generator.shift)
        self._partners = OtherClasses(digits)

    def batch(self, indices: IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]``; column 0 is the base digit, column 1 its partner."""
        source, shift = self._draw(indices)
        side = self._generator.image_shape
        images = np.empty((len(indices), *side), np.uint8)
        offsets = self._offsets(source, shift)
        for start in range(0, len(indices), CHUNK):
            part = slice(start, start + CHUNK)
            base, partner = self._table.canvases(offsets[:, part])
            saturating_add(base, partner, out=images[part])
        return Batch(
            images=images,
            labels=self._digits.labels[source],
            source=source.astype(np.int32),
            shift=shift.astype(np.int8),
        )

    def layers(self, indices: IndexArray) -> UInt8Array:
        """``[n, 2, H, W]``: the base digit alone, and its partner alone."""
        source, shift = self._draw(indices)
        return self._table.canvases(self._offsets(source, shift).T)

    def measures(self, batch: ArrayBatch) -> dict[str, FloatArray]:
        """The overlap of each pair ``[n]`` in percent: of its 28x28 frames, of its 20x20 boxes, and of its ink.

        Overlap is the area of the intersection over the mean of the two areas; ink is every pixel of at least 128 (0.5
        of white) of a digit alone.

        Raises:
            IndexError: A digit or a shift is out of range.
        """
        assert batch.source is not None and batch.shift is not None
        shift = batch.shift.astype(np.int64)
        apart = np.abs(shift[:, 0] - shift[:, 1])  # [n, 2]
        source = batch.source.astype(np.int64)
        if np.abs(shift).max(initial=0) > self._generator.shift or source.min(initial=0) < 0:
            raise IndexError("a digit or a shift is out of range")  # the table would give another digit's pixels
        base, partner = self._table.canvases(self._offsets(source, shift)) >= INK
        both = (base & partner).sum((1, 2))
        mean = (base.sum((1, 2)) + partner.sum((1, 2))) / 2
        return {
            "overlap of frames (%)": 100 * np.prod(np.maximum(DIGIT - apart, 0), 1) / DIGIT**2,
            "overlap of boxes (%)": 100 * np.prod(np.maximum(DIGIT_BOX - apart, 0), 1) / DIGIT_BOX**2,
            INK_OVERLAP: 100 * both / np.maximum(mean, 1),
        }

    def _draw(self, indices: IndexArray) -> tuple[IndexArray, IndexArray]:
        """Which digits ``[n, 2]``, and their (dy, dx) ``[n, 2, 2]``."""
        base = indices % len(self._digits)
        partner_word, base_word, other_word, _ = words(indices, seed=self._seed, stream=self._stream)
        if self._generator.reuse:
            base_word, _, _, _ = words(base, seed=self._seed, stream=self._stream, draw=1)
        partner = self._partners.pick(self._digits.labels[base], partner_word)
        side = 2 * self._generator.shift + 1
        places = np.stack([integers(base_word, side * side), integers(other_word, side * side)], 1)
        shift = np.stack(np.divmod(places, side), 2) - self._generator.shift
        return np.stack([base, partner], 1), shift

    def _offsets(self, source: IndexArray, shift: IndexArray) -> IndexArray:
        """``[2, n]``: where in the table the canvases of the base digits begin, and those of their partners."""
        return self._table.offsets(source.T, shift[:, :, 0].T, shift[:, :, 1].T)
