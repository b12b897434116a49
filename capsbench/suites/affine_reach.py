"""Where the affine gap comes from: digits as far out as in training, and digits further out than any in training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.errors import DataFileError
from capsbench.evaluation.accuracy import interval_of
from capsbench.evaluation.factors import displacement
from capsbench.report.numbers import spread
from capsbench.results.answers import Answers
from capsbench.results.pixels import packed, unpacked
from capsbench.results.result import Result
from capsbench.results.writers import resampled_units
from capsbench.statistics import resampled_interval

REACH = 6  # pixels: how far off the centre digits lie in training, each way
WITHIN = REACH + 0.5  # training moves by whole pixels, affnist by any part of one


def kept_reach(transform: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Which images lie as far out as in training, as plain JSON, from their maps ``[N, 6]``."""
    inside = displacement(transform[:, 4:]) < WITHIN
    return {"pixels": WITHIN, "total": len(inside), "images": packed(np.packbits(inside))}


def within_reach(result: Result) -> npt.NDArray[np.bool_] | None:
    """``[N]``: the images that `kept_reach` put into a result; None where an earlier edition did not.

    Raises:
        DataFileError: What it kept is damaged.
    """
    kept = result.metrics.get("within reach")
    if kept is None:
        return None
    total, bits = kept.get("total"), np.unpackbits(unpacked(kept.get("images")).ravel())
    if type(total) is not int or not total <= len(bits) < total + 8:
        raise DataFileError(f"A result keeps {len(bits)} bits for {total} images within reach.")
    return np.asarray(bits[:total].astype(np.bool_))


def reach_points(cells: Sequence[Result], name: str, *, intervals: bool = True) -> list[dict[str, Any]]:
    """For each cell the accuracies within reach at a checkpoint; nothing where one of them does not hold what it takes.

    Returns:
        ``"within reach"``: affine accuracy there. ``"gap within reach"``: clean accuracy minus that. ``"further out"``:
        the share of the whole gap that the other images make, None where there is no gap. ``intervals`` are of a
        single cell alone, for of several the table shows the deviation over seeds.
    """
    found = []
    for cell in cells:
        point, inside = cell.metrics["checkpoints"].get(name, {}), within_reach(cell)
        if inside is None or not all("answers" in point.get(role, {}) for role in ("clean", "affine")):
            return []
        clean, affine = Answers.of_result(cell, [point["clean"], point["affine"]], name)
        found.append(_measured(clean, affine, inside, intervals=intervals and len(cells) == 1))
    return found


def reach_note(networks: Mapping[str, Sequence[Result]], name: str) -> str:
    """The sentences about what makes the gap at a checkpoint; nothing where no network with a gap was measured."""
    shares, whole = [], False
    outside = 0.0
    for model, cells in networks.items():
        points = reach_points(cells, name, intervals=False)
        further = [100 * point["further out"] for point in points if point["further out"] is not None]
        if further and len(further) == len(points):
            outside = float(np.mean([100 * point["outside"] for point in points]))
            shares.append(f"{spread(further, digits=0)} % of the gap of {model}")
            whole |= round(float(np.mean(further))) > 100
    if not shares:
        return ""
    elsewhere = any(cell.origin != "trained" for cells in networks.values() for cell in cells)
    when = "best validation; as given, of networks from elsewhere" if elsewhere else "best validation"
    return (
        f"The gap has two parts: {outside:.0f} % of the affine images lie further "
        f"out than any in training; they make {', '.join(shares)} ({when}). Within reach: the other images, "
        f"at most {WITHIN} pixels off the centre (training: {REACH})."
        + " More than 100 %: of the images within reach more are classified correctly than of the clean ones."
        * whole
    )


def _measured(clean: Answers, affine: Answers, inside: npt.NDArray[np.bool_], *, intervals: bool) -> dict[str, Any]:
    """The accuracies of one network within reach."""
    near = affine.correct[inside]
    share, whole = float(near.mean()), float(clean.correct.mean())
    gap, outside = whole - float(affine.correct.mean()), float((~inside).mean())
    beyond = outside * (whole - float(affine.correct[~inside].mean())) if outside else 0.0
    measured: dict[str, Any] = {
        "within reach": {"share": share},
        "gap within reach": {"share": whole - share},
        "further out": beyond / gap if gap > 0 else None,
        "outside": outside,
    }
    if intervals:
        base = affine.base[inside]
        measured["within reach"]["interval"] = list(interval_of(near, base, affine.writers))
        unit = resampled_units(base, affine.writers)
        clean_unit = clean.base if unit is base else resampled_units(clean.base, clean.writers)
        units = int(max(clean_unit.max(), unit.max(initial=0))) + 1
        right, shown = _by_unit(clean.correct, clean_unit, units)
        still, seen = _by_unit(near, unit, units)
        interval = resampled_interval(np.stack([right, -still]), np.stack([shown, seen]))
        measured["gap within reach"]["interval"] = list(interval)
    return measured


def _by_unit(
    correct: npt.NDArray[np.bool_], unit: npt.NDArray[np.integer[Any]], units: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The right answers and the images of each of all digits, or of their writers, also of those without any."""
    right = np.bincount(unit, weights=correct, minlength=units)
    return np.asarray(right), np.bincount(unit, minlength=units).astype(np.float64)
