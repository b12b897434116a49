"""Two digits in one image: are both found, and does a network know which pixel is whose (the paper's section 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from capsbench.bench.cells import ExperimentSettings, Preset, Work
from capsbench.contracts import INK_OVERLAP, FloatArray
from capsbench.evaluation.pairs import PART, measure_reconstructions, pair_accuracies, references
from capsbench.parameters import check_choice
from capsbench.report.charts import Chart
from capsbench.report.differences import Question, paired_notes
from capsbench.report.groups import ReportedValue, by_network
from capsbench.report.headlines import Headline, Measured, share
from capsbench.report.notes import beside_paper
from capsbench.report.numbers import BARS, error_percent, few_seeds_note, percent_over_seeds, seeds_note, spread
from capsbench.report.tables import Table
from capsbench.results.answers import packed_partners
from capsbench.results.result import Result
from capsbench.statistics import mean, pair_interval

if TYPE_CHECKING:
    from capsbench.bench.bench import Bench
    from capsbench.bench.data import CellData
    from capsbench.data.streaming import Stream
    from capsbench.evaluation.predictions import Predictions
    from capsbench.evaluation.subjects import Subject, Tests
    from capsbench.files.datafile import DataFile


SELECTIONS = {"best": "best validation", "last": "last epoch"}
SCORES = {"owner": "owner", "relative_iou": "relative IoU", "shared_f1": "shared-ink F1"}
"""How well a pair is taken apart: keys of a result, and what the table calls them."""

OVERLAPS = (0, 10, 20, 30, 40, 100)  # percent of ink: edges of the bins of the error
PAPER = (
    "The paper, trained on pairs, on full MNIST with full-size networks: capsnet 5.2 % of pairs not found exactly, "
    "its CNN 8.1 %."
)
ZERO_SHOT = (
    "Zero-shot: trained and selected on single digits, which lie as those of a pair do; never shown a pair. The answer "
    "to a pair is the two highest scores."
)

TRAINED_ON: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "pairs": ("multimnist", {}),
    "singles": ("padded", {"size": 36, "shift": 4}),  # where multimnist puts each digit of a pair
}
"""What networks are trained and selected on: a generator and its parameters."""


@dataclass(frozen=True, kw_only=True)
class OverlapSettings(ExperimentSettings):
    """The protocol.

    Attributes:
        trained_on: ``pairs``, or ``singles`` for networks that meet their first pair in the test.
    """

    trained_on: str = "pairs"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("trained_on", self.trained_on, TRAINED_ON)


SMALL_MODELS: Mapping[str, Mapping[str, Any]] = {
    "capsnet": {
        "preset": "small", "kernel": 5, "more": (64,), "decoder": (512, 1024), "reconstruction_weight": 0.002
    },
    "cnn-pair": {"preset": "small"},
    "efficient-capsnet": {"preset": "small"},
    "gcnn": {"preset": "small"},
    "resnet-gap": {"preset": "small"},
}  # fmt: skip

SMALL = OverlapSettings(epochs=65, batch_size=64, learning_rate=2e-3, schedule="one-cycle", eval_every=100, variants=5)

MEDIUM = replace(SMALL, epochs=20, eval_every=0, variants=1)

PAPERS = OverlapSettings(
    epochs=768,  # 300,288 steps; the authors' README trains for 300,000
    batch_size=128,
    schedule="exponential",
    decay_steps=20_000,  # section 6: ten times as long as on MNIST
    precision="bf16",
    eval_every=1000,
    variants=10,  # 100,000 of the paper's 10 million test pairs
)


class Overlap:
    """Two overlapping digits in one image: are both found, and which pixel is whose.

    A pair counts where its two digits are the two highest scores, as in the authors' code; the two halves of it stand
    beside. For a network that reconstructs, we also measure how well it takes the image apart, and what it reconstructs
    for a digit that is not there.
    """

    version: ClassVar[int] = 3
    pairs: ClassVar[bool] = True
    models: ClassVar[Sequence[str]] = ("cnn-pair", "capsnet")
    image_size: ClassVar[int] = 36
    presets: ClassVar[Mapping[str, Preset]] = {
        "smoke": Preset(replace(SMALL, epochs=1, eval_every=20, variants=1), SMALL_MODELS),
        "small": Preset(SMALL, SMALL_MODELS),
        "medium": Preset(MEDIUM, SMALL_MODELS),
        "zero-shot": Preset(replace(SMALL, trained_on="singles"), SMALL_MODELS),
        "paper": Preset(PAPERS, {"capsnet": {"preset": "large"}}),
    }

    paper: ClassVar[Sequence[ReportedValue]] = (
        ReportedValue(
            "capsnet: MultiMNIST, pairs not found exactly (%)", "5.2", lambda results: _pair_error(results, "capsnet")
        ),
        ReportedValue(
            "CNN: MultiMNIST, pairs not found exactly (%)", "8.1", lambda results: _pair_error(results, "cnn-pair")
        ),
    )

    headlines: ClassVar[Sequence[Headline]] = (
        Headline(
            name="exact-pair error",
            unit="%",
            measure=lambda cell: share(_known(cell, "best", "exact pair"), error=True),
            larger_is_better=False,
            question=Question(("checkpoints", "best", "exact pair")),
            paper={"capsnet": "5.2", "cnn-pair": "8.1"},
        ),
        Headline(name="owner", unit="", measure=lambda cell: _owner(cell), decimals=3, missing="does not reconstruct"),
    )

    headline_figure: ClassVar[str] = "overlap-error"

    @staticmethod
    def work(settings: OverlapSettings) -> list[Work]:
        """The cell's training and tests."""
        pairs, tests = settings.trained_on == "pairs", len(SELECTIONS) * settings.variants
        return [Work(image_size=Overlap.image_size, epochs=settings.epochs, tests=tests, pairs=pairs)]

    def run(self, bench: "Bench") -> dict[str, Any]:
        """Trains the cell's model and tests it; the metrics of the cell."""
        settings: OverlapSettings = bench.cell.settings
        seed = settings.data_seed
        generator, parameters = TRAINED_ON[settings.trained_on]
        training = bench.stream(
            "training", generator, "train", seed=seed, variants=settings.epochs, parameters=parameters
        )
        validation = bench.file("validation", generator, "validation", seed=seed, parameters=parameters)
        tests = self.tests(bench)
        model = bench.model(self.image_size, pairs=settings.trained_on == "pairs")
        trained = bench.train(model, training, validation)
        subject = bench.subject(model, tests)
        return {
            "parameters": bench.count_parameters(model),
            **trained.metrics(),
            "checkpoints": bench.each_checkpoint(model, trained, SELECTIONS, lambda one: _measured(tests, subject)),
            **_facts(bench, tests),
        }

    def tests(self, bench: "CellData") -> "Tests":
        """What a network is tested on."""
        settings: OverlapSettings = bench.cell.settings
        test = bench.file("test", "multimnist", "test", seed=settings.data_seed, variants=settings.variants)
        return {"test": lambda: test}

    def judge(self, bench: "CellData", tests: "Tests", subject: "Subject") -> dict[str, Any]:
        """The metrics of one set of answers, and of reconstructions where there are some."""
        return {"checkpoints": {"best": _measured(tests, subject)}, **_facts(bench, tests)}

    def table(self, results: Sequence[Result]) -> Table:
        """Rows for each model: its checkpoints, and its drawings of each layer alone; one for each other reference."""
        rows: list[list[Any]] = []
        networks = by_network(results)
        for model, cells in networks.items():
            rows += [_row(model, cells, name, title) for name, title in _selections(cells).items()]
        blank = [""] * 7
        nothing = [""] * len(SCORES)
        for model, cells in networks.items():
            alone = [_best(cell)["segmentation"].get("each layer alone") for cell in cells]
            if all(alone):
                rows.append([f"({model}, each layer alone)", *blank, *_taken_apart(alone), *nothing])
        for name in results[0].metrics["references"]:
            scores = [result.metrics["references"][name] for result in results]
            rows.append([f"({name})", *blank, *_taken_apart(scores), *nothing])
        found = [f"{score}, found labels" for score in SCORES.values()]
        return Table(
            headers=[
                "network", "parameters", "seeds", "checkpoint", "epoch",
                "pair error %", "digit error %", "neither %", *SCORES.values(), *found,
            ],
            rows=rows,
            notes=_notes(results),
            folded=["parameters", "seeds", "epoch", "neither %", *list(SCORES.values())[1:], *found],
        )  # fmt: skip

    def charts(self, results: Sequence[Result]) -> list[Chart]:
        """The error against the overlap of the ink."""
        series, intervals = {}, {}
        for model, cells in by_network(results).items():
            bins = [_best(cell)["by overlap"] for cell in cells]
            names = [name for name in bins[0] if all(one[name]["pairs"] for one in bins)]
            shares = [[{**one[name], "share": one[name]["error"]} for one in bins] for name in names]
            found = [percent_over_seeds(points) for points in shares]
            series[model] = [(name, mean) for name, (mean, _) in zip(names, found, strict=True)]
            intervals[model] = [ends for _, ends in found]
        zero_shot = "Trained on single digits. " if _zero_shot(results) else ""
        return [
            Chart(
                name="overlap-error",
                title="Pairs not found exactly, against how much of their ink overlaps",
                x_label=INK_OVERLAP,
                y_label="exact-pair error (%)",
                series=series,
                intervals=intervals,
                note=f"{zero_shot}The best checkpoint by validation. {seeds_note(results)}\n{BARS}",
            )
        ]


