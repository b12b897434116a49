"""The data set: digits behind black stripes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from capsbench.contracts import ArrayBatch, Batch, Digits, FloatArray, IndexArray, UInt8Array
from capsbench.parameters import check_number
from capsbench.randomness import integers, stream_number, words

SIDE = 28


@dataclass(frozen=True, kw_only=True)
class Striped:
    """Digits behind black stripes: so many rows are black, drawn with replacement."""

    stripes: int = 3

    version: ClassVar[int] = 1
    number: ClassVar[int] = 1002  # of its random stream; what ships takes 1 to 255
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"none": {"stripes": 0}}
    pairs: ClassVar[bool] = False
    motion: ClassVar[str] = "shift"

    def __post_init__(self) -> None:
        check_number("stripes", self.stripes, 0, SIDE)

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return SIDE, SIDE

    def sampler(self, digits: Digits, seed: int) -> "StripedSampler":
        """Binds the parameters to source digits and a seed."""
        return StripedSampler(self, digits, seed)


class StripedSampler:
    """`Striped` bound to digits and a seed."""

    def __init__(self, generator: Striped, digits: Digits, seed: int) -> None:
        self._stripes = generator.stripes
        self._digits = digits
        self._seed = seed
        self._stream = stream_number(generator.number, digits.split)

    def batch(self, indices: IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]``; sample ``i`` shows digit ``i % n``."""
        source = indices % len(self._digits)
        images = self._digits.images[source].copy()
        for draw in range(self._stripes):
            word, *_ = words(indices, seed=self._seed, stream=self._stream, draw=draw)
            images[np.arange(len(indices)), integers(word, SIDE)] = 0
        return Batch(
            images=images,
            labels=self._digits.labels[source],
            source=source.astype(np.int32),
            shift=np.zeros((len(indices), 2), np.int8),
        )

    def layers(self, indices: IndexArray) -> UInt8Array:
        """``[n, 1, H, W]``: the images themselves."""
        return self.batch(indices).images[:, None]

    def measures(self, batch: ArrayBatch) -> dict[str, FloatArray]:
        """Facts about each sample ``[n]``, which `capsbench info` shows."""
        return {"ink (pixels)": (batch.images > 0).sum((1, 2)).astype(np.float64)}
