"""The charts of the suite affine: accuracy against each factor, and affine against clean accuracy over training."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from capsbench.report.charts import Chart, Ends, Point
from capsbench.report.numbers import BARS, percent_over_seeds
from capsbench.results.result import Result
from capsbench.statistics import mean
from capsbench.suites.affine_reach import REACH

CURVE = 4  # times the target's error: where the curve begins

LINES = {
    "rotation": {"alone": ("alone", "rotation"), "affnist": ("all at once", "rotation")},
    "shear": {"alone": ("alone", "shear"), "affnist": ("all at once", "shear")},
    "scale": {"alone": ("alone", "scale")},
    "scale of each axis": {"affnist, x": ("all at once", "scale_x"), "affnist, y": ("all at once", "scale_y")},
    "translation": {"alone": ("alone", "translation"), "affnist": ("all at once", "translation")},
}
"""The charts of factors: what a line is called, and where its points stand in a result's factors."""

AXES = {
    "rotation": "rotation (degrees, counter-clockwise)",
    "shear": "shear (pixels to the side for each pixel down)",
    "scale": "scale of both axes",
    "scale of each axis": "scale of one axis",
    "translation": "translation (pixels off the centre, the larger of down and across)",
}
RANGES = {
    "rotation": "Training has no rotation, affnist -20..20 degrees.",
    "shear": "Training has no shear, affnist -0.2..0.2.",
    "scale": "Training has scale 1, affnist 0.8..1.2 for each axis.",
    "scale of each axis": "Training has scale 1, affnist 0.8..1.2 for each axis.",
    "translation": f"Training has up to {REACH} pixels, affnist whatever keeps all ink on the canvas.",
}
GROUPS = {
    "alone": f"Alone: the other factors neutral, and digits at most {REACH} pixels off the centre unless that is it; "
    "those without such a place are left out.",
    "all at once": "affnist: its test set in bins, the other factors varying.",
}


def affine_charts(networks: Mapping[str, Sequence[Result]]) -> list[Chart]:
    """The charts of the results of each network; those without points are left out."""
    charts = [*(_factor_chart(name, networks) for name in LINES), _curve(networks)]
    return [chart for chart in charts if any(chart.series.values())]


def _factor_chart(name: str, networks: Mapping[str, Sequence[Result]]) -> Chart:
    """The lines of `LINES`, for each network; means over seeds."""
    series: dict[str, list[Point]] = {}
    intervals: dict[str, list[Ends]] = {}
    for model, cells in networks.items():
        factors = [cell.metrics["factors"] for cell in cells if "factors" in cell.metrics]
        for line, (group, factor) in LINES[name].items():
            label = f"{model}, {line}"
            series[label], intervals[label] = _means([one[group][factor] for one in factors])
    shown = {group for group, _ in LINES[name].values()}
    return Chart(
        name=f"affine-{name.replace(' ', '-')}",
        title=f"Accuracy against {'the ' if ' ' in name else ''}{name}",
        x_label=AXES[name],
        y_label="accuracy (%)",
        series=series,
        intervals=intervals,
        note="\n".join(
            [
                f"{RANGES[name]} The best checkpoint by validation; means over seeds.",
                *(told for group, told in GROUPS.items() if group in shown),
                BARS,
            ]
        ),
    )


def _means(lines: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[list[Point], list[Ends]]:
    """A line over seeds, of the same values or bins in each: the mean share in percent and its interval.

    A bin's point lies in its middle.
    """
    line: list[Point] = []
    intervals: list[Ends] = []
    for points in zip(*lines, strict=True):
        mean, ends = percent_over_seeds(points)
        first = points[0]
        line.append((first["value"] if "value" in first else (first["low"] + first["high"]) / 2, mean))
        intervals.append(ends)
    return line, intervals


def _curve(networks: Mapping[str, Sequence[Result]]) -> Chart:
    """Affine against clean accuracy, both on validation digits: means over validations of similar clean accuracy."""
    first, *_ = networks.values()
    error = max(1 - first[0].settings["target"], 0.001)
    start, width = max(0.0, 1 - CURVE * error), error / 6
    series: dict[str, list[Point]] = {}
    for model, cells in networks.items():
        bins: dict[int, list[Mapping[str, float]]] = {}
        for row in (row for cell in cells for row in cell.metrics.get("history", []) if "affine" in row):
            if row["accuracy"] >= start - 1e-9:
                # An accuracy on a bin's edge belongs to the bin above it: 1 - 0.97 is not quite 0.03.
                bins.setdefault(math.floor(round((row["accuracy"] - start) / width, 6)), []).append(row)
        series[model] = [
            (
                100 * mean([row["accuracy"] for row in rows]),
                100 * mean([row["affine"] for row in rows]),
            )
            for _, rows in sorted(bins.items())
        ]
    return Chart(
        name="affine-curve",
        title="Affine against clean accuracy over training",
        x_label="clean accuracy on validation digits (%)",
        y_label="affine accuracy on validation digits (%)",
        series=series,
        from_zero=False,
        note=f"Means over the validations of all seeds, in bins of {100 * width:.2g} points of clean accuracy "
        f"from {100 * start:.4g} % on.",
    )