def _measured(tests: "Tests", subject: "Subject") -> dict[str, Any]:
    test, answers = _pairs(tests), subject.predict("test")
    accuracies = {name: one.to_dict() for name, one in pair_accuracies(answers).items()}
    with subject.progress("reconstructions, pairs") as report:
        reconstructions = measure_reconstructions(partial(subject.draw, "test"), test, answers, report)
    bins = _by_overlap(answers, _overlaps(test))
    return {**accuracies, "by overlap": bins, **reconstructions}


def _facts(bench: "CellData", tests: "Tests") -> dict[str, Any]:
    """What a result says of the pairs themselves: the second digit of each, and how well references take them apart."""
    test = _pairs(tests)
    means = bench.digits_of("train").class_means()
    return {"partners": packed_partners(test.source), "references": references(test, means)}


def _pairs(tests: "Tests") -> "DataFile | Stream":
    return cast("DataFile | Stream", tests["test"]())


def _overlaps(test: "DataFile | Stream") -> FloatArray:
    """``[N]`` percent: how much of the ink of each pair overlaps."""
    from capsbench.bench.data import sampler_of  # needs h5py and all that makes data, which a report does without

    sampler = sampler_of(test)
    parts = [
        sampler.measures(test.batch(np.arange(start, min(start + PART, len(test)))))[INK_OVERLAP]
        for start in range(0, len(test), PART)
    ]
    return np.concatenate(parts)


