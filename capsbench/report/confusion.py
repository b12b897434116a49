"""Which digits are taken for which, from the wrong answers that results keep."""

from collections.abc import Sequence

import numpy as np

from capsbench.contracts import CLASSES, IndexArray
from capsbench.report.differences import Place, found_at
from capsbench.results.answers import mistakes_of
from capsbench.results.result import Result


def confusion(cells: Sequence[Result], place: Place) -> IndexArray | None:
    """``[10, 10]``: how often a digit (row) was taken for another (column), over all results.

    Of pairs, a digit that was not named is taken for one that was named and is not there.

    Args:
        cells: Results of one network.
        place: Where they keep their answers.

    Returns:
        None where one does not keep what was answered wrongly.

    Raises:
        DataFileError: What one keeps is damaged.
    """
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    for cell in cells:
        point = found_at(cell, place)
        wrong = mistakes_of(point) if point else None
        if wrong is None:
            return None
        half = wrong.shape[1] // 2
        for labels, answers in zip(wrong[:, :half].tolist(), wrong[:, half:].tolist(), strict=True):
            missed = [label for label in labels if label not in answers]
            named = [answer for answer in answers if answer not in labels]
            for label, answer in zip(missed, named, strict=False):
                counts[label, answer] += 1
    return counts
