"""Who wrote the test digits, once in a result: what its intervals and paired tests resample where it is known."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import IndexArray
from capsbench.errors import DataFileError
from capsbench.results.pixels import packed, unpacked

FEWEST_WRITERS = 10  # of so few, intervals are a fifth too narrow (Student's t against the bootstrap); of fewer, worse
BYTES = 4  # of a writer's number


def resampled_units(
    source: npt.NDArray[np.integer[Any]], writers: npt.NDArray[np.integer[Any]] | None
) -> npt.NDArray[np.integer[Any]]:
    """What is drawn independently, for each digit that is shown: its writer, whose digits may all be hard; else itself.

    Args:
        source: The digits that images show, of any shape.
        writers: ``[digits]`` who wrote each; None where it is not known.

    Returns:
        The writers of those digits; the digits where one of them has no writer, or fewer than `FEWEST_WRITERS` are
        shown.
    """
    if writers is None or not source.size:
        return source
    if not 0 <= int(source.min()) <= int(source.max()) < len(writers):  # of a file from elsewhere
        return source
    written = writers[source]
    return written if len(np.unique(written)) >= FEWEST_WRITERS else source


def key_of_writers(writers: npt.NDArray[np.int32]) -> str:
    """The SHA-256 of the numbers of writers ``[digits]``; an accuracy in a result names its writers by this key."""
    return hashlib.sha256(np.ascontiguousarray(writers, "<i4").data).hexdigest()


def packed_writers(writers: npt.NDArray[np.int32]) -> dict[str, Any]:
    """As plain JSON: of all numbers the first bytes, then the second ones, and so on, for they deflate."""
    each = np.ascontiguousarray(writers, "<i4").view(np.uint8).reshape(len(writers), BYTES)
    return packed(np.ascontiguousarray(each.T))


def unpacked_writers(kept: Mapping[str, Any], key: Any) -> IndexArray:
    """``[digits]`` int64: the writers that a result keeps under a key, numbered from 0 on.

    Args:
        kept: `capsbench.results.result.Result.writers`.
        key: `key_of_writers`.

    Raises:
        DataFileError: They are missing or damaged.
    """
    if not isinstance(key, str) or key not in kept:
        raise DataFileError("A result is damaged: it does not keep the writers of its digits.")
    each = unpacked(kept[key])
    if each.ndim != 2 or each.shape[0] != BYTES or not each.shape[1]:
        raise DataFileError(f"Writers in a result are damaged: {list(each.shape)} are not {BYTES} bytes for each.")
    writers = np.ascontiguousarray(each.T).view("<i4")[:, 0]
    if key_of_writers(writers) != key:
        raise DataFileError("Writers in a result are damaged: their SHA-256 is another.")
    if not 0 <= int(writers.min()) <= int(writers.max()) < len(writers):
        raise DataFileError("Writers in a result are damaged: they are numbered from 0 on.")
    return writers.astype(np.int64)
