"""Trained on clean canvases, tested among scraps of other digits: does a network have to account for everything?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import numpy.typing as npt

from capsbench.bench.cells import ExperimentSettings, Preset, Work
from capsbench.errors import ParameterError
from capsbench.evaluation.accuracy import Accuracy, accuracy, gap
from capsbench.evaluation.predictions import Predictions
from capsbench.parameters import check_number, check_range
from capsbench.report.charts import Chart, Ends, Point
from capsbench.report.differences import Question, paired_notes
from capsbench.report.groups import by_network
from capsbench.report.headlines import Headline, share
from capsbench.report.numbers import BARS, few_seeds_note, percent, percent_over_seeds, spread
from capsbench.report.tables import Table
from capsbench.results.result import Result
from capsbench.suites.clutter_critical import kept_up_to, measured_clutter, missing_clutter, told_clutter
from capsbench.suites.crowding_spacing import CRITICAL_SHARE

if TYPE_CHECKING:
    from capsbench.bench.bench import Bench
    from capsbench.bench.data import CellData
    from capsbench.data.streaming import Stream
    from capsbench.evaluation.subjects import Subject, Tests


SIDE = 60
"""Of a canvas, in pixels, as in Mnih et al. 2014."""

SMALL_SIDE = 40  # a training is a matter of minutes there, and sees enough of the places
MOST = 32  # scraps that the data set offers
TESTED = (1, 2, 4, 6, 8, 12, 16)
USUAL = 8  # the most scraps of the data set's own range
FEWEST = 50  # targets that a point of a chart stands on at least
CLEAN = "clean"
COVERED = "target covered (%)"
PART = 4096  # samples that are drawn at a time
OTHERS = "The targets differ at each number: among many scraps they are thin, or near the edge."


@dataclass(frozen=True, kw_only=True)
class ClutterSettings(ExperimentSettings):
    """The protocol: how the networks are trained, and what they are tested on.

    Attributes:
        size: Height and width of the canvas in pixels.
        training_scraps: The least and the most scraps in a training image, and in one that selects; 0,0 has none.
        scraps: How many there are in each test beside the clean one, ascending.
    """

    of_tests: ClassVar[Sequence[str]] = ("variants", "scraps")

    size: int = SIDE
    training_scraps: tuple[int, int] = (0, 0)
    scraps: tuple[int, ...] = TESTED

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("size", self.size, 28, 128)
        if self.size % 2:
            raise ParameterError(f"size must be even, so that the digit can be centered, got {self.size}.")
        check_range("training_scraps", self.training_scraps, 0, MOST)
        for number in self.scraps:
            check_number("scraps", number, 1, MOST)
        if not self.scraps or any(first >= second for first, second in pairwise(self.scraps)):
            asked = ",".join(map(str, self.scraps))
            raise ParameterError(f"scraps must be different numbers in ascending order, got {asked}.")


SMALL_MODELS: Mapping[str, Mapping[str, Any]] = {
    "capsnet": {"preset": "small"},
}
FORMS: Mapping[str, Sequence[Mapping[str, Any]]] = {"capsnet": ({}, {"leaky": True})}
"""Routing without and with the paper's orphan category."""

SMALL: Mapping[str, Any] = {
    "epochs": 20, "batch_size": 32, "learning_rate": 3e-3, "schedule": "one-cycle", "variants": 2, "size": SMALL_SIDE
}  # fmt: skip


