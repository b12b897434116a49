"""A digit at a random place on a black canvas: the training data of the paper's affNIST networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from capsbench.contracts import ArrayBatch, Batch, Digits, FloatArray, IndexArray, UInt8Array
from capsbench.errors import ParameterError
from capsbench.geometry import DIGIT, LARGEST_CANVAS, LARGEST_TABLE, Frames, ShiftTable
from capsbench.parameters import check_number
from capsbench.randomness import integers, stream_number, words

FRAME_LEFT_OVER = DIGIT // 2
"""The part of the digit's frame that stays on the canvas at the largest shift."""


@dataclass(frozen=True, kw_only=True)
class Padded:
    """A digit at a random place on a black canvas.

    Its 28x28 frame's corner lies at (m + dy, m + dx), ``m = (size - 28) / 2`` the margin, dy and dx uniform over
    -shift..shift: word 0 of draw 0 picks one of the ``(2 shift + 1)**2`` places, row by row. ``size=28, shift=2`` is
    plain MNIST with the paper's augmentation (Sabour et al. 2017, section 5); ink that leaves the canvas is cut.
    """

    size: int = 40
    shift: int = 6

    version: ClassVar[int] = 1
    number: ClassVar[int] = 1
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"centered": {"shift": 0}, "paper": {}}
    pairs: ClassVar[bool] = False
    motion: ClassVar[str] = "shift"

    def __post_init__(self) -> None:
        check_number("size", self.size, DIGIT, LARGEST_CANVAS)
        if self.size % 2:
            raise ParameterError(f"size must be even, so that the digit can be centered, got {self.size}.")
        check_number("shift", self.shift, 0, (self.size - DIGIT) // 2 + FRAME_LEFT_OVER)

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size, self.size

    def sampler(self, digits: Digits, seed: int) -> "PaddedSampler":
        """Binds the parameters to source digits and a seed."""
        return PaddedSampler(self, digits, seed)


class PaddedSampler:
    """`Padded` bound to digits and a seed."""

    def __init__(self, generator: Padded, digits: Digits, seed: int) -> None:
        self._digits = digits
        self._seed = seed
        self._shift = generator.shift
        self._stream = stream_number(generator.number, digits.split)
        table = ShiftTable if generator.size <= LARGEST_TABLE else Frames
        self._table = table(digits.images, size=generator.size, shift=generator.shift)

    def batch(self, indices: IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]``."""
        source = indices % len(self._digits)
        word, _, _, _ = words(indices, seed=self._seed, stream=self._stream)
        side = 2 * self._shift + 1
        dy, dx = np.divmod(integers(word, side * side), side)
        dy, dx = dy - self._shift, dx - self._shift
        return Batch(
            images=self._table.place(source, dy, dx),
            labels=self._digits.labels[source],
            source=source.astype(np.int32),
            shift=np.stack([dy, dx], 1).astype(np.int8),
        )

    def layers(self, indices: IndexArray) -> UInt8Array:
        """``[n, 1, size, size]``: the images themselves."""
        layers: UInt8Array = self.batch(indices).images[:, None]
        return layers

    def measures(self, batch: ArrayBatch) -> dict[str, FloatArray]:
        """Facts about each sample ``[n]``."""
        assert batch.shift is not None
        return {
            "ink (pixels)": (batch.images > 0).sum((1, 2)).astype(np.float64),
            "dy (pixels)": batch.shift[:, 0].astype(np.float64),
            "dx (pixels)": batch.shift[:, 1].astype(np.float64),
        }
