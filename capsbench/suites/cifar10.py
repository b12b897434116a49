"""CIFAR-10: what clutter and colour do to a capsule network, alone and as an ensemble (the paper's section 7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from capsbench.bench.cells import Preset, Work
from capsbench.contracts import Digits
from capsbench.data.cifar10 import LIKE, load_images
from capsbench.data.cifar10_crops import Crops
from capsbench.data.cifar10_made import MADE
from capsbench.evaluation.accuracy import accuracy
from capsbench.parameters import check_seed
from capsbench.report.charts import Chart, Ends, Point
from capsbench.report.differences import Question, paired_notes
from capsbench.report.groups import ReportedValue, at_paper_size, by_network
from capsbench.report.headlines import Headline, share
from capsbench.report.numbers import error_percent, few_seeds_note, percent_over_seeds, seeds_note
from capsbench.report.tables import Table
from capsbench.results.result import Result
from capsbench.results.scores import Scores, summed
from capsbench.statistics import mean, share_interval
from capsbench.training.config import TrainConfig

if TYPE_CHECKING:
    from capsbench.bench.bench import Bench
    from capsbench.evaluation.predictions import Predictions
    from capsbench.training.config import Selected

SELECTIONS = {"best": "best validation", "last": "last epoch"}
"""The checkpoints that are tested, and what a chart calls them."""

SIDE, COLOURS = 24, 3
PAPER_ERROR, PAPER_NETWORKS = "10.6", 7


@dataclass(frozen=True, kw_only=True)
class CIFAR10Settings(TrainConfig):
    """The protocol.

    Attributes:
        data_seed: Of the places of the crops; it is independent of the networks' seeds.
    """

    data_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed(self.data_seed)


CAPSULES: Mapping[str, Any] = {"leaky": True, "reconstruction": False}
"""What the authors' command for CIFAR-10 changes of their CapsNet, beside the number of types."""

SMALL_MODELS: Mapping[str, Mapping[str, Any]] = {
    "resnet-gap": {"preset": "small"},
    "capsnet": {"preset": "small", "kernel": 5, "types": 16, **CAPSULES},
    "cnn": {"preset": "small", "padding": "same"},
    "cnn-pool": {"preset": "small"},
    "efficient-capsnet": {"preset": "small", "reconstruction": False},
    "gcnn": {"preset": "small"},
    "stn": {"preset": "small"},
}


