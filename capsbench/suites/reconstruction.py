"""What a network draws of digits, of moved capsules, and of two digits on one another: the paper's Figures 3 to 5."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from capsbench.bench.cells import ExperimentSettings, Preset, Work
from capsbench.contracts import IndexArray, UInt8Array
from capsbench.evaluation.accuracy import accuracy
from capsbench.evaluation.pairs import absent_digits, pair_accuracies
from capsbench.evaluation.predictions import Predictions
from capsbench.parameters import check_number
from capsbench.report.groups import by_network
from capsbench.report.headlines import Headline, Measured, share
from capsbench.report.notes import beside_paper
from capsbench.report.numbers import few_seeds_note, percent, spread
from capsbench.report.pictures import Picture, Tile, overlaid, shared_out
from capsbench.report.tables import Table
from capsbench.results.answers import packed_partners
from capsbench.results.pixels import packed, unpacked
from capsbench.results.result import Result

if TYPE_CHECKING:
    from torch import nn

    from capsbench.bench.bench import Bench
    from capsbench.data.samples import Samples


SINGLE, PAIR = 28, 36  # pixels of an image's side
JITTERED, CENTERED = {"size": SINGLE, "shift": 2}, {"size": SINGLE, "shift": 0}  # plain MNIST, in training moved
RIGHT, WRONG = 8, 4  # single digits that are shown, of right and of wrong answers
RIGHT_PAIRS, ABSENT_PAIRS, WRONG_PAIRS = 4, 2, 2
MOVED = 2  # digits whose capsule is moved

PAPER = "The paper, on full MNIST with full-size networks: 99.75 % of digits, 94.8 % of pairs."


@dataclass(frozen=True, kw_only=True)
class ReconstructionSettings(ExperimentSettings):
    """The protocol: how the two networks are trained, and what they are tested on.

    ``epochs`` and ``decay_steps`` are those of single digits; each of these is tested once, ``variants`` is of pairs.

    Attributes:
        pair_epochs: Epochs of training on pairs.
        pair_decay_steps: ``decay_steps`` of training on pairs; the paper has ten times those of single digits.
    """

    pair_epochs: int
    pair_decay_steps: int = 20_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("pair_epochs", self.pair_epochs, 1, 1_000_000)
        check_number("pair_decay_steps", self.pair_decay_steps, 1, 1e9)


SMALL_MODELS: Mapping[str, Mapping[str, Any]] = {
    "capsnet": {
        "preset": "small", "kernel": 5, "more": (64,), "decoder": (512, 1024), "reconstruction_weight": 0.002
    },
    "cnn": {"preset": "small", "padding": "same"},
}  # fmt: skip


class Reconstruction:
    """What a network draws: of single digits, of a capsule whose dimensions are moved, of two overlapping digits.

    A cell trains two networks of the same parameters, one on single digits and one on pairs. Examples are drawn at
    random, right and wrong answers apart.
    """

    version: ClassVar[int] = 1
    models: ClassVar[Sequence[str]] = ("capsnet",)
    image_size: ClassVar[int] = SINGLE
    needs_reconstruction: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Preset]] = {
        "smoke": Preset(
            ReconstructionSettings(
                epochs=1, pair_epochs=1, batch_size=64, learning_rate=2e-3, schedule="one-cycle", eval_every=20
            ),
            SMALL_MODELS,
        ),
        "small": Preset(
            ReconstructionSettings(epochs=40, pair_epochs=45, batch_size=64, learning_rate=2e-3, schedule="one-cycle"),
            SMALL_MODELS,
        ),
        "medium": Preset(
            ReconstructionSettings(epochs=12, pair_epochs=20, batch_size=64, learning_rate=2e-3, schedule="one-cycle"),
            SMALL_MODELS,
        ),
        "paper": Preset(
            ReconstructionSettings(epochs=30, pair_epochs=768, precision="bf16", eval_every=1000),
            {"capsnet": {"preset": "large"}},  # one network for 28x28 and, with pairs, 36x36
        ),
    }

    headlines: ClassVar[Sequence[Headline]] = (
        Headline(name="PSNR", unit="dB", measure=lambda one: Measured(one.metrics["single"]["reconstruction"]["psnr"])),
        Headline(name="digits right", unit="%", measure=lambda one: share(one.metrics["single"]["accuracy"])),
        Headline(name="pairs right", unit="%", measure=lambda one: share(one.metrics["pairs"]["exact pair"])),
    )

    @staticmethod
    def work(settings: ReconstructionSettings) -> list[Work]:
        """The cell's training and tests."""
        return [
            Work(image_size=SINGLE, epochs=settings.epochs, tests=1, name="single"),
            Work(image_size=PAIR, epochs=settings.pair_epochs, tests=settings.variants, pairs=True, name="pairs"),
        ]

    def run(self, bench: "Bench") -> dict[str, Any]:
        """Trains the cell's two networks and reconstructs test images with them; the metrics of the cell."""
        from capsbench.evaluation.inference import move_poses, reconstruct_bytes  # which load torch

        seed, device = bench.cell.settings.data_seed, bench.cell.device
        single, pair = bench.model(SINGLE).to(device), bench.model(PAIR, pairs=True).to(device)
        centered = bench.file("validation", "padded", "validation", parameters=CENTERED, seed=seed)
        pairs = bench.file("pair validation", "multimnist", "validation", seed=seed)
        some = np.arange(2), np.zeros(2, np.int64)
        for model, validation in ((single, centered), (pair, pairs)):  # what cannot be drawn fails untrained
            reconstruct_bytes(model, validation, *some, device)
        move_poses(single, centered, *some, device)
        return {
            "single": _single(bench, single, centered),
            "pairs": _pairs(bench, pair, pairs),
        }

    def table(self, results: Sequence[Result]) -> Table:
        """One row for each model, and one for the mean images."""
        rows, without = [], []
        for model, cells in by_network(results).items():
            single, pairs = ([cell.metrics[part] for cell in cells] for part in ("single", "pairs"))
            right = percent([one["accuracy"] for one in single])
            # Earlier editions took the first digits alone for units.
            exact = percent(
                [one["exact pair"] if "partners" in one else {"share": one["exact pair"]["share"]} for one in pairs]
            )
            drawn = _fidelities([one["reconstruction"] for one in single])
            rows.append([model, len(cells), single[0]["parameters"], right, *drawn, pairs[0]["parameters"], exact])
            without += [] if single[0]["moved"] else [model]
        means = _fidelities([results[0].metrics["single"]["class mean"]])  # no seed plays a part in it
        rows.append(["(mean image of the class)", "", "", "", *means, "", ""])
        notes = [
            "The best checkpoints by validation. Error and PSNR: reconstructions of test digits from their labels.",
            *(f"{model}: no decode, so its capsules cannot be moved." for model in without),
            *beside_paper(results, PAPER),
        ]
        notes += few_seeds_note(results)
        return Table(
            headers=[
                "network", "seeds", "parameters, digits", "digits right %", "squared error a pixel", "PSNR dB",
                "parameters, pairs", "pairs right %",
            ],
            rows=rows,
            notes=notes,
            folded=["seeds", "parameters, digits", "parameters, pairs", "squared error a pixel"],
        )  # fmt: skip

    def charts(self, results: Sequence[Result]) -> list[Picture]:
        """The pictures of each model's first seed."""
        made = []
        for model, cells in by_network(results).items():
            first = cells[0]  # results come in the order of their seeds
            single, pairs = first.metrics["single"], first.metrics["pairs"]
            own = [_digit_picture(model, single), _pair_picture(model, pairs)]
            if single["moved"]:
                own.insert(1, _dimension_picture(model, single["moved"]))
            made += [replace(picture, note=f"{picture.note} Seed {first.seed}.") for picture in own]
        return made


