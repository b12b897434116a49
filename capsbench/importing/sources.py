"""Which digit each imported sample shows: by the ids that the file gives, else by the order of its labels."""

import hashlib
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capsbench.contracts import UInt8Array
from capsbench.data.digits import KNOWN, KnownDigits
from capsbench.importing.matfile import NO_ID, RefusedError
from capsbench.spec import UNKNOWN

FIRST_IDS = {"train": (1, 0), "validation": (1, 0, 50_001), "trainval": (1, 0), "test": (1, 0, 60_001)}
"""What the id of a split's first digit may be: counted from 1, from 0, or through all of MNIST's training or 70,000
digits. Only the labels decide: whatever they do not confirm is counted from 1."""


@dataclass(frozen=True)
class Sources:
    """The digits that samples show.

    Attributes:
        digits: The SHA-256 of the split's digits, or `UNKNOWN`.
        index: ``[N]`` int32, the index of each sample's digit; -1 where it is unknown.
        by_ids: Whether the file's ids say it, and the order of its labels does not.
    """

    digits: str
    index: npt.NDArray[np.int32]
    by_ids: bool = False


def find_sources(labels: UInt8Array, ids: npt.NDArray[np.int32]) -> Sources:
    """The digits that samples show.

    Args:
        labels: ``[N]``.
        ids: ``[N]``: which digit each sample shows, as the file says it (``original_id``); `NO_ID` in a file that does
            not say it.

    Raises:
        RefusedError: The ids contradict the labels.
    """
    ordered = by_order(labels)
    if (ids == NO_ID).any():
        return ordered or Sources(UNKNOWN, np.full(len(labels), -1, np.int32))
    _check_same_labels(labels, ids)
    if ordered is not None:
        _check_same_order(ids, ordered)
        return ordered
    return _by_ids(labels, ids)


def by_order(labels: UInt8Array) -> Sources | None:
    """The digits of a split whose labels a file repeats.

    Args:
        labels: ``[N]``: the labels of the split's n digits, again and again; or n runs of one label each, equally long,
            which is another order of the same samples.

    Returns:
        None if the labels are in neither order.
    """
    for known in KNOWN.values():
        variants, rest = divmod(len(labels), known.count)
        if rest or not variants:
            continue
        rows = np.arange(known.count, dtype=np.int32)
        for rounds, source in (
            (labels.reshape(variants, known.count), np.tile(rows, variants)),
            (labels.reshape(known.count, variants).T, np.repeat(rows, variants)),
        ):
            if _has_labels(known, rounds[0]) and (rounds == rounds[0]).all():
                return Sources(known.sha256, source)
    return None


def _has_labels(known: KnownDigits, labels: UInt8Array) -> bool:
    return hashlib.sha256(np.ascontiguousarray(labels).data).hexdigest() == known.labels


def _check_same_labels(labels: UInt8Array, ids: npt.NDArray[np.int32]) -> None:
    """Refuses ids that belong to several labels: a digit has one."""
    places = np.unique(ids, return_index=True)[1]
    first = places[np.searchsorted(ids[places], ids)]  # the first sample of each sample's id
    wrong = np.flatnonzero(labels != labels[first])
    if wrong.size:
        later, earlier = int(wrong[0]), int(first[wrong[0]])
        raise RefusedError(
            f"its original_id contradicts its labels: samples {earlier + 1:,} and {later + 1:,} are both of digit "
            f"{ids[later]}, but one is a {labels[earlier]} and the other a {labels[later]}"
        )


def _check_same_order(ids: npt.NDArray[np.int32], ordered: Sources) -> None:
    """Refuses ids of another order than the one that the labels are in."""
    known, source = KNOWN[ordered.digits], ordered.index
    first = next((first for first in FIRST_IDS[known.split] if ids[0] - source[0] == first), 1)
    wrong = np.flatnonzero(ids - source != first)
    if wrong.size:
        at = int(wrong[0])
        raise RefusedError(
            f"its original_id contradicts the order of its labels, which is that of {known.origin}'s {known.split} "
            f"digits: sample {at + 1:,} should have {source[at] + first}, got {ids[at]}"
        )


def _by_ids(labels: UInt8Array, ids: npt.NDArray[np.int32]) -> Sources:
    """The digits that the ids count, if their labels are those of a split; else unknown ones, told apart by their id.

    Raises:
        RefusedError: There is an id of 0, and the labels do not confirm that they count from 0.
    """
    numbers, places = np.unique(ids, return_index=True)
    gapless = int(numbers[-1]) - int(numbers[0]) + 1 == len(numbers)
    candidates = [known for known in KNOWN.values() if gapless and known.count == len(numbers)]
    for known in candidates:
        if numbers[0] in FIRST_IDS[known.split] and _has_labels(known, labels[places]):
            return Sources(known.sha256, ids - numbers[0], by_ids=True)
    if numbers[0] < 1:
        raise RefusedError("its original_id has a 0, but counts from 1")
    if candidates:
        warnings.warn(
            f"original_id goes from {numbers[0]:,} to {numbers[-1]:,}, but the labels of these {len(numbers):,} digits "
            "are not those of any split of known digits. So which digits they are stays unknown.",
            stacklevel=2,
        )
    return Sources(UNKNOWN, ids - 1, by_ids=True)
