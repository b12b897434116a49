"""Training: Adam over a stream, with validations in between; an interrupted run ends with the same bits."""

import copy
import hashlib
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from capsbench.contracts import IndexArray, Progress, ProgressBar, Say, TensorBatch, needs_layers, no_bar, silent
from capsbench.data.loading import batches
from capsbench.data.samples import Samples
from capsbench.errors import NotNumbersError, ParameterError, TrainingError
from capsbench.evaluation.inference import predict
from capsbench.randomness import permutation
from capsbench.sources import seeding
from capsbench.system.convolutions import fast_training
from capsbench.system.ranks import ranks
from capsbench.system.timing import finish
from capsbench.training.checkpoints import KEPT_CHECKPOINTS, CheckpointFolder, fits, largest_checkpoint, put_aside
from capsbench.training.config import Selected, State, TrainConfig, Trained
from capsbench.training.diagnosis import broken_gradient
from capsbench.training.logs import QUIET_SECONDS, EpochLines, MetricsLog
from capsbench.training.plain import UnsavableError, copied
from capsbench.training.step import WARM_UP, TrainingStep, adam, autocast, scheduler
from capsbench.training.together import SharedStep, joined_statistics, shared_batches

DIVERGED = 100  # times the first loss (or 1, if that is more): a mean loss above this will not come down again
UNTIMED_STEPS = WARM_UP + 1  # the last of them captures a CUDA graph
LOOKED_AT = 3  # steps that are repeated to find the gradient: the one whose loss is no number, and those before
SAVING_SHARE = 1 / 20  # of the time, at most, goes into checkpoints


