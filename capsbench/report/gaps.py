"""How the gaps of two results differ on the same images: the digits that both sets show are the units."""

from collections.abc import Mapping, Sequence

import numpy as np

from capsbench.errors import SuiteError, shown
from capsbench.report.differences import Difference, Place, answers_of_both, found_at
from capsbench.report.suites import suite_of
from capsbench.results.answers import Answers
from capsbench.results.result import Result
from capsbench.results.writers import resampled_units
from capsbench.statistics import more_often_right, paired_gap


def gap_places(kept: Sequence[Place], gaps: Mapping[str, str]) -> dict[Place, tuple[Place, Place]]:
    """Where gaps stand, with the places of the answers to the clean and to the transformed images.

    Args:
        kept: Places of answers.
        gaps: What a suite calls a gap -> what it calls the transformed images; both stand beside ``clean``.
    """
    found = {}
    for clean in kept:
        *beside, name = clean
        for gap, transformed in gaps.items() if name == "clean" else ():
            begins = (*beside, transformed)
            moved = [place for place in kept if place[: len(begins)] == begins]
            found.update({(*beside, gap, *place[len(begins) :]): (clean, place) for place in moved})
    return found


def gaps_of(suite: str) -> Mapping[str, str]:
    """Which gaps a suite has: what it calls a gap -> what it calls the transformed images; none if it says nothing.

    Raises:
        SuiteError: They are something else.
    """
    found = getattr(suite_of(suite), "gaps", {})
    if not isinstance(found, Mapping) or not all(isinstance(word, str) for word in (*found, *found.values())):
        raise SuiteError(
            f'The gaps of suite {suite!r} must name images by gaps, such as {{"gap": "affine"}}, got {shown(found)}.'
        )
    return found


def gap_difference(first: Result, second: Result, place: Place, clean: Place, moved: Place) -> Difference | None:
    """How the gaps of two results differ, image by image.

    Args:
        first: One.
        second: The other.
        place: Where their gaps stand.
        clean: Where both keep their answers to clean images.
        moved: Where both keep those to transformed ones.

    Returns:
        None where clean and transformed images do not show the same digits, so that nothing is paired.

    Raises:
        DataFileError: As `capsbench.report.differences.difference_at`, or a result names different writers of the
            digits.
    """
    both = [answers_of_both(first, second, one) for one in (clean, moved)]
    if len({answers.digits for answers, _ in both}) > 1:
        return None
    for result in (first, second):
        points = [found_at(result, one) or {} for one in (clean, moved)]
        Answers.of_result(result, points, ", ".join(place))  # checks that both name the same writers
    known = all(one.writers is not None for answers in both for one in answers)
    shown = [ours.base for ours, _ in both]
    units = [
        resampled_units(base, ours.writers if known else None) for base, (ours, _) in zip(shown, both, strict=True)
    ]
    more = [more_often_right(ours.correct, theirs.correct) for ours, theirs in both]
    interval, p = paired_gap(more[0], units[0], more[1], units[1])
    gaps = [float(both[0][side].correct.mean() - both[1][side].correct.mean()) for side in (0, 1)]
    return Difference(
        place=place,
        first=gaps[0],
        second=gaps[1],
        interval=interval,
        p=p,
        digits=both[0][0].digits,
        images=sum(len(one) for one in more),
        gap=True,
        writers=0 if units[0] is shown[0] else len(np.unique(units[0])),
    )
