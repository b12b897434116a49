"""A digit between two others that are not to be classified: crowding, the harm done by neighbours without overlap."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from capsbench.contracts import ArrayBatch, Batch, Digits, FloatArray, IndexArray, UInt8Array
from capsbench.geometry import CHUNK, DIGIT, ink_boxes, saturating_add
from capsbench.parameters import check_choice, check_number
from capsbench.randomness import MASK, SHIFT, OtherClasses, Words, integers, philox, stream_number, words

FLANKERS = ("digits", "shuffled", "none")

WIDTH = 3 * DIGIT
NEAREST, FARTHEST = 14, 28
FARTHEST_BOX = 32
"""The largest distance of a frame from the strip's middle at which its central 20x20 box stays inside."""

BORDER = FARTHEST_BOX - DIGIT  # columns of a frame that may lie outside
DRAWS = DIGIT * DIGIT // 4  # four words each: one for every pixel of a frame
PAST_WORDS = 2**32


@dataclass(frozen=True, kw_only=True)
class Crowded:
    """A target near the middle of a strip of 28x84, with a flanker of another class on either side, or without.

    The target of sample i is digit i of the split, modulo their number; its frame's corner lies at column 28 + dx, dx
    uniform over -jitter..jitter: word 0 of draw 0. It does not move down or up, for the frame is as high as the strip.
    The flankers' frames lie ``spacing`` columns to the left and to the right of it. Each is drawn, with replacement
    and apart from the other, from the digits of the other classes of the split: words 1 and 2 of draw 0. All are added
    and clipped at 255. A sample has the same target, dx and flankers at every spacing and of every kind.

    ``flankers="shuffled"`` permutes the pixels of each flanker inside the bounding box of its ink, so that it keeps
    its place and its brightness, and the size of its box. The strokes are lost, but not all shape: a narrow upright 1
    stays a bar. Pixel k of the box, row by row, has word k mod 4 of draw 1 + k div 4, of the right flanker 197 + k div
    4; the pixels are put in the order of their words. ``flankers="none"`` shows the target alone.

    Flankers at the strip's ends may lose columns of their frames, but none of the 20x20 box in the middle that MNIST
    nominally fits a digit into: spacing + jitter is 32 at most. Digits are centered by their mass, so that at the
    largest of both a few lose a column of ink.
    """

    flankers: str = "digits"
    spacing: int = 20  # the boxes of 20x20 touch and do not overlap
    jitter: int = 4

    version: ClassVar[int] = 1
    number: ClassVar[int] = 4
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"alone": {"flankers": "none"}, "paper": {}}
    pairs: ClassVar[bool] = False
    motion: ClassVar[str] = "shift"

    def __post_init__(self) -> None:
        check_choice("kind of flankers", self.flankers, FLANKERS)
        check_number("spacing", self.spacing, NEAREST, FARTHEST)
        check_number("jitter", self.jitter, 0, FARTHEST_BOX - self.spacing)

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return DIGIT, WIDTH

    def sampler(self, digits: Digits, seed: int) -> "CrowdedSampler":
        """Binds the parameters to source digits and a seed."""
        return CrowdedSampler(self, digits, seed)


