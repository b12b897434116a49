"""A data set of one's own: digits under white speckles."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from capsbench.contracts import ArrayBatch, Batch, Digits, FloatArray, IndexArray, UInt8Array
from capsbench.parameters import check_number
from capsbench.randomness import integers, stream_number, words

SIDE = 28


@dataclass(frozen=True, kw_only=True)
class Speckled:
    """Digits under white speckles: so many pixels, drawn with replacement, are white."""

    speckles: int = 20

    version: ClassVar[int] = 1  # raise it when the images change: it stands in every spec
    number: ClassVar[int] = 1001  # of its random stream; what ships takes 1 to 255
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"clean": {"speckles": 0}}
    pairs: ClassVar[bool] = False
    motion: ClassVar[str] = "shift"

    def __post_init__(self) -> None:
        check_number("speckles", self.speckles, 0, SIDE * SIDE)

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return SIDE, SIDE

    def sampler(self, digits: Digits, seed: int) -> "SpeckledSampler":
        """Binds the parameters to source digits and a seed."""
        return SpeckledSampler(self, digits, seed)


class SpeckledSampler:
    """`Speckled` bound to digits and a seed: sample ``i`` depends on ``i`` alone."""

    def __init__(self, generator: Speckled, digits: Digits, seed: int) -> None:
        self._speckles = generator.speckles
        self._digits = digits
        self._seed = seed
        self._stream = stream_number(generator.number, digits.split)

    def batch(self, indices: IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]``; sample ``i`` shows digit ``i % n``, so that any prefix is balanced."""
        source = indices % len(self._digits)
        images = self._digits.images[source].reshape(len(indices), -1).copy()
        for draw in range(-(-self._speckles // 4)):  # a draw gives four random words
            four = words(indices, seed=self._seed, stream=self._stream, draw=draw)
            for word in four[: self._speckles - 4 * draw]:
                images[np.arange(len(indices)), integers(word, SIDE * SIDE)] = 255
        return Batch(
            images=images.reshape(-1, SIDE, SIDE),
            labels=self._digits.labels[source],
            source=source.astype(np.int32),
            shift=np.zeros((len(indices), 2), np.int8),
        )

    def layers(self, indices: IndexArray) -> UInt8Array:
        """``[n, 1, H, W]``: each digit alone."""
        return self._digits.images[indices % len(self._digits)][:, None]

    def measures(self, batch: ArrayBatch) -> dict[str, FloatArray]:
        """Facts about each sample ``[n]``, which `capsbench info` shows."""
        return {"white (pixels)": (batch.images == 255).sum((1, 2)).astype(np.float64)}
