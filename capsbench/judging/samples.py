"""The samples of a test as a file holds them: with a spec, columns and a root digest, whatever they are drawn from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import IndexArray, UInt8Array
from capsbench.data.columns import DTYPES, Column, block_count, block_digest, block_range, root_digest
from capsbench.data.samples import Samples, Subset
from capsbench.spec import DataSpec


@dataclass(frozen=True)
class Facts:
    """What scores are compared with.

    Attributes:
        digest: The root digest of the samples' file, in hexadecimal.
        labels: ``[N]`` or ``[N, 2]`` uint8.
        source: ``[N]`` or ``[N, 2]`` int32, the digits that each sample shows.
    """

    digest: str
    labels: UInt8Array
    source: npt.NDArray[np.int32]


@dataclass(frozen=True)
class SamplesFile:
    """The samples of a test as a file holds them.

    Attributes:
        samples: A file, a stream, or a subset of one.
    """

    samples: Samples

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def spec(self) -> DataSpec:
        """The spec of the samples; that of a subset names its samples, so that nobody takes a whole set for it."""
        spec = self.samples.spec
        if not isinstance(self.samples, Subset):
            return spec
        rows = hashlib.sha256(self.samples.rows.astype("<i8").tobytes()).hexdigest()
        return spec.some(rows, len(self))

    @cached_property
    def columns(self) -> list[Column]:
        """The arrays, in the order of the digests."""
        first = self._arrays(np.arange(1))
        return [Column(name, np.dtype(DTYPES[name]), first[name].shape[1:]) for name in DTYPES if name in first]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height and width in pixels."""
        return self.columns[0].shape

    def __call__(self, start: int, stop: int) -> Mapping[str, npt.NDArray[Any]]:
        """Samples ``start..stop-1`` as they are stored."""
        arrays = self._arrays(np.arange(start, stop))
        return {name: np.ascontiguousarray(array, DTYPES[name]) for name, array in arrays.items()}

    def _arrays(self, rows: IndexArray) -> dict[str, npt.NDArray[Any]]:
        batch = self.samples.batch(rows)
        found = {name: getattr(batch, name) for name in DTYPES if name != "layers"}
        if self.spec.layers:
            layers = self.samples.layers(rows)
            found["layers"] = layers if batch.labels.ndim == 2 else layers[:, 0]  # no axis for a single digit
        return {name: array for name, array in found.items() if array is not None}

    @cached_property
    def facts(self) -> Facts:
        """The digest that the file has, and the labels; every sample is drawn once for them."""
        digests, labels, source = [], [], []
        for block in range(block_count(len(self))):
            arrays = self(*block_range(block, len(self)))
            digests.append(block_digest(arrays))
            labels.append(arrays["labels"])
            source.append(arrays["source"])
        root = root_digest(self.spec.to_json(), b"".join(digests)).hex()
        return Facts(root, np.concatenate(labels), np.concatenate(source).astype(np.int32))