class CrowdedSampler:
    """`Crowded` bound to digits and a seed."""

    def __init__(self, generator: Crowded, digits: Digits, seed: int) -> None:
        self._generator = generator
        self._digits = digits
        self._seed = seed
        self._stream = stream_number(generator.number, digits.split)
        self._sides = () if generator.flankers == "none" else (0, 1)
        self._others = OtherClasses(digits) if self._sides else None
        self._boxes = ink_boxes(digits.images) if generator.flankers == "shuffled" else None

    def batch(self, indices: IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]``; labels and source are the target's."""
        base, flankers, dx = self._draw(indices)
        images = np.empty((len(indices), DIGIT, WIDTH), np.uint8)
        for start in range(0, len(indices), CHUNK):
            part = slice(start, start + CHUNK)
            strip = _placed(self._digits.images[base[part]], dx[part])
            for side in self._sides:
                away = (2 * side - 1) * self._generator.spacing
                frames = self._frames(flankers[part, side], indices[part], side)
                strip = saturating_add(strip, _placed(frames, dx[part] + away))
            images[part] = strip
        return Batch(
            images=images,
            labels=self._digits.labels[base],
            source=base.astype(np.int32),
            shift=np.stack([np.zeros_like(dx), dx], 1).astype(np.int8),
        )

    def layers(self, indices: IndexArray) -> UInt8Array:
        """``[n, 1, 28, 84]``: the target alone."""
        base, _, dx = self._draw(indices)
        return _placed(self._digits.images[base], dx)[:, None]

    def flankers(self, indices: IndexArray) -> UInt8Array:
        """``[n, 2]``: the classes of the left and of the right flanker; ``[n, 0]`` where there are none."""
        labels: UInt8Array = self._digits.labels[self._draw(indices)[1]]
        return labels

    def measures(self, batch: ArrayBatch) -> dict[str, FloatArray]:
        """Facts about each sample ``[n]``.

        The target is covered where the image is brighter than the target alone. White pixels of the target (255) are
        left out, for nothing is seen to be added to them.
        """
        assert batch.source is not None and batch.shift is not None
        target = _placed(self._digits.images[batch.source], batch.shift[:, 1].astype(np.int64))
        ink = (target > 0) & (target < 255)
        covered = ink & (batch.images > target)
        return {
            "ink (pixels)": (batch.images > 0).sum((1, 2)).astype(np.float64),
            "dx (pixels)": batch.shift[:, 1].astype(np.float64),
            "target covered (%)": 100 * covered.sum((1, 2)) / np.maximum(ink.sum((1, 2)), 1),
        }

    def _draw(self, indices: IndexArray) -> tuple[IndexArray, IndexArray, IndexArray]:
        """Which target ``[n]``, which flankers ``[n, 2]`` or ``[n, 0]``, and dx ``[n]``."""
        base = indices % len(self._digits)
        place, *drawn, _ = words(indices, seed=self._seed, stream=self._stream)
        dx = integers(place, 2 * self._generator.jitter + 1) - self._generator.jitter
        flankers = np.empty((len(indices), len(self._sides)), np.int64)
        if self._others:
            for side in self._sides:
                flankers[:, side] = self._others.pick(self._digits.labels[base], drawn[side])
        return base, flankers, dx

    def _frames(self, source: IndexArray, indices: IndexArray, side: int) -> UInt8Array:
        """``[n, 28, 28]``: the flankers of one side, their pixels shuffled for ``flankers="shuffled"``."""
        frames: UInt8Array = self._digits.images[source]
        if self._boxes is None:
            return frames
        top, left, height, width = self._boxes[source].T
        area = height * width
        keys = self._pixel_words(indices, int(area.max(initial=0)), side)
        inside = np.arange(keys.shape[1]) < area[:, None]
        keys[~inside] = PAST_WORDS
        order = np.argsort(keys, axis=1, kind="stable")
        sample, pixel = np.nonzero(inside)  # every pixel of every box

        def place(pixel: IndexArray) -> tuple[IndexArray, IndexArray, IndexArray]:
            down, right = np.divmod(pixel, width[sample])
            return sample, top[sample] + down, left[sample] + right

        shuffled = np.zeros_like(frames)
        shuffled[place(pixel)] = frames[place(order[sample, pixel])]
        return shuffled

    def _pixel_words(self, indices: IndexArray, count: int, side: int) -> Words:
        """``[n, count]``: a word for each pixel of the box of a flanker."""
        index = indices.astype(np.uint64)[:, None]
        draws = np.arange(1 + side * DRAWS, 1 + side * DRAWS + -(-count // 4), dtype=np.uint64)
        counter = (index & MASK, index >> SHIFT, np.full_like(index, self._stream), draws)
        four = philox(counter, (self._seed & 0xFFFFFFFF, self._seed >> 32))  # each [n, draws]
        return np.stack(four, 2).reshape(len(index), -1)[:, :count]


def _placed(frames: UInt8Array, dx: IndexArray) -> UInt8Array:
    """``[n, 28, 84]``: frames ``[n, 28, 28]`` with their corners at column 28 + dx; what leaves the strip is cut."""
    stride = WIDTH + 2 * BORDER
    wide = np.zeros((len(frames), DIGIT, stride), np.uint8)
    row = f"V{DIGIT}"  # of a frame, as a whole; each that begins anywhere in a row of the strip can be written
    begins = np.ndarray((*wide.shape[:2], stride - DIGIT + 1), row, buffer=wide, strides=wide.strides)
    begins[np.arange(len(frames))[:, None], np.arange(DIGIT), BORDER + DIGIT + dx[:, None]] = frames.view(row)[..., 0]
    return np.ascontiguousarray(wide[:, :, BORDER:-BORDER])
