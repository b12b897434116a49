"""Packed files: chunks of samples, inflated block by block and checked by their digests.

libhdf5 says only where the chunks lie; its filters never run. zlib inflates each chunk, up to the number of bytes that
it may have.
"""

import math
import os
import zlib
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from capsbench.data.columns import BLOCK, DIGEST_BYTES, DTYPES, block_count, block_digest, block_range
from capsbench.errors import DataFileError
from capsbench.files.layout import Extent
from capsbench.system import memory
from capsbench.system.disk import human_bytes
from capsbench.system.processes import in_order

CHUNK = 1024
"""Samples a chunk: a block has four."""
LARGEST_CHUNK = 2**24  # bytes of a packed chunk of 1,024 samples: an image of 128 x 128, or two layers of 90 x 90
LARGEST_RATIO = 1040  # deflate cannot make more than 1,032 bytes of one

NO_REPAIR = "A packed file cannot be repaired. Get it again, or pack the contiguous file again."

AT_HAND = 2**26  # bytes of blocks that threads inflate at once


@dataclass(frozen=True)
class PackedSamples:
    """The samples of a packed file, and a source for a contiguous one.

    Attributes:
        path: The file.
        extents: Where the chunks of its arrays lie.
        digests: The digests that it states for its blocks, concatenated.
    """

    path: Path
    extents: Mapping[str, Extent]
    digests: bytes

    def __len__(self) -> int:
        return self.extents["images"].shape[0]

    @property
    def nbytes(self) -> int:
        """The bytes of all samples, unpacked."""
        return sum(extent.shape[0] * extent.sample_bytes for extent in self.extents.values())

    def __call__(self, start: int, stop: int) -> Mapping[str, npt.NDArray[Any]]:
        """Samples ``start..stop-1``, as they are stored in a contiguous file.

        Args:
            start: The first sample of a block.
            stop: The first sample after that block.

        Raises:
            DataFileError: The block is damaged, or the file cannot be read.
        """
        if (start, stop) != block_range(start // BLOCK, len(self)):
            raise ValueError(f"Samples {start}..{stop - 1} of {self.path} are not a block.")
        return self.block(start // BLOCK)

    def block(self, block: int) -> dict[str, npt.NDArray[Any]]:
        """A block's arrays.

        Raises:
            DataFileError: It is damaged, or the file cannot be read.
        """
        start, stop = block_range(block, len(self))
        try:
            handle = os.open(self.path, os.O_RDONLY)
            try:
                arrays = {name: self._rows(handle, name, start, stop) for name in DTYPES if name in self.extents}
            finally:
                os.close(handle)
        except OSError as error:
            raise DataFileError(f"{self.path} cannot be read: {error.strerror}.") from None
        except (zlib.error, EOFError):
            raise self._damaged(block) from None
        if block_digest(arrays) != self.digests[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES]:
            raise self._damaged(block)
        return arrays

    def blocks(self) -> Generator[dict[str, npt.NDArray[Any]], None, None]:
        """Every block's arrays, in order.

        Raises:
            DataFileError: One is damaged, or the file cannot be read.
        """
        number = block_count(len(self))
        threads = max(1, min(os.cpu_count() or 1, AT_HAND * number // (3 * self.nbytes)))
        return in_order(self.block, number, threads)

    def load(self) -> dict[str, npt.NDArray[Any]]:
        """Every sample, in read-only arrays.

        Raises:
            DataFileError: A block is damaged, or the file cannot be read or does not fit into memory.
        """
        available = memory.available()
        if self.nbytes > available:
            raise self._too_large(f"only {human_bytes(available)} is")
        try:
            arrays = {name: np.empty(extent.shape, extent.dtype) for name, extent in self.extents.items()}
        except MemoryError:
            raise self._too_large("less is") from None
        with closing(self.blocks()) as blocks:
            for number, block in enumerate(blocks):
                start, stop = block_range(number, len(self))
                for name, rows in block.items():
                    arrays[name][start:stop] = rows
        for array in arrays.values():
            array.flags.writeable = False
        return arrays

    def _rows(self, handle: int, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        extent = self.extents[name]
        chunks = [_inflated(handle, extent, chunk) for chunk in range(start // CHUNK, -(-stop // CHUNK))]
        return np.concatenate(chunks)[: stop - start]  # without the padding of the last chunk

    def _damaged(self, block: int) -> DataFileError:
        start, stop = block_range(block, len(self))
        return DataFileError(f"{self.path} is damaged in block {block} (samples {start}..{stop - 1}). {NO_REPAIR}")

    def _too_large(self, available: str) -> DataFileError:
        return DataFileError(
            f"{self.path} is packed and needs {human_bytes(self.nbytes)} of memory; {available} available. "
            "Unpack it to disk: capsbench pack FILE OUT --undo"
        )


def _inflated(handle: int, extent: Extent, chunk: int) -> npt.NDArray[Any]:
    """A chunk's rows.

    Raises:
        zlib.error: It is not a deflated chunk of exactly its size.
        EOFError: The file was truncated since its header was read.
    """
    offset, length = extent.chunks[chunk]
    rows = min(CHUNK, extent.shape[0])
    size = rows * extent.sample_bytes
    deflated = os.pread(handle, length, offset)
    if len(deflated) < length:
        raise EOFError
    inflater = zlib.decompressobj()
    content = inflater.decompress(deflated, size + 1)  # one byte more shows that it is too long
    if len(content) != size or not inflater.eof or inflater.unused_data:
        raise zlib.error("not of its size")
    return np.frombuffer(content, extent.dtype).reshape(rows, *extent.shape[1:])


def chunk_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the chunks of a packed array; a small array is one chunk of its own size."""
    return (min(CHUNK, shape[0]), *shape[1:])


def packed_extent(shown: str, data: Any, creation: Any, size: int) -> Extent:
    """Where the chunks of an array lie, known to be harmless; libhdf5 reads their index only.

    Raises:
        DataFileError: The array is not stored as our packed files store it.
    """
    shape, dtype = data.shape, data.dtype
    chunk = chunk_shape(shape)
    if creation.get_chunk() != chunk or data.get_space().get_simple_extent_dims(True) != shape:
        raise DataFileError(f"{shown} is neither contiguous nor in chunks of {CHUNK:,} samples.")
    if creation.get_nfilters() != 1 or creation.get_filter(0)[0] != h5py.h5z.FILTER_DEFLATE:
        raise DataFileError(f"{shown} has other filters than deflate.")
    chunk_bytes = dtype.itemsize * math.prod(chunk)
    number = -(-shape[0] // CHUNK)
    if chunk_bytes > LARGEST_CHUNK:
        raise DataFileError(f"{shown} has chunks of {chunk_bytes:,} bytes; ours have at most {LARGEST_CHUNK:,}.")
    if number * chunk_bytes > LARGEST_RATIO * size:
        raise DataFileError(f"{shown} states {number * chunk_bytes:,} bytes, which {size:,} cannot unpack to.")
    found: list[Any] = []

    def collect(one: Any) -> bool | None:
        found.append(one)
        if len(found) > number:
            return True  # ends the iteration
        return None

    data.chunk_iter(collect)
    found.sort(key=lambda one: one.chunk_offset)
    starts = [(index * CHUNK, *(0 for _ in shape[1:])) for index in range(len(found))]
    right = len(found) == number and [one.chunk_offset for one in found] == starts
    if not right or any(one.filter_mask for one in found):
        raise DataFileError(f"{shown} lacks chunks, or has others than its own.")
    chunks = tuple((one.byte_offset, one.size) for one in found)
    if any(length > 2 * chunk_bytes + 64 or begin + length > size for begin, length in chunks):
        raise DataFileError(f"{shown} has chunks that do not fit the file, which was truncated or never complete.")
    if number * chunk_bytes > LARGEST_RATIO * sum(length for _, length in chunks):
        raise DataFileError(f"{shown} states {number * chunk_bytes:,} bytes, which its chunks cannot unpack to.")
    return Extent(0, shape, dtype, chunks)