class CIFAR10:
    """CIFAR-10 by crops of 24x24: the error of each network, and of the seeds of a network as an ensemble.

    The paper trained seven CapsNets with 64 types of primary capsules, three colours and an orphan category in routing
    ("none-of-the-above"), and reports 10.6 % for the seven together. Networks are trained on crops at random places,
    mirrored at random, and selected and tested on the crop in the centre. An ensemble answers with the class that has
    the highest sum of scores over its seeds.
    """

    version: ClassVar[int] = 1
    models: ClassVar[Sequence[str]] = ("resnet-gap", "capsnet")
    image_size: ClassVar[int] = SIDE
    channels_in: ClassVar[int] = COLOURS
    needs_digits: ClassVar[bool] = False
    full: ClassVar[Sequence[str]] = ("small", "paper")
    sizes: ClassVar[Mapping[str, int]] = {"train": 40_000, "validation": 10_000, "test": 10_000}
    presets: ClassVar[Mapping[str, Preset]] = {
        "smoke": Preset(
            CIFAR10Settings(epochs=2, batch_size=50, learning_rate=3e-3, schedule="one-cycle", eval_every=8),
            SMALL_MODELS,
        ),
        "small": Preset(
            CIFAR10Settings(epochs=10, batch_size=64, learning_rate=3e-3, schedule="one-cycle"), SMALL_MODELS
        ),
        # 600,000 steps, as the authors' README has it.
        "paper": Preset(
            CIFAR10Settings(epochs=1917, precision="bf16", eval_every=1000),
            {"capsnet": {"types": 64, **CAPSULES}},
        ),
    }

    headlines: ClassVar[Sequence[Headline]] = (
        Headline(
            name="error",
            unit="%",
            measure=lambda cell: share(cell.metrics["checkpoints"]["best"]["test"], error=True),
            larger_is_better=False,
            question=Question(("checkpoints", "best", "test")),
        ),
    )

    @property
    def paper(self) -> Sequence[ReportedValue]:
        """The paper's figure, and ours of as many networks."""
        what = f"capsnet, {PAPER_NETWORKS} networks together: test error (%)"
        return [ReportedValue(what, PAPER_ERROR, partial(_together, number=PAPER_NETWORKS))]

    @staticmethod
    def load(split: str, source: str | Path = "auto", *, full: bool = False) -> Digits:
        """The images of a split; see `capsbench.data.cifar10.load_images`."""
        return load_images(split, source, full=full)

    @staticmethod
    def sums(source: str) -> dict[str, str]:
        """Which images a folder has that are not CIFAR-10's, by their SHA-256; of others their origin says it."""
        every = {split: load_images(split, source) for split in ("trainval", "test")}
        return {split: images.sha256 for split, images in every.items() if images.origin == LIKE}

    @staticmethod
    def work(settings: CIFAR10Settings) -> list[Work]:
        """The cell's training and tests."""
        return [Work(image_size=SIDE, channels_in=COLOURS, epochs=settings.epochs, tests=len(SELECTIONS))]

    def run(self, bench: "Bench") -> dict[str, Any]:
        """Trains the cell's model and tests it; the metrics of the cell."""
        settings: CIFAR10Settings = bench.cell.settings
        made = bench.cell.digits == MADE

        def crops(role: str, split: str, *, random: bool = False, variants: int = 1) -> Crops:
            images = load_images(split, "embedded" if made else bench.digits, full=not made)
            data = Crops(images, size=SIDE, random=random, variants=variants, seed=settings.data_seed)
            bench.note(role, data)
            return data

        training = crops("training", "train", random=True, variants=settings.epochs)
        validation, test = crops("validation", "validation"), crops("test", "test")
        model = bench.model(SIDE, channels_in=COLOURS)
        trained = bench.train(model, training, validation)
        subject = bench.subject(model, {"test": lambda: test})
        kept: dict[str, Any] = {}

        def measured(selected: "Selected") -> dict[str, Any]:
            predictions = subject.predict("test")
            if selected.step == trained.selected["best"].step:
                kept["scores"] = _scores(predictions).to_dict()
            return {"test": accuracy(predictions).to_dict()}

        checkpoints = bench.each_checkpoint(model, trained, SELECTIONS, measured)
        parameters = bench.count_parameters(model)
        return {"parameters": parameters, "checkpoints": checkpoints, **kept, **trained.metrics()}

    def table(self, results: Sequence[Result]) -> Table:
        """One row for each network: its mean error over seeds, and the error of its seeds as an ensemble."""
        networks = by_network(results)
        beside = any(len(cells) == PAPER_NETWORKS and at_paper_size(cells) for cells in networks.values())
        rows = []
        for network, cells in networks.items():
            tested = [_tested(cells, name) for name in SELECTIONS]
            together = ensemble(cells)
            comparable = at_paper_size(cells) and _together(cells, number=PAPER_NETWORKS)
            rows.append(
                [
                    network,
                    cells[0].metrics["parameters"],
                    len(cells),
                    *(error_percent(points) if points else "" for points in tested),
                    error_percent([together]) if together else "one network",
                    *([PAPER_ERROR if comparable else ""] if beside else []),
                ]
            )
        notes = [
            "Error: share of test images that are misclassified, on the crop in the centre.",
            "Ensemble: the class with the highest sum of the seeds' scores, as the networks give them: lengths of "
            "capsules, or logits. Best checkpoints. In brackets its 95 % interval over test images.",
            f"The paper reports {PAPER_ERROR} % for {PAPER_NETWORKS} networks together, trained on all 50,000 images; "
            "ours are trained on 40,000 and selected on 10,000.",
            *paired_notes(results, {"Test accuracy, best validation": Question(("checkpoints", "best", "test"))}),
        ]
        notes += few_seeds_note(results)
        headers = ["network", "parameters", "seeds", "error %, best validation", "error %, last epoch", "ensemble %"]
        folded = ["parameters", "error %, last epoch"]
        return Table(headers=[*headers, *(["paper %"] if beside else [])], rows=rows, notes=notes, folded=folded)

    def charts(self, results: Sequence[Result]) -> list[Chart]:
        """The test error of each network and of its ensemble, and the validation error over training."""
        networks = by_network(results)
        alone, together = "one network (mean over seeds)", "all seeds together"
        bars: dict[str, list[Point]] = {alone: [], together: []}
        intervals: dict[str, list[Ends]] = {alone: [], together: []}
        for network, cells in networks.items():
            label = network.replace(", ", ",\n")
            for title, points in ((alone, _tested(cells, "best")), (together, [ensemble(cells)])):
                found = [point for point in points if point]
                if found:
                    right, ends = percent_over_seeds(found)
                    bars[title].append((label, 100 - right))
                    intervals[title].append(ends and (100 - ends[1], 100 - ends[0]))
        shown = [title for title, points in bars.items() if points]
        note = seeds_note(results)
        curves = {network: _curve(cells) for network, cells in networks.items() if cells[0].origin == "trained"}
        errors = Chart(
            name="cifar10-error",
            title="Test error of each network and of its seeds together",
            x_label="network",
            y_label="test error (%)",
            series={title: bars[title] for title in shown},
            intervals={title: intervals[title] for title in shown},
            note=f"{note} Bars: 95 % intervals over test images and, of several, seeds.",
        )
        training = Chart(
            name="cifar10-training",
            title="Validation error over training",
            x_label="epochs",
            y_label="validation error (%)",
            series=curves,
            note=note,
        )
        return [errors, training] if curves else [errors]


