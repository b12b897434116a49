"""Trained on digits alone, tested among other digits: does a network fall for neighbours that do not even touch?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from capsbench.bench.cells import ExperimentSettings, Preset, Work
from capsbench.errors import ParameterError
from capsbench.evaluation.accuracy import Accuracy, accuracy
from capsbench.evaluation.predictions import Predictions
from capsbench.parameters import check_number
from capsbench.report.charts import Chart, Ends, Point
from capsbench.report.differences import Question, paired_notes
from capsbench.report.groups import by_network
from capsbench.report.headlines import Headline, share
from capsbench.report.numbers import BARS, few_seeds_note, percent, percent_over_seeds, spread
from capsbench.report.tables import Table
from capsbench.results.result import Result
from capsbench.statistics import mean
from capsbench.suites.crowding_spacing import CRITICAL_SHARE, measured_spacing, missing_spacing, told_spacing

if TYPE_CHECKING:
    from capsbench.bench.bench import Bench
    from capsbench.bench.data import CellData
    from capsbench.data.streaming import Stream
    from capsbench.evaluation.subjects import Subject, Tests


KINDS = ("digits", "shuffled")
"""Of flankers: digits, and their pixels shuffled, the control: as much ink at the same place, without its strokes."""

SPACINGS = tuple(range(14, 29, 2))
RANDOM_NAMING = 1 - (8 / 9) ** 2  # two flankers, each of one of the nine other classes


@dataclass(frozen=True, kw_only=True)
class CrowdingSettings(ExperimentSettings):
    """The protocol: how the networks are trained, and what they are tested on.

    Attributes:
        spacings: From the target's centre to each flanker's in pixels, ascending.
    """

    of_tests: ClassVar[Sequence[str]] = ("variants", "spacings")

    spacings: tuple[int, ...] = SPACINGS

    def __post_init__(self) -> None:
        super().__post_init__()
        for spacing in self.spacings:
            check_number("spacings", spacing, SPACINGS[0], SPACINGS[-1])
        if not self.spacings or any(first >= second for first, second in pairwise(self.spacings)):
            asked = ",".join(map(str, self.spacings))
            raise ParameterError(f"spacings must be different numbers in ascending order, got {asked}.")


SMALL_MODELS: Mapping[str, Mapping[str, Any]] = {
    "capsnet": {"preset": "small"},
    "cnn": {"preset": "small", "padding": "same"},
}


class Crowding:
    """Trained on digits alone near the centre of a strip, tested with a digit of another class on either side.

    The paper says that capsules like to account for everything in the image. A network that does may be harmed by
    neighbours that do not even touch the target: crowding. Accuracy is measured against the spacing from target to
    flankers, and so is how often the answer is a flanker's class. Flankers of shuffled pixels separate the effect
    of ink from the effect of strokes.
    """

    version: ClassVar[int] = 1
    models: ClassVar[Sequence[str]] = ("cnn-pool", "capsnet")
    image_size: ClassVar[tuple[int, int]] = (28, 84)
    presets: ClassVar[Mapping[str, Preset]] = {
        "smoke": Preset(
            CrowdingSettings(
                epochs=1, batch_size=64, learning_rate=3e-3, schedule="one-cycle", eval_every=20, spacings=(14, 28)
            ),
            SMALL_MODELS,
        ),
        "small": Preset(
            CrowdingSettings(epochs=30, batch_size=32, learning_rate=3e-3, schedule="one-cycle", variants=2),
            SMALL_MODELS,
        ),
        "medium": Preset(
            CrowdingSettings(epochs=12, batch_size=64, learning_rate=2e-3, schedule="one-cycle"), SMALL_MODELS
        ),
        # Ours: the paper has no such experiment. Its networks, its schedule.
        "paper": Preset(CrowdingSettings(epochs=50, precision="bf16"), {"capsnet": {"preset": "large"}}),
    }

    headlines: ClassVar[Sequence[Headline]] = (
        Headline(
            name="critical spacing",
            unit="px",
            measure=lambda cell: measured_spacing(cell, "digits"),
            larger_is_better=False,
            missing=lambda cell: missing_spacing(cell, "digits"),
        ),
        Headline(
            name="alone",
            unit="%",
            measure=lambda cell: share(cell.metrics["checkpoints"]["best"]["alone"]),
            question=Question(("checkpoints", "best", "alone")),
        ),
    )

    headline_figure: ClassVar[str] = "crowding"

    @staticmethod
    def work(settings: CrowdingSettings) -> list[Work]:
        """The cell's training and tests."""
        tests = (1 + len(KINDS) * len(settings.spacings)) * settings.variants
        return [Work(image_size=Crowding.image_size, epochs=settings.epochs, tests=tests)]

    def run(self, bench: "Bench") -> dict[str, Any]:
        """Trains the cell's model and tests it; the metrics of the cell."""
        settings: CrowdingSettings = bench.cell.settings
        alone: Mapping[str, Any] = {"seed": settings.data_seed, "preset": "alone"}
        training = bench.stream("training", "crowded", "train", **alone, variants=settings.epochs)
        validation = bench.file("validation", "crowded", "validation", **alone)
        tests = self.tests(bench)
        model = bench.model(self.image_size)
        trained = bench.train(model, training, validation)
        subject = bench.subject(model, tests)
        return {
            "parameters": bench.count_parameters(model),
            **trained.metrics(),
            "checkpoints": bench.each_checkpoint(
                model, trained, ["best"], lambda selected: _measured(settings, tests, subject)
            ),
        }

    def tests(self, bench: "CellData") -> "Tests":
        """The conditions.

        They are streams: each is drawn once a cell, faster than a network looks at it, and 17 files would take 400 MB
        of full MNIST.
        """
        settings: CrowdingSettings = bench.cell.settings

        def condition(role: str, **parameters: Any) -> "Callable[[], Stream]":
            seed, variants = settings.data_seed, settings.variants
            noted = bench.stream(role, "crowded", "test", seed=seed, variants=variants, parameters=parameters)
            return lambda: noted.fresh()

        return {
            "alone": condition("alone", flankers="none"),
            **{
                _name(kind, spacing): condition(_name(kind, spacing), flankers=kind, spacing=spacing)
                for kind in KINDS
                for spacing in settings.spacings
            },
        }

    def judge(self, bench: "CellData", tests: "Tests", subject: "Subject") -> dict[str, Any]:
        """The metrics of one set of answers."""
        return {"checkpoints": {"best": _measured(bench.cell.settings, tests, subject)}}

    def table(self, results: Sequence[Result]) -> Table:
        """One row for each model and kind of flankers: means over seeds, deviations where there are several."""
        spacings = list(map(str, results[0].settings["spacings"]))
        nearest = spacings[0]
        rows = []
        for model, cells in by_network(results).items():
            best = [cell.metrics["checkpoints"]["best"] for cell in cells]
            for kind in KINDS:
                shares = [_spread_percent([one[kind][spacing]["share"] for one in best]) for spacing in spacings]
                critical = " / ".join(told_spacing(cell, kind) for cell in cells)
                named = [one["flanker named"][kind][nearest] for one in best]
                rows.append(
                    [
                        model, cells[0].metrics["parameters"], len(cells), kind,
                        percent([one["alone"] for one in best]), *shares, critical,
                        *(_spread_percent([one[of] for one in named]) for of in ("of all", "of wrong")),
                    ]
                )  # fmt: skip
        at = ("checkpoints", "best")
        notes = [
            "Accuracy is in %. The heading says how many pixels lie between the centres of target and flanker; alone "
            "is without flankers.",
            f"From the critical spacing (pixels) on, accuracy is at least {100 * CRITICAL_SHARE:.0f} % of the accuracy "
            "alone. A straight line joins tested spacings. Each seed has one, with a 95 % interval over base digits.",
            f"Named is the share of answers that are a flanker's class, among all and among wrong ones, at {nearest} "
            f"px; random wrong answers would give {100 * RANDOM_NAMING:.0f} %.",
            "The paper has no such experiment, so there is no published value to compare with.",
            *paired_notes(
                results,
                {"alone": Question((*at, "alone")), f"digits at {nearest} px": Question((*at, KINDS[0], nearest))},
            ),
        ]
        notes += few_seeds_note(results)
        folded = ["parameters", "seeds", "of wrong %", *(f"{spacing} px" for spacing in spacings[1:-1])]
        folded += ["critical spacing"] if len({one.seed for one in results}) > 1 else []  # there is one for each
        return Table(
            headers=[
                "network", "parameters", "seeds", "flankers", "alone",
                *(f"{spacing} px" for spacing in spacings), "critical spacing", "named %", "of wrong %",
            ],
            rows=rows,
            notes=notes,
            folded=folded,
        )  # fmt: skip

    def charts(self, results: Sequence[Result]) -> list[Chart]:
        """Accuracy, and answers that name a flanker, against the spacing."""
        spacings: Sequence[int] = results[0].settings["spacings"]
        right: dict[str, list[Point]] = {}
        intervals: dict[str, list[Ends]] = {}
        named: dict[str, list[Point]] = {}
        for model, cells in by_network(results).items():
            best = [cell.metrics["checkpoints"]["best"] for cell in cells]
            alone, ends = percent_over_seeds([one["alone"] for one in best])
            right[f"{model}, alone"] = [(spacing, alone) for spacing in spacings]
            intervals[f"{model}, alone"] = [ends, *[None] * (len(spacings) - 1)]
            for kind in KINDS:
                label = f"{model}, {kind}"
                found = [percent_over_seeds([one[kind][str(spacing)] for one in best]) for spacing in spacings]
                right[label] = [(spacing, share) for spacing, (share, _) in zip(spacings, found, strict=True)]
                intervals[label] = [ends for _, ends in found]
                answers = [one["flanker named"][kind] for one in best]
                named[label] = [
                    (spacing, 100 * mean([one[str(spacing)]["of all"] for one in answers])) for spacing in spacings
                ]
        chosen = "The best checkpoint by validation; means over seeds."
        return [
            Chart(
                name="crowding",
                title="Targets found, against the distance of their flankers",
                x_label="spacing (px)",
                y_label="accuracy (%)",
                series=right,
                intervals=intervals,
                note=f"{chosen} Alone: without flankers, at no spacing.\n{BARS}",
                from_zero=False,
            ),
            Chart(
                name="crowding-named",
                title="Answers that name a flanker instead of the target",
                x_label="spacing (px)",
                y_label="answers (%)",
                series=named,
                note=chosen,
            ),
        ]