class Clutter:
    """Trained on digits on clean canvases, tested among scraps of other digits.

    The paper says that capsules like to account for everything in the image, and that an orphan category in routing
    helped where they cannot (section 7). Accuracy is measured against the number of scraps, on all targets and on those
    that no scrap touches. ``capsnet`` is measured without and with the orphan category (``leaky``).
    """

    version: ClassVar[int] = 1
    models: ClassVar[Sequence[str]] = ("cnn-pool", "resnet-gap", "capsnet")
    image_size: ClassVar[int] = SIDE
    presets: ClassVar[Mapping[str, Preset]] = {
        "smoke": Preset(
            ClutterSettings(
                epochs=1, batch_size=64, learning_rate=3e-3, schedule="one-cycle", eval_every=20, size=32, scraps=(2, 8)
            ),
            SMALL_MODELS,
            FORMS,
        ),
        "small": Preset(ClutterSettings(**SMALL), SMALL_MODELS, FORMS),
        # Half of the tested range: what lies beyond was not seen in training.
        "trained": Preset(ClutterSettings(**SMALL, training_scraps=(0, USUAL)), SMALL_MODELS, FORMS),
        "medium": Preset(
            ClutterSettings(epochs=12, batch_size=64, learning_rate=2e-3, schedule="one-cycle", size=SMALL_SIDE),
            SMALL_MODELS,
            FORMS,
        ),
        # Ours: the paper has no such experiment. Its networks, on the canvas of Mnih et al.
        "paper": Preset(
            ClutterSettings(epochs=20, schedule="one-cycle", precision="bf16"), {"capsnet": {"preset": "large"}}, FORMS
        ),
    }

    gaps: ClassVar[Mapping[str, str]] = {"gap": "scraps"}
    headlines: ClassVar[Sequence[Headline]] = (
        Headline(
            name="critical clutter",
            unit="scraps",
            measure=measured_clutter,
            missing=missing_clutter,
        ),
        Headline(
            name=f"{USUAL} scraps",
            unit="%",
            measure=lambda cell: share(cell.metrics["checkpoints"]["best"]["scraps"].get(str(USUAL))),
            question=Question(("checkpoints", "best", "scraps", str(USUAL))),
        ),
        Headline(
            name="clean",
            unit="%",
            measure=lambda cell: share(cell.metrics["checkpoints"]["best"]["clean"]),
            question=Question(("checkpoints", "best", "clean")),
        ),
    )

    headline_figure: ClassVar[str] = "clutter"

    @staticmethod
    def work(settings: ClutterSettings) -> list[Work]:
        """The cell's training and tests."""
        tests = (1 + len(settings.scraps)) * settings.variants
        return [Work(image_size=settings.size, epochs=settings.epochs, tests=tests)]

    def run(self, bench: "Bench") -> dict[str, Any]:
        """Trains the cell's model and tests it; the metrics of the cell."""
        settings: ClutterSettings = bench.cell.settings
        seed = settings.data_seed
        shown = {"size": settings.size, "scraps": settings.training_scraps}
        training = bench.stream("training", "cluttered", "train", seed=seed, variants=settings.epochs, parameters=shown)
        validation = bench.file("validation", "cluttered", "validation", seed=seed, parameters=shown)
        tests = self.tests(bench)
        model = bench.model(settings.size)
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
        """The numbers of scraps, as streams: each is drawn once a cell, faster than a network looks at it."""
        settings: ClutterSettings = bench.cell.settings

        def condition(scraps: int) -> "Callable[[], Stream]":
            shown = {"size": settings.size, "scraps": scraps}
            seed, variants = settings.data_seed, settings.variants
            noted = bench.stream(_name(scraps), "cluttered", "test", seed=seed, variants=variants, parameters=shown)
            return lambda: noted.fresh()

        return {_name(scraps): condition(scraps) for scraps in (0, *settings.scraps)}

    def judge(self, bench: "CellData", tests: "Tests", subject: "Subject") -> dict[str, Any]:
        """The metrics of one set of answers."""
        return {"checkpoints": {"best": _measured(bench.cell.settings, tests, subject)}}

    def table(self, results: Sequence[Result]) -> Table:
        """One row for each model: means over seeds, deviations where there are several."""
        scraps: Sequence[int] = results[0].settings["scraps"]
        usual = USUAL if USUAL in scraps else scraps[-1]
        rows = []
        for model, cells in by_network(results).items():
            best = [cell.metrics["checkpoints"]["best"] for cell in cells]
            among = [[100 * one["scraps"][str(number)]["share"] for one in best] for number in scraps]
            shares = [spread(each, digits=1) for each in among]
            rows.append(
                [
                    model, cells[0].metrics["parameters"], len(cells), percent([one["clean"] for one in best]), *shares,
                    percent([one["gap"][str(usual)] for one in best]),
                    " / ".join(map(told_clutter, cells)),
                ]
            )  # fmt: skip
        at = ("checkpoints", "best")
        notes = [
            "Accuracy is in %, on a clean canvas and among scraps; the heading says how many. Digits and places are "
            "the same.",
            f"The gap is the clean accuracy minus that among {told_scraps(usual)}, in points.",
            f"Up to the critical clutter (scraps), accuracy is at least {100 * CRITICAL_SHARE:.0f} % of the clean "
            "accuracy. A straight line joins tested numbers. Each seed has one, with a 95 % interval over base digits.",
            "The paper has no such experiment, so there is no published value to compare with.",
            *paired_notes(
                results,
                {
                    "clean": Question((*at, "clean")),
                    told_scraps(usual): Question((*at, "scraps", str(usual))),
                },
                baselines=_baselines(results),
            ),
        ]
        notes += few_seeds_note(results)
        folded = ["parameters", "seeds"]
        folded += ["critical clutter"] if len({one.seed for one in results}) > 1 else []  # there is one for each
        return Table(
            headers=[
                "network", "parameters", "seeds", "clean", *map(told_scraps, scraps), "gap",
                "critical clutter",
            ],
            rows=rows,
            notes=notes,
            folded=folded,
            spare=[told_scraps(number) for number in scraps if number != usual],
        )  # fmt: skip

    def charts(self, results: Sequence[Result]) -> list[Chart]:
        """Accuracy against the number of scraps, on all targets and on those that no scrap touches."""
        chosen = "The best checkpoint by validation; means over seeds."
        scraps: Sequence[int] = results[0].settings["scraps"]
        every: dict[str, list[Any]] = {}
        untouched: dict[str, list[Any]] = {}
        for model, cells in by_network(results).items():
            best = [cell.metrics["checkpoints"]["best"] for cell in cells]
            every[model] = [(0, [one["clean"] for one in best])]
            every[model] += [(number, [one["scraps"][str(number)] for one in best]) for number in scraps]
            alone = [(number, [one["untouched"][str(number)] for one in best]) for number in scraps]
            untouched[model] = [every[model][0], *(one for one in alone if one[1][0]["total"] >= FEWEST)]
        return [
            _chart(every, "clutter", "Targets found, against the number of scraps", f"{chosen}\n{BARS}"),
            _chart(
                untouched, "clutter-untouched", "Targets found that no scrap touches",
                f"{chosen}\n{OTHERS}\n{BARS}",
            ),
        ]  # fmt: skip


