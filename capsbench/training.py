"""Training: Adam over a stream, checkpointed every epoch, and bit for bit the same when it was interrupted."""

import hashlib
import io
import json
import math
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from capsbench.durability import storage_errors, write_atomically
from capsbench.errors import ParameterError, TrainingError, UnknownNameError
from capsbench.evaluation import predict
from capsbench.loading import Samples, batches
from capsbench.parameters import check_number
from capsbench.randomness import permutation
from capsbench.stepping import PRECISIONS, TrainingStep, adam

SCHEDULES = ("exponential", "one-cycle")
CHECKPOINT_FORMAT = 1
KEPT_CHECKPOINTS = 2  # the newest may be cut by a power failure; the one before it is whole

State = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a network is trained; the defaults are the paper's, as its authors' code has them.

    Attributes:
        epochs: Passes over the digits; the placements are new in each.
        batch_size: Images a step.
        learning_rate: Adam's; the peak of a one-cycle schedule.
        schedule: ``exponential``, times 0.96 every 2,000 steps, or ``one-cycle`` (Smith and Topin 2018), which gets
            there sooner when epochs are few.
        precision: ``fp32``, or ``bf16`` for products of matrices in bfloat16, with sums, weights and gradients in
            float32; testing is in float32 either way.
        target: The clean validation accuracy 0..1 at which networks are compared.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: str = "exponential"
    precision: str = "fp32"
    target: float = 0.9923

    def __post_init__(self) -> None:
        check_number("epochs", self.epochs, 1, 1_000_000)
        check_number("batch_size", self.batch_size, 1, 1_000_000)
        check_number("learning_rate", self.learning_rate, 1e-12, 1e3)
        check_number("target", self.target, 0, 1)
        if self.schedule not in SCHEDULES:
            raise UnknownNameError("schedule", self.schedule, SCHEDULES)
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)


@dataclass
class Selected:
    """A checkpoint that evaluation asks for.

    Attributes:
        epoch: After how many epochs.
        accuracy: On the validation digits, 0..1.
        state: The weights, on the CPU.
    """

    epoch: int
    accuracy: float
    state: State


