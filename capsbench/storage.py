"""THE file format: a contiguous HDF5 file whose raw bytes are mapped, and read only once the file is known to be ours.

libhdf5 touches the header and nothing else: where each data set's bytes begin is asked once, and then they are read as a
memory map. A file may come from elsewhere, so everything that libhdf5 would follow or allocate is checked first.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from capsbench.contracts import ArrayBatch, Batch, DataSpec, IndexArray, UInt8Array
from capsbench.errors import DataFileError
from capsbench.layout import (
    DIGEST_BYTES,
    FORMAT,
    FORMAT_VERSION,
    KINDS,
    Column,
    block_count,
    block_digest,
    block_range,
    columns,
    root_digest,
)
from capsbench.recipes import recipe_of

SIGNATURE = b"\x89HDF\r\n\x1a\n"
LARGEST_ATTRIBUTE = 16384  # a spec is some 300 bytes
LARGEST_SIDE = 4096  # pixels; far past any canvas, and small enough that no product overflows


@dataclass(frozen=True)
class Place:
    """Where the bytes of a data set lie in its file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def sample_bytes(self) -> int:
        """Bytes a sample (a row)."""
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))


@dataclass(frozen=True)
class Header:
    """What a file's header says, checked."""

    spec: DataSpec
    spec_text: str
    places: dict[str, Place]


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
        self._maps = {name: self._map(place) for name, place in self._header.places.items()}
        self._recipe: Any = None

    def __len__(self) -> int:
        return self.spec.count

    def __repr__(self) -> str:
        return f"<{self.spec.generator}/{self.spec.split}, {len(self):,} samples, {self.path}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self.digits)  # a memory map would be pickled as the whole data set

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
        """The root digest that the file states, in hexadecimal; `bad_blocks` and `root_holds` say whether it is true."""
        return self._maps["root"].tobytes().hex()

    @property
    def places(self) -> dict[str, Place]:
        """Where each data set's bytes lie."""
        return self._header.places

    def batch(self, indices: Sequence[int] | IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]``, copied out of the file."""
        arrays = {name: self._maps[name][indices] for name in KINDS if name in self._maps and name != "layers"}
        return Batch(**arrays)

    def layers(self, indices: Sequence[int] | IndexArray) -> UInt8Array:
        """``[n, k, H, W]`` uint8: each digit alone, from the file where it has them, else drawn anew from the digits.

        Raises:
            DigitsError: They must be drawn, and the digits are not here.
        """
        if "layers" in self._maps:
            stored: UInt8Array = self._maps["layers"][indices]
            return stored if stored.ndim == 4 else stored[:, None]
        if self._recipe is None:
            self._recipe = recipe_of(self.spec, self.digits)
        layers: UInt8Array = self._recipe.sampler.layers(np.asarray(indices, np.int64))
        return layers

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
            DataFileError: A block or the root digest is damaged; the message names them and the way to mend them.
        """
        bad = self.bad_blocks()
        if bad:
            raise DataFileError(
                f"{self.path} is damaged in {_name_blocks(bad, len(self))}. "
                f"Mend it with: capsbench verify {self.path} --repair"
            )
        if not self.root_holds():
            raise DataFileError(
                f"{self.path}: its root digest is not that of its blocks. Mend it with: capsbench verify {self.path} --repair"
            )

    def _map(self, place: Place) -> Any:
        return np.memmap(self.path, place.dtype, "r", place.offset, place.shape)


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
    names = [
        f"block {block} (samples {start}..{stop - 1})"
        for block in blocks
        for start, stop in [block_range(block, count)]
    ]
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more blocks"


