"""Data files: their raw bytes mapped into memory, once the header is known to be ours, and checked by their digests.

libhdf5 says once where the bytes of each array begin; then they are read as a memory map, so that the workers of a
loader share no handle. A packed file is read into memory instead when its samples are first needed.
"""

import shlex
from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import CLASSES, ArrayBatch, Batch, IndexArray, UInt8Array
from capsbench.data.columns import (
    DIGEST_BYTES,
    DTYPES,
    Column,
    block_count,
    block_digest,
    block_range,
    columns_of,
    root_digest,
)
from capsbench.data.digits import load_digits
from capsbench.data.naming import source_of
from capsbench.data.recipes import Recipe, recipe_of
from capsbench.data.samples import SampleColumns, checked_indices
from capsbench.errors import DataFileError, UsageError
from capsbench.files.header import read_header
from capsbench.files.layout import Extent
from capsbench.files.packed import NO_REPAIR, PackedSamples
from capsbench.paths import user_path
from capsbench.spec import IMPORT
from capsbench.system import memory
from capsbench.system.disk import NO_MAPS, human_bytes


class DataFile(SampleColumns):
    """A data set in a file; open it with `open_dataset`.

    Attributes:
        path: The file.
        spec: Everything that determines its samples.
        packed: Whether its samples are in deflated chunks.
        images: ``[N, H, W]`` uint8, a memory map like the others; for a packed file a read-only array.
        labels: ``[N]`` or ``[N, 2]`` uint8.
        source: ``[N]`` or ``[N, 2]`` int32, the index of each digit in its split.
        shift: ``[N, 2]`` or ``[N, 2, 2]`` int8 (dy, dx), or None.
        transform: ``[N, 6]`` float32 (rotation in degrees, shear, scale_y, scale_x, dy, dx), or None.
        scraps: ``[N]`` uint8, how many pieces of other digits each image has, or None.
    """

    def __init__(self, path: Path, *, digits: str = "auto") -> None:
        self.path = path
        self.digits = digits
        self._header = read_header(path)
        self.spec = self._header.spec
        self.packed = self._header.packed
        # A packed file, and one on a file system that maps nothing, is read when it is first needed.
        self._loaded: dict[str, npt.NDArray[Any]] | None = None if self.packed else self._maps()
        self._recipe: Recipe | None = None

    def __len__(self) -> int:
        return len(self.span)

    def __repr__(self) -> str:
        return f"<{self.spec.generator}/{self.spec.split}, {len(self):,} samples, {self.path}>"

    @property
    def shard(self) -> range | None:
        """Which samples of the spec the file holds if it is a shard; the file counts them from 0."""
        return self._header.shard

    @property
    def span(self) -> range:
        """Which samples of the spec the file holds: all, or those of a shard."""
        return range(self.spec.count) if self.shard is None else self.shard

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickling a memory map would copy all of its data; and a worker may have another working folder.
        return _reopen, (self.path.absolute(), self.digits)

    @property
    def images(self) -> UInt8Array:
        """``[N, H, W]`` uint8."""
        return self._arrays()["images"]

    @property
    def digest(self) -> str:
        """The root digest that the file states, in hexadecimal; `check` verifies it."""
        return self._stated_root.hex()

    @property
    def columns(self) -> list[Column]:
        """The arrays of samples, in the order of the digests."""
        held = {name: self.extents[name] for name in DTYPES if name in self.extents}
        return [Column(name, extent.dtype, extent.shape[1:]) for name, extent in held.items()]

    @property
    def digests(self) -> UInt8Array:
        """``[blocks, 32]`` uint8: the digests that the file states for its blocks."""
        return self._read(["digests"], 0, self.extents["digests"].shape[0])["digests"]

    @property
    def _stated_root(self) -> bytes:
        return self._read(["root"], 0, DIGEST_BYTES)["root"].tobytes()

    @property
    def packed_samples(self) -> PackedSamples:
        """The samples of a packed file, read block by block and not kept in memory."""
        packed = {name: extent for name, extent in self.extents.items() if extent.chunks}
        return PackedSamples(self.path, packed, self.digests.tobytes())

    @property
    def extents(self) -> dict[str, Extent]:
        """Where the bytes of each array lie."""
        return self._header.extents

    def batch(self, indices: Sequence[int] | IndexArray | slice) -> ArrayBatch:
        """Samples ``indices`` ``[n]``, copied out of the file."""
        chosen = checked_indices(indices, len(self))
        return Batch(**{name: array[chosen] for name, array in self._arrays().items() if name != "layers"})

    def layers(self, indices: Sequence[int] | IndexArray | slice) -> UInt8Array:
        """``[n, k, H, W]`` uint8: each digit alone, from the file if it has layers, else drawn from the digits.

        Raises:
            DigitsError: They must be drawn, and the digits were not found.
            DataFileError: They must be drawn, and this installation cannot draw the spec.
        """
        chosen = checked_indices(indices, len(self))
        if "layers" in self.extents:
            stored: UInt8Array = self._arrays()["layers"][chosen]
            return stored if stored.ndim == 4 else stored[:, None]
        return self.recipe().sampler.layers(chosen + self.span.start)

    @cached_property
    def writers(self) -> npt.NDArray[np.int32] | None:
        """``[digits]`` int32: who wrote each digit of the split; None where the file is not of the digits it came with.

        Raises:
            DigitsError: Those are missing or damaged.
        """
        if not source_of(self.digits).other:  # MNIST's labels do not say it
            return None
        digits = load_digits(self.spec.split, self.digits)
        return digits.writers if digits.sha256 == self.spec.digits else None

    def recipe(self) -> Recipe:
        """The recipe that draws the samples of this file.

        Raises:
            DataFileError: This installation cannot draw the spec, or not with the file's types and sizes.
            DigitsError: The digits were not found.
        """
        if self._recipe is None:
            recipe = recipe_of(self.spec, self.digits)
            self.check_fits(columns_of(recipe.generator, recipe.spec))
            self._recipe = recipe
        return self._recipe

    def check_fits(self, columns: Sequence[Column]) -> None:
        """Refuses columns whose types and sizes are not those of the file.

        Raises:
            DataFileError: They differ.
        """
        drawn = {column.name: (column.shape, column.dtype) for column in columns}
        held = {column.name: (column.shape, column.dtype) for column in self.columns}
        if drawn != held:
            raise DataFileError(f"{self.path}: its arrays are not of the types and sizes that its spec draws.")

    def check_writable(self) -> None:
        """Refuses a packed file: only a contiguous one can be written in place.

        Raises:
            UsageError: It is packed.
        """
        if self.packed:
            raise UsageError(
                f"{self.path} is packed and cannot be written in place. If it is undamaged, unpack it with: capsbench "
                f"pack {shlex.quote(str(self.path))} OUT --undo; or make it again with: capsbench generate ... --force"
            )

    def load(self) -> None:
        """Reads a packed file into memory and checks every digest; a contiguous one stays where it is.

        Raises:
            DataFileError: A block is damaged, or the samples do not fit into memory.
        """
        if self.packed:
            self._arrays()

    def holds(self, block: int) -> bool:
        """Whether a block's bytes have the digest that the file states; without one they are not read."""
        stated = self._read(["digests"], block, block + 1)["digests"]
        return bool(stated.any()) and block_digest(self.read(*block_range(block, len(self)))) == stated.tobytes()

    def bad_blocks(self) -> list[int]:
        """The blocks whose bytes do not have the digest that the file states; reads every block that has one."""
        return [block for block in range(block_count(len(self))) if not self.holds(block)]

    def root_holds(self) -> bool:
        """Whether the root digest is that of the spec and the block digests."""
        return self.root() == self._stated_root

    def root(self) -> bytes:
        """The root digest, computed from the spec and the block digests."""
        return root_digest(self._header.spec_text, self.digests.tobytes(), self.shard)

    def block(self, block: int) -> dict[str, npt.NDArray[Any]]:
        """A block's arrays, in place."""
        return self.rows(*block_range(block, len(self)))

    def rows(self, start: int, stop: int) -> dict[str, npt.NDArray[Any]]:
        """Samples ``start..stop-1`` as they are stored, in place."""
        return {name: array[start:stop] for name, array in self._arrays().items()}

    def read(self, start: int, stop: int) -> dict[str, npt.NDArray[Any]]:
        """Samples ``start..stop-1`` as they are stored, read and not mapped.

        If a file was truncated or a disk fails, reading a map would end the process.

        Raises:
            DataFileError: They cannot be read.
        """
        if self.packed:
            return self.rows(start, stop)
        return self._read([column.name for column in self.columns], start, stop)

    def _read(self, names: Sequence[str], start: int, stop: int) -> dict[str, npt.NDArray[Any]]:
        """Rows ``start..stop-1`` of arrays that are not in chunks."""
        arrays = {}
        try:
            with self.path.open("rb", buffering=0) as file:
                for name in names:
                    extent = self.extents[name]
                    arrays[name] = np.empty((stop - start, *extent.shape[1:]), extent.dtype)
                    left = arrays[name].data.cast("B")
                    file.seek(extent.offset + start * extent.sample_bytes)
                    while left:
                        if not (found := file.readinto(left)):
                            raise DataFileError(f"{self.path} was truncated since it was opened.")
                        left = left[found:]
        except OSError as error:
            raise DataFileError(f"{self.path} cannot be read: {error.strerror}.") from None
        return arrays

    def check(self) -> None:
        """Reads everything.

        Raises:
            DataFileError: A block or the root digest is damaged, a label is not a class, or the file does not end where
                it should; the message says where, and how to repair it.
        """
        bad = [] if self.packed else self.bad_blocks()
        if bad and self.path.suffix == ".partial":
            raise DataFileError(
                f"{self.path} is unfinished: {len(bad):,} of its {len(self.digests):,} blocks are missing. "
                "Run the command that was making it again; it continues."
            )
        if bad:
            raise DataFileError(f"{self.path} is damaged in {_name_blocks(bad, len(self))}. {self._way_out()}")
        if not self.root_holds():
            raise DataFileError(f"{self.path}: its root digest is not that of its blocks. {self._way_out()}")
        self.check_labels()
        if surplus := self.surplus():
            raise DataFileError(
                f"{self.path} is followed by {surplus:,} bytes that do not belong to it. {self._way_out()}"
            )

    def surplus(self) -> int:
        """How many bytes follow the end of the file as its header states it.

        Raises:
            DataFileError: The file is no longer there.
        """
        try:
            return max(self.path.stat().st_size - self._header.end, 0)
        except OSError as error:
            raise DataFileError(f"{self.path} cannot be read: {error.strerror}.") from None

    def _way_out(self) -> str:
        if self.packed:
            return NO_REPAIR
        if self.spec.imported:
            return f"An imported file cannot be repaired. Import it again: {IMPORT}"
        digits = [] if self.digits == "auto" else ["--digits", str(self.digits)]
        return f"Repair it with: {shlex.join(['capsbench', 'verify', str(self.path), '--repair', *digits])}"

    def check_labels(self) -> None:
        """Refuses labels that are not classes: digests can be forged together with their data.

        Raises:
            DataFileError: A label is not a class.
        """
        if (label := self._largest_label()) >= CLASSES:
            raise DataFileError(f"{self.path}: a label is {label}, but classes are 0 to {CLASSES - 1}.")

    def _largest_label(self) -> int:
        """The largest label. For a packed file that is not in memory this reads, and so checks, every block."""
        if self._loaded is None and self.packed:
            with closing(self.packed_samples.blocks()) as blocks:
                return max(int(block["labels"].max()) for block in blocks)
        labels = self._read(["labels"], 0, len(self)) if self._loaded is None else self._loaded
        return int(labels["labels"].max())

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Every array, in the order of the digests."""
        if self._loaded is None:
            self._loaded = self.packed_samples.load() if self.packed else self._unmapped()
        return self._loaded

    def _maps(self) -> dict[str, npt.NDArray[Any]] | None:
        """Every array as a memory map; None where the system maps no files of this place."""
        try:
            return {name: self._map(self.extents[name]) for name in DTYPES if name in self.extents}
        except OSError as error:
            if error.errno in NO_MAPS:
                return None
            raise DataFileError(f"{self.path} cannot be read: {error.strerror}.") from None

    def _map(self, extent: Extent) -> npt.NDArray[Any]:
        try:
            return np.memmap(self.path, extent.dtype, "r", extent.offset, extent.shape)
        except ValueError:  # from numpy
            raise DataFileError(f"{self.path} was truncated since it was opened.") from None

    def _unmapped(self) -> dict[str, npt.NDArray[Any]]:
        """Every array, read into memory."""
        needed = sum(column.sample_bytes for column in self.columns) * len(self)
        too_large = DataFileError(
            f"{self.path} cannot be mapped where it is, and memory is too small to read its {human_bytes(needed)}. "
            "Copy it to a local disk."
        )
        if needed > memory.available():
            raise too_large
        try:
            arrays = self.read(0, len(self))
        except MemoryError:
            raise too_large from None
        for array in arrays.values():
            array.flags.writeable = False
        return arrays


def open_dataset(path: str | Path, verify: bool = True, *, digits: str = "auto") -> DataFile:
    """Opens a data file; a packed one is read into memory, and its digests are always checked.

    Args:
        path: The file.
        verify: Whether to check every digest first, which reads the whole file once.
        digits: Where `DataFile.layers` finds the digits if the file keeps no layers.

    Raises:
        DataFileError: The file is missing, damaged, hostile, or not one of ours.
    """
    file = DataFile(user_path(path), digits=digits)
    file.load()
    if verify:
        file.check()
    return file


def _reopen(path: Path, digits: str) -> DataFile:
    return DataFile(path, digits=digits)


def _name_blocks(blocks: list[int], count: int) -> str:
    ranges = [(block, *block_range(block, count)) for block in blocks[:3]]
    shown = ", ".join(f"block {block} (samples {start}..{stop - 1})" for block, start, stop in ranges)
    return shown if len(blocks) <= 3 else f"{shown} and {len(blocks) - 3} more blocks"
