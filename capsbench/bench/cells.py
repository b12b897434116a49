"""One cell of an experiment, and what determines it: presets, settings, and the identity that a result is found by."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from capsbench.parameters import check_number, check_seed
from capsbench.results.result import Result
from capsbench.sources.identity import Identity
from capsbench.spec import WRITERS
from capsbench.training.config import TrainConfig

WEIGHTS = "weights"
"""The folder, in that of a run, of the weights that its finished trainings left."""


@dataclass(frozen=True, kw_only=True)
class ExperimentSettings(TrainConfig):
    """Settings of every suite that trains: how the networks are trained, and what they are tested on.

    Attributes:
        variants: Test samples for each digit.
        data_seed: The seed of every data set; it is independent of the networks' seeds.
    """

    files: ClassVar[Sequence[str]] = ()
    """The settings that name a file of the user's, whose content identifies a cell as well."""

    of_tests: ClassVar[Sequence[str]] = ("variants",)
    """The settings that no weight depends on: where they alone change, nothing is trained again."""

    variants: int = 1
    data_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("variants", self.variants, 1, 1000)
        check_seed(self.data_seed)


@dataclass(frozen=True)
class Preset:
    """A named protocol.

    Attributes:
        settings: An instance of the suite's frozen dataclass of settings.
        models: For a model's name, the parameters that differ from its defaults.
        variants: For a model's name, several sets of parameters to change; each makes a cell of its own, and the
            cell's label names the changes.
    """

    settings: Any
    models: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One training of a cell and its tests, in passes over the digits: what its time is estimated from.

    Attributes:
        image_size: Height and width in pixels; one number is a square.
        epochs: Passes over the training digits.
        tests: Passes over the test digits, over all checkpoints.
        pairs: Whether an image shows two digits.
        channels_in: Channels of an image.
        validation_sets: Data sets on which each validation measures the accuracy.
        name: Tells several trainings of one cell apart, as in `capsbench.bench.bench.Bench.train`.
    """

    image_size: int | tuple[int, int]
    epochs: int
    tests: int
    pairs: bool = False
    channels_in: int = 1
    validation_sets: int = 1
    name: str = ""

    @property
    def images(self) -> dict[str, Any]:
        """What `capsbench.building.build` must know of the images."""
        return {"image_size": self.image_size, "pairs": self.pairs, "channels_in": self.channels_in}


def works(kind: Any, settings: Any) -> list[Work]:
    """What a cell of a suite trains; a suite that states no work trains one network, if it trains at all."""
    if not isinstance(settings, TrainConfig):
        return []
    if hasattr(kind, "work"):
        return list(kind.work(settings))
    return [Work(epochs=settings.epochs, tests=1, **images_of(kind))]


def images_of(kind: Any) -> dict[str, Any]:
    """What `capsbench.building.build` must know of a suite's images."""
    channels_in = getattr(kind, "channels_in", 1)
    return {"image_size": kind.image_size, "pairs": getattr(kind, "pairs", False), "channels_in": channels_in}


