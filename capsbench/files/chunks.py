"""The chunks of a packed file: how large they are, and where they lie, known to be harmless."""

import math
from typing import Any

import h5py

from capsbench.errors import DataFileError
from capsbench.files.layout import Place

CHUNK = 1024
"""Samples a chunk: a block has four."""
LARGEST_CHUNK = 2**24  # bytes of a packed chunk of 1,024 samples: an image of 128 x 128, or two layers of 90 x 90
LARGEST_RATIO = 1040  # deflate cannot make more than 1,032 bytes of one


def chunk_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The chunks of a packed data set; of a small one there is one, which is no larger than it."""
    return (min(CHUNK, shape[0]), *shape[1:])


def packed_place(shown: str, data: Any, creation: Any, size: int) -> Place:
    """Where the chunks of a data set lie; libhdf5 reads their index, and none of them."""
    shape, dtype = data.shape, data.dtype
    chunk = chunk_shape(shape)
    if creation.get_chunk() != chunk or data.get_space().get_simple_extent_dims(True) != shape:
        raise DataFileError(f"{shown} is not in chunks of {CHUNK:,} samples, nor contiguous.")
    if creation.get_nfilters() != 1 or creation.get_filter(0)[0] != h5py.h5z.FILTER_DEFLATE:
        raise DataFileError(f"{shown} is not packed by deflate alone.")
    chunk_bytes = dtype.itemsize * math.prod(chunk)
    number = -(-shape[0] // CHUNK)
    if chunk_bytes > LARGEST_CHUNK:
        raise DataFileError(f"{shown} has chunks of {chunk_bytes:,} bytes; one of ours has {LARGEST_CHUNK:,} at most.")
    if number * chunk_bytes > LARGEST_RATIO * size:
        raise DataFileError(f"{shown} says that it is {number * chunk_bytes:,} bytes, which {size:,} cannot unpack to.")
    found: list[Any] = []

    def look(one: Any) -> bool | None:
        found.append(one)
        return len(found) > number or None  # None goes on

    data.chunk_iter(look)
    found.sort(key=lambda one: one.chunk_offset)
    starts = [(index * CHUNK, *(0 for _ in shape[1:])) for index in range(len(found))]
    right = len(found) == number and [one.chunk_offset for one in found] == starts
    if not right or any(one.filter_mask for one in found):
        raise DataFileError(f"{shown} lacks chunks, or has some that are not its own.")
    chunks = tuple((one.byte_offset, one.size) for one in found)
    if any(length > 2 * chunk_bytes + 64 or begin + length > size for begin, length in chunks):
        raise DataFileError(f"{shown} has chunks that do not fit the file, which has been cut or never was whole.")
    if number * chunk_bytes > LARGEST_RATIO * sum(length for _, length in chunks):
        raise DataFileError(f"{shown} says that it is {number * chunk_bytes:,} bytes, which its chunks cannot be.")
    return Place(0, shape, dtype, chunks)