def _single(bench: "Bench", model: "nn.Module", validation: "Samples") -> dict[str, Any]:
    """Trains on single digits, and reconstructs test digits."""
    from capsbench.evaluation.inference import reconstruct

    settings: ReconstructionSettings = bench.cell.settings
    seed, device = settings.data_seed, bench.cell.device
    training = bench.stream("training", "padded", "train", parameters=JITTERED, seed=seed, variants=settings.epochs)
    test = bench.file("test", "padded", "test", parameters=CENTERED, seed=seed)
    trained = bench.train(model, training, validation, name="single")
    best = trained.selected["best"]
    model.load_state_dict(best.state)
    answers = bench.predict(model, test)
    labels = answers.labels.astype(np.int64)
    drawn = reconstruct(model, test, labels[:, None], device=device)
    assert drawn is not None
    images = test.batch(np.arange(len(test))).images
    means = bench.digits_of("train").class_means()
    random = np.random.default_rng(settings.data_seed)
    return {
        "parameters": bench.count_parameters(model),
        "epoch": best.epoch,
        "validation": best.accuracy,
        "accuracy": accuracy(answers).to_dict(),
        "reconstruction": _fidelity(drawn[:, 0], images),
        "class mean": _fidelity(means[labels], images),
        "shown": _shown_digits(model, test, answers, random, device),
        "moved": _moved_digits(model, test, random, device),
        **trained.metrics(),
    }


