"""Networks whose results are known beforehand: some know every answer, one guesses, and none can learn.

A suite takes them from this file: ``f"{KNOWN}:Oracle"``.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from capsbench.bench.planning import plan_run
from capsbench.bench.running import run_plan
from capsbench.contracts import Output, TensorBatch, UInt8Array
from capsbench.data.streaming import stream
from capsbench.models.capsnet import CapsNet
from capsbench.models.cnn import CNN
from capsbench.models.cnn_pair import PairCNN
from capsbench.models.cnn_pool import PoolCNN
from capsbench.models.efficient_capsnet import EfficientCapsNet
from capsbench.models.gcnn import GCNN
from capsbench.models.resnet_gap import ResNetGAP
from capsbench.models.stn import STN
from capsbench.suites import overlap, reconstruction

KNOWN = Path(__file__)

STILL: Mapping[str, Any] = {"rotation": 0, "shear": 0, "scale": 1, "variants": 8}
FIXED: Sequence[Mapping[str, Any]] = [{}, {"rotation": 40}, {"shear": 0.5}, {"scale": 0.7}]
PLAIN = {"size": 28, "shift": 0}

SHOWN: Mapping[tuple[int, int], Sequence[tuple[str, str, Mapping[str, Any]]]] = {
    (28, 28): [
        ("train", "padded", {"size": 28, "shift": 2}),
        ("validation", "padded", PLAIN),
        ("test", "padded", PLAIN),
    ],
    (32, 32): [
        ("validation", "cluttered", {"size": 32, "scraps": 0}),
        *(("test", "cluttered", {"size": 32, "scraps": scraps}) for scraps in (0, 2, 8)),
    ],
    (36, 36): [
        *((split, "multimnist", {}) for split in ("train", "validation", "test")),
        ("validation", "padded", {"size": 36, "shift": 4}),
    ],
    (40, 40): [
        *((split, name, {"variants": 2}) for split in ("validation", "test") for name in ("padded", "affnist")),
        ("test", "padded", {"preset": "centered"}),
        ("test", "padded", {"shift": 10, "variants": 2}),
        *(("test", "affnist", {**STILL, **fixed}) for fixed in FIXED),
    ],
    (28, 84): [
        ("validation", "crowded", {"flankers": "none"}),
        ("test", "crowded", {"flankers": "none"}),
        *(
            ("test", "crowded", {"flankers": kind, "spacing": spacing})
            for kind in ("digits", "shuffled")
            for spacing in (14, 28)
        ),
    ],
}
"""Size of the images to the data sets of that size that smoke presets show: split, name and parameters."""


SHORT_MEDIUM: Mapping[str, Mapping[str, str]] = {
    "affine": {"epochs": "1", "variants": "1", "rotation": "0", "shear": "0", "scale": "1"},
    "clutter": {"epochs": "1", "scraps": "2,8", "size": "32"},
    "crowding": {"epochs": "1", "spacings": "14,28"},
    "mnist": {"epochs": "1"},
    "overlap": {"epochs": "1"},
    "reconstruction": {"epochs": "1", "pair_epochs": "1"},
}
"""Suites that have a preset ``medium``, and changes that make it a matter of seconds on the embedded digits."""


@contextmanager
def tiny_networks() -> Iterator[None]:
    """Makes the shipped networks' presets ``small`` a fraction of their size: the suites are what is tested."""
    tiny: Mapping[Any, Mapping[str, Any]] = {
        CapsNet: {"channels": 8, "types": 4, "decoder": (32, 64)},
        CNN: {"channels": (8, 8, 8), "hidden": (32, 16)},
        PoolCNN: {"channels": (8, 16), "hidden": (64,)},
        PairCNN: {"channels": (8, 8, 16), "hidden": (32, 16)},
        STN: {"channels": (8, 16), "hidden": (64,), "looking": (4, 4), "deciding": 16},
        GCNN: {"channels": (4, 4, 8)},
        ResNetGAP: {"channels": (4, 8, 16)},
        EfficientCapsNet: {"channels": (8, 8, 8, 16), "decoder": (32, 64)},
    }
    with ExitStack() as stack:
        for network, fewer in tiny.items():
            stack.enter_context(patch.dict(network.presets, small=network.presets["small"] | fewer))
        for models in (overlap.SMALL_MODELS, reconstruction.SMALL_MODELS):  # these suites have sizes of their own
            stack.enter_context(patch.dict(models["capsnet"], channels=16, decoder=(64, 128), more=(16,)))
        yield


