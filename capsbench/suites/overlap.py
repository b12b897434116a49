"""Two digits in one image: are both found, and does a network know which pixel is whose (the paper's section 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy import stats
from torch import nn

from capsbench.bench import Bench, Preset, count_parameters
from capsbench.charts import Chart
from capsbench.contracts import CLASSES, UInt8Array
from capsbench.evaluation import Predictions, pair_accuracies, predict, reconstruct
from capsbench.loading import Samples
from capsbench.parameters import check_number
from capsbench.randomness import check_seed
from capsbench.report import Table, by_network, percent, seeds_of, spread
from capsbench.results import Result
from capsbench.segmentation import segmentation
from capsbench.storage import DataFile
from capsbench.training import TrainConfig, Trainer

SELECTIONS = {"best": "best validation", "last": "last epoch"}
OVERLAPS = (0, 10, 20, 30, 40, 100)  # percent of ink: edges of the bins of the error
PAPER = "The paper, on full MNIST with full-size networks: capsnet 5.2 % of pairs not found exactly, its CNN 8.1 %."

Drawn = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class OverlapSettings(TrainConfig):
    """The protocol: how the networks are trained, and what they are tested on.

    Attributes:
        variants: Test pairs for each digit.
        data_seed: Of every data set; the networks' seeds are apart from it.
    """

    variants: int = 1
    data_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("variants", self.variants, 1, 1000)
        check_seed(self.data_seed)


SMALL_MODELS: Mapping[str, Mapping[str, Any]] = {
    "capsnet": {
        "preset": "small", "kernel": 5, "more": (64,), "decoder": (512, 1024), "reconstruction_weight": 0.002
    },
    "cnn-pair": {"preset": "small"},
}  # fmt: skip


class Overlap:
    """Two overlapping digits in one image: are both found, and which pixel is whose.

    A pair counts where its two digits are the two highest scores, as in the authors' code; the two halves of it stand
    beside. A network that reconstructs is asked to take the image apart, and to draw a digit that is not there.
    """

    version: ClassVar[int] = 1
    pairs: ClassVar[bool] = True
    models: ClassVar[Sequence[str]] = ("cnn-pair", "capsnet")
    image_size: ClassVar[int] = 36
    presets: ClassVar[Mapping[str, Preset]] = {
        "smoke": Preset(
            OverlapSettings(epochs=1, batch_size=64, learning_rate=2e-3, schedule="one-cycle"), SMALL_MODELS
        ),
        "small": Preset(
            OverlapSettings(epochs=90, batch_size=64, learning_rate=2e-3, schedule="one-cycle", variants=5),
            SMALL_MODELS,
        ),
    }

    def run(self, bench: Bench) -> dict[str, Any]:
        """Trains the cell's model and tests it; the metrics of the cell."""
        settings: OverlapSettings = bench.cell.settings
        seed, device = settings.data_seed, bench.cell.device
        training = bench.stream("training", "multimnist", "train", seed=seed, variants=settings.epochs)
        validation = bench.file("validation", "multimnist", "validation", seed=seed)
        test = bench.file("test", "multimnist", "test", seed=seed, variants=settings.variants)
        model = bench.model(self.image_size, pairs=True)
        trainer = Trainer(
            model, training, validation, settings, seed=bench.cell.seed, device=device, folder=bench.checkpoints
        )
        trained = trainer.run(bench.report)
        checkpoints = {}
        for name in SELECTIONS:
            selected = trained.selected[name]
            model.load_state_dict(selected.state)
            measured = _measure(model, test, device)
            checkpoints[name] = {"epoch": selected.epoch, "validation": selected.accuracy, **measured}
        return {
            "parameters": count_parameters(model),
            "training_seconds": trained.seconds,
            "checkpoints": checkpoints,
            "references": _references(bench, test),
            "history": trained.history,
        }

    def table(self, results: Sequence[Result]) -> Table:
        """One row for each model and checkpoint, and one for each way to take images apart without a network."""
        rows = []
        for model, cells in by_network(results).items():
            for name, title in SELECTIONS.items():
                reached = [cell.metrics["checkpoints"][name] for cell in cells]
                errors = [
                    percent([_error(point[metric]) for point in reached])
                    for metric in ("exact pair", "per digit", "at least one")
                ]
                parts = [_taken_apart([point["segmentation"].get(given) for point in reached]) for given in GIVEN]
                epoch = spread([point["epoch"] for point in reached], digits=0)
                rows.append([model, cells[0].metrics["parameters"], len(cells), title, epoch, *errors, *parts])
        for name in results[0].metrics["references"]:
            scores = [result.metrics["references"][name] for result in results]
            rows.append([f"({name})", "", "", "", "", "", "", "", _taken_apart(scores), ""])
        notes = [
            "Errors: pairs whose two digits are not the two highest scores; digits not among them; pairs with neither.",
            "Taken apart: owner / relative IoU / F1 of shared ink, see docs/overlap.md, by the reconstructions of the "
            "true labels and of what was found. In brackets: without a network.",
            PAPER,
        ]
        if len(seeds_of(results)) < 3:
            notes.append("Fewer than three seeds: a difference of a point or two between networks means nothing.")
        return Table(
            headers=[
                "model", "parameters", "seeds", "checkpoint", "epoch",
                "pair error %", "digit error %", "neither %", "taken apart, true labels", "found labels",
            ],
            rows=rows,
            notes=notes,
        )  # fmt: skip

    def charts(self, results: Sequence[Result]) -> list[Chart]:
        """The error against the overlap of the ink."""
        series = {}
        for model, cells in by_network(results).items():
            bins = [cell.metrics["checkpoints"]["best"]["by overlap"] for cell in cells]
            names = [name for name in bins[0] if all(one[name]["pairs"] for one in bins)]
            series[model] = [(name, 100 * float(np.mean([one[name]["error"] for one in bins]))) for name in names]
        return [
            Chart(
                name="overlap-error",
                title="Pairs not found exactly, against how much of their ink overlaps",
                x_label="overlap of ink (%)",
                y_label="exact-pair error (%)",
                series=series,
                note="The best checkpoint by validation; means over seeds.",
            )
        ]