@dataclass(frozen=True)
class Elsewhere:
    """Weights that were trained elsewhere.

    Attributes:
        path: Their file.
        sha256: Of the file.
    """

    path: Path
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One measurement: a suite, a model and a seed, with everything that determines the outcome.

    Attributes:
        suite: The suite's name.
        version: The suite's version; it changes whenever its outcomes may.
        preset: The preset's name, with the settings that were changed.
        model: The model's name as the user gave it.
        label: Its name in tables: the model's name with its changed parameters.
        identity: What the model is made of.
        parameters: All parameters of the model.
        seed: The seed of initial weights, sample order and dropout.
        settings: An instance of the suite's settings.
        digits: The name of the source digits: ``"embedded"``, ``"mnist"``, that of others, or ``"none"`` where the
            suite shows none.
        digits_sums: Of digits that are not MNIST's, by which a name alone is no identity, the SHA-256 of each part, and
            of their writers; see `capsbench.data.digits.sums_of`.
        device: ``"cpu"`` or ``"cuda"``.
        suite_identity: What the suite is made of.
        files: For each setting that names a file, the SHA-256 of its content; empty text where it cannot be read.
        given: The class or function that was given in Python instead of a name.
        code: A digest of capsbench's own code that the weights depend on; see `capsbench.bench.code`.
        trainings: The names of the networks that the cell trains; one network needs no name.
        title: The label that the user chose for the model; it is no part of the cell.
        changes: The parameters of the model that the user changed, as text.
        weights: The weights that are measured instead of trained.
    """

    suite: str
    version: int
    preset: str
    model: str
    label: str
    identity: Identity
    parameters: Mapping[str, Any]
    seed: int
    settings: Any
    digits: str
    device: str
    suite_identity: Identity
    files: Mapping[str, str] = field(default_factory=dict)
    given: Callable[..., Any] | None = field(default=None, compare=False)
    code: str = ""
    trainings: tuple[str, ...] = ("",)
    title: str = field(default="", compare=False)
    changes: Mapping[str, str] = field(default_factory=dict, compare=False)
    weights: Elsewhere | None = None
    digits_sums: Mapping[str, str] = field(default_factory=dict)

    def owns(self, result: Result) -> bool:
        """Whether a result is of this cell, and not another one that somebody put in its place."""
        stated = (result.preset, result.version, result.seed, result.cell)
        in_a_file = result.suite.rpartition("/")[2] == self.suite.rpartition("/")[2]  # the same in any folder
        return in_a_file and stated == (self.preset, self.version, self.seed, self.id)

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits, a hash of the cell, by which a finished cell is found again."""
        content = self._content(asdict(self.settings), self.files, self.digits_sums)
        return _hashed({**content, "version": self.version})

    @property
    def training(self) -> str:
        """Twelve hexadecimal digits, a hash of what determines the cell's weights, by which kept ones are found again.

        It leaves out what only tests and metrics depend on: the suite's version, the settings of tests, and who wrote
        the test digits.
        """
        of_tests = getattr(self.settings, "of_tests", ())
        settings = {key: value for key, value in asdict(self.settings).items() if key not in of_tests}
        files = {key: value for key, value in self.files.items() if key not in of_tests}
        sums = {part: sha256 for part, sha256 in self.digits_sums.items() if part != WRITERS}
        return _hashed({**self._content(settings, files, sums), "code": self.code})

    def _content(self, settings: dict[str, Any], files: Mapping[str, str], sums: Mapping[str, str]) -> dict[str, Any]:
        content = {
            "suite": self.suite_identity.name,
            "model": self.identity.name,
            "source": self.source,
            "parameters": dict(self.parameters),
            "seed": self.seed,
            "settings": settings,
            "digits": self.digits,
            "device": self.device,
        }
        if self.suite_identity.hash:  # a user's own
            content["suite source"] = self.suite_identity.hash
        if files:
            content["files"] = dict(files)
        if sums:
            content["digits sums"] = dict(sums)
        if self.weights:
            content["weights"] = self.weights.sha256
        return content

    @property
    def source(self) -> str:
        """SHA-256 of what the model is made of; empty for one that ships with capsbench."""
        return self.identity.hash

    @property
    def made_of(self) -> dict[str, dict[str, str]]:
        """What is not capsbench's own in the model, its weights, the suite, the settings and the digits."""
        settings = {f"{key}={getattr(self.settings, key)}": value for key, value in self.files.items()}
        weights = {self.weights.path.name: self.weights.sha256} if self.weights else {}
        every = {
            "model": dict(self.identity.parts),
            "weights": weights,
            "suite": dict(self.suite_identity.parts),
            "settings": settings,
            "digits": {f"{self.digits}, {part}": sha256 for part, sha256 in self.digits_sums.items()},
        }
        return {what: parts for what, parts in every.items() if parts}

    @property
    def name(self) -> str:
        """The stem of its files' names: the model's name, the seed and the id."""
        return f"{file_name(self.identity.name)}-seed{self.seed}-{self.id}"

    def training_name(self, part: str = "") -> str:
        """The stem of the files of its weights: the model's name, the seed, `training`, and which of several it is."""
        stem = f"{file_name(self.identity.name)}-seed{self.seed}-{self.training}"
        return f"{stem}.{file_name(part)}" if part else stem

    @property
    def folder(self) -> str:
        """The name of the folder of its suite's results."""
        return file_name(self.suite_identity.name)


def _hashed(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def file_name(name: str) -> str:
    """A name made fit for a file: one part of a path, at most 80 characters."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)[-80:].strip("-.")
