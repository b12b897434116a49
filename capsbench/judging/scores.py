"""Files of scores, as anyone may have written them: ``NAME.npz`` or ``NAME.csv``; nothing in them is executed."""

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import CLASSES, IndexArray
from capsbench.data.npz import array_header, array_values, opened_archive, opened_member, skip_bytes
from capsbench.errors import DataFileError, shown
from capsbench.system.disk import is_regular

Scores = npt.NDArray[np.float32] | npt.NDArray[np.float64]

COLUMNS = ("index", *map(str, range(CLASSES)))
LARGEST_SCORE = float(np.finfo(np.float32).max)  # so that their sums are finite, too
TOLERANCE = 1e-3  # by which reconstructions may leave 0..1, as numbers of half precision do
DIGEST_LINE = re.compile(r"#\s*digest:?\s+(\w+)", re.IGNORECASE)


def scores_file(folder: Path, name: str) -> Path | None:
    """The file with the scores of a test; None if there is none.

    Raises:
        DataFileError: There are two, or one is no file.
    """
    found = [path for path in (folder / f"{name}.npz", folder / f"{name}.csv") if path.exists()]
    if len(found) > 1:
        raise DataFileError(f"There are scores in {found[0]} and in {found[1].name}; keep one of the two.")
    if found and not is_regular(found[0]):
        raise DataFileError(f"{found[0]} is not a file.")
    return found[0] if found else None


def has_digest(path: Path) -> bool:
    """Whether a file of scores says which images they are for; of ``.npz`` it is required.

    Raises:
        DataFileError: It cannot be read.
    """
    if path.suffix != ".csv":
        return True
    with _csv_errors(path), path.open(newline="", encoding="utf-8-sig") as file:
        return _stated_digest(next(csv.reader(file), [])) is not None


def read_scores(path: Path, count: int, digest: str) -> Scores:
    """The scores in a file.

    Args:
        path: ``NAME.npz`` or ``NAME.csv``.
        count: How many images there are.
        digest: The root digest of their file, in hexadecimal.

    Returns:
        ``[N, 10]``, float32 where the file has it, else float64; finite.

    Raises:
        DataFileError: They are not scores for these images; the message says where and why.
    """
    scores = _of_csv(path, count, digest) if path.suffix == ".csv" else _of_npz(path, count, digest)
    wrong = np.argwhere(~(np.abs(scores) <= LARGEST_SCORE))  # which NaN are not, either
    if len(wrong):
        row, column = wrong[0]
        more = f", and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
        raise DataFileError(
            f"{path}: the score of image {row} for class {column} is {scores[row, column]}{more}. "
            f"Scores must be finite numbers of at most {LARGEST_SCORE:.2g}."
        )
    return scores


def _of_npz(path: Path, count: int, digest: str) -> Scores:
    with opened_archive(path) as archive:
        if "digest.npy" not in archive.namelist():
            raise DataFileError(
                f"{path} has no digest, which says what the scores are for. Save it beside them: "
                f"numpy.savez(..., scores=scores, digest={digest!r})"
            )
        with opened_member(path, archive, "digest") as stream:
            found = _text(path, stream)
        _check_digest(path, found, digest)
        with opened_member(path, archive, "scores") as stream:
            shape, dtype, fortran = array_header(path, "scores", stream)
            if shape != (count, CLASSES) or dtype.kind not in "fiu":
                raise DataFileError(
                    f"{path}: scores must be [{count}, {CLASSES}] numbers, one row an image, got "
                    f"{list(shape)} of {dtype}."
                )
            values = array_values(path, stream, dtype, count * CLASSES)
    array = values.reshape(shape, order="F" if fortran else "C")
    narrow = dtype.kind == "f" and dtype.itemsize <= 4
    return array.astype(np.float32) if narrow else array.astype(np.float64)


def _check_digest(path: Path, found: str, digest: str) -> None:
    if found != digest:
        raise DataFileError(
            f"{path} is for other images: its digest is {shown(found)[:16]}, that of the test is {digest[:16]}. "
            "Compute the scores on the files of capsbench tests, and save each file's digest with them."
        )


def _of_csv(path: Path, count: int, digest: str) -> Scores:
    scores = np.zeros((count, CLASSES))
    lines = np.zeros(count, np.int64)  # where each image's scores stand
    with _csv_errors(path), path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        stated = _stated_digest(header)
        if stated is not None:
            _check_digest(path, stated, digest)
            header = next(rows, [])
        names = [name.strip() for name in header]
        named = ["index", *names[1:]] if names[:1] == [""] else names  # pandas leaves out the index's name
        if sorted(named) != sorted(COLUMNS):
            raise DataFileError(
                f"{path}: the first line must name the columns {','.join(COLUMNS)}, got "
                f"{shown(','.join(names)) or 'an empty line'}. In Python: pandas.DataFrame(scores).to_csv(FILE)."
            )
        order = [named.index(name) for name in COLUMNS]
        for row in rows:
            if row:
                _put(path, rows.line_num, row, order, scores, lines)
    missing = np.flatnonzero(lines == 0)
    if len(missing):
        shown_rows = ", ".join(map(str, missing[:3].tolist()))
        raise DataFileError(
            f"{path} has scores of {count - len(missing):,} of {count:,} images; it lacks index {shown_rows}"
            f"{', ...' if len(missing) > 3 else ''}."
        )
    return scores


