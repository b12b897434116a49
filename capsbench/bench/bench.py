"""The bench that a suite works on: for one cell, its data, its network, training and predictions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch

from capsbench.bench.data import CellData
from capsbench.building import build
from capsbench.contracts import CLASSES, ProgressBar, Say, no_bar
from capsbench.data.samples import Samples
from capsbench.evaluation.inference import predict
from capsbench.evaluation.predictions import Predictions
from capsbench.evaluation.subjects import NetworkSubject, Tests
from capsbench.scoring import remarks_of
from capsbench.sources.seeding import seeded
from capsbench.training.config import Selected, TrainConfig, Trained
from capsbench.training.logs import MetricsLog
from capsbench.training.trainer import Trainer


@dataclass
class Bench(CellData):
    """Data, network and folders of a cell.

    Attributes:
        report: Called with a line now and then.
        progress: Shows how far training is.
        tensorboard: Whether training also logs for TensorBoard.
        fresh: Whether training begins at its first step, whatever checkpoints there are.
        earlier: Seconds that runs of this cell spent on its trainings before they were stopped.
        remarks: What tables must say of the network, once each, in the order in which it came up.
    """

    report: Say
    progress: ProgressBar = no_bar
    tensorboard: bool = False
    fresh: bool = False
    earlier: float = 0.0
    remarks: list[str] = field(default_factory=list)

    def model(self, image_size: int | tuple[int, int], *, pairs: bool = False, **changes: Any) -> torch.nn.Module:
        """The cell's network, with initial weights from the cell's seed; ``changes`` win over its parameters."""
        with seeded(self.cell.seed):
            parameters = {**self.cell.parameters, **changes}
            model = build(
                self.cell.given or self.cell.model, image_size=image_size, classes=CLASSES, pairs=pairs, **parameters
            )
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

        Checkpoints go below ``checkpoints``, the log of metrics beside the cell's result as JSON lines.

        Args:
            model: The network; it is trained in place.
            training: ``epochs`` samples for each digit.
            validation: Selects the checkpoints; never test digits.
            watch: Further data sets whose accuracy each validation notes; they select nothing.
            config: How to train, where it differs from the cell's settings.
            name: Tells several trainings of one cell apart.
        """
        parts = [part for part in (self.cell.name, name) if part]
        log = MetricsLog(
            self.folder / self.cell.folder / f"{'.'.join(parts)}.jsonl",
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
            identity=".".join(parts),
            fresh=self.fresh,
        )
        with self.progress(f"{' '.join([self.cell.label, *parts[1:]])}, steps") as progress:
            begun = perf_counter()
            trained = trainer.run(self.report, progress)
        self.earlier += max(0.0, trained.seconds - (perf_counter() - begun))
        return trained

    def predict(self, model: torch.nn.Module, data: Samples) -> Predictions:
        """The model's answers to a data set, on the cell's device; see `capsbench.evaluation.inference.predict`."""
        return predict(model, data, device=self.cell.device)

    def subject(self, model: torch.nn.Module, tests: Tests) -> NetworkSubject:
        """The model as it is measured on the tests, on the cell's device."""
        return NetworkSubject(model, tests, self.cell.device)

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
            For each name the step, the epoch, the validation accuracy and what was measured.
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
            facts = {"step": selected.step, "epoch": selected.epoch, "validation": selected.accuracy}
            checkpoints[name] = {**facts, **measured[selected.step]}
        return checkpoints

    @staticmethod
    def count_parameters(model: torch.nn.Module) -> int:
        """How many numbers training sets."""
        return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
