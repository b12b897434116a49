"""Data files: their raw bytes mapped, once the header is known to be ours, and held against their digests.

libhdf5 says where each data set's bytes begin, once; then they are read as a memory map, with no handle to share
between the workers of a loader.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import CLASSES, ArrayBatch, Batch, IndexArray, UInt8Array
from capsbench.errors import DataFileError
from capsbench.header import Place, read_header
from capsbench.layout import KINDS, block_digest, block_range, checked_indices, columns_of, root_digest
from capsbench.recipes import Recipe, recipe_of


class DataFile:
    """A data set in a file; open it with `open_dataset`.

    Attributes:
        path: The file.
        spec: Everything that determines its samples.
        images: ``[N, H, W]`` uint8, a memory map, as are the others.
        labels: ``[N]`` or ``[N, 2]`` uint8.
        source: ``[N]`` or ``[N, 2]`` int32, the index of each digit in its split.
        shift: ``[N, 2]`` or ``[N, 2, 2]`` int8 (dy, dx), or None.
        transform: ``[N, 6]`` float32 (rotation in degrees, shear, scale_y, scale_x, dy, dx), or None.
    """

    def __init__(self, path: Path, *, digits: str = "auto") -> None:
        self.path = path
        self.digits = digits
        self._header = read_header(path)
        self.spec = self._header.spec
        self._maps: dict[str, npt.NDArray[Any]] = {
            name: self._map(place) for name, place in self._header.places.items()
        }
        self._recipe: Recipe | None = None

    def __len__(self) -> int:
        return self.spec.count

    def __repr__(self) -> str:
        return f"<{self.spec.generator}/{self.spec.split}, {len(self):,} samples, {self.path}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # A memory map would be pickled as the whole data set, and a worker may have another working folder.
        return _reopen, (self.path.absolute(), self.digits)

    @property
    def images(self) -> UInt8Array:
        """``[N, H, W]`` uint8."""
        return self._maps["images"]

    @property
    def labels(self) -> UInt8Array:
        """``[N]`` or ``[N, 2]`` uint8."""
        return self._maps["labels"]

    @property
    def source(self) -> npt.NDArray[np.int32]:
        """``[N]`` or ``[N, 2]`` int32."""
        return self._maps["source"]

    @property
    def shift(self) -> npt.NDArray[np.int8] | None:
        """``[N, 2]`` or ``[N, 2, 2]`` int8 (dy, dx), where the generator shifts."""
        return self._maps.get("shift")

    @property
    def transform(self) -> npt.NDArray[np.float32] | None:
        """``[N, 6]`` float32, where the generator warps."""
        return self._maps.get("transform")

    @property
    def digest(self) -> str:
        """The root digest that the file states, in hexadecimal; `check` says whether it is true."""
        return self._maps["root"].tobytes().hex()

    @property
    def places(self) -> dict[str, Place]:
        """Where each data set's bytes lie."""
        return self._header.places

    def batch(self, indices: Sequence[int] | IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]``, copied out of the file."""
        chosen = checked_indices(indices, len(self))
        return Batch(**{name: self._maps[name][chosen] for name in KINDS if name in self._maps and name != "layers"})

    def layers(self, indices: Sequence[int] | IndexArray) -> UInt8Array:
        """``[n, k, H, W]`` uint8: each digit alone, from the file where it has them, else drawn anew from the digits.

        Raises:
            DigitsError: They must be drawn, and the digits are not here.
            DataFileError: They must be drawn, and the spec cannot be drawn here.
        """
        chosen = checked_indices(indices, len(self))
        if "layers" in self._maps:
            stored: UInt8Array = self._maps["layers"][chosen]
            return stored if stored.ndim == 4 else stored[:, None]
        return self.recipe().sampler.layers(chosen)

    def recipe(self) -> Recipe:
        """What draws the samples of this file anew.

        Raises:
            DataFileError: The spec cannot be drawn here, or not as the types and sizes that the file holds.
            DigitsError: The digits are not here.
        """
        if self._recipe is None:
            recipe = recipe_of(self.spec, self.digits)
            self.check_fits(recipe)
            self._recipe = recipe
        return self._recipe

    def check_fits(self, recipe: Recipe) -> None:
        """Refuses a recipe whose samples are not of the types and sizes that the file holds.

        Raises:
            DataFileError: They are not.
        """
        drawn = {part.name: (part.shape, part.dtype) for part in columns_of(recipe.generator, recipe.spec)}
        held = {name: (place.shape[1:], place.dtype) for name, place in self.places.items() if name in KINDS}
        if drawn != held:
            raise DataFileError(f"{self.path}: its data sets are not of the types and sizes that its spec draws.")

    def bad_blocks(self) -> list[int]:
        """The blocks whose bytes do not have the digest that stands for them; reads every block that has one."""
        return [
            block
            for block, stated in enumerate(self._maps["digests"])
            if not stated.any() or block_digest(self.block(block)) != stated.tobytes()
        ]

    def root_holds(self) -> bool:
        """Whether the root digest is that of the spec and the block digests."""
        return self.root() == self._maps["root"].tobytes()

    def root(self) -> bytes:
        """The root digest, worked out from the spec and the block digests."""
        return root_digest(self._header.spec_text, self._maps["digests"].tobytes())

    def block(self, block: int) -> dict[str, npt.NDArray[Any]]:
        """A block's arrays, in place."""
        start, stop = block_range(block, len(self))
        return {name: self._maps[name][start:stop] for name in KINDS if name in self._maps}

    def check(self) -> None:
        """Reads everything.

        Raises:
            DataFileError: A block or the root digest is damaged, or a label is no class; the message says where, and
                how to mend it.
        """
        bad = self.bad_blocks()
        way_out = f"Mend it with: capsbench verify {shlex.quote(str(self.path))} --repair"
        if bad and self.path.suffix == ".partial":
            raise DataFileError(
                f"{self.path} is unfinished: {len(bad):,} of its {len(self._maps['digests']):,} blocks are missing. "
                "Run the command that was making it again; it goes on."
            )
        if bad:
            raise DataFileError(f"{self.path} is damaged in {_name_blocks(bad, len(self))}. {way_out}")
        if not self.root_holds():
            raise DataFileError(f"{self.path}: its root digest is not that of its blocks. {way_out}")
        if self.labels.max() >= CLASSES:
            raise DataFileError(f"{self.path}: a label is {self.labels.max()}, but classes are 0 to {CLASSES - 1}.")

    def _map(self, place: Place) -> npt.NDArray[Any]:
        try:
            return np.memmap(self.path, place.dtype, "r", place.offset, place.shape)
        except (OSError, ValueError) as error:  # it went away, or was cut, since its header was read
            raise DataFileError(f"{self.path} cannot be mapped: {error}.") from None


def open_dataset(path: str | Path, verify: bool = True, *, digits: str = "auto") -> DataFile:
    """Opens a data file.

    Args:
        path: The file.
        verify: Whether to check every digest first, which reads the whole file once.
        digits: Where `DataFile.layers` looks for the digits, if the file keeps no layers.

    Raises:
        DataFileError: The file is missing, damaged, hostile, or not one of ours.
    """
    file = DataFile(Path(path), digits=digits)
    if verify:
        file.check()
    return file


def _reopen(path: Path, digits: str) -> DataFile:
    return DataFile(path, digits=digits)


def _name_blocks(blocks: list[int], count: int) -> str:
    ranges = [(block, *block_range(block, count)) for block in blocks[:3]]
    shown = ", ".join(f"block {block} (samples {start}..{stop - 1})" for block, start, stop in ranges)
    return shown if len(blocks) <= 3 else f"{shown} and {len(blocks) - 3} more blocks"
