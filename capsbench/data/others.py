"""Digits in MNIST's format that are not MNIST's: a known set, a folder of four IDX files, or Keras' ``mnist.npz``.

What anyone may have written is checked before it is believed: 28x28 grey images, as many labels, all of 0..9. The first
five sixths of the training images, which of 60,000 are 50,000 as MNIST's, are ``train``, the rest ``validation``.
Where a class would be missing from one of the two, each class is cut so.
"""

import gzip
import io
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from capsbench.contracts import CLASSES, Digits, IndexArray, UInt8Array
from capsbench.data.naming import Source
from capsbench.data.npz import READ, array_header, array_values, opened_archive, opened_member
from capsbench.data.places import set_places
from capsbench.data.sets import SETS, KnownSet, packed_file
from capsbench.errors import DataFileError, DigitsError, shown
from capsbench.results.writers import FEWEST_WRITERS
from capsbench.system.disk import kind_of

SIDE = 28
LARGEST = 1_000_000  # images; the largest set of this kind, EMNIST's, has 814,255
TYPES: dict[int, np.dtype[Any]] = {0x08: np.dtype("u1"), 0x0C: np.dtype(">i4")}
"""By the code that an IDX file states: the types that images and labels have."""

LABEL, WRITER, FACTS = 0, 2, 8  # of a label of QMNIST: the columns of the class and of the writer, and how many it has
FILE = re.compile(r"(?:.*[-_.])?(train|t10k|test)[-_.](images|labels)(?:[-_.]idx\d[-_.](?:ubyte|int))?(\.gz)?", re.I)
WAY_OUT = (
    "Digits are 28x28 grey images with the labels 0..9, in four IDX files (raw or .gz) or an npz file like Keras'."
)


@dataclass(frozen=True)
class Part:
    """The images to train or to test with, whole.

    Attributes:
        images: ``[n, 28, 28]`` uint8.
        labels: ``[n]`` uint8, 0..9.
        writers: ``[n]`` int32, numbered from 0 on; None where the labels do not say who wrote the digits.
    """

    images: UInt8Array
    labels: UInt8Array
    writers: npt.NDArray[np.int32] | None = None


def load_others(split: str, source: Source) -> Digits:
    """The digits of a split of a set that is not MNIST's. Its files are read and checked each time.

    Raises:
        DigitsError: They are missing, damaged, of another size, or have other classes than 0..9.
    """
    part = _read(source, "test" if split == "test" else "train")
    _read_only(part)
    if split in ("train", "validation"):
        chosen = _rows(part.labels, split)
        written = None if part.writers is None else part.writers[chosen]
        part = Part(part.images[chosen], part.labels[chosen], written)
        _read_only(part)
    return Digits(part.images, part.labels, split, source.name, part.writers)


def _read_only(part: Part) -> None:
    """Closes the arrays to writing: all callers share them."""
    for array in (part.images, part.labels, part.writers):
        if array is not None:
            array.setflags(write=False)