def _by_overlap(answers: "Predictions", overlap: FloatArray) -> dict[str, Any]:
    """The error of pairs whose ink overlaps by so many percent, with its interval."""
    found: dict[str, Any] = {}
    for low, high in pairwise(OVERLAPS):
        inside = (overlap >= low) & ((overlap < high) | (high == OVERLAPS[-1]))
        point: dict[str, Any] = {"pairs": int(inside.sum()), "error": 0.0}
        if inside.any():
            some = answers.among(inside)
            missed = (~some.correct).astype(np.float64)
            point |= {"error": float(missed.mean()), "interval": list(pair_interval(missed, some.unit))}
        found[f"{low}-{high}"] = point
    return found


def _selections(cells: Sequence[Result]) -> Mapping[str, str]:
    """The checkpoints of a network, and what a table calls them; one that was not trained here has no others."""
    return SELECTIONS if cells[0].origin == "trained" else {"best": "as given"}


def _row(model: str, cells: Sequence[Result], name: str, title: str) -> list[Any]:
    """A checkpoint of a network: means over seeds."""
    reached = [cell.metrics["checkpoints"][name] for cell in cells]
    metrics = ("exact pair", "per digit", "at least one")
    wrong = [error_percent([_known(cell, name, metric) for cell in cells]) for metric in metrics]
    parts = [part for given in _SHOWN for part in _taken_apart([point["segmentation"].get(given) for point in reached])]
    epoch = spread([point["epoch"] for point in reached], digits=0) if cells[0].origin == "trained" else ""
    return [model, cells[0].metrics["parameters"], len(cells), title, epoch, *wrong, *parts]


