"""The format of a data file: contiguous, uncompressed HDF5 unless it is packed, a shard's ends in its attributes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from capsbench.data.columns import DIGEST_BYTES, Column, block_count
from capsbench.spec import DataSpec

FORMAT = "capsbench"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Extent:
    """The bytes of an array in its file.

    Attributes:
        offset: Where they begin; 0 for an array in chunks.
        shape: The array's shape, the samples first.
        dtype: Its type.
        chunks: The offset and the number of bytes of each chunk; empty for a contiguous array.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[tuple[int, int], ...] = ()

    @property
    def sample_bytes(self) -> int:
        """Bytes a sample (a row)."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


@dataclass(frozen=True)
class Outline:
    """The contents of a file that is to be made.

    Attributes:
        spec: Everything that determines the samples.
        columns: The arrays.
        shard: Which samples of the spec; None for all of them.
    """

    spec: DataSpec
    columns: Sequence[Column]
    shard: range | None = None

    def __len__(self) -> int:
        return self.spec.count if self.shard is None else len(self.shard)

    @property
    def data_bytes(self) -> int:
        """The bytes of the file's data, without its header of some thousand."""
        return (
            len(self) * sum(column.sample_bytes for column in self.columns)
            + (block_count(len(self)) + 1) * DIGEST_BYTES
        )
