"""Crops of CIFAR-10's images: at random places and mirrored at random to train on, in the centre to select and test."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from capsbench.contracts import ArrayBatch, Batch, Digits, IndexArray, UInt8Array
from capsbench.data.cifar10_made import SIDE
from capsbench.data.samples import checked_indices
from capsbench.errors import ParameterError
from capsbench.parameters import check_number, check_seed
from capsbench.randomness import integers, stream_number, words
from capsbench.spec import DataSpec

NAME, VERSION = "cifar10", 1
NUMBER = 10
"""Of its random streams, see `capsbench.randomness.stream_number`; no data set that ships has it."""


@dataclass(frozen=True)
class Crops:
    """Square crops of images, as training and evaluation use a data set; a sample depends on its index alone.

    Sample i shows image ``i % n``, n the number of images. In the centre, a crop's corner is ``((32 - size) // 2)``
    pixels from the top and from the left. At random, word 0 of draw 0 of the counter (i, stream, 0) picks one of the
    ``(33 - size)**2`` corners, row by row, and word 1 whether left and right are exchanged.

    Convention:
        A crop's corner is at row dy and column dx of the image, both from 0, y down, x right. It is cut first and
        mirrored then.

    Attributes:
        images: ``[n, 3, 32, 32]`` uint8 with their labels.
        size: Side of a crop in pixels, 1..32.
        random: Whether places and mirroring are drawn.
        variants: Samples for each image.
        seed: 0..2**64-1.
    """

    images: Digits
    size: int
    random: bool
    variants: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("size", self.size, 1, SIDE)
        check_number("variants", self.variants, 1, 2**20)
        check_seed(self.seed)

    @cached_property
    def spec(self) -> DataSpec:
        """Everything that determines the samples."""
        return DataSpec(
            generator=NAME,
            version=VERSION,
            split=self.images.split,
            seed=self.seed,
            count=len(self),
            parameters={"size": self.size, "random": self.random},
            layers=False,
            digits=self.images.sha256,
        )

    def __len__(self) -> int:
        return len(self.images) * self.variants

    def batch(self, indices: IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]``: images ``[n, 3, size, size]``, and where they were cut as ``shift`` (dy, dx)."""
        indices = checked_indices(indices, len(self))
        source = indices % len(self.images)
        corners, mirrored = self._drawn(indices)
        dy, dx = np.divmod(corners, self._room)
        windows = np.lib.stride_tricks.sliding_window_view(self.images.images, (self.size, self.size), (2, 3))
        images: UInt8Array = windows[source, :, dy, dx]  # a copy
        images[mirrored] = images[mirrored, ..., ::-1]
        return Batch(
            images=images,
            labels=self.images.labels[source],
            source=source.astype(np.int32),
            shift=np.stack([dy, dx], 1).astype(np.int8),
        )

    def layers(self, indices: IndexArray) -> UInt8Array:
        """There are none: an image of colours shows no digits that could stand alone."""
        raise ParameterError("Images of colours have no layers.")

    @property
    def _room(self) -> int:
        """Places of a crop's corner along a side."""
        return SIDE - self.size + 1

    def _drawn(self, indices: IndexArray) -> tuple[IndexArray, "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]"]:
        """The number of each sample's corner, row by row, and whether the sample is mirrored."""
        if not self.random:
            centre = (SIDE - self.size) // 2
            return np.full(len(indices), centre * self._room + centre), np.zeros(len(indices), np.bool_)
        stream = stream_number(NUMBER, self.images.split)
        place, mirror, _, _ = words(indices, seed=self.seed, stream=stream)
        return integers(place, self._room**2), integers(mirror, 2).astype(np.bool_)
