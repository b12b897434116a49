"""A plug-in for the tests: the smallest data set, model and suite that the bench takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from capsbench.contracts import ArrayBatch, Batch, Digits, FloatArray, IndexArray, UInt8Array


@dataclass(frozen=True, kw_only=True)
class Blank:
    """Images of one grey level. They show nothing."""

    grey: int = 0

    version: ClassVar[int] = 3
    number: ClassVar[int] = 1000
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"white": {"grey": 255, "variants": 2}}
    pairs: ClassVar[bool] = False
    motion: ClassVar[str] = "shift"

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return 28, 28

    def sampler(self, digits: Digits, seed: int) -> "BlankSampler":
        """Binds the parameters to source digits and a seed."""
        return BlankSampler(self.grey, digits)


class BlankSampler:
    """`Blank` bound to digits."""

    def __init__(self, grey: int, digits: Digits) -> None:
        self._grey = grey
        self._digits = digits

    def batch(self, indices: IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]``."""
        source = indices % len(self._digits)
        return Batch(
            images=np.full((len(indices), 28, 28), self._grey, np.uint8),
            labels=self._digits.labels[source],
            source=source.astype(np.int32),
            shift=np.zeros((len(indices), 2), np.int8),
        )

    def layers(self, indices: IndexArray) -> UInt8Array:
        """``[n, 1, 28, 28]``."""
        return np.asarray(self.batch(indices).images[:, None])

    def measures(self, batch: ArrayBatch) -> dict[str, FloatArray]:
        """Nothing."""
        return {}


class Constant:
    """Always answers the same."""


class Nothing:
    """Measures nothing."""

    models: ClassVar[Sequence[str]] = ()
