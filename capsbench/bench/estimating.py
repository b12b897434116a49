"""How long a cell may take on this device: an estimate from some training steps and predictions on random images."""

import time
from collections.abc import Callable, Mapping
from math import ceil

import torch

from capsbench import registry
from capsbench.bench.cells import Cell, Work, works
from capsbench.bench.protocols import full_presets, loader
from capsbench.building import build
from capsbench.contracts import CLASSES, Batch, TensorBatch, needs_layers
from capsbench.evaluation.inference import CPU_BATCH, GPU_BATCH
from capsbench.sources.hosting import hosted
from capsbench.system.convolutions import fast_order, fast_training
from capsbench.system.timing import finish
from capsbench.training.config import TrainConfig
from capsbench.training.step import TrainingStep, adam

WARM_UP = {"cpu": 1, "cuda": 8}  # calls: a GPU compiles its kernels and captures the step in the first ones
SECONDS = 1.0  # of calls that count


def estimate(cell: Cell, digits: str, *, training: bool = True) -> float | None:
    """Seconds that the networks of a cell may take to be trained, validated and tested.

    Data files, statistics and what a suite measures besides predictions are not included.

    Args:
        cell: What would be measured.
        digits: The source digits: ``auto``, ``embedded`` or a folder.
        training: Whether they are trained, or tested alone.

    Returns:
        None if the suite does not state its work.

    Raises:
        Exception: Whatever the network raises.
    """
    with (
        registry.as_identified(cell.suite_identity.hash),
        registry.as_identified(cell.source),
        hosted(cell.seed, cell.device),
    ):
        return _estimated(cell, digits, training)


def _estimated(cell: Cell, digits: str, training: bool) -> float | None:
    kind = registry.load("suite", cell.suite)
    stated, load = works(kind, cell.settings), loader(kind)
    if not stated or load is None:
        return None
    full = cell.preset.partition(" ")[0] in full_presets(kind)
    number = {split: len(load(split, digits, full=full)) for split in ("train", "validation", "test")}
    seconds = 0.0
    for work in stated:
        step, prediction = _measured(cell, work, training)
        seconds += passes_seconds(cell.settings, work, number, step, prediction)
    return seconds


def passes_seconds(
    settings: TrainConfig, work: Work, number: Mapping[str, int], step: float | None, prediction: float
) -> float:
    """Seconds of a training with its validations and tests.

    Args:
        settings: How it trains.
        work: How often it passes over the digits.
        number: The digits of each split.
        step: Seconds of a training step; None where nothing is trained.
        prediction: Seconds of the prediction of one image.
    """
    every = ceil(number["train"] / settings.batch_size)
    steps = every * work.epochs if step is not None else 0
    validations = ceil(steps / (settings.eval_every or every))
    images = validations * work.validation_sets * number["validation"] + work.tests * number["test"]
    return steps * (step or 0.0) + images * prediction


def _measured(cell: Cell, work: Work, training: bool) -> tuple[float | None, float]:
    """Seconds of a training step, if it is to be trained, and of the prediction of one image."""
    device, settings = cell.device, cell.settings
    network = cell.given or cell.model
    model = build(network, classes=CLASSES, **work.images, **cell.parameters)
    model.to(device)
    batch = random_batch(settings.batch_size, work, device, layers=needs_layers(model))
    images = random_batch(GPU_BATCH if device == "cuda" else CPU_BATCH, work, device).images

    def predict() -> None:
        with torch.no_grad():
            model(images)

    step = None
    if training:
        train = TrainingStep(
            model,
            adam(model, settings.learning_rate),
            precision=settings.precision,
            device=device,
            graph=settings.batch_size if device == "cuda" else 0,
        )
        with fast_training(model, precision=settings.precision, device=device):
            step = seconds_each(lambda: train(batch), device)
    model.eval()
    with fast_order(model, precision="fp32", device=device):  # tests are in float32 whatever the training is in
        return step, seconds_each(predict, device) / len(images)


def random_batch(number: int, work: Work, device: str, *, layers: bool = False) -> TensorBatch:
    """Random images with labels, and with layers where a network needs them, as in a training."""
    height, width = work.image_size if isinstance(work.image_size, tuple) else (work.image_size, work.image_size)
    shown = 2 if work.pairs else 1
    labels = (torch.arange(number * shown) % CLASSES).reshape(number, shown)
    alone = torch.rand(number, shown * work.channels_in, height, width, device=device)
    return Batch(
        images=alone[:, : work.channels_in],
        labels=(labels if work.pairs else labels[:, 0]).to(device),
        layers=alone if layers else None,
    )


def seconds_each(call: Callable[[], object], device: str, *, at_least: float | None = None) -> float:
    """The mean time of a call, after a warm-up; calls go on for ``at_least`` seconds."""
    enough = SECONDS if at_least is None else at_least
    for _ in range(WARM_UP[device]):
        call()
    finish(device)
    begun, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - begun < enough:
        call()
        finish(device)
        calls += 1
    return (time.perf_counter() - begun) / calls