def at_medium(suite: str, out: Path, *, guess: str = "Guess") -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics of who knows every answer and of who guesses, in the preset ``medium``, on the embedded digits."""
    models = [f"{KNOWN}:{name}" for name in ("Oracle", guess)]
    options: dict[str, Any] = {"preset": "medium", "digits": "embedded", "device": "cpu", "out": out}
    with patch("capsbench.bench.protocols.FULL", ()):  # which has no place for the embedded digits
        plan = plan_run(suite, models=models, changes=SHORT_MEDIUM[suite], **options)
    outcome = run_plan(plan)
    assert not outcome.failed, outcome.failed
    oracle, guessed = (result.metrics for result in outcome.results)
    return oracle, guessed


@dataclass(frozen=True)
class Facts:
    """What an image shows.

    Attributes:
        labels: Of its one or two digits.
        layers: ``[k, H, W]``, each digit alone.
        index: Of the sample in its data set.
        flankers: Labels of the digits beside the target.
        parameters: Of the data set.
        touched: Whether a scrap lies upon the target's ink.
    """

    labels: Sequence[int] = ()
    layers: UInt8Array = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint8))
    index: int = 0
    flankers: Sequence[int] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    touched: bool = False


UNKNOWN = Facts()
"""Of an image that is not among those that the suites show."""


@functools.cache
def shown(height: int, width: int) -> dict[bytes, Facts]:
    """Every image of that size that a suite shows, and each layer of a pair, to what it shows."""
    return {image.tobytes(): facts for one in SHOWN[height, width] for image, facts in _images(*one)}


def _images(split: str, name: str, parameters: Mapping[str, Any]) -> Iterator[tuple[UInt8Array, Facts]]:
    data = stream(name, split=split, digits="embedded", **parameters)
    every = np.arange(len(data))
    batch = data.batch(every)
    pairs = batch.labels.ndim == 2
    layers = data.layers(every) if pairs else batch.images[:, None]
    beside = data.recipe.sampler.flankers(every).tolist() if name == "crowded" else [()] * len(data)  # type: ignore[attr-defined]
    touched = np.zeros(len(data), bool)
    if name == "cluttered":
        target = data.layers(every)[:, 0]
        touched |= ((batch.images > target) & (target > 0)).any((1, 2))
    for index, labels in enumerate(batch.labels.reshape(len(data), -1).tolist()):
        if pairs:
            for layer, label in zip(layers[index], labels, strict=True):
                yield layer, Facts([label], layer[None])
        yield batch.images[index], Facts(labels, layers[index], index, beside[index], parameters, touched[index])


class Unlearned(torch.nn.Module):
    """Has a weight, because an optimizer needs one, and learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        return output.scores.sum() * 0


class Oracle(Unlearned):
    """Looks each image up among all that the suites show, and draws each digit as it is."""

    def __init__(self, pairs: bool = False) -> None:
        super().__init__()
        self.pairs = pairs

    def named(self, facts: Facts) -> Mapping[int, float]:
        """The classes that are named, with their scores."""
        return dict.fromkeys(facts.labels, 1.0)

    def forward(self, images: Tensor) -> Output:
        known = shown(*images.shape[2:])
        rows = (images[:, 0] * 255).round().to(torch.uint8).numpy()
        found = [known.get(row.tobytes(), UNKNOWN) for row in rows]
        scores = torch.zeros(len(images), 10)
        for row, facts in zip(scores, found, strict=True):
            for label, score in self.named(facts).items():
                row[label] = score

        def reconstruct(classes: Tensor) -> Tensor:
            drawn = torch.zeros_like(images)
            for image, facts, wanted in zip(drawn, found, classes.tolist(), strict=True):
                for layer, label in zip(facts.layers, facts.labels, strict=True):
                    if label == wanted:
                        image[0] = torch.from_numpy(layer / 255)
            return drawn

        poses = torch.full((len(images), 10, 3), 0.5)
        return Output(scores=scores + 0 * self.weight, poses=poses, reconstruct=reconstruct)

    def decode(self, poses: Tensor, classes: Tensor) -> Tensor:
        """Draws dimension d of a digit's pose in column d."""
        drawn = torch.zeros(len(poses), 1, 28, 28)
        drawn[:, 0, :, :3] = poses[torch.arange(len(poses)), classes][:, None]
        return drawn

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        assert (batch.labels.ndim == 2) == self.pairs
        return super().loss(output, batch)