class Trainer:
    """Trains one network.

    Attributes:
        model: The network.
        trained: What training left behind so far.
        steps: All steps of the training.
        identity: A hash of everything that determines the weights: checkpoints and weights of another are not taken.

    Args:
        model: The network, initialised; it is trained in place.
        data: The training samples: ``epochs`` times as many as there are digits, so that epoch e takes the next n.
        validation: The samples that select checkpoints; never test digits.
        config: How to train.
        seed: Seed of the order of the samples and of dropout.
        watch: Further data sets whose accuracy each validation notes; they select nothing and are never test digits.
        device: ``"cpu"`` or ``"cuda"``.
        folder: Folder of the checkpoints; training goes on from the newest undamaged one. None saves none.
        log: Gets a row at each validation.
        identity: What is trained, beyond the other arguments: a checkpoint of another is not gone on from.
        fresh: Whether checkpoints that are there already are removed instead.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        data: Samples,
        validation: Samples,
        config: TrainConfig,
        *,
        seed: int,
        watch: Mapping[str, Samples] | None = None,
        device: str = "cpu",
        folder: Path | None = None,
        log: MetricsLog | None = None,
        identity: str = "",
        fresh: bool = False,
    ) -> None:
        watched = dict(watch or {})
        if "test" in {one.spec.split for one in (data, validation, *watched.values())}:
            raise ParameterError("Test digits must not train or select a network; they are for testing alone.")
        if len(data) % config.epochs:
            raise ParameterError(f"{len(data)} training samples cannot be divided evenly among {config.epochs} epochs.")
        self.model = model.to(device)
        self.trained = Trained()
        self._data = data
        self._validated_on = {"accuracy": validation, **watched}
        self._config = config
        self._seed = seed
        self._device = device
        self._folder = folder
        self._ranks = ranks()
        self._checkpoints: CheckpointFolder | None = None
        self._fresh = fresh
        self._log = log or MetricsLog()
        self._samples = len(data) // config.epochs
        self._epoch_steps = math.ceil(self._samples / config.batch_size)
        # Batch normalization cannot train on one image, so a last batch of one joins the batch before it.
        self._joined = self._samples > config.batch_size > 1 and self._samples % config.batch_size == 1
        self._epoch_steps -= self._joined
        self.steps = self._epoch_steps * config.epochs
        self._optimizer = adam(model, config.learning_rate)
        self._scheduler = scheduler(self._optimizer, config, self.steps)
        self._losses = torch.empty(0, device=device)  # of the steps since the last validation
        self._first_loss = math.nan
        self._sound: State = {}  # weights that are numbers, to find out why later ones are not
        self._saved_at, self._saving = -math.inf, 0.0
        self._timed_after, self._timed_from = 0, 0.0
        how = {field.name: getattr(config, field.name) for field in fields(TrainConfig)}  # a suite's has tests, too
        network = re.sub(" at 0x[0-9a-f]+", "", str(model))
        what = [how, data.spec.to_dict(), validation.spec.to_dict(), seed, network, device, identity]
        what += [{name: samples.spec.to_dict() for name, samples in watched.items()}]
        self.identity = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def run(self, report: Say = silent, progress: Progress = silent, bar: ProgressBar = no_bar) -> Trained:
        """Trains what is left of the steps.

        Args:
            report: Gets a line at the end of each epoch, and after other validations if the last line is not recent.
            progress: Gets the number of steps done, and the number of all steps.
            bar: Shows how far a validation is.

        Raises:
            TrainingError: The loss is not a number or grows without end, or one image alone needs too much memory.
            ModelError: The model returns what no model may return.
            StorageError: A checkpoint or the log cannot be written.
        """
        fast = fast_training(self.model, precision=self._config.precision, device=self._device)
        try:
            own = self._state()
        except UnsavableError as error:  # better now than at the first validation
            raise TrainingError(
                f"The network's state cannot be kept: {error}. Give get_extra_state tensors, arrays, numbers, strings, "
                "and dictionaries and lists of them."
            ) from None
        if self._ranks.size > 1:
            joined_statistics(self.model, self._ranks, self._device)
        if self._folder and self._ranks.first:
            self._checkpoints = CheckpointFolder(self._folder, largest=largest_checkpoint(own, steps=self.steps))
        with seeding.seeded(self._seed, self._device), fast:
            self._resume(report)
            self._log.begin(self.trained.steps)
            if self.steps - self.trained.steps > UNTIMED_STEPS:  # a shorter run has no others to time
                self._timed_after = self.trained.steps + UNTIMED_STEPS
            step = self._step(report)
            lines = EpochLines(report, steps=self.steps, epochs=self._config.epochs, done=self.trained.steps)
            try:
                while self.trained.steps < self.steps:
                    images, seconds = self.trained.timed, self.trained.stepping
                    self._train(step, progress)
                    if self.trained.stepping > seconds:
                        rate = (self.trained.timed - images) / (self.trained.stepping - seconds)
                        self.trained.fastest = max(self.trained.fastest, rate)
                    lines(self._validate(bar), images=self.trained.timed, seconds=self.trained.stepping)
            finally:
                self._log.close()
        return self.trained

    def _step(self, report: Say) -> TrainingStep:
        how: dict[str, Any] = {"precision": self._config.precision, "device": self._device}
        if self._ranks.size > 1:
            return SharedStep(self.model, self._optimizer, ranks=self._ranks, seed=self._seed, **how)
        return TrainingStep(
            self.model,
            self._optimizer,
            graph=self._config.batch_size if self._device == "cuda" else 0,
            micro_batches=self.trained.micro_batches,
            report=report,
            **how,
        )

    def _batches(self, order: IndexArray, size: int) -> Iterator[tuple[TensorBatch, int]]:
        """Batches, or this process's parts of them, each with the number of images of the whole batch."""
        how: dict[str, Any] = {"device": self._device, "layers": needs_layers(self.model)}
        if self._ranks.size > 1:
            yield from shared_batches(self._data, order, size, self._ranks, **how)
            return
        for batch in batches(self._data, order, size, **how):
            yield batch, len(batch.images)

    def _train(self, step: TrainingStep, progress: Progress) -> None:
        """Trains up to the next validation."""
        trained = self.trained
        begun = checked = self._timed_from = time.perf_counter()
        done_before = trained.seconds
        self._sound = self._state()
        self.model.train()
        start = trained.steps - len(self._losses)  # the last validation; a killed run may go on between two
        losses = torch.cat(
            [self._losses, torch.empty(self._next_validation(start) - trained.steps, device=self._device)]
        )
        for order, size in self._orders(trained.steps, start + len(losses)):
            for batch, images in self._batches(order, size):
                if isinstance(step, SharedStep):
                    step.images, step.number = images, trained.steps
                losses[trained.steps - start] = step(batch)
                self._scheduler.step()
                trained.steps += 1
                trained.images += images
                trained.micro_batches = step.micro_batches
                progress(trained.steps, self.steps)
                if trained.steps <= self._timed_after:
                    trained.untimed += images
                    finish(self._device)
                    self._timed_from = time.perf_counter()
                now = time.perf_counter()
                trained.seconds = done_before + now - begun
                if now - checked > QUIET_SECONDS:  # reading the loss at each step would halt the device
                    self._losses = losses[: trained.steps - start]
                    self._check_losses(start)
                    if self._due():
                        self._add_stepping()
                        self._save()
                        self._timed_from = time.perf_counter()
                    checked = time.perf_counter()
        self._losses = losses
        self._check_losses(start)  # waits for the device
        trained.seconds = done_before + time.perf_counter() - begun
        self._add_stepping()

    def _add_stepping(self) -> None:
        if self.trained.steps > self._timed_after:
            self.trained.stepping += time.perf_counter() - self._timed_from

    def _validate(self, bar: ProgressBar) -> dict[str, float]:
        """Measures the accuracies, selects and saves; returns the row of the history."""
        begun = time.perf_counter()
        step = self.trained.steps
        row = {"step": step, "epoch": step / self._epoch_steps, "loss": float(self._losses.mean())}
        for name, samples in self._validated_on.items():
            try:
                with bar(f"validation ({name}), images") as shown:
                    row[name] = float(predict(self.model, samples, device=self._device, report=shown).correct.mean())
            except NotNumbersError as error:  # the last step ruined the weights; no loss shows it yet
                raise TrainingError(f"After {self._at(step)}: {error} {self._way_out}") from None
        last = step == self.steps
        self.trained.select(row, self._state, target=self._config.target, last=last)
        self._losses = self._losses[:0]
        self.trained.seconds += time.perf_counter() - begun
        self._log.add(row | {"learning_rate": float(self._scheduler.get_last_lr()[0]), "seconds": self.trained.seconds})
        if last or self._due():
            self._save()
        return row

    def _next_validation(self, step: int) -> int:
        """The step of the first validation after a step."""
        every = self._config.eval_every or self._epoch_steps
        return min((step // every + 1) * every, self.steps)

    def _orders(self, first: int, end: int) -> Iterator[tuple[IndexArray, int]]:
        """The samples of steps first..end-1, epoch by epoch, in the order of (seed, epoch), and the size of batches."""
        size = self._config.batch_size
        while first < end:
            epoch, within = divmod(first, self._epoch_steps)
            order = epoch * self._samples + permutation(self._samples, seed=self._seed, epoch=epoch)
            until = min(end, (epoch + 1) * self._epoch_steps)
            last = within + until - first
            if last == self._epoch_steps and self._joined:
                if last - within > 1:
                    yield order[within * size : (last - 1) * size], size
                yield order[(last - 1) * size :], size + 1
            else:
                yield order[within * size : last * size], size
            first = until

    def _check_losses(self, start: int) -> None:
        losses = self._losses.cpu()
        if start == 0 and len(losses):
            self._first_loss = float(losses[0])
        wrong = (~losses.isfinite()).nonzero()
        if len(wrong):
            step = start + int(wrong[0]) + 1
            way_out = "Nothing was learned yet: check the network's forward and loss."
            if step > 1:
                way_out = self._broken_gradient(step) or self._way_out
            raise TrainingError(f"The loss is {float(losses[wrong[0]])} in {self._at(step)}. {way_out}")
        mean = float(losses.mean()) if len(losses) else 0.0
        if mean > DIVERGED * max(1.0, abs(self._first_loss)):
            where = self._at(start + len(losses))
            raise TrainingError(f"The loss grew from {self._first_loss:g} to {mean:g} by {where}. {self._way_out}")

    def _at(self, step: int) -> str:
        """A step, counted from 1, in words."""
        return f"step {step} of {self.steps} (epoch {(step - 1) // self._epoch_steps + 1} of {self._config.epochs})"

    @property
    def _way_out(self) -> str:
        return (
            f"Try a smaller learning rate than {self._config.learning_rate:g}: --set learning_rate=...; "
            "and see with `capsbench check` whether all gradients are numbers."
        )

    def _broken_gradient(self, step: int) -> str | None:
        """Which gradient was the first that is no number; None if that is not what went wrong."""
        with suppress(Exception):  # a user's network can fail in any way; the loss stays the error
            self.model.load_state_dict(self._sound)
            first = max(step - LOOKED_AT, self.trained.steps - len(self._losses))
            layers = needs_layers(self.model)
            orders = self._orders(first, step)
            data = (
                one
                for order, size in orders
                for one in batches(self._data, order, size, device=self._device, layers=layers)
            )
            found = broken_gradient(self.model, data, autocast(self._device, self._config.precision))
            if found:
                return (
                    f"Before it, {found} was not a number, although the loss was. Keep it finite, for instance by a "
                    "small number under a root or beside a divisor; `capsbench check` finds such places."
                )
        return None

    def _state(self) -> State:
        return copied(self.model.state_dict())

    def _due(self) -> bool:
        """Whether the work since the last checkpoint is worth the time that saving takes."""
        return (time.perf_counter() - self._saved_at) * SAVING_SHARE >= self._saving

    def _save(self) -> None:
        if self._checkpoints is None:
            return
        begun = time.perf_counter()
        facts = {key: value for key, value in vars(self.trained).items() if key != "selected"}
        content = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "randomness": seeding.state(self._device),
            "trained": facts | {"selected": {name: vars(one) for name, one in self.trained.selected.items()}},
            "losses": self._losses.cpu().clone(),  # a view would be saved with the whole tensor behind it
            "first_loss": self._first_loss,
            "threads": torch.get_num_threads(),
        }
        last = self.trained.steps == self.steps
        self._checkpoints.save(self.trained.steps, content, keep=1 if last else KEPT_CHECKPOINTS)
        self._saved_at = time.perf_counter()
        self._saving = self._saved_at - begun

    def _resume(self, report: Say) -> None:
        content = self._ranks.decided(lambda: self._newest(report))
        if content is not None and not self._ranks.first:
            self._take_up(content)

    def _newest(self, report: Say) -> dict[str, Any] | None:
        """Takes up the newest checkpoint that fits; its content, or None if there is none."""
        folder = self._checkpoints
        if folder is None:
            return None
        if self._fresh:
            folder.clear()
        for path, content in folder.newest_first():
            if content is None or content.get("identity") != self.identity or not self._take_up(content):
                # Left there, it would count as newer than the checkpoints that this run is going to write.
                report(f"{path} is damaged or belongs to another run; it is now called {put_aside(path).name}")
                continue
            report(f"going on after step {self.trained.steps} of {self.steps}{self._other_threads(content)}")
            return content
        return None

    def _other_threads(self, content: dict[str, Any]) -> str:
        """What to say where a training goes on with another number of threads."""
        then, now = content.get("threads"), torch.get_num_threads()
        if self._device != "cpu" or then == now:
            return ""
        return f", now with threads: {now} instead of {then}; the weights will differ in their last digits"

    def _take_up(self, content: dict[str, Any]) -> bool:
        """Puts back what a checkpoint holds; False, and nothing is changed, if it does not fit this training."""
        before, randomness = self._state(), seeding.state(self._device)
        optimizer, scheduler = copy.deepcopy(self._optimizer.state_dict()), copy.deepcopy(self._scheduler.state_dict())
        try:
            facts = dict(content["trained"])
            selected = {name: Selected(**values) for name, values in facts.pop("selected").items()}
            trained = Trained(**facts, selected=selected)
            losses, first_loss = content["losses"].to(self._device), float(content["first_loss"])
            if not 0 < trained.steps <= self.steps or losses.ndim != 1 or len(losses) > trained.steps:
                return False
            if not all(fits(state, before) for state in (content["model"], *(one.state for one in selected.values()))):
                return False
            self.model.load_state_dict(content["model"])
            self._optimizer.load_state_dict(content["optimizer"])
            self._scheduler.load_state_dict(content["scheduler"])
            seeding.restore(content["randomness"])
        except Exception:  # its digest is right, but anyone can write one
            self.model.load_state_dict(before)
            self._optimizer.load_state_dict(optimizer)
            self._scheduler.load_state_dict(scheduler)
            seeding.restore(randomness)
            return False
        self.trained, self._losses, self._first_loss = trained, losses, first_loss
        return True
