"""Does a network fit the suites, and what would it cost: a few steps on 64 random images, without data or a result."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from capsbench import registry
from capsbench.bench.cells import Work, works
from capsbench.bench.estimating import passes_seconds, random_batch, seconds_each
from capsbench.bench.networks import Given, Network, networks
from capsbench.bench.protocols import full_presets, load_suite, loader
from capsbench.building import build, parameter_names
from capsbench.contracts import CLASSES, Say, checked_output, needs_layers, silent
from capsbench.data.digits import load_digits
from capsbench.errors import CapsbenchError, TrainingError, UnknownNameError, first_line
from capsbench.scoring import remarks_of
from capsbench.sources.hosting import hosted
from capsbench.system import machine
from capsbench.training.step import TrainingStep, adam

IMAGES = 64  # of a step
SECONDS = 0.3  # of steps and of predictions that count
FULL_MNIST = {"train": 50_000, "validation": 10_000, "test": 10_000}


@dataclass(frozen=True)
class Speed:
    """A network that was tried on images of one size.

    Attributes:
        parameters: How many numbers training sets.
        scores: The shape of its scores.
        reconstructs: Whether it draws.
        step: Seconds of a training step of `IMAGES` images.
        prediction: Seconds of the prediction of one image.
        remarks: What it has to say.
    """

    parameters: int
    scores: list[int]
    reconstructs: bool
    step: float
    prediction: float
    remarks: Sequence[str]


@dataclass(frozen=True)
class Trial:
    """What a suite would make of a network.

    Attributes:
        suite: The suite's name.
        images: Their shapes, one for each network of a cell, and how many digits they show.
        why_not: Why the network does not fit, in a line; empty where it does.
        speeds: Of the smallest preset, one for each network of a cell.
        seconds: For each preset, what a cell may take on this device; None where the network of the preset fails.
    """

    suite: str
    images: Sequence[str]
    why_not: str = ""
    speeds: Sequence[Speed] = ()
    seconds: Mapping[str, float | None] = field(default_factory=dict)


def try_network(
    network: Given,
    *,
    suites: Sequence[str] = (),
    changes: Mapping[str, str] | None = None,
    digits: str = "auto",
    device: str = "auto",
    report: Say = silent,
) -> list[Trial]:
    """Tries a network in every suite that trains.

    Args:
        network: Its name, class or function.
        suites: By default every suite that states its work.
        changes: Parameters of the network, as text.
        digits: The source digits; the presets ``smoke`` and ``small`` take all that there are.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        report: Called with a line at each suite.

    Raises:
        UsageError: There is no such suite, or no such network or parameter.
    """
    chosen = suites or [name for name in registry.catalog("suite") if _work(registry.load("suite", name), "smoke")]
    number = {split: len(load_digits(split, digits)) for split in FULL_MNIST}
    tries = _Tries(network, dict(changes or {}), number, machine.device(device))
    trials = []
    for suite in chosen:
        report(suite)
        trials.append(tries.trial(suite))
    return trials


DRAWS = "it needs a network that draws: Output(scores=..., reconstruct=...), see docs/networks.md"


class _Tries:
    """Tries one network; what has the same size and the same parameters is tried once."""

    def __init__(self, network: Given, changes: dict[str, str], number: Mapping[str, int], device: str) -> None:
        self._network = network
        self._changes = changes
        self._number = number
        self._device = device
        self._known: dict[str, Speed | str] = {}

    def trial(self, suite: str) -> Trial:
        """What a suite would make of the network."""
        kind = load_suite(suite, "smoke")
        stated = _work(kind, "smoke")
        if not stated:
            return Trial(suite, [], f"{suite} trains nothing, so that there is nothing to try.")
        images = [_shown(work) for work in stated]
        found = [self._speed(self._made(kind, "smoke"), work) for work in stated]
        failed = [one for one in found if isinstance(one, str)]
        speeds = [one for one in found if isinstance(one, Speed)]
        if getattr(kind, "needs_reconstruction", False) and not (speeds and all(one.reconstructs for one in speeds)):
            failed = [". Besides, ".join([DRAWS, *failed[:1]])]
        if failed:
            return Trial(suite, images, failed[0])
        return Trial(suite, images, "", speeds, {name: self._seconds(kind, name) for name in kind.presets})

    def _made(self, kind: Any, preset: str) -> Network:
        left = dict(self._changes)
        network, *_ = networks(self._network, kind.presets[preset], left)
        if left:
            key = next(iter(left))
            known = parameter_names(network.name, network.factory)
            raise UnknownNameError(f"parameter of model {network.name!r}", key, known)
        return network

    def _seconds(self, kind: Any, preset: str) -> float | None:
        """What a cell of a preset may take; None where a network of it fails."""
        settings, total = kind.presets[preset].settings, 0.0
        number = self._numbers(kind, preset)
        network = self._made(kind, preset)
        for work in _work(kind, preset):
            speed = self._speed(network, work)
            if isinstance(speed, str):
                return None
            step = speed.step * settings.batch_size / IMAGES
            total += passes_seconds(settings, work, number, step, speed.prediction)
        return total

    def _numbers(self, kind: Any, preset: str) -> Mapping[str, int]:
        """How many images each split of a preset has."""
        if preset in full_presets(kind):
            sizes: Mapping[str, int] = getattr(kind, "sizes", FULL_MNIST)
            return sizes
        load = loader(kind)
        own = load is not None and load is not load_digits
        return {split: len(load(split, "embedded")) for split in FULL_MNIST} if own and load else self._number

    def _speed(self, network: Network, work: Work) -> Speed | str:
        """The network on images of a size, or in a line why it fails there."""
        key = json.dumps([network.parameters, work.images], sort_keys=True)
        if key not in self._known:
            room = registry.room("model", network.name) if network.given is None else None
            try:
                with hosted(0), room or nullcontext():
                    self._known[key] = _measured(network, work, self._device)
            except CapsbenchError as error:
                self._known[key] = str(error)
            except Exception as error:  # a user's code can fail in any way
                self._known[key] = first_line(error)
        return self._known[key]


def _work(kind: Any, preset: str) -> list[Work]:
    """What a cell of a suite's preset trains."""
    return works(kind, kind.presets[preset].settings)


def _measured(network: Network, work: Work, device: str) -> Speed:
    """Some steps and predictions on random images."""
    given = network.given or network.name
    model = build(given, classes=CLASSES, **work.images, **network.parameters)
    model.to(device)
    batch = random_batch(IMAGES, work, device, layers=needs_layers(model))
    output = checked_output(model(batch.images), IMAGES)
    train = TrainingStep(model, adam(model, 1e-4), device=device)
    loss = float(train(batch))
    if not math.isfinite(loss):
        raise TrainingError(f"the loss of the first step is {loss:g}")
    step = seconds_each(lambda: train(batch), device, at_least=SECONDS)
    model.eval()

    def predict() -> None:
        with torch.no_grad():
            model(batch.images)

    prediction = seconds_each(predict, device, at_least=SECONDS) / IMAGES
    parameters = sum(one.numel() for one in model.parameters() if one.requires_grad)
    reconstructs = output.reconstruct is not None
    return Speed(parameters, list(output.scores.shape), reconstructs, step, prediction, remarks_of(model))


def _shown(work: Work) -> str:
    """Such as ``36x36, two digits``; ``24x24, 3 channels``."""
    height, width = work.image_size if isinstance(work.image_size, tuple) else (work.image_size, work.image_size)
    colours = f", {work.channels_in} channels" if work.channels_in > 1 else ""
    return f"{height}x{width}{', two digits' if work.pairs else ''}{colours}"
