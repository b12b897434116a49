"""What a data file holds and where: contiguous, uncompressed HDF5, unless it is packed.

A shard's start and stop stand in the file's attributes.
"""

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
    """Where the bytes of a data set lie in its file.

    Attributes:
        offset: Where they begin; 0 for one in chunks.
        shape: Its shape, the samples first.
        dtype: Its type.
        chunks: Where each chunk of a packed one begins, and how many bytes it has there; empty for a contiguous one.
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
    """What a file is to hold.

    Attributes:
        spec: Everything that determines the samples.
        columns: The data sets of samples.
        shard: Which samples of the spec; None for all of them.
    """

    spec: DataSpec
    columns: Sequence[Column]
    shard: range | None = None

    def __len__(self) -> int:
        return self.spec.count if self.shard is None else len(self.shard)

    @property
    def data_bytes(self) -> int:
        """The bytes of the file's data; its header adds some thousand."""
        return (
            len(self) * sum(column.sample_bytes for column in self.columns)
            + (block_count(len(self)) + 1) * DIGEST_BYTES
        )