def _stated_digest(row: list[str]) -> str | None:
    """The digest in the line ``# digest HEX``, behind which spreadsheets leave empty columns."""
    match = DIGEST_LINE.fullmatch(row[0].strip()) if row else None
    return match[1].lower() if match else None


@contextmanager
def _csv_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataFileError(f"{path} is not a CSV file in UTF-8: {error}.") from None


def _put(path: Path, line: int, row: list[str], order: list[int], scores: Scores, lines: IndexArray) -> None:
    """Puts a line of a CSV file in its place."""
    if len(row) != len(COLUMNS):
        raise DataFileError(f"{path}, line {line}: {len(COLUMNS)} columns are needed, got {len(row)}.")
    number, *values = (row[place].strip() for place in order)
    place = _number(number)
    if place is None or not place.is_integer() or not 0 <= place < len(lines):  # NaN and infinity are not whole
        raise DataFileError(
            f"{path}, line {line}: index must be 0..{len(lines) - 1}, got {shown(number) or 'nothing'}."
        )
    index = int(place)
    if lines[index]:
        raise DataFileError(f"{path}: index {index} stands in line {lines[index]} and again in line {line}.")
    lines[index] = line
    for label, value in enumerate(values):
        score = _number(value)
        if score is None:
            raise DataFileError(
                f"{path}, line {line}: the score for class {label} must be a number, got {shown(value) or 'nothing'}."
            )
        scores[index, label] = score


def _number(text: str) -> float | None:
    """A number as any program writes one: numpy gives whole numbers a fraction, too."""
    try:
        return None if "_" in text else float(text)  # Python alone reads 1_000
    except ValueError:
        return None


class Drawings:
    """The reconstructions in a file, ``[N, 10, H, W]``, read part by part.

    Args:
        path: ``NAME.npz`` with an array ``reconstructions``: of each image one for each class, float 0..1 or uint8
            0..255.
        count: How many images there are.
        image_shape: Their height and width.

    Raises:
        DataFileError: It is of another shape or type, or its order is Fortran's.
    """

    def __init__(self, path: Path, count: int, image_shape: tuple[int, ...]) -> None:
        self._path = path
        self._shape = (count, CLASSES, *image_shape)
        with self._opened() as (_, dtype):
            self._dtype = dtype

    def __call__(self, rows: IndexArray, classes: IndexArray) -> npt.NDArray[np.float32]:
        """``[n, k, H, W]`` 0..1: those of some images ``[n]``, in ascending order, for classes ``[n, k]``."""
        first, last = int(rows.min()), int(rows.max())
        size = int(np.prod(self._shape[1:]))
        with self._opened() as (stream, _):
            skip_bytes(self._path, stream, first * size * self._dtype.itemsize)
            values = array_values(self._path, stream, self._dtype, (last - first + 1) * size)
        every = values.reshape(-1, *self._shape[1:])
        chosen = every[(rows - first)[:, None], classes]
        images = chosen.astype(np.float32) / (255 if self._dtype == np.uint8 else 1)
        if not np.isfinite(images).all() or images.min() < -TOLERANCE or images.max() > 1 + TOLERANCE:
            raise DataFileError(
                f"{self._path}: reconstructions must be numbers 0..1, or uint8 0..255; of images {first} to {last} "
                f"they are {images.min():.4g} to {images.max():.4g}."
            )
        return images.astype(np.float32)

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], np.dtype[Any]]]:
        with opened_archive(self._path) as archive, opened_member(self._path, archive, "reconstructions") as stream:
            shape, dtype, fortran = array_header(self._path, "reconstructions", stream)
            if shape != self._shape or fortran or not (dtype.kind == "f" or dtype == np.uint8):
                raise DataFileError(
                    f"{self._path}: reconstructions must be {list(self._shape)}, float or uint8, in C order, got "
                    f"{list(shape)} of {dtype}{' in Fortran order' if fortran else ''}."
                )
            yield stream, dtype


def has_drawings(path: Path) -> bool:
    """Whether a file of scores has reconstructions, too."""
    if path.suffix == ".csv":
        return False
    with opened_archive(path) as archive:
        return "reconstructions.npy" in archive.namelist()


def _text(path: Path, stream: IO[bytes]) -> str:
    """A short text, as numpy stores it: of characters or of bytes, or an array of the bytes themselves."""
    shape, dtype, _ = array_header(path, "digest", stream)
    size = int(np.prod(shape, dtype=np.int64))
    if not 1 <= size <= 64 or dtype.itemsize > 1024:
        raise DataFileError(f"{path}: digest must be a text of 64 hexadecimal digits, got {list(shape)} of {dtype}.")
    values = array_values(path, stream, dtype, size)
    if dtype.kind == "u" and size == 32:
        return values.astype(np.uint8).tobytes().hex()
    first: Any = values[0]
    return (first.decode(errors="replace") if isinstance(first, bytes) else str(first)).strip().lower()
