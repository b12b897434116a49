"""A network's scores of its test images, kept in a result so that those of several seeds can be added up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import CLASSES, UInt8Array
from capsbench.errors import DataFileError
from capsbench.results.answers import Answers
from capsbench.results.pixels import packed, unpacked

BYTES = 4  # of a score


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of a network's images.

    Attributes:
        scores: ``[N, 10]`` float32, as the network gave them: nothing is rounded, so that an ensemble of one network
            answers as the network.
        labels: ``[N]`` uint8.
    """

    scores: npt.NDArray[np.float32]
    labels: UInt8Array

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types: of all scores the first bytes, then the second ones, and so on, for they deflate."""
        each = self.scores.astype("<f4").view(np.uint8).reshape(len(self.scores), CLASSES, BYTES)
        return {"scores": packed(np.ascontiguousarray(each.transpose(2, 0, 1))), "labels": packed(self.labels)}

    @classmethod
    def from_dict(cls, content: Any, point: Mapping[str, Any]) -> "Scores":
        """What `to_dict` put into a result.

        Args:
            content: The plain JSON.
            point: The accuracy of the same images in the result, whose answers must be those of the scores.

        Raises:
            DataFileError: It is damaged, or its answers are others.
        """
        found: Mapping[Any, Any] = content if isinstance(content, Mapping) else {}
        each, labels = unpacked(found.get("scores")), unpacked(found.get("labels"))
        if labels.ndim != 1 or each.shape != (BYTES, len(labels), CLASSES) or labels.max(initial=0) >= CLASSES:
            raise DataFileError(
                f"Scores in a result are damaged: {list(each.shape)} bytes do not fit {list(labels.shape)} labels."
            )
        scores = np.ascontiguousarray(each.transpose(1, 2, 0)).view("<f4")[..., 0].astype(np.float32)
        answers = Answers.from_dict(point)
        right = answers_of(scores) == labels
        if not np.isfinite(scores).all() or not np.array_equal(right, answers.correct):
            raise DataFileError("Scores in a result are damaged: their answers are not those that it keeps.")
        return cls(scores, labels)


def answers_of(scores: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
    """``[N]``: the class with the highest of scores ``[N, 10]``; of equal ones the lower class."""
    return np.asarray(scores.argmax(1), np.int64)


def summed(several: Sequence[Scores]) -> npt.NDArray[np.bool_]:
    """Which images ``[N]`` an ensemble answers correctly: the class with the highest sum of its networks' scores.

    Raises:
        DataFileError: The networks were tested on other images.
    """
    first = several[0]
    if any(not np.array_equal(first.labels, one.labels) for one in several):
        raise DataFileError("The networks of an ensemble have scores of other images.")
    total = np.sum([one.scores.astype(np.float64) for one in several], axis=0)
    return np.asarray(answers_of(total) == first.labels)
