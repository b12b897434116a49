"""What stands in a data file and where: the data sets, their blocks, and the digests over them.

A file is contiguous, uncompressed HDF5. A block is 4,096 samples; its digest is the SHA-256 of its bytes of images,
labels, layers (if any), source, and shift or transform, in that order, C order, little-endian. The root digest is the
SHA-256 of the spec as UTF-8 and then the block digests. A shard holds a run of a spec's samples, with blocks of its
own; where it starts and stops stands in its attributes, and goes into its root digest after the spec.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import Generator, IndexArray, Sampler
from capsbench.errors import ParameterError
from capsbench.spec import DataSpec

FORMAT = "capsbench"
FORMAT_VERSION = 1
BLOCK = 4096
DIGEST_BYTES = 32
LONGEST_SEARCH = 100_000  # numbers of shards that are tried

KINDS = {"images": "u1", "labels": "u1", "layers": "u1", "source": "<i4", "shift": "i1", "transform": "<f4"}
"""Every data set of samples and its type, in the order in which a block's digest takes them."""


@dataclass(frozen=True)
class Column:
    """One data set of samples: its name, its type, and the shape of one sample."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def sample_bytes(self) -> int:
        """Bytes a sample."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Place:
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


def columns(*, image_shape: tuple[int, int], pairs: bool, motion: str, layers: bool) -> list[Column]:
    """The data sets of a file, in the order of its digests.

    Args:
        image_shape: Height and width in pixels.
        pairs: Whether an image shows two digits.
        motion: ``"shift"`` or ``"transform"``.
        layers: Whether each digit alone is kept.
    """
    digits = (2,) if pairs else ()
    shapes: dict[str, tuple[int, ...]] = {"images": image_shape, "labels": digits, "source": digits}
    if layers:
        shapes["layers"] = (*digits, *image_shape)
    shapes[motion] = (*digits, 2) if motion == "shift" else (6,)
    return [Column(name, np.dtype(kind), shapes[name]) for name, kind in KINDS.items() if name in shapes]


def columns_of(generator: Generator, spec: DataSpec) -> list[Column]:
    """The data sets of a file of a spec."""
    return columns(
        image_shape=generator.image_shape, pairs=generator.pairs, motion=generator.motion, layers=spec.layers
    )


def block_count(count: int) -> int:
    """How many blocks hold ``count`` samples."""
    return -(-count // BLOCK)


def block_range(block: int, count: int) -> tuple[int, int]:
    """The first sample of a block, and the one past its last."""
    return block * BLOCK, min((block + 1) * BLOCK, count)


def shard_range(index: int, shards: int, count: int) -> range | None:
    """Which of ``count`` samples shard ``index`` of ``shards`` holds; None if it is the only one, and holds all.

    Raises:
        ParameterError: There is no such shard, or more shards than samples.
    """
    if not 0 <= index < shards:
        raise ParameterError(
            f"Shard {index}/{shards} was asked for; shards of {shards} are 0/{shards} to {shards - 1}/{shards}."
        )
    if shards > count:
        raise ParameterError(f"{shards:,} shards were asked for, of {count:,} samples; ask for {count:,} at most.")
    return None if shards == 1 else range(index * count // shards, (index + 1) * count // shards)


def shard_counts(shards: Sequence[range], count: int) -> Iterator[int]:
    """Into how many shards ``count`` samples may have been cut, for all of these to be among them; the fewest first.

    Of tiny shards of a huge data set there are too many answers, and none is given.
    """
    least = max((count // (len(shard) + 1) for shard in shards), default=2)
    most = min((count // max(len(shard) - 1, 1) for shard in shards), default=0)
    if most - least > LONGEST_SEARCH:
        return
    for number in range(max(least, 2), min(most, count) + 1):
        if all(shard_index(shard, number, count) is not None for shard in shards):
            yield number


def shard_index(shard: range, shards: int, count: int) -> int | None:
    """Which of so many shards holds just these of ``count`` samples; None if none does."""
    index = -(-shard.start * shards // count)
    return index if index < shards and shard_range(index, shards, count) == shard else None


def shard_name(shard: range, count: int) -> str | None:
    """``"3/7"``, the shard of ``count`` samples that holds these; None if none does, or several might."""
    found = [number for number, _ in zip(shard_counts([shard], count), range(2), strict=False)]
    return f"{shard_index(shard, found[0], count)}/{found[0]}" if len(found) == 1 else None


def checked_indices(indices: Sequence[int] | IndexArray, count: int) -> IndexArray:
    """Which samples were asked for, as an array ``[n]``; a file and a stream refuse the same.

    Args:
        indices: Whole numbers, in any order, twice where they come twice.
        count: How many samples there are.

    Raises:
        TypeError: They are no list of whole numbers: a mask or a fraction would quietly give other samples.
        IndexError: There are not as many samples; a negative index does not count from the end.
    """
    chosen = np.asarray(indices)
    if chosen.size and chosen.dtype.kind not in "iu":  # an empty list is of float64
        way_out = "; of a mask take np.flatnonzero(mask)" if chosen.dtype.kind == "b" else ""
        raise TypeError(f"Samples are asked for by whole numbers; found {chosen.dtype}{way_out}.")
    if chosen.ndim != 1:
        raise TypeError(f"Samples are asked for by a list of whole numbers; found an array of shape {chosen.shape}.")
    if chosen.size and not 0 <= int(chosen.min()) <= int(chosen.max()) < count:
        raise IndexError(f"Samples {chosen.min()}..{chosen.max()} were asked for; there are 0..{count - 1}.")
    return chosen.astype(np.int64)


def stored_arrays(columns: Iterable[Column], sampler: Sampler, indices: IndexArray) -> dict[str, npt.NDArray[Any]]:
    """Samples ``indices`` ``[n]`` as they are stored: contiguous, of the stored types, no axis for a lone digit."""
    batch = sampler.batch(indices)
    arrays = {}
    for column in columns:
        array = sampler.layers(indices) if column.name == "layers" else getattr(batch, column.name)
        arrays[column.name] = np.ascontiguousarray(array, column.dtype).reshape(len(indices), *column.shape)
    return arrays


def block_digest(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The SHA-256 of a block's arrays, taken in the order of `KINDS`."""
    digest = hashlib.sha256()
    for name in KINDS:
        if name in arrays:
            digest.update(arrays[name].data)
    return digest.digest()


def root_digest(spec: str, digests: bytes, shard: range | None = None) -> bytes:
    """The SHA-256 of the spec's canonical text, of a shard's start and stop, and then the block digests."""
    extent = "" if shard is None else f"\n{shard.start} {shard.stop}\n"
    return hashlib.sha256((spec + extent).encode() + digests).digest()
