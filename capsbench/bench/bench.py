"""The bench that a suite works on: for one cell, its data, its network, training and predictions."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from capsbench.bench.cells import WEIGHTS, Elsewhere
from capsbench.bench.data import CellData
from capsbench.bench.pretrained import FOLDER
from capsbench.building import build
from capsbench.contracts import CLASSES, ProgressBar, Say, no_bar
from capsbench.data.samples import Samples
from capsbench.errors import DataFileError
from capsbench.evaluation.inference import predict
from capsbench.evaluation.predictions import Predictions
from capsbench.evaluation.subjects import NetworkSubject, Tests
from capsbench.results.result import PRETRAINED, SHIP, now
from capsbench.scoring import remarks_of
from capsbench.sources.seeding import seeded
from capsbench.system.disk import is_regular
from capsbench.system.machine import environment
from capsbench.system.ranks import ranks
from capsbench.training.checkpoints import CheckpointFolder, largest_checkpoint
from capsbench.training.config import Selected, TrainConfig, Trained
from capsbench.training.kept import Kept, held, load_kept, put_foreign_aside, save_kept
from capsbench.training.logs import MetricsLog
from capsbench.training.plain import copied
from capsbench.training.trainer import Trainer
from capsbench.training.weights import fitted, largest_file, read_weights


@dataclass
class Bench(CellData):
    """Data, network and folders of a cell.

    Attributes:
        report: Called with a line now and then.
        progress: Shows how far a training or a test is.
        tensorboard: Whether training also logs for TensorBoard.
        since: When the run began that trains from the first step on, in seconds since 1970: what was left before does
            not count, and what its own earlier tries left does.
        earlier: Seconds that earlier runs spent on the cell's trainings.
        remarks: What tables must say of the network, once each, in the order in which it came up.
        weights: For each training by its name, the file of its weights below ``weights``; of weights that an earlier
            run left, also where and when they were trained.
    """

    report: Say
    progress: ProgressBar = no_bar
    tensorboard: bool = False
    since: float = 0.0
    earlier: float = 0.0
    remarks: list[str] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)

    def model(
        self, image_size: int | tuple[int, int], *, pairs: bool = False, channels_in: int = 1, **changes: Any
    ) -> torch.nn.Module:
        """The cell's network, with initial weights from the cell's seed; ``changes`` win over its parameters."""
        with seeded(self.cell.seed):
            images: dict[str, Any] = {"image_size": image_size, "pairs": pairs, "channels_in": channels_in}
            parameters = {**self.cell.parameters, **changes}
            model = build(self.cell.given or self.cell.model, classes=CLASSES, **images, **parameters)
        for remark in remarks_of(model):
            if remark not in self.remarks:
                self.remarks.append(remark)
                self.report(remark)
        return model

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
        """Trains a network with the cell's seed on its device; continues where an earlier run was stopped.

        Checkpoints go below ``checkpoints``, the log of metrics beside the cell's result as JSON lines. At the end the
        selected weights are kept below ``weights`` instead, from where this training is taken the next time.

        Args:
            model: The network; it is trained in place.
            training: ``epochs`` samples for each digit.
            validation: Selects the checkpoints; never test digits.
            watch: Further data sets whose accuracy each validation notes; they select nothing.
            config: How to train, where it differs from the cell's settings.
            name: Tells several trainings of one cell apart.
        """
        if self.cell.weights:
            return self._given(self.cell.weights, model, validation, name)
        parts = [part for part in (self.cell.name, name) if part]
        stem = self.cell.training_name(name)
        checkpoints = self.folder / "checkpoints" / stem
        log = MetricsLog(
            self.folder / self.cell.folder / f"{'.'.join(parts)}.jsonl",
            self.folder.joinpath("tensorboard", *parts) if self.tensorboard else None,
        )
        if not ranks().first:
            log = MetricsLog()
        trainer = Trainer(
            model,
            training,
            validation,
            config or self.cell.settings,
            seed=self.cell.seed,
            watch=watch,
            device=self.cell.device,
            folder=checkpoints,
            log=log,
            identity=stem,
            fresh=self.since > 0 and not any(map(self._of_this_run, checkpoints.glob("*"))),
        )
        path = self.folder / WEIGHTS / f"{stem}.pt"
        begun = perf_counter()
        together = ranks()
        with held(path, self.report) if together.first else nullcontext():
            kept = together.decided(lambda: self._kept(path, trainer))
            if kept is not None and not together.first:
                trainer.model.load_state_dict(kept.trained.selected["last"].state)
            if kept is None:
                label = " ".join([self.cell.label, *parts[1:]])
                with self.progress(f"{label}, steps") as progress:
                    trained = trainer.run(self.report, progress, lambda what: self.progress(f"{label}, {what}"))
                about = {"date": now(), "environment": environment(self.cell.device)}
                if together.first:
                    save_kept(path, Kept(trainer.identity, trained, about))
                    CheckpointFolder(checkpoints).clear()
        self.weights[name] = {**(kept.about if kept else {}), "file": path.name}
        trained = kept.trained if kept else trained
        self.earlier += max(0.0, trained.seconds - (perf_counter() - begun))
        return trained

    @property
    def training(self) -> dict[str, Any]:
        """Where the cell's weights come from, as a result states it."""
        if self.cell.weights:
            path = self.cell.weights.path
            ships = path.is_relative_to(FOLDER)  # which is elsewhere in each installation
            return {"file": PRETRAINED if ships else str(path), "sha256": self.cell.weights.sha256}
        return {"id": self.cell.training, "weights": self.weights} if self.weights else {}

    def _given(self, weights: Elsewhere, model: torch.nn.Module, validation: Samples, name: str) -> Trained:
        """Weights that were trained elsewhere, in place of a training."""
        own = model.state_dict()
        found, sha256 = read_weights(weights.path, largest=largest_file(own))
        if sha256 != weights.sha256:
            raise DataFileError(f"{weights.path} was changed since the run began. Run again.")
        model.load_state_dict(fitted(weights.path, found, own, network=self.cell.label, part=name))
        model.to(self.cell.device)
        told = SHIP if self.training["file"] == PRETRAINED else f"weights of {weights.path}, trained elsewhere"
        self.report(f"{told}; nothing is trained")
        with seeded(self.cell.seed, self.cell.device):
            accuracy = float(self.predict(model, validation).correct.mean())
        return Trained(selected={"best": Selected(0, 0.0, accuracy, copied(model.state_dict()))})

    def _of_this_run(self, path: Path) -> bool:
        """Whether a file counts: one that another process has removed does not."""
        try:
            return path.stat().st_mtime >= self.since
        except OSError:
            return False

    def _kept(self, path: Path, trainer: Trainer) -> Kept | None:
        """The weights that an earlier run of this training left, if they are whole; the model gets the last ones."""
        kept = None
        if is_regular(path):
            own = trainer.model.state_dict()
            kept = load_kept(path, largest=largest_checkpoint(own, steps=trainer.steps))
            if kept and kept.is_of(trainer.identity, copied(own), steps=trainer.steps):
                if not self._of_this_run(path):
                    return None
                trainer.model.load_state_dict(kept.trained.selected["last"].state)
                self.report(f"its weights are kept in {path}; nothing is trained{self._other_threads(kept)}")
                return kept
        elif not os.path.lexists(path) and self._mentioned(path.name):
            self.report(f"{path} is missing; the network is trained again")
        put_foreign_aside(path, self.report)
        return None

    def _other_threads(self, kept: Kept) -> str:
        """What to say where weights are measured with another number of threads than they were trained with."""
        then, here = kept.about["environment"]["threads"], torch.get_num_threads()
        if self.cell.device != "cpu" or then == here:
            return ""
        return f"; it was trained with threads: {then}, now there are {here}"

    def _mentioned(self, name: str) -> bool:
        """Whether a result of the suite says that it is of the weights in a file of this name."""
        results = (self.folder / self.cell.folder).glob("*.json")
        return any(name.encode() in path.read_bytes() for path in results if is_regular(path))

    def predict(self, model: torch.nn.Module, data: Samples) -> Predictions:
        """The model's answers to a data set, on the cell's device; see `capsbench.evaluation.inference.predict`."""
        return predict(model, data, device=self.cell.device)

    def subject(self, model: torch.nn.Module, tests: Tests) -> NetworkSubject:
        """The model as it is measured on the tests, on the cell's device."""
        return NetworkSubject(model, tests, self.cell.device, lambda what: self.progress(f"{self.cell.label}, {what}"))

    def each_checkpoint(
        self,
        model: torch.nn.Module,
        trained: Trained,
        names: Iterable[str],
        measure: Callable[[Selected], Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Measures the selected checkpoints; one that has two names is measured once.

        Args:
            model: Gets the weights of each checkpoint.
            trained: What `train` returned.
            names: Of `capsbench.training.config.Trained.selected`; those that were not reached are left out.
            measure: Measures the model with the weights of a checkpoint.

        Returns:
            For each name the validation accuracy and what was measured; of a training here the step and the epoch.
        """
        measured: dict[int, Mapping[str, Any]] = {}
        checkpoints = {}
        for name in names:
            if name not in trained.selected:
                continue
            selected = trained.selected[name]
            if selected.step not in measured:
                model.load_state_dict(selected.state)
                measured[selected.step] = measure(selected)
            when = {"step": selected.step, "epoch": selected.epoch} if trained.steps else {}
            checkpoints[name] = {**when, "validation": selected.accuracy, **measured[selected.step]}
        return checkpoints

    @staticmethod
    def count_parameters(model: torch.nn.Module) -> int:
        """How many numbers training sets."""
        return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