def ensemble(cells: Sequence[Result]) -> dict[str, Any] | None:
    """The accuracy of a network's seeds together, as a result states one; None of a single seed.

    Raises:
        DataFileError: What a result keeps of its scores is damaged.
    """
    if len(cells) < 2:
        return None
    several = [
        Scores.from_dict(cell.metrics.get("scores"), cell.metrics["checkpoints"]["best"]["test"])
        for cell in sorted(cells, key=lambda cell: cell.seed)
    ]
    right = summed(several)
    interval = share_interval(right, np.arange(len(right), dtype=np.int32))
    correct = int(right.sum())
    return {"share": correct / len(right), "correct": correct, "total": len(right), "interval": list(interval)}


def _scores(predictions: "Predictions") -> Scores:
    return Scores(predictions.scores.astype(np.float32), predictions.labels)


def _tested(cells: Sequence[Result], name: str) -> list[Mapping[str, Any]]:
    """The accuracies at a checkpoint over seeds; nothing of a network that was not trained here but for the best."""
    if cells[0].origin != "trained" and name != "best":
        return []
    return [cell.metrics["checkpoints"][name]["test"] for cell in cells]


def _together(results: Sequence[Result], *, number: int) -> str | None:
    """The error of as many CapsNets of the paper's sizes as the paper has; None where they were not measured."""
    cells = [one for one in results if one.label == "capsnet" and one.origin == "trained"]
    found = ensemble(cells) if len(cells) == number else None
    return error_percent([found]) if found else None


def _curve(cells: Sequence[Result]) -> list[Point]:
    """Epochs and the mean validation error in percent."""
    history = zip(*(cell.metrics["history"] for cell in cells), strict=False)
    return [(rows[0]["epoch"], 100 - 100 * mean([row["accuracy"] for row in rows])) for rows in history]