def _rows(labels: UInt8Array, split: str) -> IndexArray | slice:
    """Which of the training images are of a split."""
    cut = len(labels) * 5 // 6
    if all(len(np.unique(some)) == CLASSES for some in (labels[:cut], labels[cut:])):
        return slice(cut) if split == "train" else slice(cut, None)
    first = np.zeros(len(labels), np.bool_)
    for label in range(CLASSES):
        rows = np.flatnonzero(labels == label)
        first[rows[: min(-(-len(rows) * 5 // 6), len(rows) - 1)]] = True
    return np.flatnonzero(first if split == "train" else ~first)


def _read(source: Source, part: str) -> Part:
    """The images and labels to train or to test with."""
    known = SETS.get(source.name)
    if known is not None:
        place, pair = _set_files(source, known, part)
        read = [_idx(path, packed_file(known, path)) for path in pair]
    elif source.path is None or kind_of(source.path) is None:
        raise DigitsError(f"There is no folder {source.path} with the digits {source.name!r}.\n{WAY_OUT}")
    elif kind_of(source.path) == "file":
        place, read = source.path, _arrays_of_npz(source.path, part)
    else:
        place, pair = source.path, [_only(source.path, part, what) for what in ("images", "labels")]
        read = [_idx(path) for path in pair]
    return _checked(place, part, *read)


def _set_files(source: Source, known: KnownSet, part: str) -> tuple[Path, list[Path]]:
    """The folder with a known set's files, and the two of a part: where the user says, else the first of its places."""
    folders = [source.path] if source.path else [folder for _, folder in set_places(source.name)]
    names = list(known.files)[:2] if part == "train" else list(known.files)[2:]
    for folder in folders:
        found = _in_layouts(folder, known)
        if all(name in found for name in names):
            return folder, [found[name] for name in names]
    where = f"in {folders[0]}" if source.path else f"here; `capsbench data fetch {source.name}` fetches it"
    raise DigitsError(
        f"{known.title} is not {where}.\nIts files, packed as published, by which they are checked, are "
        f"{', '.join(known.files)}; by hand put them into {set_places(source.name)[0][1]}."
    )


def _in_layouts(folder: Path, known: KnownSet) -> dict[str, Path]:
    found = {}
    for name in known.files:
        candidates = (folder / layout / name for layout in (".", "raw", f"{known.folder}/raw"))
        path = next((path for path in candidates if path.is_file()), None)
        if path is not None:
            found[name] = path
    return found


def _only(folder: Path, part: str, what: str) -> Path:
    """The only file of a folder that holds the images or the labels of a part."""
    found: dict[Path, Path] = {}
    try:
        for place in (folder, folder / "raw", *sorted(folder.glob("*/raw"))):
            for path in sorted(place.iterdir()) if place.is_dir() else ():
                match = FILE.fullmatch(path.name)
                if (
                    match
                    and path.is_file()
                    and (match[1].lower() == "train", match[2].lower()) == (part == "train", what)
                ):
                    raw = path.with_suffix("") if match[3] else path  # a file beside its packed copy is the same
                    found.setdefault(raw, path)
    except OSError as error:
        raise DigitsError(f"The folder {folder} cannot be read: {error.strerror}.\n{WAY_OUT}") from None
    if len(found) > 1:
        raise DigitsError(
            f"{folder} has several files of the {what} to {part} with: "
            f"{', '.join(str(path.relative_to(folder)) for path in sorted(found)[:4])}.\n"
            "Keep each set in a folder of its own, and name that."
        )
    if not found:
        name = "train" if part == "train" else "t10k"
        raise DigitsError(
            f"The folder {folder} lacks {name}-{what}-idx{3 if what == 'images' else 1}-ubyte.\n{WAY_OUT}"
        )
    return next(iter(found.values()))


def _idx(path: Path, packed: bytes | None = None) -> npt.NDArray[np.generic]:
    """The array in an IDX file, raw or packed, whose packed bytes may have been read already.

    Its header is believed only as far as the file goes.
    """
    source = path if packed is None else io.BytesIO(packed)
    try:
        with gzip.open(source) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            return _idx_array(path, file)
    except (OSError, EOFError, zlib.error) as error:  # the last two: a .gz that is cut or damaged
        cause = getattr(error, "strerror", None) or error
        raise DigitsError(f"{path} cannot be read: {cause}.\n{WAY_OUT}") from None


def _idx_array(path: Path, file: BinaryIO | gzip.GzipFile) -> npt.NDArray[np.generic]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not 1 <= magic[3] <= 4:
        raise DigitsError(f"{path} is no IDX file: it begins with {magic.hex(' ') or 'nothing'}.\n{WAY_OUT}")
    dtype = TYPES.get(magic[2])
    if dtype is None:
        raise DigitsError(f"{path} holds values of IDX type 0x{magic[2]:02x}; bytes are 0x08.\n{WAY_OUT}")
    shape = tuple(np.frombuffer(file.read(4 * magic[3]).ljust(4 * magic[3], b"\0"), ">u4").tolist())
    _check_shape(path, shape)
    wanted = math.prod(shape) * dtype.itemsize
    content = bytearray()
    while len(content) <= wanted and (some := file.read(min(READ, wanted + 1 - len(content)))):
        content += some
    if len(content) != wanted:
        found = "more" if len(content) > wanted else f"{len(content):,}"
        raise DigitsError(
            f"{path} states the shape {list(shape)}: {wanted:,} bytes should follow, found {found}.\n{WAY_OUT}"
        )
    array: npt.NDArray[np.generic] = np.frombuffer(content, dtype).reshape(shape)
    return array


def _check_shape(path: Path, shape: tuple[int, ...]) -> None:
    """Refuses images of another size and endless arrays, before they are read."""
    images = len(shape) >= 3
    if images and shape[1:] != (SIDE, SIDE):
        raise DigitsError(f"{path} holds images {list(shape)}; expected [n, {SIDE}, {SIDE}], grey.\n{WAY_OUT}")
    if len(shape) == 2 and shape[1] != FACTS:
        raise DigitsError(f"{path} holds labels {list(shape)}; expected [n], or QMNIST's [n, {FACTS}].\n{WAY_OUT}")
    if not 1 <= shape[0] <= LARGEST:
        raise DigitsError(f"{path} states {shape[0]:,} {'images' if images else 'labels'}; 1..{LARGEST:,} are read.")


def _arrays_of_npz(path: Path, part: str) -> list[npt.NDArray[np.generic]]:
    """The images and labels of a part in a file like Keras' ``mnist.npz``."""
    read: list[npt.NDArray[np.generic]] = []
    try:
        with opened_archive(path) as archive:
            for name in (f"x_{part}", f"y_{part}"):
                with opened_member(path, archive, name) as stream:
                    shape, dtype, fortran = array_header(path, name, stream)
                    images = name.startswith("x")
                    if len(shape) not in ((3, 4) if images else (1,)):
                        wanted = f"[n, {SIDE}, {SIDE}]" if images else "[n]"
                        raise DigitsError(f"{path}: {name} has the shape {list(shape)}; expected {wanted}.\n{WAY_OUT}")
                    _check_shape(path, shape)
                    if dtype.kind not in "iu" or (images and dtype != np.uint8):
                        wanted = "bytes (uint8, 0 black to 255 white)" if images else "whole numbers"
                        raise DigitsError(f"{path}: {name} must be {wanted}, got {dtype}.\n{WAY_OUT}")
                    values = array_values(path, stream, dtype, math.prod(shape))
                    read.append(values.reshape(shape, order="F" if fortran else "C"))
    except DataFileError as error:
        raise DigitsError(f"{error}\n{WAY_OUT}") from None
    return read


def _checked(place: Path, part: str, images: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]) -> Part:
    """Images with their labels, if they are digits."""
    if images.ndim != 3 or images.dtype != np.uint8:
        raise DigitsError(
            f"The images to {part} with in {place} are {list(images.shape)} of {images.dtype}.\n{WAY_OUT}"
        )
    writers = None
    if labels.ndim == 2:
        labels, writers = labels[:, LABEL], _writers(place, part, labels[:, WRITER])
    if labels.ndim != 1 or len(labels) != len(images):
        raise DigitsError(
            f"{place} has {len(images):,} images to {part} with, and labels {list(labels.shape)}.\n{WAY_OUT}"
        )
    _check_classes(place, part, labels)
    return Part(np.ascontiguousarray(images), labels.astype(np.uint8), writers)


def _writers(place: Path, part: str, written: npt.NDArray[np.generic]) -> npt.NDArray[np.int32] | None:
    """The writers' numbers, from 0 on; None of so few that they are no sample of writers, or that none is stated."""
    if int(written.min()) < 0:
        raise DigitsError(
            f"{place} names a writer {int(written.min())} of images to {part} with; those of QMNIST's labels, in their "
            "third column, are 0 and more. Where the writers are not known, give labels [n]."
        )
    found, numbers = np.unique(written, return_inverse=True)
    return numbers.astype(np.int32) if len(found) >= FEWEST_WRITERS else None


def _check_classes(place: Path, part: str, labels: npt.NDArray[np.generic]) -> None:
    """Refuses labels that are not 0..9, and sets in which one of them is too rare."""
    found, numbers = np.unique(labels, return_counts=True)
    counts = dict(zip(found.tolist(), numbers.tolist(), strict=True))
    needed = 2 if part == "train" else 1  # of each class one to train and one to validate with
    rare = [label for label in range(CLASSES) if counts.get(label, 0) < needed]
    others = [label for label in counts if not 0 <= label < CLASSES]
    if others:
        raise DigitsError(
            f"{place} has labels that are no digit, to {part} with: {shown(', '.join(map(str, others)))}. It has "
            f"{len(counts)} classes; expected 0..9. EMNIST's letters and its sets of both are refused, too.\n{WAY_OUT}"
        )
    if rare:
        least = "an image" if needed == 1 else f"{needed} images"
        raise DigitsError(
            f"{place} lacks classes to {part} with: {', '.join(map(str, rare))}. Each of 0..9 needs {least}.\n{WAY_OUT}"
        )
