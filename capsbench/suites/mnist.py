"""Plain MNIST: what routing and reconstruction do for a capsule network, beside a plain one (the paper's Table 1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from capsbench.bench.cells import ExperimentSettings, Preset, Work
from capsbench.evaluation.accuracy import accuracy
from capsbench.parameters import check_number
from capsbench.report.charts import Chart, Ends, Point
from capsbench.report.differences import Question, paired_notes
from capsbench.report.groups import ReportedValue, at_paper_size, by_network
from capsbench.report.headlines import Headline, share
from capsbench.report.numbers import BARS, error_percent, few_seeds_note, percent_over_seeds, seeds_note
from capsbench.report.tables import Table
from capsbench.results.result import Result
from capsbench.statistics import mean

if TYPE_CHECKING:
    from capsbench.bench.bench import Bench
    from capsbench.bench.data import CellData
    from capsbench.evaluation.subjects import Subject, Tests


SELECTIONS = {"best": "best validation", "last": "last epoch"}
"""The checkpoints that are evaluated, and what a chart calls them."""

SIDE = 28
STILL = {"size": SIDE, "shift": 0}

FORMS: Sequence[Mapping[str, Any]] = (
    {"iterations": 1, "reconstruction": False},
    {"iterations": 1, "reconstruction": True},
    {"iterations": 3, "reconstruction": False},
    {"iterations": 3, "reconstruction": True},
)
"""CapsNet's four rows of Table 1, in its order."""

Row = tuple[str, int | None, bool | None]
"""A row of Table 1: the model, its routing iterations, and whether it reconstructs."""

TABLE_1: Mapping[Row, str] = {
    ("cnn", None, None): "0.39",
    ("capsnet", 1, False): "0.34 ± 0.032",
    ("capsnet", 1, True): "0.29 ± 0.011",
    ("capsnet", 3, False): "0.35 ± 0.036",
    ("capsnet", 3, True): "0.25 ± 0.005",
}
"""The paper's test errors in percent, by model, routing iterations, and whether it reconstructs."""


def _row_name(model: str, iterations: int | None, reconstruction: bool | None) -> str:
    return model if iterations is None else f"{model} (iterations={iterations}, reconstruction={reconstruction})"