class Passing(Oracle):
    """Knows the answers after its twentieth step, and only then; else it names and draws nothing that is there."""

    steps: Tensor

    def __init__(self, pairs: bool = False) -> None:
        super().__init__(pairs)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, images: Tensor) -> Output:
        self.steps += self.training
        output = super().forward(images)
        if self.steps == 20:
            return output
        return Output(scores=1 - output.scores, poses=output.poses, reconstruct=lambda _: 0 * images)


class Shallow(Oracle):
    """Sees the first digit of a pair alone where the second shares more than a tenth of its ink with it."""

    def named(self, facts: Facts) -> Mapping[int, float]:
        labels = facts.labels
        if len(labels) == 2:
            first, second = facts.layers >= 128
            labels = labels if 10 * (first & second).sum() <= second.sum() else labels[:1]
        return dict.fromkeys(labels, 1.0)


class Slip(Oracle):
    """Of a pair it names the second digit, then one that is not there: the one after the first, or after that."""

    def named(self, facts: Facts) -> Mapping[int, float]:
        if len(facts.labels) < 2:
            return super().named(facts)
        first, second = facts.labels
        wrong = (first + 1) % 10
        return {second: 2.0, (wrong + (wrong == second)) % 10: 1.0}


class Crowded(Oracle):
    """Names the left flanker at 14 px if it is a digit."""

    def named(self, facts: Facts) -> Mapping[int, float]:
        near = (facts.parameters.get("flankers"), facts.parameters.get("spacing")) == ("digits", 14)
        return {facts.flankers[0]: 1.0} if near else super().named(facts)


class Littered(Oracle):
    """Is wrong on a twentieth among 2 scraps, and among 8 wherever one of them touches the target."""

    def named(self, facts: Facts) -> Mapping[int, float]:
        scraps = facts.parameters.get("scraps")
        wrong = facts.index % 20 == 0 if scraps == 2 else scraps == 8 and facts.touched
        return {(label + wrong) % 10: 1.0 for label in facts.labels}


class Edge(Oracle):
    """Is wrong on a tenth between near shuffled flankers, and on a little more than a tenth between far digits."""

    def named(self, facts: Facts) -> Mapping[int, float]:
        every = {("shuffled", 14): 10, ("digits", 28): 9}.get(
            (facts.parameters.get("flankers", ""), facts.parameters.get("spacing", 0))
        )
        wrong = every is not None and facts.index % every == 0
        return {(label + wrong) % 10: 1.0 for label in facts.labels}


class Guess(Unlearned):
    """Draws its scores at random."""

    def forward(self, images: Tensor) -> Output:
        return Output(scores=torch.rand(len(images), 10) + 0 * self.weight)


class GreyGuess(Guess):
    """Guesses, and draws whatever it is asked for in the same grey."""

    def forward(self, images: Tensor) -> Output:
        return Output(scores=super().forward(images).scores, reconstruct=lambda classes: torch.full_like(images, 0.2))


class Trap(Unlearned):
    """Must not be trained."""

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        raise AssertionError("it was trained")


class Silent(Trap):
    """Draws nothing."""

    def forward(self, images: Tensor) -> Output:
        return Output(scores=torch.zeros(len(images), 10))


class OnlySingles(Trap):
    """Draws single digits, but no pairs."""

    def forward(self, images: Tensor) -> Output:
        draw = (lambda classes: images) if images.shape[-1] == 28 else None
        return Output(scores=torch.zeros(len(images), 10), reconstruct=draw)


class Misshapen(Trap):
    """Decodes its poses into images of another shape."""

    def forward(self, images: Tensor) -> Output:
        scores = torch.zeros(len(images), 10)
        return Output(scores=scores, poses=torch.zeros(len(images), 10, 4), reconstruct=lambda classes: images)

    def decode(self, poses: Tensor, classes: Tensor) -> Tensor:
        return torch.zeros(len(poses), 1, 28, 27)
