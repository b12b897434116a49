"""Affine accuracy at equal clean accuracy, from all validations near the target instead of the first that reaches it.

The first validation at the target is the first lucky one: its clean accuracy is higher than the network's by more than
the standard error of the validation digits. A line through the validations around the target has no such luck.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from capsbench.report.differences import told_points
from capsbench.report.numbers import spread
from capsbench.results.result import Result
from capsbench.statistics import interval_over_seeds

WINDOW = 0.5  # times the target's error, each way: of 97 % from 95.5 to 98.5
FEWEST = 4  # validations that make a line


def affine_at(target: float, history: Sequence[Mapping[str, float]]) -> float | None:
    """The affine accuracy 0..1 on validation digits at a clean accuracy, by least squares over validations.

    Args:
        target: The clean accuracy 0..1.
        history: Rows with ``accuracy`` and ``affine``.

    Returns:
        None where fewer than four validations lie around the target, or all on one side of it.
    """
    points = np.array([(row["accuracy"] - target, row["affine"]) for row in history if "affine" in row]).reshape(-1, 2)
    near = points[np.abs(points[:, 0]) <= WINDOW * (1 - target) + 1e-9]
    if len(near) < FEWEST or near[:, 0].min() > 0 or near[:, 0].max() < 0:
        return None
    design = np.column_stack([np.ones(len(near)), near[:, 0]])
    line, *_ = np.linalg.lstsq(design, near[:, 1], rcond=None)
    return float(line[0])


def matched_notes(networks: Mapping[str, Sequence[Result]]) -> list[str]:
    """Sentences about equal clean accuracy: each network's affine accuracy there, and the error of one validation."""
    cells = [cell for members in networks.values() for cell in members]
    target = cells[0].settings["target"]
    found = {
        model: {cell.seed: affine_at(target, cell.metrics.get("history", [])) for cell in members}
        for model, members in networks.items()
    }
    values = {model: {seed: one for seed, one in seeds.items() if one is not None} for model, seeds in found.items()}
    if not any(values.values()):
        return []
    shown = [_told(model, list(values[model].values()), len(networks[model])) for model in networks]
    (baseline, ours), *others = values.items()
    differences = [_difference(model, theirs, baseline, ours) for model, theirs in others]
    return [
        f"At {target:.2%} clean accuracy, by a line through the validations within {100 * WINDOW * (1 - target):.2g} "
        f"points: affine % on validation digits {', '.join(shown)}{''.join(filter(None, differences))}.{_luck(cells)}"
    ]


def _told(model: str, values: Sequence[float], cells: int) -> str:
    if not values:
        return f"{model} not reached"
    some = f" ({len(values)} of {cells} seeds)" if len(values) < cells else ""
    return f"{model} {spread([100 * one for one in values], digits=1)}{some}"


def _difference(model: str, theirs: Mapping[int, float], baseline: str, ours: Mapping[int, float]) -> str:
    """The mean difference over the seeds that both have, with Student's interval over them."""
    differences = [theirs[seed] - ours[seed] for seed in theirs if seed in ours]
    if len(differences) < 2:
        return ""
    low, high = interval_over_seeds(differences, [(one, one) for one in differences])
    mean = float(np.mean(differences))
    return f"; {model} minus {baseline} {told_points(mean, (max(-1.0, low), min(1.0, high)), 1)} over seeds"


def _luck(cells: Sequence[Result]) -> str:
    """What one digit more or less would do: the standard error of a validation at the target."""
    spec: Mapping[str, Any] = cells[0].data.get("validation", {}).get("spec", {})
    if not spec.get("count"):
        return ""
    target, count = cells[0].settings["target"], spec["count"]
    error = 100 * (target * (1 - target) / count) ** 0.5
    return f" A validation of {count:,} digits has a standard error of {error:.2f} points there."
