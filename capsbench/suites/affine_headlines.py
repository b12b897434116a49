"""The figures by which a board compares networks of the suite affine: at equal clean accuracy."""

from collections.abc import Mapping
from typing import Any

from capsbench.report.differences import Question
from capsbench.report.headlines import Headline, Measured, share
from capsbench.results.result import Result

MISSING = "target not reached"


def _found(cell: Result, column: str) -> Measured | None:
    """A figure of the first checkpoint at the target; of a network that was not trained here, of the one there is."""
    points: Mapping[str, Any] = cell.metrics["checkpoints"]
    names = ["target"] if cell.origin == "trained" else ["target", "best", "last"]
    return next((share(points[name][column]) for name in names if name in points), None)


HEADLINES = (
    Headline(
        name="affine at target",
        unit="%",
        measure=lambda cell: _found(cell, "affine"),
        question=Question(("checkpoints", "target", "affine")),
        paper={"capsnet": "79", "cnn-pool": "66"},
        missing=MISSING,
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
