"""Packed files: chunks of samples, inflated block by block and held against their digests.

libhdf5 says where the chunks lie, and nothing more: its filters never run. Each chunk is inflated by zlib, which is
told how many bytes may come out of it.
"""

import os
import zlib
from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from capsbench.errors import DataFileError
from capsbench.files.chunks import CHUNK
from capsbench.files.layout import BLOCK, DIGEST_BYTES, KINDS, Place, block_count, block_digest, block_range
from capsbench.system.disk import human_bytes

MEMORY = Path("/proc/meminfo")
"""Where Linux tells how much memory is to be had; elsewhere nobody is asked."""

AT_HAND = 2**26  # bytes of blocks that are in the making at once, where there are more threads than that takes

Made = TypeVar("Made")


def in_order(work: Callable[[int], Made], pieces: int, threads: int) -> Generator[Made, None, None]:
    """What a function makes of 0, 1, 2 and so on, in this order; threads are a few pieces ahead of who takes it.

    zlib and hashlib let other threads run while they are at work.

    Args:
        work: The function.
        pieces: How many pieces there are.
        threads: How many work at once.
    """
    pending: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for piece in range(pieces):
                pending.append(pool.submit(work, piece))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for one in pending:
                one.cancel()


@dataclass(frozen=True)
class PackedSamples:
    """The samples of a packed file, and a source for a contiguous one.

    Attributes:
        path: The file.
        places: Where the chunks of its data sets of samples lie.
        digests: The digests that it states for its blocks, one after the other.
    """

    path: Path
    places: Mapping[str, Place]
    digests: bytes

    def __len__(self) -> int:
        return self.places["images"].shape[0]

    @property
    def nbytes(self) -> int:
        """The bytes of all samples, unpacked."""
        return sum(place.shape[0] * place.sample_bytes for place in self.places.values())

    def __call__(self, start: int, stop: int) -> Mapping[str, npt.NDArray[Any]]:
        """Samples ``start..stop-1``, as they are stored in a contiguous file.

        Args:
            start: Where a block begins.
            stop: Where that block ends.

        Raises:
            DataFileError: The block is damaged, or the file cannot be read.
        """
        if (start, stop) != block_range(start // BLOCK, len(self)):
            raise ValueError(f"Samples {start}..{stop - 1} of {self.path} are no block.")
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
                arrays = {name: self._rows(handle, name, start, stop) for name in KINDS if name in self.places}
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
        """Every sample, in arrays that cannot be written to.

        Raises:
            DataFileError: A block is damaged, the file cannot be read, or does not fit the memory that is to be had.
        """
        available = available_memory()
        if available is not None and self.nbytes > available:
            raise self._too_large(f"are {human_bytes(available)}")
        try:
            arrays = {name: np.empty(place.shape, place.dtype) for name, place in self.places.items()}
        except MemoryError:
            raise self._too_large("is less") from None
        with closing(self.blocks()) as blocks:
            for number, block in enumerate(blocks):
                start, stop = block_range(number, len(self))
                for name, rows in block.items():
                    arrays[name][start:stop] = rows
        for array in arrays.values():
            array.flags.writeable = False
        return arrays

    def _rows(self, handle: int, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        place = self.places[name]
        chunks = [_inflated(handle, place, chunk) for chunk in range(start // CHUNK, -(-stop // CHUNK))]
        return np.concatenate(chunks)[: stop - start]  # what fills the last chunk is nobody's

    def _damaged(self, block: int) -> DataFileError:
        start, stop = block_range(block, len(self))
        return DataFileError(
            f"{self.path} is damaged in block {block} (samples {start}..{stop - 1}). "
            "It is packed, and cannot be mended: get it again, or pack the contiguous file again."
        )

    def _too_large(self, available: str) -> DataFileError:
        return DataFileError(
            f"{self.path} is packed, and read into memory: {human_bytes(self.nbytes)}, available {available}. "
            "Unpack it on a disk: capsbench pack FILE OUT --undo"
        )


def available_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        for line in MEMORY.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _inflated(handle: int, place: Place, chunk: int) -> npt.NDArray[Any]:
    """A chunk's rows.

    Raises:
        zlib.error: It is no deflated chunk of just its size.
        EOFError: The file has been cut since its header was read.
    """
    offset, length = place.chunks[chunk]
    rows = min(CHUNK, place.shape[0])
    size = rows * place.sample_bytes
    deflated = os.pread(handle, length, offset)
    if len(deflated) < length:
        raise EOFError
    inflater = zlib.decompressobj()
    content = inflater.decompress(deflated, size + 1)  # one more would be one too many, and no more is made
    if len(content) != size or not inflater.eof or inflater.unused_data:
        raise zlib.error("not of its size")
    return np.frombuffer(content, place.dtype).reshape(rows, *place.shape[1:])