@dataclass
class Trained:
    """What training leaves behind.

    Attributes:
        history: One row an epoch: epoch, mean loss, validation accuracy 0..1.
        selected: ``"target"``, the first epoch to reach the target, if one did; ``"best"`` on validation, the earliest
            of equals; ``"last"``.
        seconds: Time spent, earlier and interrupted runs included.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    selected: dict[str, Selected] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    def add(self, loss: float, accuracy: float, state: State, target: float) -> None:
        """Takes an epoch in, and selects."""
        self.history.append({"epoch": self.epochs + 1, "loss": loss, "accuracy": accuracy})
        here = Selected(self.epochs, accuracy, state)
        self.selected["last"] = here
        if "best" not in self.selected or accuracy > self.selected["best"].accuracy:
            self.selected["best"] = here
        if accuracy >= target:
            self.selected.setdefault("target", here)


class Trainer:
    """Trains one network.

    Args:
        model: The network, initialised; it is trained in place.
        data: The training samples: ``epochs`` times as many as there are digits, so that epoch e takes the next n.
        validation: What selects; never test digits.
        config: How to train.
        seed: Of the order of the samples and of dropout.
        device: ``"cpu"`` or ``"cuda"``.
        folder: Where checkpoints go; training goes on from the newest whole one there. None keeps none.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        data: Samples,
        validation: Samples,
        config: TrainConfig,
        *,
        seed: int,
        device: str = "cpu",
        folder: Path | None = None,
    ) -> None:
        if "test" in (data.spec.split, validation.spec.split):
            raise ParameterError("Test digits were given to train or to select on; they are for testing alone.")
        if len(data) % config.epochs:
            raise ParameterError(
                f"{len(data)} training samples were given; {config.epochs} epochs must share them evenly."
            )
        self.model = model.to(device)
        self.trained = Trained()
        self._data = data
        self._validation = validation
        self._config = config
        self._seed = seed
        self._device = device
        self._folder = folder
        self._samples = len(data) // config.epochs
        self._optimizer = adam(model, config.learning_rate, device)
        self._scheduler = _scheduler(self._optimizer, config, math.ceil(self._samples / config.batch_size))
        what = [asdict(config), data.spec.to_dict(), validation.spec.to_dict(), seed, str(model), device]
        self._identity = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def run(self, report: Callable[[str], None] = lambda line: None) -> Trained:
        """Trains what is left of the epochs; `report` gets a line after each.

        Raises:
            TrainingError: The loss is not a number.
        ModelError: The model returns what no model may return.
        """
        with _private_randomness(self._seed, self._device):
            self._resume(report)
            step = TrainingStep(
                self.model,
                self._optimizer,
                precision=self._config.precision,
                device=self._device,
                # One-cycle changes Adam's momentum, too, which a captured step would never learn of.
                graph=self._device == "cuda" and self._config.schedule == "exponential",
                report=report,
            )
            while self.trained.epochs < self._config.epochs:
                begun = time.perf_counter()
                loss = self._epoch(self.trained.epochs, step)
                trained_at = time.perf_counter()
                accuracy = float(predict(self.model, self._validation, device=self._device).correct.mean())
                state = {key: value.detach().cpu().clone() for key, value in self.model.state_dict().items()}
                self.trained.add(loss, accuracy, state, self._config.target)
                self.trained.seconds += time.perf_counter() - begun
                self._save()
                report(
                    f"epoch {self.trained.epochs}/{self._config.epochs}: loss {loss:.4f}, validation {accuracy:.2%}, "
                    f"{self._samples / (trained_at - begun):,.0f} images/s"
                )
        return self.trained

    def _epoch(self, epoch: int, step: TrainingStep) -> float:
        """One pass; the mean loss."""
        self.model.train()
        order = epoch * self._samples + permutation(self._samples, seed=self._seed, epoch=epoch)
        layers = bool(getattr(self.model, "needs_layers", False))
        total = torch.zeros((), device=self._device)
        for batch in batches(self._data, order, self._config.batch_size, device=self._device, layers=layers):
            total += step(batch) * len(batch.images)
            self._scheduler.step()
        loss = float(total) / self._samples  # the only look at the loss: a look a step would halt the device
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss is {loss} in epoch {epoch + 1} of {self._config.epochs}. "
                f"Try a smaller learning rate than {self._config.learning_rate:g}: --set learning_rate=..."
            )
        return loss

    def _save(self) -> None:
        if self._folder is None:
            return
        content = {
            "format": CHECKPOINT_FORMAT,
            "identity": self._identity,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "randomness": [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if self._device == "cuda" else [])],
            "history": self.trained.history,
            "selected": {name: vars(selected) for name, selected in self.trained.selected.items()},
            "seconds": self.trained.seconds,
        }
        save_checkpoint(self._folder / f"epoch-{self.trained.epochs:05d}.pt", content)
        for old in sorted(self._folder.glob("epoch-*.pt"))[:-KEPT_CHECKPOINTS]:
            _remove_checkpoint(old)

    def _resume(self, report: Callable[[str], None]) -> None:
        for path in sorted(self._folder.glob("epoch-*.pt"), reverse=True) if self._folder else []:
            content = load_checkpoint(path)
            if content is None or content.get("identity") != self._identity:
                report(f"{path} is damaged or of another run, and is removed")
                _remove_checkpoint(path)  # else it would be taken for newer than what this run is going to write
                continue
            self.model.load_state_dict(content["model"])
            self._optimizer.load_state_dict(content["optimizer"])
            for group in self._optimizer.param_groups:  # torch moves the state, but not a rate that is a tensor
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"] = group["lr"].to(self._device)
            self._scheduler.load_state_dict(content["scheduler"])
            torch.set_rng_state(content["randomness"][0])
            if self._device == "cuda":
                torch.cuda.set_rng_state(content["randomness"][1])
            selected = {name: Selected(**values) for name, values in content["selected"].items()}
            self.trained = Trained(content["history"], selected, content["seconds"])
            report(f"going on after epoch {self.trained.epochs}")
            return


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors and plain values, with the file's SHA-256 beside it, which goes first.

    Raises:
        StorageError: It could not be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path.with_suffix(".pt.sha256"), hashlib.sha256(buffer.getbuffer()).hexdigest().encode())
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, on the CPU; None where the file is not what its SHA-256 says."""
    try:
        content = path.read_bytes()
        stated = path.with_suffix(".pt.sha256").read_text()
        if hashlib.sha256(content).hexdigest() != stated:
            return None
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError):
        return None
    return loaded if isinstance(loaded, dict) and loaded.get("format") == CHECKPOINT_FORMAT else None


def _remove_checkpoint(path: Path) -> None:
    with storage_errors(path):
        path.unlink()
        path.with_suffix(".pt.sha256").unlink(missing_ok=True)


def _scheduler(
    optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if config.schedule == "one-cycle":
        total = steps * config.epochs + 1  # it may be stepped once after the last step
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=total)
    # The authors' code decays smoothly, down to 1e-6 / 1e-3 of where it began.
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.96 ** (step / 2000), 1e-3))


@contextmanager
def _private_randomness(seed: int, device: str) -> Iterator[None]:
    """Dropout draws from torch's global generators: they are seeded here, and put back after."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(seed)
        yield
