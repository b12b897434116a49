"""A digit under a random affine map, in the manner of affNIST (Tieleman 2013)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from capsbench.contracts import ArrayBatch, Batch, Digits, FloatArray, IndexArray, UInt8Array
from capsbench.geometry import (
    DIGIT,
    LARGEST_CANVAS,
    WARP_CANVAS,
    InkPoints,
    WarpTable,
    affine_matrix,
    inverse_coefficients,
)
from capsbench.parameters import Range, check_number, check_range
from capsbench.randomness import Words, stream_number, uniforms, words

FACTORS = ("rotation", "shear", "scale_y", "scale_x", "dy", "dx")
"""The columns of a transform; degrees, a ratio, two factors, pixels."""


@dataclass(frozen=True, kw_only=True)
class AffNIST:
    """A digit under a random affine map, all of its ink on the canvas.

    Rotation (degrees), shear and the scales of x and of y are uniform over their ranges, independently: words 0 to 3
    of draw 0 give rotation, shear, scale_y, scale_x. Then the translation is uniform over all positions at which no
    ink leaves the canvas: words 0 and 1 of draw 1 give dy and dx. `capsbench.geometry` states the convention; the
    parameters are rounded to float32 before use, so that what the file says is what was drawn.

    The ranges are affNIST's as its author describes them, not checked against his files.
    """

    rotation: Range = (-20.0, 20.0)
    shear: Range = (-0.2, 0.2)
    scale: Range = (0.8, 1.2)
    size: int = 40  # WARP_CANVAS, as a number: `capsbench list` reads it without importing this file

    version: ClassVar[int] = 1
    number: ClassVar[int] = 2
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"variants": 32}}
    pairs: ClassVar[bool] = False
    motion: ClassVar[str] = "transform"
    unwritten: ClassVar[Mapping[str, Any]] = {"size": WARP_CANVAS}

    def __post_init__(self) -> None:
        check_range("rotation", self.rotation, -180, 180)
        check_range("shear", self.shear, -2, 2)
        check_range("scale", self.scale, 0.25, 4)
        check_number("size", self.size, DIGIT, LARGEST_CANVAS)

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size, self.size

    def sampler(self, digits: Digits, seed: int) -> "AffNISTSampler":
        """Binds the parameters to source digits and a seed."""
        return AffNISTSampler(self, digits, seed)


class AffNISTSampler:
    """`AffNIST` bound to digits and a seed."""

    def __init__(self, generator: AffNIST, digits: Digits, seed: int) -> None:
        self._generator = generator
        self._digits = digits
        self._seed = seed
        self._stream = stream_number(generator.number, digits.split)
        self._table = WarpTable(digits.images, generator.size)
        self._ink = InkPoints(digits.images, generator.size)

    def batch(self, indices: IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]``."""
        source = indices % len(self._digits)
        transform = self.transforms(indices)
        return Batch(
            images=self._table.warp(source, inverse_coefficients(transform.astype(np.float64), self._generator.size)),
            labels=self._digits.labels[source],
            source=source.astype(np.int32),
            transform=transform,
        )

    def layers(self, indices: IndexArray) -> UInt8Array:
        """``[n, 1, size, size]``: the images themselves."""
        layers: UInt8Array = self.batch(indices).images[:, None]
        return layers

    def measures(self, batch: ArrayBatch) -> dict[str, FloatArray]:
        """Facts about each sample ``[n]``; ink is cut (1 or 0) where no translation keeps all of it on the canvas."""
        assert batch.transform is not None and batch.source is not None
        transform = batch.transform.astype(np.float64)
        a, b, c, d = affine_matrix(transform)
        source = batch.source.astype(np.int64)
        (low_x, high_x), (low_y, high_y) = self._ink.interval(source, a, b), self._ink.interval(source, c, d)
        return {
            "ink (pixels)": (batch.images > 0).sum((1, 2)).astype(np.float64),
            "ink is cut": ((low_x > high_x) | (low_y > high_y)).astype(np.float64),
            **dict(zip(FACTORS, transform.T, strict=True)),
        }

    def transforms(self, indices: IndexArray) -> npt.NDArray[np.float32]:
        """``[n, 6]`` float32 in the order of `FACTORS`: how samples ``indices`` ``[n]`` are warped."""
        source = indices % len(self._digits)
        transform = np.zeros((len(indices), len(FACTORS)), np.float32)
        rotation, shear, scale_y, scale_x = words(indices, seed=self._seed, stream=self._stream)
        transform[:, 0] = uniforms(rotation, *self._generator.rotation)
        transform[:, 1] = uniforms(shear, *self._generator.shear)
        transform[:, 2] = uniforms(scale_y, *self._generator.scale)
        transform[:, 3] = uniforms(scale_x, *self._generator.scale)
        a, b, c, d = affine_matrix(transform.astype(np.float64))
        dy, dx, _, _ = words(indices, seed=self._seed, stream=self._stream, draw=1)
        transform[:, 4] = _translation(dy, *self._ink.interval(source, c, d))
        transform[:, 5] = _translation(dx, *self._ink.interval(source, a, b))
        return transform


def _translation(word: Words, low: FloatArray, high: FloatArray) -> FloatArray:
    """Uniform over low..high, and the midpoint where that interval is empty."""
    return np.where(low <= high, uniforms(word, low, high), (low + high) / 2)