@dataclass(frozen=True, kw_only=True)
class MNISTSettings(ExperimentSettings):
    """The protocol.

    Attributes:
        shift: Pixels by which training digits are moved at most, each way: the paper's only augmentation.
    """

    shift: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("shift", self.shift, 0, SIDE // 2)


SMALL_MODELS: Mapping[str, Mapping[str, Any]] = {
    "cnn": {"preset": "small", "padding": "same"},
    "capsnet": {"preset": "small", "kernel": 5},
    "efficient-capsnet": {"preset": "small"},
    "gcnn": {"preset": "small"},
    "resnet-gap": {"preset": "small"},
    "stn": {"preset": "small"},
}


class MNIST:
    """Plain MNIST: the test error of a plain network and of capsules, with and without routing and reconstruction.

    Training digits are moved by up to two pixels, as in the paper (section 5); those that select and test are not.
    """

    version: ClassVar[int] = 1
    models: ClassVar[Sequence[str]] = ("cnn", "capsnet")
    image_size: ClassVar[int] = SIDE
    presets: ClassVar[Mapping[str, Preset]] = {
        "smoke": Preset(
            MNISTSettings(epochs=1, batch_size=64, learning_rate=3e-3, schedule="one-cycle", eval_every=20),
            SMALL_MODELS,
            {"capsnet": FORMS},
        ),
        "small": Preset(
            MNISTSettings(epochs=30, batch_size=32, learning_rate=3e-3, schedule="one-cycle"),
            SMALL_MODELS,
            {"capsnet": FORMS},
        ),
        "medium": Preset(
            MNISTSettings(epochs=12, batch_size=64, learning_rate=2e-3, schedule="one-cycle"),
            SMALL_MODELS,
            {"capsnet": FORMS},
        ),
        # 300,000 steps, as the authors' README has it. Same padding makes the 35.4 M parameters that the paper counts.
        "paper": Preset(
            MNISTSettings(epochs=768, precision="bf16", eval_every=500),
            {"cnn": {"padding": "same"}},
            {"capsnet": FORMS},
        ),
    }

    headlines: ClassVar[Sequence[Headline]] = (
        Headline(
            name="error",
            unit="%",
            measure=lambda cell: share(cell.metrics["checkpoints"]["best"]["test"], error=True),
            decimals=2,
            larger_is_better=False,
            question=Question(("checkpoints", "best", "test")),
            paper={_row_name(*row): figure for row, figure in TABLE_1.items()},
        ),
    )

    @property
    def paper(self) -> Sequence[ReportedValue]:
        """Table 1, and where our figure for each row is found."""
        return [
            ReportedValue(f"{_row_name(*row)}: test error (%)", figure, partial(_error, row=row))
            for row, figure in TABLE_1.items()
        ]

    @staticmethod
    def work(settings: MNISTSettings) -> list[Work]:
        """The cell's training and tests."""
        return [Work(image_size=SIDE, epochs=settings.epochs, tests=len(SELECTIONS))]

    def run(self, bench: "Bench") -> dict[str, Any]:
        """Trains the cell's model and tests it; the metrics of the cell."""
        settings: MNISTSettings = bench.cell.settings
        seed = settings.data_seed
        moved = {"size": SIDE, "shift": settings.shift}
        training = bench.stream("training", "padded", "train", seed=seed, variants=settings.epochs, parameters=moved)
        validation = bench.file("validation", "padded", "validation", seed=seed, parameters=STILL)
        tests = self.tests(bench)
        model = bench.model(SIDE)
        trained = bench.train(model, training, validation)
        subject = bench.subject(model, tests)
        checkpoints = bench.each_checkpoint(model, trained, SELECTIONS, lambda selected: _measured(subject))
        return {"parameters": bench.count_parameters(model), "checkpoints": checkpoints, **trained.metrics()}

    def tests(self, bench: "CellData") -> "Tests":
        """What a network is tested on."""
        test = bench.file("test", "padded", "test", seed=bench.cell.settings.data_seed, parameters=STILL)
        return {"test": lambda: test}

    def judge(self, bench: "CellData", tests: "Tests", subject: "Subject") -> dict[str, Any]:
        """The metrics of one set of answers."""
        return {"checkpoints": {"best": _measured(subject)}}

    def table(self, results: Sequence[Result]) -> Table:
        """One row for each network: means over seeds, and standard deviations where there are several."""
        networks = by_network(results)
        beside = any(map(at_paper_size, networks.values()))
        rows = []
        for network, cells in networks.items():
            tested = [_tested(cells, name) for name in SELECTIONS]
            rows.append(
                [
                    network,
                    cells[0].metrics["parameters"],
                    len(cells),
                    *(error_percent(points, digits=2) if points else "" for points in tested),
                    *([TABLE_1.get(_row_of(cells[0]), "") if at_paper_size(cells) else ""] if beside else []),
                ]
            )
        notes = [
            "The error is the share of unshifted test digits that are misclassified.",
            *paired_notes(results, {"Test accuracy, best validation": Question(("checkpoints", "best", "test"))}),
        ]
        notes += few_seeds_note(results)
        headers = ["network", "parameters", "seeds", "error %, best validation", "error %, last epoch"]
        folded = ["parameters", "seeds"]
        return Table(headers=[*headers, *(["paper %"] if beside else [])], rows=rows, notes=notes, folded=folded)

    def charts(self, results: Sequence[Result]) -> list[Chart]:
        """The test error of each network, and the validation error over training."""
        networks = by_network(results)
        bars: dict[str, list[Point]] = {title: [] for title in SELECTIONS.values()}
        intervals: dict[str, list[Ends]] = {title: [] for title in SELECTIONS.values()}
        for network, cells in networks.items():
            label = _short(network, cells).replace(", ", ",\n").replace(" recon", "\nrecon")
            for name, title in SELECTIONS.items():
                points = _tested(cells, name)
                if points:
                    right, ends = percent_over_seeds(points)
                    bars[title].append((label, 100 - right))
                    intervals[title].append(ends and (100 - ends[1], 100 - ends[0]))
        note = seeds_note(results)
        curves = {
            _short(network, cells): _curve(cells) for network, cells in networks.items() if cells[0].origin == "trained"
        }
        errors = Chart(
            name="mnist-error",
            title="Test error of each network",
            x_label="network",
            y_label="test error (%)",
            series=bars,
            intervals=intervals,
            note=f"{note} {BARS}",
        )
        training = Chart(
            name="mnist-training",
            title="Validation error over training",
            x_label="epochs",
            y_label="validation error (%), logarithmic",
            series=curves,
            log=True,
            note=note,
        )
        return [errors, training] if curves else [errors]


def _measured(subject: "Subject") -> dict[str, Any]:
    return {"test": accuracy(subject.predict("test")).to_dict()}


def _tested(cells: Sequence[Result], name: str) -> list[Mapping[str, Any]]:
    """The accuracies at a checkpoint over seeds; nothing of a network that was not trained here but for the best."""
    if cells[0].origin != "trained" and name != "best":
        return []
    return [cell.metrics["checkpoints"][name]["test"] for cell in cells]


def _curve(cells: Sequence[Result]) -> list[Point]:
    """Epochs and the mean validation error in percent; a logarithmic axis has no place for 0."""
    history = zip(*(cell.metrics["history"] for cell in cells), strict=False)
    points = [(rows[0]["epoch"], 100 - 100 * mean([row["accuracy"] for row in rows])) for rows in history]
    return [(epoch, error) for epoch, error in points if error > 0]


def _row_of(result: Result) -> Row:
    """Which row of Table 1 a result belongs to; one of no row where anything else of the network was changed."""
    for row in TABLE_1:
        if result.label == _row_name(*row) and result.origin == "trained":
            return row
    return result.label, None, None


def _error(results: Sequence[Result], row: Row) -> str | None:
    cells = [result for result in results if _row_of(result) == row]
    return error_percent([cell.metrics["checkpoints"]["best"]["test"] for cell in cells], digits=2) if cells else None


def _short(network: str, cells: Sequence[Result]) -> str:
    """A network of Table 1 in words; any other by its label."""
    model, iterations, reconstruction = _row_of(cells[0])
    if iterations is None:
        return network
    times = "1 iteration" if iterations == 1 else f"{iterations} iterations"
    return f"{model}, {times}, {'with' if reconstruction else 'no'} reconstruction"