def _name(kind: str, spacing: int) -> str:
    """What a condition is called in a result's data and among the tests."""
    return f"{kind} at {spacing} px"


def _measured(settings: CrowdingSettings, tests: "Tests", subject: "Subject") -> dict[str, Any]:
    """The accuracy in every condition, the critical spacings, and how often a flanker is named."""
    alone = accuracy(subject.predict("alone"))
    measured: dict[str, Any] = {"alone": alone.to_dict(), "critical spacing": {}, "flanker named": {}}
    for kind in KINDS:
        found: dict[int, Accuracy] = {}
        named: dict[str, Any] = {}
        for spacing in settings.spacings:
            answers = subject.predict(_name(kind, spacing))
            found[spacing] = accuracy(answers)
            named[str(spacing)] = _flanker_named(answers, cast("Stream", tests[_name(kind, spacing)]()))
        measured[kind] = {str(spacing): one.to_dict() for spacing, one in found.items()}
        measured["critical spacing"][kind] = _critical_spacing(alone, found)
        measured["flanker named"][kind] = named
    return measured


def _flanker_named(answers: Predictions, data: "Stream") -> dict[str, Any]:
    """How often the answer is the class of a flanker; that is never the target's."""
    sampler: Any = data.recipe.sampler
    flankers = sampler.flankers(np.arange(len(data)))  # [N, 2]
    highest = answers.highest(1)[:, 0]
    number = int((flankers == highest[:, None]).any(1).sum())
    wrong = int((~answers.correct).sum())
    return {"number": number, "of all": number / len(data), "of wrong": number / wrong if wrong else None}


def _critical_spacing(alone: Accuracy, found: Mapping[int, Accuracy]) -> int | None:
    """The least tested spacing with 90 % of the accuracy alone, there and at all larger ones; None if there is none."""
    critical = None
    for spacing in sorted(found, reverse=True):
        if found[spacing].share < CRITICAL_SHARE * alone.share - 1e-9:
            break
        critical = spacing
    return critical


def _spread_percent(shares: Sequence[float | None]) -> str:
    there = [100 * share for share in shares if share is not None]
    return spread(there, digits=1) if there else "no answers"