def _known(cell: Result, name: str, metric: str) -> Mapping[str, Any]:
    """An accuracy; an earlier edition took the first digits alone for units, so that its intervals are left out."""
    point: Mapping[str, Any] = cell.metrics["checkpoints"][name][metric]
    return point if "partners" in cell.metrics else {"share": point["share"]}


_SHOWN = ("true labels", "found labels")  # the columns; each layer alone is a row


def _notes(results: Sequence[Result]) -> list[str]:
    notes = [
        "A digit is found if it has one of the two highest scores. The pair error counts pairs with a digit that is "
        'not found, the digit error counts these digits, and "neither" counts pairs with no digit found.',
        "Owner, relative IoU and shared-ink F1 say how well reconstructions take a pair apart: those of the true "
        "labels, and in columns of their own those of the labels that were found. A dash: the network does not "
        "reconstruct. Rows in brackets are references.",
    ]
    asked = {"exact pairs found, best validation": Question(("checkpoints", "best", "exact pair"))}
    notes += paired_notes(results, asked)
    networks = by_network(results)
    absent = [f"{model} {_absent_note(cells)}" for model, cells in networks.items() if _best(cells[0])["absent"]]
    if absent:
        notes.append(f"A digit that the image does not show, best validation: {'; '.join(absent)}.")
    if _zero_shot(results):
        shares = [
            f"{model} {spread([100 * _best(cell)['validation'] for cell in cells], digits=1)} %"
            for model, cells in networks.items()
            if cells[0].origin == "trained"
        ]
        notes.append(
            f"{ZERO_SHOT} Accuracy on single validation digits, best validation: {', '.join(shares) or 'not measured'}."
        )
    return [*notes, *beside_paper(results, PAPER), *few_seeds_note(results)]


def _absent_note(cells: Sequence[Result]) -> str:
    """A network's reconstruction of an absent digit, against present ones; means over seeds."""
    points = [_best(cell)["absent"] for cell in cells]

    def found(measure: str, of: str) -> float:
        return mean([point[measure][of] for point in points])

    return (
        f"draws {found('pixels of ink', 'absent'):.0f} pixels of it and {found('pixels of ink', 'present'):.0f} of a "
        f"digit that it shows (AUC {found('pixels of ink', 'auc'):.3f}), draws any in {found('any ink', 'absent'):.0%} "
        f"of the pairs, and gives it the score {found('score', 'absent'):.2f}, but {found('score', 'present'):.2f} to "
        f"a digit that it shows (AUC {found('score', 'auc'):.3f})"
    )


def _zero_shot(results: Sequence[Result]) -> bool:
    return bool(results[0].settings["trained_on"] == "singles")


def _best(cell: Result) -> Mapping[str, Any]:
    """What was measured at the best checkpoint."""
    point: Mapping[str, Any] = cell.metrics["checkpoints"]["best"]
    return point


def _owner(cell: Result) -> Measured | None:
    """How often the larger reconstruction is its pixel's owner, for the true labels."""
    scores = _best(cell)["segmentation"].get("true labels")
    return Measured(scores["owner"]) if scores else None


def _pair_error(results: Sequence[Result], model: str) -> str | None:
    """A network's error after training on pairs, beside the paper's; None where it was not measured."""
    cells = [result for result in results if result.label == model and not _zero_shot([result])]
    return error_percent([_known(cell, "best", "exact pair") for cell in cells]) if cells else None


def _taken_apart(scores: Sequence[Mapping[str, float] | None]) -> list[str]:
    """A cell for each of `SCORES`: means over seeds, or dashes."""
    there = [one for one in scores if one]
    return [f"{mean([one[name] for one in there]):.3f}" if there else "-" for name in SCORES]