def _pairs(bench: "Bench", model: "nn.Module", validation: "Samples") -> dict[str, Any]:
    """Trains on pairs, and draws test pairs."""
    settings: ReconstructionSettings = bench.cell.settings
    seed, device = settings.data_seed, bench.cell.device
    config = replace(settings, epochs=settings.pair_epochs, decay_steps=settings.pair_decay_steps)
    training = bench.stream("pair training", "multimnist", "train", seed=seed, variants=config.epochs)
    test = bench.file("pair test", "multimnist", "test", seed=seed, variants=settings.variants)
    trained = bench.train(model, training, validation, config=config, name="pairs")
    best = trained.selected["best"]
    model.load_state_dict(best.state)
    answers = bench.predict(model, test)
    return {
        "parameters": bench.count_parameters(model),
        "epoch": best.epoch,
        "validation": best.accuracy,
        **{name: one.to_dict() for name, one in pair_accuracies(answers).items()},
        "partners": packed_partners(answers.source),
        "shown": _shown_pairs(model, test, answers, np.random.default_rng(settings.data_seed), device),
        **trained.metrics(),
    }


def _fidelity(drawn: npt.NDArray[Any], images: UInt8Array) -> dict[str, float]:
    """How near drawn images are, both ``[N, H, W]``: the squared error of a pixel 0..1, and the mean PSNR in dB."""
    errors = np.square(drawn - images / 255).mean((1, 2))
    decibels = -10 * np.log10(np.maximum(errors, 1e-10))  # a perfect image is at 100 dB
    return {"mse": float(errors.mean()), "psnr": float(decibels.mean())}


def _fidelities(found: Sequence[Mapping[str, float]]) -> list[str]:
    """Error and PSNR, over seeds."""
    return [spread([one["mse"] for one in found], digits=4), spread([one["psnr"] for one in found], digits=1)]


def _shown_digits(
    model: "nn.Module", test: "Samples", answers: Predictions, random: np.random.Generator, device: str
) -> dict[str, Any]:
    """Some right answers, and some wrong ones twice: reconstructed from the label, then from the prediction."""
    from capsbench.evaluation.inference import reconstruct_bytes

    right, wrong = _some(random, answers.correct, RIGHT), _some(random, ~answers.correct, WRONG)
    samples = np.concatenate([right, np.repeat(wrong, 2)])
    labels, predictions = answers.labels[samples].astype(np.int64), answers.highest(1)[samples, 0]
    classes = labels.copy()
    classes[len(right) + 1 :: 2] = predictions[len(right) + 1 :: 2]
    return {
        "samples": samples.tolist(),
        "labels": labels.tolist(),
        "predictions": predictions.tolist(),
        "classes": classes.tolist(),
        "images": packed(test.batch(samples).images),
        "drawn": packed(reconstruct_bytes(model, test, samples, classes, device)),
    }


def _moved_digits(model: "nn.Module", test: "Samples", random: np.random.Generator, device: str) -> dict[str, Any]:
    """Some digits of different classes, each dimension of their capsule moved; empty where there is no decode."""
    from capsbench.evaluation.inference import STEPS, move_poses

    labels = test.batch(np.arange(len(test))).labels
    classes = random.choice(np.unique(labels), MOVED, replace=False).astype(np.int64)
    samples = np.concatenate([_some(random, labels == label, 1) for label in classes])
    drawn = move_poses(model, test, samples, classes, device)
    if drawn is None:
        return {}
    return {"samples": samples.tolist(), "labels": classes.tolist(), "steps": list(STEPS), "drawn": packed(drawn)}


def _shown_pairs(
    model: "nn.Module", test: "Samples", answers: Predictions, random: np.random.Generator, device: str
) -> dict[str, Any]:
    """Some right answers, some where a digit is asked for that is not there, and some wrong ones twice.

    Those are drawn from the labels, then from the prediction, where a digit that is right keeps its place.
    """
    from capsbench.evaluation.inference import reconstruct_bytes

    right = _some(random, answers.correct, RIGHT_PAIRS + ABSENT_PAIRS)
    columns = [("right", sample, _labels(answers, sample)) for sample in right[:RIGHT_PAIRS]]
    absent = absent_digits(answers.labels)
    for sample in right[RIGHT_PAIRS:]:
        columns.append(("absent", sample, [_labels(answers, sample)[0], int(absent[sample])]))
    for sample in _some(random, ~answers.correct, WRONG_PAIRS):
        columns.append(("labels", sample, _labels(answers, sample)))
        columns.append(("prediction", sample, _named(answers, sample)))
    samples = np.array([sample for _, sample, _ in columns])
    classes = np.array([asked for *_, asked in columns])
    drawn = [reconstruct_bytes(model, test, samples, column, device) for column in classes.T]
    return {
        "kinds": [kind for kind, *_ in columns],
        "samples": samples.tolist(),
        "labels": answers.labels[samples].tolist(),
        "classes": classes.tolist(),
        "images": packed(test.batch(samples).images),
        "drawn": packed(np.stack(drawn, 1)),
    }