def create_header(path: Path, spec_text: str, columns: Sequence[Column], count: int) -> None:
    """Makes a file with its header, its data sets allocated and not yet written.

    The same arguments make the same bytes wherever the same HDF5 is installed: object times are off, attributes are bytes
    of fixed length.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    # From 1.10 on HDF5 puts checksums on its metadata; without them a flipped bit can read as other data.
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    file = h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, creation, access)
    try:
        for name, value in (("format", FORMAT), ("format_version", str(FORMAT_VERSION)), ("spec", spec_text)):
            h5py.File(file).attrs.create(name, np.bytes_(value.encode()))
        blocks = block_count(count)
        rows = [(column.name, column.dtype, (count, *column.shape)) for column in columns]
        rows += [("digests", np.dtype("u1"), (blocks, DIGEST_BYTES)), ("root", np.dtype("u1"), (DIGEST_BYTES,))]
        for name, dtype, shape in rows:
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_layout(h5py.h5d.CONTIGUOUS)
            layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            layout.set_obj_track_times(False)
            kind = h5py.h5t.py_create(dtype, logical=True)
            h5py.h5d.create(file, name.encode(), kind, h5py.h5s.create_simple(shape), layout)
    finally:
        file.close()


def read_header(path: Path) -> Header:
    """Reads and checks a file's header; not a byte of data is read.

    Raises:
        DataFileError: The file is missing, cannot be read, is not HDF5, not ours, newer than this, cut, or holds what none
            of ours holds: soft or external links, external or virtual storage, other names, types or sizes.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(len(SIGNATURE))
    except FileNotFoundError:
        raise DataFileError(f"There is no file {path}.") from None
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror}.") from None
    if start != SIGNATURE:
        raise DataFileError(f"{path} is not an HDF5 file{' (it is empty)' if size == 0 else ''}.")
    try:
        # HDF5 locks what it opens; finished files are never written, and a partial one has a lock of ours.
        with h5py.File(path, "r", locking=False) as file:
            return _checked_header(path, file, size)
    except DataFileError:
        raise
    except Exception as error:  # libhdf5's words for a damaged header come as any of six types
        reason = str(error).replace("\n", " ")
        raise DataFileError(f"{path} has a damaged header, which cannot be mended in place ({reason}).") from None


def _checked_header(path: Path, file: Any, size: int) -> Header:
    if _attribute(file, "format") != FORMAT:
        raise DataFileError(f"{path} is an HDF5 file, but not one of capsbench's.")
    version = _attribute(file, "format_version")
    if version != str(FORMAT_VERSION):
        raise DataFileError(
            f"{path} is of format version {(version or '?')[:20]}; this capsbench reads version {FORMAT_VERSION}. "
            "Upgrade capsbench."
        )
    text = _attribute(file, "spec") or ""
    try:
        spec = DataSpec.from_json(text)
    except ValueError as error:
        raise DataFileError(f"{path} has no valid spec: {error}.") from None
    known = {*(name.encode() for name in KINDS), b"digests", b"root"}
    names = set(file.id) if len(file) <= len(known) else set()
    if not names or not names <= known:
        raise DataFileError(f"{path} holds data sets that no file of capsbench's holds.")
    places = {name.decode(): _place(path, file, name, size) for name in sorted(names)}
    if {name: (place.shape, place.dtype) for name, place in places.items()} != _expected(path, spec, places):
        raise DataFileError(f"{path}: its data sets are not of the types and sizes that its spec asks for.")
    return Header(spec, text, places)


def _attribute(file: Any, name: str) -> str | None:
    if not h5py.h5a.exists(file.id, name.encode()):
        return None
    attribute = h5py.h5a.open(file.id, name.encode())
    kind = attribute.get_type()
    small = attribute.get_storage_size() <= LARGEST_ATTRIBUTE and attribute.shape == ()
    if not small or not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str():
        return None
    try:
        return bytes(file.attrs[name]).decode()
    except UnicodeDecodeError:
        return None


def _place(path: Path, file: Any, name: bytes, size: int) -> Place:
    shown = f"{path}:/{name.decode()}"
    if file.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise DataFileError(f"{shown} is a link to somewhere else; it is not followed.")
    if h5py.h5o.get_info(file.id, name).type != h5py.h5o.TYPE_DATASET:
        raise DataFileError(f"{shown} is not a data set.")
    data = h5py.h5d.open(file.id, name)
    creation = data.get_create_plist()
    if creation.get_layout() != h5py.h5d.CONTIGUOUS or creation.get_external_count():
        raise DataFileError(f"{shown} is not stored contiguously in the file itself.")
    place = Place(data.get_offset() or 0, data.shape, data.dtype)
    if place.offset == 0 or place.offset + place.shape[0] * place.sample_bytes > size:
        raise DataFileError(f"{shown} does not fit the file, which has been cut or never was whole.")
    return place


def _expected(path: Path, spec: DataSpec, places: dict[str, Place]) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """What a file of a spec holds; the canvas and the digits an image are taken from what the file shows."""
    images, labels = (places.get(name) for name in ("images", "labels"))
    if images is None or labels is None or len(images.shape) != 3 or max(images.shape[1:]) > LARGEST_SIDE:
        raise DataFileError(f"{path} has no images, or no labels.")
    motion = "shift" if "shift" in places else "transform"
    parts = columns(
        image_shape=(images.shape[1], images.shape[2]), pairs=len(labels.shape) == 2, motion=motion, layers=spec.layers
    )
    expected = {part.name: ((spec.count, *part.shape), part.dtype) for part in parts}
    expected["digests"] = ((block_count(spec.count), DIGEST_BYTES), np.dtype("u1"))
    expected["root"] = ((DIGEST_BYTES,), np.dtype("u1"))
    return expected
