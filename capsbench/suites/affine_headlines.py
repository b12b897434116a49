"""The figures by which a board compares networks of the suite affine: at equal clean accuracy."""

from collections.abc import Mapping
from typing import Any

from capsbench.report.differences import Question
from capsbench.report.headlines import Headline, Measured, share
from capsbench.results.result import Result
from capsbench.suites.affine_matched import WINDOW

MISSING, ELSEWHERE = "target not reached", "as given: not at the target"


def _found(cell: Result, column: str) -> Measured | None:
    """A figure of the first checkpoint at the target; of a network from elsewhere, of its only one if that is there.

    Which validation digits it was selected on is not known, so its accuracy on clean test digits must be near the
    target: as near as the validations through which `affine_matched` draws its line.
    """
    points: Mapping[str, Any] = cell.metrics["checkpoints"]
    if "target" in points:
        return share(points["target"][column])
    point = None if cell.origin == "trained" else points.get("best", points.get("last"))
    target = cell.settings["target"]
    near = point is not None and abs(point["clean"]["share"] - target) <= WINDOW * (1 - target)
    return share(point[column]) if point and near else None


HEADLINES = (
    Headline(
        name="affine at target",
        unit="%",
        measure=lambda cell: _found(cell, "affine"),
        question=Question(("checkpoints", "target", "affine")),
        paper={"capsnet": "79", "cnn-pool": "66"},
        missing=MISSING,
        missing_elsewhere=ELSEWHERE,
        caption="The target is {target:.2%} clean accuracy.",
        elsewhere=(
            "A network that was not trained here has one checkpoint. Its figures stand here where its accuracy on "
            "clean test digits is within half the target's error of the target; others are not at equal clean accuracy."
        ),
    ),
    Headline(
        name="clean at target",
        unit="%",
        measure=lambda cell: _found(cell, "clean"),
        paper={"capsnet": "99.23", "cnn-pool": "99.22"},
        missing=MISSING,
        missing_elsewhere=ELSEWHERE,
    ),
    Headline(
        name="gap",
        unit="points",
        measure=lambda cell: _found(cell, "gap"),
        larger_is_better=False,
        missing=MISSING,
        missing_elsewhere=ELSEWHERE,
    ),
)
