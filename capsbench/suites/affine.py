"""Trained on digits at random places, tested under affine maps never seen: the paper's section 5.2."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from capsbench.bench import Bench, Preset, count_parameters
from capsbench.evaluation import Predictions, accuracy, gap, predict
from capsbench.parameters import check_number
from capsbench.randomness import check_seed
from capsbench.report import Table, by_network, percent, seeds_of, spread
from capsbench.results import Result
from capsbench.training import TrainConfig, Trainer

SELECTIONS = {"target": "first at target", "best": "best validation", "last": "last epoch"}
"""The checkpoints that are evaluated, and what a table calls them."""

PAPER = (
    "The paper, on full MNIST with full-size networks: capsnet 79 % affNIST at 99.23 % clean, "
    "its CNN with pooling 66 % at 99.22 %."
)


@dataclass(frozen=True, kw_only=True)
class AffineSettings(TrainConfig):
    """The protocol: how the networks are trained, what they are tested on, and what they are built with.

    Attributes:
        variants: Test samples a digit, of the clean and of the affine set.
        data_seed: Of every data set; the networks' seeds are apart from it.
    """

    variants: int = 1
    data_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("variants", self.variants, 1, 1000)
        check_seed(self.data_seed)


SMALL_MODELS = {name: {"preset": "small"} for name in ("capsnet", "cnn", "cnn-pool")}


class Affine:
    """Trained on digits at random places, tested under affine maps never seen.

    The gap is clean minus affine accuracy. Clean digits lie at random places, as in training; the accuracy on centered
    ones stands beside it. Checkpoints are selected on validation digits only: the first to reach the target, so that
    networks are compared at equal clean accuracy, the best, and the last.
    """

    version: ClassVar[int] = 1
    models: ClassVar[Sequence[str]] = ("cnn-pool", "capsnet")
    image_size: ClassVar[int] = 40
    presets: ClassVar[Mapping[str, Preset]] = {
        "smoke": Preset(
            AffineSettings(epochs=1, batch_size=64, learning_rate=3e-3, schedule="one-cycle", target=0.5), SMALL_MODELS
        ),
        "small": Preset(
            AffineSettings(epochs=45, batch_size=32, learning_rate=3e-3, schedule="one-cycle", target=0.97, variants=4),
            SMALL_MODELS,
        ),
    }

    def run(self, bench: Bench) -> dict[str, Any]:
        """Trains the cell's model and tests it; the metrics of the cell."""
        settings: AffineSettings = bench.cell.settings
        seed, device = settings.data_seed, bench.cell.device
        training = bench.stream("training", "padded", "train", seed=seed, variants=settings.epochs)
        validation = bench.file("validation", "padded", "validation", seed=seed)
        tests = {
            "clean": bench.file("clean", "padded", "test", seed=seed, variants=settings.variants),
            "centered": bench.file("centered", "padded", "test", seed=seed, preset="centered"),
            "affine": bench.file("affine", "affnist", "test", seed=seed, variants=settings.variants),
        }
        model = bench.model(self.image_size)
        trainer = Trainer(
            model, training, validation, settings, seed=bench.cell.seed, device=device, folder=bench.checkpoints
        )
        trained = trainer.run(bench.report)
        checkpoints: dict[str, Any] = {}
        measured: dict[int, dict[str, Any]] = {}  # the best and the last are often one
        for name, selected in trained.selected.items():
            if selected.epoch not in measured:
                model.load_state_dict(selected.state)
                measured[selected.epoch] = _measure(model, tests, device)
            checkpoints[name] = {"epoch": selected.epoch, "validation": selected.accuracy, **measured[selected.epoch]}
        return {
            "parameters": count_parameters(model),
            "training_seconds": trained.seconds,
            "checkpoints": checkpoints,
            "history": trained.history,
        }

    def table(self, results: Sequence[Result]) -> Table:
        """One row for each model and checkpoint: means over seeds, and standard deviations where there are several."""
        rows = []
        for model, cells in by_network(results).items():
            for name, title in SELECTIONS.items():
                reached = [cell.metrics["checkpoints"][name] for cell in cells if name in cell.metrics["checkpoints"]]
                rows.append(_row(model, cells, title, reached))
        settings = results[0].settings
        notes = [
            f"Clean: digits at random places; affine: each test digit under maps, {settings['variants']} times. "
            f"First at target: the first epoch with {settings['target']:.2%} of the validation digits right.",
            PAPER,
        ]
        if len(seeds_of(results)) < 3:
            notes.append("Fewer than three seeds: a difference of a point or two between networks means nothing.")
        return Table(
            headers=["model", "parameters", "seeds", "checkpoint", "epoch", "clean %", "centered %", "affine %", "gap"],
            rows=rows,
            notes=notes,
        )


def _measure(model: Any, tests: Mapping[str, Any], device: str) -> dict[str, Any]:
    answers: dict[str, Predictions] = {name: predict(model, data, device=device) for name, data in tests.items()}
    measured: dict[str, Any] = {name: accuracy(answer).to_dict() for name, answer in answers.items()}
    return measured | {"gap": gap(answers["clean"], answers["affine"])}


def _row(model: str, cells: Sequence[Result], title: str, reached: Sequence[Mapping[str, Any]]) -> list[Any]:
    row: list[Any] = [model, cells[0].metrics["parameters"], len(cells), title]
    if len(reached) < len(cells):
        return [*row, f"not reached by {len(cells) - len(reached)} of {len(cells)}", "", "", "", ""]
    row.append(spread([point["epoch"] for point in reached], digits=0))
    columns = [[point[name] for point in reached] for name in ("clean", "centered", "affine", "gap")]
    return row + [percent(points) for points in columns]