GIVEN = ("true labels", "found labels")


def _measure(model: nn.Module, test: DataFile, device: str) -> dict[str, Any]:
    answers = predict(model, test, device=device)
    measured: dict[str, Any] = {name: one.to_dict() for name, one in pair_accuracies(answers).items()}
    measured["by overlap"] = _by_overlap(answers, test)
    labels = answers.labels.astype(np.int64)
    drawn = reconstruct(model, test, labels, device=device)
    measured["segmentation"], measured["absent"] = {}, {}
    if drawn is not None:
        everything = np.arange(len(test))
        images, layers = test.batch(everything).images, test.layers(everything)
        given: Mapping[str, Any] = {"true labels": None, "found labels": answers.hits}
        for name, found in given.items():
            measured["segmentation"][name] = segmentation(drawn, layers, images, found).to_dict()
        measured["absent"] = _absent(model, test, answers, drawn, device)
    return measured


def _by_overlap(answers: Predictions, test: DataFile) -> dict[str, Any]:
    """The error of pairs whose ink overlaps by so many percent."""
    measures = test.recipe().sampler.measures(test.batch(np.arange(len(test))))
    overlap = measures["overlap of ink (%)"]
    found: dict[str, Any] = {}
    for low, high in pairwise(OVERLAPS):
        inside = (overlap >= low) & ((overlap < high) | (high == OVERLAPS[-1]))
        number = int(inside.sum())
        wrong = int((~answers.correct[inside]).sum())
        found[f"{low}-{high}"] = {"pairs": number, "error": wrong / number if number else 0.0}
    return found


def _absent(model: nn.Module, test: Samples, answers: Predictions, drawn: Drawn, device: str) -> dict[str, Any]:
    """What a network draws when asked for a digit that is not there: pixels of ink and scores, against digits that are.

    Summed ink would say nothing: a decoder of zeros draws grey. AUC is how often a digit that is there has more.
    """
    labels = answers.labels.astype(np.int64)
    absent = np.random.default_rng(0).integers(0, CLASSES - 2, len(labels))
    for label in np.sort(labels, axis=1).T:  # the lower one first: what is not below it moves up by one
        absent += absent >= label
    ghosts = reconstruct(model, test, absent[:, None], device=device)
    assert ghosts is not None
    rows = np.arange(len(labels))
    there: dict[str, npt.NDArray[Any]] = {"pixels of ink": _ink(drawn), "score": answers.scores[rows[:, None], labels]}
    not_there: dict[str, npt.NDArray[Any]] = {"pixels of ink": _ink(ghosts), "score": answers.scores[rows, absent]}
    return {name: _compared(there[name].ravel(), not_there[name].ravel()) for name in there}


def _compared(present: npt.NDArray[Any], absent: npt.NDArray[Any]) -> dict[str, float]:
    auc = stats.mannwhitneyu(present, absent).statistic / (present.size * absent.size)
    return {"present": float(present.mean()), "absent": float(absent.mean()), "auc": float(auc)}


def _ink(drawn: Drawn) -> npt.NDArray[np.int64]:
    """``[N, k]`` pixels of at least half of white."""
    return np.asarray((drawn >= 0.5).sum((2, 3)))


def _references(bench: Bench, test: DataFile) -> dict[str, Any]:
    """How well images are taken apart without a network; a weak decoder loses to some of these."""
    everything = np.arange(len(test))
    batch, layers = test.batch(everything), test.layers(everything)
    assert batch.shift is not None
    digits = bench.digits_of("train")
    means = np.stack([digits.images[digits.labels == label].mean(0) for label in range(CLASSES)]) / 255
    drawn: dict[str, Any] = {
        "the image for both": np.repeat(batch.images[:, None] / 255, 2, axis=1),
        "class means, centred": _placed(means, batch.labels, np.zeros_like(batch.shift), layers),
        "class means, at the true places": _placed(means, batch.labels, batch.shift, layers),
        "the true layers": layers / 255,
    }
    return {name: segmentation(one, layers, batch.images).to_dict() for name, one in drawn.items()}


def _placed(means: Any, labels: UInt8Array, shift: npt.NDArray[np.int8], layers: UInt8Array) -> Drawn:
    """``[N, 2, H, W]``: the mean of each digit's class, its frame's corner at the margin plus the shift."""
    drawn = np.zeros(layers.shape, np.float32)
    margin = (layers.shape[-1] - means.shape[-1]) // 2
    size = means.shape[-1]
    for n, k in np.ndindex(*labels.shape):
        top, left = margin + shift[n, k].astype(int)
        drawn[n, k, top : top + size, left : left + size] = means[labels[n, k]]
    return drawn


def _error(share: Mapping[str, Any]) -> dict[str, Any]:
    """What is missing to 1, with its interval."""
    low, high = share["interval"]
    return {"share": 1 - share["share"], "interval": [1 - high, 1 - low]}


def _taken_apart(scores: Sequence[Mapping[str, float] | None]) -> str:
    """``owner / relative IoU / F1 of shared ink``, means over seeds."""
    there = [one for one in scores if one]
    if not there:
        return "does not reconstruct"
    return " / ".join(f"{np.mean([one[name] for one in there]):.3f}" for name in ("owner", "relative_iou", "shared_f1"))
