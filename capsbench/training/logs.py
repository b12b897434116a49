"""What training reports while it runs: a line of JSON for each validation, and the same for TensorBoard."""

import importlib.util
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capsbench.contracts import Say
from capsbench.errors import UsageError
from capsbench.system.disk import make_folder, storage_errors, write_atomically
from capsbench.system.timing import duration

QUIET_SECONDS = 10.0  # at least, between two lines inside an epoch


class MetricsLog:
    """The log of one training.

    An interrupted training goes on from its newest checkpoint; lines about later steps are dropped from the log, so
    that no step appears twice.

    Args:
        path: The file of JSON lines; its folder is made. None writes no file.
        tensorboard: The folder of TensorBoard's event files. None writes no events.
    """

    def __init__(self, path: Path | None = None, tensorboard: Path | None = None) -> None:
        self._path = path
        self._tensorboard = tensorboard
        self._writer: Any = None

    def begin(self, step: int) -> None:
        """Prepares the files for the lines after a step: 0, or the step after which training goes on.

        Raises:
            StorageError: The files could not be written.
        """
        if self._path is not None:
            make_folder(self._path.parent)
            write_atomically(self._path, b"".join(_lines_until(self._path, step)))
        if self._tensorboard is not None:
            from torch.utils.tensorboard.writer import SummaryWriter

            make_folder(self._tensorboard)
            with storage_errors(self._tensorboard):
                self._writer = SummaryWriter(str(self._tensorboard), purge_step=step + 1)

    def add(self, row: Mapping[str, float]) -> None:
        """Adds a line; ``step`` is one of its keys.

        Raises:
            StorageError: It could not be written.
        """
        if self._path is not None:
            with storage_errors(self._path), self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        if self._writer is not None and self._tensorboard is not None:
            with storage_errors(self._tensorboard):
                for key, value in row.items():
                    if key != "step":
                        self._writer.add_scalar(key, value, int(row["step"]))
                self._writer.flush()

    def close(self) -> None:
        """Closes TensorBoard's files; calling it again does nothing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class EpochLines:
    """Turns validations into lines, one for each epoch and not many in between.

    Args:
        report: Gets the lines.
        steps: Number of steps of the whole training.
        epochs: Number of epochs of the whole training.
        done: Number of steps that an earlier run did.
    """

    def __init__(self, report: Say, *, steps: int, epochs: int, done: int = 0) -> None:
        self._report = report
        self._steps = steps
        self._epochs = epochs
        self._done = done
        self._begun = time.perf_counter()
        self._reported = -math.inf
        self._images, self._seconds = 0, 0.0

    def __call__(self, row: Mapping[str, float], *, images: int, seconds: float) -> None:
        """Reports a validation, unless it is inside an epoch and soon after the last line.

        Args:
            row: Step, epoch, loss, accuracy, and the accuracy on each watched data set.
            images: Number of images trained on so far.
            seconds: Time that they took.
        """
        now = time.perf_counter()
        step = int(row["step"])
        if row["epoch"] % 1 and step < self._steps and now - self._reported < QUIET_SECONDS:
            return
        rate = (images - self._images) / max(seconds - self._seconds, 1e-9)
        left = (now - self._begun) / max(step - self._done, 1) * (self._steps - step)
        self._reported, self._images, self._seconds = now, images, seconds
        shares = {"validation": row["accuracy"], **{k: v for k, v in row.items() if k not in OWN_KEYS}}
        parts = [
            f"epoch {round(row['epoch'], 2):g}/{self._epochs}: loss {row['loss']:.4f}",
            *(f"{name} {share:.2%}" for name, share in shares.items()),
            f"{rate:,.0f} images/s",
            *([f"{duration(left)} left"] if step < self._steps else []),
        ]
        self._report(", ".join(parts))


OWN_KEYS = ("step", "epoch", "loss", "accuracy")
"""The keys of every row; the others are accuracies on watched data sets."""


def check_tensorboard() -> None:
    """Checks that TensorBoard is installed.

    Raises:
        UsageError: It is not.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            "--tensorboard needs TensorBoard, which is not installed here: pip install 'capsbench[tensorboard]'."
        )


def _lines_until(path: Path, step: int) -> list[bytes]:
    """The complete lines of a log up to a step; a kill may have cut the last line."""
    kept = []
    with storage_errors(path):
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for line in lines:
        try:
            if json.loads(line)["step"] <= step and line.endswith(b"\n"):
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    return kept