def told_scraps(number: int) -> str:
    """``1 scrap``, ``8 scraps``."""
    return f"{number} scrap{'s' * (number != 1)}"


def _name(scraps: int) -> str:
    """What a condition is called in a result's data and among the tests."""
    return told_scraps(scraps) if scraps else CLEAN


def _baselines(results: Sequence[Result]) -> dict[str, str]:
    """Which network another is compared with: one with settings with the same without them, where that is there."""
    networks = by_network(results)
    return {label: plain for label in networks if (plain := label.partition(" (")[0]) != label and plain in networks}


def _measured(settings: ClutterSettings, tests: "Tests", subject: "Subject") -> dict[str, Any]:
    """Accuracy and gap among each number of scraps, the critical clutter, and the accuracy on untouched targets."""
    clean = subject.predict(CLEAN)
    found: dict[int, Accuracy] = {}
    gaps: dict[str, Any] = {}
    untouched: dict[str, Any] = {}
    for scraps in settings.scraps:
        answers = subject.predict(_name(scraps))
        found[scraps] = accuracy(answers)
        gaps[str(scraps)] = gap(clean, answers)
        untouched[str(scraps)] = _of_some(answers, _untouched(cast("Stream", tests[_name(scraps)]())))
    right = accuracy(clean)
    return {
        "clean": right.to_dict(),
        "scraps": {str(scraps): one.to_dict() for scraps, one in found.items()},
        "gap": gaps,
        "critical clutter": kept_up_to(right.share, {scraps: one.share for scraps, one in found.items()}),
        "untouched": untouched,
    }


def _untouched(data: "Stream") -> npt.NDArray[np.bool_]:
    """``[N]``: where no scrap lies upon the target's ink."""
    parts = []
    for start in range(0, len(data), PART):
        batch = data.batch(np.arange(start, min(start + PART, len(data))))
        parts.append(data.recipe.sampler.measures(batch)[COVERED] == 0)
    return np.concatenate(parts)


def _of_some(answers: Predictions, rows: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """The accuracy on some of the targets; nothing but their number where there are none."""
    return accuracy(answers.among(rows)).to_dict(answers=False) if rows.any() else {"total": 0}


def _chart(points: Mapping[str, Sequence[Any]], name: str, title: str, note: str) -> Chart:
    """Lines of accuracy, from the number of scraps and the points of all seeds of each network."""
    series: dict[str, list[Point]] = {}
    intervals: dict[str, list[Ends]] = {}
    for model, line in points.items():
        found = [(number, *percent_over_seeds(seeds)) for number, seeds in line]
        series[model] = [(number, mean) for number, mean, _ in found]
        intervals[model] = [ends for _, _, ends in found]
    return Chart(
        name=name,
        title=title,
        x_label="scraps",
        y_label="accuracy (%)",
        series=series,
        intervals=intervals,
        note=note,
        from_zero=False,
    )
