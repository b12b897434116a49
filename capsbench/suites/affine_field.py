"""The networks of the suite affine beside one another: their order at equal clean accuracy, and a chart of all."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np

from capsbench.report.charts import Ends, height_for, looks
from capsbench.report.figures import Figure
from capsbench.report.notes import beside_paper
from capsbench.results.result import Result
from capsbench.suites.affine_matched import affine_at

PAPERS = {"the paper's capsnet": (99.23, 79.0), "the paper's CNN with pooling": (99.22, 66.0)}
"""Its accuracies in percent, clean and affNIST (section 5.2)."""


def in_order(networks: Mapping[str, Sequence[Result]]) -> dict[str, Sequence[Result]]:
    """The results of each network, by affine accuracy at the target's clean accuracy, the best first.

    Those whose validations say nothing about that come last, by the affine accuracy of their best validation.
    """

    def place(model: str) -> tuple[bool, float]:
        cells = networks[model]
        found = [affine_at(cell.settings["target"], cell.metrics.get("history", [])) for cell in cells]
        at_target = [one for one in found if one is not None]
        best = [cell.metrics["checkpoints"]["best"]["affine"]["share"] for cell in cells]
        return not at_target, -float(np.mean(at_target or best))

    return {model: networks[model] for model in sorted(networks, key=place)}


@dataclass(frozen=True)
class Trained:
    """One network of one seed, in percent.

    Attributes:
        seed: Of the network.
        clean: Accuracy on clean test digits.
        affine: The same on affine ones.
        clean_ends: The 95 % interval over test digits; None where it is not known.
        affine_ends: The same of affine ones.
    """

    seed: int
    clean: float
    affine: float
    clean_ends: Ends
    affine_ends: Ends


@dataclass(frozen=True, kw_only=True)
class FieldChart(Figure):
    """Affine against clean accuracy: a point for each network and seed, intervals both ways, and the paper's points.

    Attributes:
        series: The points of each network.
        stars: Those of the paper; none beside digits that are not MNIST's.
    """

    series: Mapping[str, Sequence[Trained]] = field(default_factory=dict)
    stars: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def _drawn(self) -> bytes:
        from matplotlib.figure import Figure as Canvas

        height = height_for(5, entries=len(self.series), note=self.note)
        figure = Canvas(figsize=(9, height), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        drawn_as = looks(self.series, self.networks)
        for network, points in self.series.items():
            color, marker = drawn_as[network].color, drawn_as[network].marker
            for point in points:
                for ends, along in ((point.clean_ends, True), (point.affine_ends, False)):
                    if ends:
                        line = (ends, [point.affine] * 2) if along else ([point.clean] * 2, ends)
                        axes.plot(*line, color=color, linewidth=1, alpha=0.6)
            places = [point.clean for point in points], [point.affine for point in points]
            axes.plot(*places, marker, color=color, label=network, linestyle="none")
        for clean, affine in self.stars.values():
            axes.plot(clean, affine, "*", color="#000000", markerfacecolor="none", markersize=12)
        axes.margins(x=0.08)
        middle = sum(axes.get_xlim()) / 2
        for name, (clean, affine) in self.stars.items():  # each name lies on the side that has more room
            aside, side = (9, "left") if clean < middle else (-9, "right")
            axes.annotate(name, (clean, affine), (aside, 0), textcoords="offset points", ha=side, va="center")
        axes.set_title(self.title)
        axes.set_xlabel("clean accuracy (%)")
        axes.set_ylabel("affine accuracy (%)")
        axes.grid(alpha=0.3)
        figure.legend(frameon=False, loc="outside right center")
        figure.supxlabel(self.note, fontsize="small")
        buffer = BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()

    def _lines(self) -> Iterable[Sequence[Any]]:
        yield ("network", "seed", "clean %", "low", "high", "affine %", "low", "high")
        for network, points in self.series.items():
            for one in points:
                ends = [one.clean_ends or ("", ""), one.affine_ends or ("", "")]
                yield (network, one.seed, one.clean, *ends[0], one.affine, *ends[1])
        for name, (clean, affine) in self.stars.items():
            yield (name, "", clean, "", "", affine, "", "")


def field_chart(networks: Mapping[str, Sequence[Result]]) -> FieldChart:
    """The chart of the best checkpoints by validation, of the results of each network in their order."""
    every = [cell for cells in networks.values() for cell in cells]
    stars = beside_paper(every, " Stars: what the paper reports of its networks.")
    return FieldChart(
        name="affine-field",
        title="Affine against clean accuracy of each network and seed",
        series={model: [_point(cell) for cell in cells] for model, cells in networks.items()},
        note="The best checkpoint by validation, on test digits. Bars: 95 % intervals over test digits. Networks in\n"
        f"the order of their affine accuracy at equal clean accuracy.{''.join(stars)}",
        stars=PAPERS if stars else {},
    )


def _point(cell: Result) -> Trained:
    best = cell.metrics["checkpoints"]["best"]
    clean, affine = best["clean"], best["affine"]
    return Trained(cell.seed, 100 * clean["share"], 100 * affine["share"], _ends(clean), _ends(affine))


def _ends(point: Mapping[str, Any]) -> Ends:
    interval = point.get("interval")
    return (100 * interval[0], 100 * interval[1]) if interval else None
