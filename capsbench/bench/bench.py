"""What a suite is handed: one cell to measure, and a bench that has the data, the device and the model ready."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from capsbench.bench.cells import Cell, file_name
from capsbench.building import build
from capsbench.contracts import CLASSES, Digits, ProgressBar, Say, no_bar
from capsbench.data.digits import load_digits
from capsbench.data.recipes import Recipe, make_recipe
from capsbench.data.samples import Samples
from capsbench.data.streaming import Stream
from capsbench.errors import DataFileError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file
from capsbench.training.config import TrainConfig, Trained
from capsbench.training.logs import MetricsLog
from capsbench.training.trainer import Trainer


@dataclass
class Bench:
    """Data, model and folders for a cell.

    Attributes:
        cell: What is measured.
        folder: Everything that the run writes lies below it.
        digits: Where the digits come from: ``auto``, ``embedded`` or a folder.
        report: Gets a line now and then.
        progress: Makes what is told of how far training is.
        tensorboard: Whether training also logs for TensorBoard.
        data: What was used, for the result.
    """

    cell: Cell
    folder: Path
    digits: str
    report: Say
    progress: ProgressBar = no_bar
    tensorboard: bool = False
    data: dict[str, Any] = field(default_factory=dict)

    def stream(self, role: str, generator: str, split: str, **recipe: Any) -> Stream:
        """Samples without a file, noted under the role they play."""
        stream = Stream(make_recipe(generator, split=split, digits=self.digits, **recipe))
        self.data[role] = {"spec": stream.spec.to_dict()}
        return stream

    def file(self, role: str, generator: str, split: str, **recipe: Any) -> DataFile:
        """A data file, made if it is missing and checked if it is there, noted under the role it plays."""
        made: Recipe = make_recipe(generator, split=split, digits=self.digits, **recipe)
        path = self.folder / "data" / f"{file_name(generator)}-{split}-{made.spec.sha256[:12]}.h5"
        try:
            generate_file(made, path, wait=True)  # another run beside this one may be making it
        except DataFileError:  # beyond repair, and its name says what it should be
            generate_file(made, path, force=True, wait=True)
        file = open_dataset(path, digits=self.digits)
        self.data[role] = {"spec": file.spec.to_dict(), "digest": file.digest}
        return file

    def digits_of(self, split: str) -> Digits:
        """The source digits of a split."""
        return load_digits(split, self.digits)

    def model(self, image_size: int | tuple[int, int], *, pairs: bool = False, **changes: Any) -> torch.nn.Module:
        """The cell's model, its initial weights drawn from the cell's seed; ``changes`` win over its parameters."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.cell.seed)  # torch.manual_seed would reseed every GPU, too
            parameters = {**self.cell.parameters, **changes}
            return build(self.cell.model, image_size=image_size, classes=CLASSES, pairs=pairs, **parameters)

    def train(
        self,
        model: torch.nn.Module,
        training: Samples,
        validation: Samples,
        *,
        watch: Mapping[str, Samples] | None = None,
        config: TrainConfig | None = None,
        name: str = "",
    ) -> Trained:
        """Trains a model with the cell's seed on its device; goes on where an earlier run was stopped.

        Checkpoints go below ``checkpoints``, the log of metrics beside the cell's result as JSON lines.

        Args:
            model: What to train, in place.
            training: ``epochs`` samples for each digit.
            validation: What selects; never test digits.
            watch: Further data sets to note the accuracy on at each look; they select nothing.
            config: How to train, where that is not what the cell's settings say.
            name: Tells apart several trainings of one cell.
        """
        parts = [part for part in (self.cell.name, name) if part]
        log = MetricsLog(
            self.folder / file_name(self.cell.suite) / f"{'.'.join(parts)}.jsonl",
            self.folder.joinpath("tensorboard", *parts) if self.tensorboard else None,
        )
        trainer = Trainer(
            model,
            training,
            validation,
            config or self.cell.settings,
            seed=self.cell.seed,
            watch=watch,
            device=self.cell.device,
            folder=self.folder.joinpath("checkpoints", *parts),
            log=log,
        )
        with self.progress(f"{' '.join([self.cell.label, *parts[1:]])}, steps") as progress:
            return trainer.run(self.report, progress)


def count_parameters(model: torch.nn.Module) -> int:
    """How many numbers training sets."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
