"""The arrays that a data set consists of, their blocks, and the digests over them.

A block is 4,096 samples; its digest is the SHA-256 of its bytes of images, labels, layers (if any), source, shift or
transform, and scraps (if any), in that order, C order, little-endian. The root digest is the SHA-256 of the spec as
UTF-8 and then the block digests. A shard holds a run of a spec's samples, with blocks of its own; its start and stop go
into its root digest after the spec.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import Generator, IndexArray, Sampler
from capsbench.spec import DataSpec

BLOCK = 4096
DIGEST_BYTES = 32

DTYPES = {
    "images": "u1", "labels": "u1", "layers": "u1", "source": "<i4", "shift": "i1", "transform": "<f4", "scraps": "u1",
}  # fmt: skip
"""Every column and its type, in the order of a block's digest."""

EXTRAS = ("scraps",)
"""Columns that only some generators have, one number a sample: their ``extras``."""


@dataclass(frozen=True)
class Column:
    """One array of a data set: its name, its type, and the shape of one sample."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def sample_bytes(self) -> int:
        """Bytes a sample."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


def columns(
    *, image_shape: tuple[int, int], pairs: bool, motion: str, layers: bool, extras: Iterable[str] = ()
) -> list[Column]:
    """The columns of a data set, in the order of its digests.

    Args:
        image_shape: Height and width in pixels.
        pairs: Whether an image shows two digits.
        motion: ``"shift"`` or ``"transform"``.
        layers: Whether the file keeps each digit alone.
        extras: Which of `EXTRAS` there are.
    """
    digits = (2,) if pairs else ()
    shapes: dict[str, tuple[int, ...]] = {"images": image_shape, "labels": digits, "source": digits}
    if layers:
        shapes["layers"] = (*digits, *image_shape)
    shapes[motion] = (*digits, 2) if motion == "shift" else (6,)
    shapes |= dict.fromkeys(extras, ())
    return [Column(name, np.dtype(dtype), shapes[name]) for name, dtype in DTYPES.items() if name in shapes]


def columns_of(generator: Generator, spec: DataSpec) -> list[Column]:
    """The columns of a spec."""
    return columns(
        image_shape=generator.image_shape,
        pairs=generator.pairs,
        motion=generator.motion,
        layers=spec.layers,
        extras=getattr(generator, "extras", ()),
    )


def block_count(count: int) -> int:
    """The number of blocks of ``count`` samples."""
    return -(-count // BLOCK)


def block_range(block: int, count: int) -> tuple[int, int]:
    """The first sample of a block, and the first after it."""
    return block * BLOCK, min((block + 1) * BLOCK, count)


def stored_arrays(columns: Iterable[Column], sampler: Sampler, indices: IndexArray) -> dict[str, npt.NDArray[Any]]:
    """Samples ``indices`` ``[n]`` as they are stored: contiguous, of the stored types, no axis for a single digit."""
    batch = sampler.batch(indices)
    arrays = {}
    for column in columns:
        array = sampler.layers(indices) if column.name == "layers" else getattr(batch, column.name)
        arrays[column.name] = np.ascontiguousarray(array, column.dtype).reshape(len(indices), *column.shape)
    return arrays


def block_digest(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The SHA-256 of a block's arrays, in the order of `DTYPES`."""
    digest = hashlib.sha256()
    for name in DTYPES:
        if name in arrays:
            digest.update(arrays[name].data)
    return digest.digest()


def root_digest(spec: str, digests: bytes, shard: range | None = None) -> bytes:
    """The SHA-256 of the spec's canonical text, a shard's start and stop, and the block digests."""
    ends = "" if shard is None else f"\n{shard.start} {shard.stop}\n"
    return hashlib.sha256((spec + ends).encode() + digests).digest()
