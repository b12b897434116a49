"""Which images a network classified correctly, kept in a result for paired tests of two networks."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import IndexArray
from capsbench.errors import DataFileError
from capsbench.results.pixels import packed, unpacked
from capsbench.results.result import Result, name_of
from capsbench.results.writers import key_of_writers, resampled_units, unpacked_writers

PAIR_ANSWERS = ("exact pair", "at least one")
"""The accuracies of pairs of digits that keep their answers; a paired test of them needs both digits of each pair."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Which samples of a data set a network classified correctly.

    Attributes:
        correct: ``[N]`` bool; sample i shows base digit ``i % digits``, as every generator has it.
        digits: How many base digits there are, 1..N.
        writers: ``[digits or more]`` who wrote each of them; None where it is not known.
    """

    correct: npt.NDArray[np.bool_]
    digits: int
    writers: npt.NDArray[np.integer[Any]] | None = None

    @classmethod
    def in_order(
        cls,
        correct: npt.NDArray[np.bool_],
        base: npt.NDArray[np.int32],
        writers: npt.NDArray[np.int32] | None = None,
    ) -> "Answers | None":
        """The answers to samples of the digits ``base`` ``[N]``; None if those are not in the order of a data set."""
        digits = int(base.max()) + 1
        return cls(correct, digits, writers) if np.array_equal(base, np.arange(len(base)) % digits) else None

    @property
    def base(self) -> npt.NDArray[np.int32]:
        """``[N]`` int32: the digit that a sample shows."""
        return (np.arange(len(self.correct)) % self.digits).astype(np.int32)

    @property
    def unit(self) -> npt.NDArray[np.integer[Any]]:
        """``[N]``: what intervals resample and tests flip, see `capsbench.results.writers.resampled_units`."""
        return resampled_units(self.base, self.writers)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types: the answers are bits, most significant first, in base64; of writers their key."""
        written = {} if self.writers is None else {"writers": key_of_writers(self.writers.astype(np.int32))}
        bits = base64.b64encode(np.packbits(self.correct).tobytes()).decode()
        return {"digits": self.digits, **written, "answers": bits}

    @classmethod
    def from_dict(cls, point: Mapping[str, Any], writers: Mapping[str, Any] | None = None) -> "Answers":
        """What `Accuracy.to_dict` wrote: the answers and, to check them, ``correct`` and ``total``.

        Args:
            point: An accuracy as a result keeps it.
            writers: `capsbench.results.result.Result.writers`; without it they stay unknown.

        Raises:
            DataFileError: The numbers do not fit one another, or the text is damaged.
        """
        correct, total, digits, text = (point.get(key) for key in ("correct", "total", "digits", "answers"))
        if not (type(correct) is int and type(total) is int and type(digits) is int and 1 <= digits <= total):
            raise DataFileError(
                f"Answers in a result need numbers of digits, images and hits, got {digits}, {total}, {correct}."
            )
        try:
            content = base64.b64decode(text if isinstance(text, str) else "", validate=True)
        except (binascii.Error, ValueError):
            content = b""
        bits = np.unpackbits(np.frombuffer(content, np.uint8))
        if len(content) != (total + 7) // 8 or bits[total:].any() or int(bits.sum()) != correct:
            raise DataFileError(
                f"The answers to {total:,} images are damaged: they are not {total:,} bits with {correct:,} right ones."
            )
        written = None
        if writers is not None and "writers" in point:
            written = unpacked_writers(writers, point["writers"])
            if len(written) < digits:
                raise DataFileError(f"A result keeps answers to {digits:,} digits and writers of {len(written):,}.")
        return cls(bits[:total].astype(np.bool_), digits, written)

    @classmethod
    def of_result(cls, result: Result, points: Sequence[Mapping[str, Any]], place: str) -> "list[Answers]":
        """What a result keeps at a place, under conditions that show the same digits: of each what `from_dict` reads.

        Raises:
            DataFileError: As `from_dict`, or they name different writers; it begins with the result and the place.
        """
        try:
            if any(point.get("writers") != points[0].get("writers") for point in points):
                raise DataFileError("A result is damaged: it names different writers of the same digits.")
            return [cls.from_dict(point, result.writers) for point in points]
        except DataFileError as error:
            raise DataFileError(f"{name_of(result)}, at {place}: {error}") from None


def mistakes_of(point: Mapping[str, Any]) -> IndexArray | None:
    """``[wrong, 2 k]``: of each image that was answered wrongly the k labels, then the k answers; k is 2 of pairs.

    Args:
        point: An accuracy as a result keeps it.

    Returns:
        None where the result does not keep them, as those of earlier editions.

    Raises:
        DataFileError: What it keeps is damaged.
    """
    text = point.get("mistakes")
    if text is None:
        return None
    wrong = Answers.from_dict(point)
    number = int((~wrong.correct).sum())
    digits = isinstance(text, str) and (not text or (text.isascii() and text.isdigit()))
    if not digits or len(text) not in (2 * number, 4 * number):
        raise DataFileError(f"A result keeps {number:,} wrong answers, and not what they were.")
    return np.array([int(one) for one in text], np.int64).reshape(number, -1 if number else 2)


def packed_partners(source: npt.NDArray[np.int32]) -> dict[str, Any]:
    """The second digit of each pair as plain JSON, from ``[N, 2]``; the first is `Answers.base`."""
    return packed(source[:, 1:].astype("<i4").view(np.uint8))


def unpacked_partners(content: Any) -> IndexArray:
    """``[N]`` int64: what `packed_partners` put into a result.

    Raises:
        DataFileError: It is damaged.
    """
    bytes_of_each = unpacked(content)
    if bytes_of_each.ndim != 2 or bytes_of_each.shape[1] != 4:
        raise DataFileError(f"Partners in a result have four bytes each, got the shape {list(bytes_of_each.shape)}.")
    partners = np.ascontiguousarray(bytes_of_each).view("<i4")[:, 0].astype(np.int64)
    if partners.min(initial=0) < 0:
        raise DataFileError("Partners in a result are damaged: a digit has a number below 0.")
    return partners