def _some(random: np.random.Generator, where: npt.NDArray[np.bool_], number: int) -> IndexArray:
    """So many of the places where something holds, in random order; fewer where there are fewer."""
    places = np.flatnonzero(where)
    return random.choice(places, min(number, len(places)), replace=False)


def _labels(answers: Predictions, sample: int) -> list[int]:
    return [int(label) for label in answers.labels[sample]]


def _named(answers: Predictions, sample: int) -> list[int]:
    """The two classes of the highest scores, the one that is right where it stands among the labels."""
    named: list[int] = answers.highest(2)[sample].tolist()
    labels = _labels(answers, sample)
    return named if named[0] == labels[0] or named[1] == labels[1] else named[::-1]


def _digit_picture(model: str, single: Mapping[str, Any]) -> Picture:
    shown = single["shown"]
    columns = zip(*(shown[key] for key in ("samples", "labels", "predictions", "classes")), strict=True)
    rows: list[list[Tile]] = [[], []]
    for column, image, drawn in zip(columns, unpacked(shown["images"]), unpacked(shown["drawn"]), strict=True):
        facts = dict(zip(("test digit", "label", "prediction", "drawn from"), column, strict=True))
        _, label, prediction, drawn_from = column
        mark = "right" if label == prediction else "wrong"
        rows[0].append(Tile(image, f"({label}, {prediction}, {drawn_from})", mark, facts))
        rows[1].append(Tile(drawn, facts=facts))
    return Picture(
        name="reconstruction-digits",
        title=f"Test digits, and what {model} draws of them",
        rows=rows,
        row_titles=("input", "reconstruction"),
        note="In brackets: label, prediction, and which of the two it is drawn from; wrong answers from either. "
        + _counted(single["accuracy"], "digits"),
    )


def _dimension_picture(model: str, moved: Mapping[str, Any]) -> Picture:
    drawn = unpacked(moved["drawn"])  # [digits, dimensions, steps, H, W]
    rows: list[list[Tile | None]] = [[] for _ in drawn[0]]
    titles: list[str] = []
    for sample, label, dimensions in zip(moved["samples"], moved["labels"], drawn, strict=True):
        if titles:
            titles.append("")
            for row in rows:
                row.append(None)
        titles += [f"{step:+.2f}" if step else f"digit {label}\n0" for step in moved["steps"]]
        for number, (row, images) in enumerate(zip(rows, dimensions, strict=True)):
            for step, image in zip(moved["steps"], images, strict=True):
                facts = {"test digit": sample, "label": label, "dimension": number, "moved by": step}
                row.append(Tile(image, facts=facts))
    return Picture(
        name="reconstruction-dimensions",
        title=f"What {model} draws when one dimension of a digit's capsule is moved",
        rows=rows,
        row_titles=[str(number) for number in range(len(rows))],
        column_titles=titles,
        note="A row for each dimension; above each column by how much it is moved. The digits were drawn at random.",
    )


def _pair_picture(model: str, pairs: Mapping[str, Any]) -> Picture:
    shown = pairs["shown"]
    columns = zip(*(shown[key] for key in ("kinds", "samples", "labels", "classes")), strict=True)
    rows: list[list[Tile]] = [[], [], []]
    for column, image, drawn in zip(columns, unpacked(shown["images"]), unpacked(shown["drawn"]), strict=True):
        kind, sample, labels, classes = column
        facts = {"test pair": sample, "kind": kind}
        for name, (first, second) in (("label", labels), ("drawn from", classes)):
            facts |= {f"first {name}": first, f"second {name}": second}
        sign = {"absent": "* ", "prediction": "P "}.get(kind, "")
        mark = {"right": "right", "absent": ""}.get(kind, "wrong")
        caption = f"{sign}R: {classes[0]}, {classes[1]}\nL: {labels[0]}, {labels[1]}"
        rows[0].append(Tile(image, caption, mark, facts))
        rows[1].append(Tile(overlaid(drawn), facts=facts))
        rows[2].append(Tile(shared_out(image, drawn), facts=facts))
    return Picture(
        name="reconstruction-pairs",
        title=f"Test pairs, and how {model} takes them apart",
        rows=rows,
        row_titles=("input", "reconstructions", "input, shared out"),
        note="R: the two digits that are drawn, the first orange, the second blue, white where both are. "
        "L: the labels. P: drawn from the prediction. *: the second digit is not in the image. Shared out: a pixel of "
        "the input belongs to the larger reconstruction, and to both where the other is at least half of it; the "
        "sharpness is the input's. " + _counted(pairs["exact pair"], "pairs"),
    )


def _counted(right: Mapping[str, Any], what: str) -> str:
    return f"Of {right['total']:,} test {what} {right['correct']:,} were right; examples drawn at random."
