"""One cell of an experiment, and what determines it: presets, settings, and the identity that a result is found by."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from capsbench.parameters import check_number, check_seed
from capsbench.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class ExperimentSettings(TrainConfig):
    """What every suite that trains has: how the networks are trained, and what they are tested on.

    Attributes:
        variants: Test samples a digit.
        data_seed: Of every data set; the networks' seeds are apart from it.
    """

    variants: int = 1
    data_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("variants", self.variants, 1, 1000)
        check_seed(self.data_seed)


@dataclass(frozen=True)
class Preset:
    """A protocol with a name.

    Attributes:
        settings: An instance of the suite's frozen dataclass of settings.
        models: Model name to what it is built with, where that is not its default.
        variants: Model name to sets of changes of what it is built with, where one network is measured in several
            forms; each makes a cell, and its label says what it is.
    """

    settings: Any
    models: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One measurement: a suite, a model and a seed, with everything that determines the outcome.

    Attributes:
        suite: The suite's name.
        version: The suite's version; it changes whenever its outcomes may.
        preset: The preset's name, with what was changed of it.
        model: The model's name as it was asked for.
        label: The model's name, with what was changed of its parameters: what a table calls it.
        source: `capsbench.registry.source_hash` of the model.
        parameters: What the model is built with.
        seed: Of the initial weights, the order of the samples and dropout.
        settings: An instance of the suite's settings.
        digits: ``"embedded"``, ``"mnist"``, or ``"none"`` where the suite shows none.
        device: ``"cpu"`` or ``"cuda"``.
    """

    suite: str
    version: int
    preset: str
    model: str
    label: str
    source: str
    parameters: Mapping[str, Any]
    seed: int
    settings: Any
    digits: str
    device: str

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that stand for all of it: a finished cell is found again by them."""
        content = {**vars(self), "settings": asdict(self.settings), "parameters": dict(self.parameters)}
        for name in ("preset", "label"):  # names; settings and parameters say what they stand for
            del content[name]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """What its files are called: the model's name, the seed and the id."""
        return f"{file_name(self.model)}-seed{self.seed}-{self.id}"


def file_name(name: str) -> str:
    """A name as far as a file's can bear it: one part of a path, of 80 characters at most."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)[-80:].strip("-.")
