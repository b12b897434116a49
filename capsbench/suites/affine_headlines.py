"""The figures by which a board compares networks of the suite affine: at equal clean accuracy."""

from collections.abc import Mapping
from typing import Any

from capsbench.report.differences import Question
from capsbench.report.headlines import Headline, Measured, share
from capsbench.results.result import Result

MISSING = "target not reached"


def _found(cell: Result, column: str) -> Measured | None:
    """A figure of the first checkpoint at the target; of a network from elsewhere, of its only one if that is there.

    Which validation digits it was selected on is not known, so its clean test digits must reach the target.
    """
    points: Mapping[str, Any] = cell.metrics["checkpoints"]
    if "target" in points:
        return share(points["target"][column])
    point = None if cell.origin == "trained" else points.get("best", points.get("last"))
    reached = point is not None and point["clean"]["share"] >= cell.settings["target"]
    return share(point[column]) if point and reached else None


HEADLINES = (
    Headline(
        name="affine at target",
        unit="%",
        measure=lambda cell: _found(cell, "affine"),
        question=Question(("checkpoints", "target", "affine")),
        paper={"capsnet": "79", "cnn-pool": "66"},
        missing=MISSING,
        elsewhere=(
            "A network that was not trained here has one checkpoint. It stands at the target where its accuracy on "
            "clean test digits reaches it; below, its figures are not at equal clean accuracy, and are left out."
        ),
    ),
    Headline(
        name="clean at target",
        unit="%",
        measure=lambda cell: _found(cell, "clean"),
        paper={"capsnet": "99.23", "cnn-pool": "99.22"},
        missing=MISSING,
    ),
    Headline(
        name="gap",
        unit="points",
        measure=lambda cell: _found(cell, "gap"),
        larger_is_better=False,
        missing=MISSING,
    ),
)
