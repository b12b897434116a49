"""What training tells while it runs, one line of JSON for each look at the validation digits; for TensorBoard, too."""

import importlib.util
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from capsbench.errors import UsageError
from capsbench.system.disk import make_folder, storage_errors, write_atomically

QUIET_SECONDS = 10.0  # between lines for whoever waits


class MetricsLog:
    """The log of one training.

    A training that was interrupted goes on from its newest checkpoint; what the log says of later steps is dropped, so
    that each step is told once.

    Args:
        path: The file of JSON lines; its folder is made. None keeps none.
        tensorboard: The folder of TensorBoard's event files. None keeps none.
    """

    def __init__(self, path: Path | None = None, tensorboard: Path | None = None) -> None:
        self._path = path
        self._tensorboard = tensorboard
        self._writer: Any = None

    def begin(self, step: int) -> None:
        """Makes ready for what comes after a step: 0, or where training goes on.

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


class Teller:
    """Turns looks into lines, one for each epoch and not many in between.

    Args:
        report: Gets the lines.
        steps: Of the whole training.
        epochs: Of the whole training.
        done: Steps that an earlier run did.
    """

    def __init__(self, report: Callable[[str], None], *, steps: int, epochs: int, done: int = 0) -> None:
        self._report = report
        self._steps = steps
        self._epochs = epochs
        self._done = done
        self._begun = time.perf_counter()
        self._told = -math.inf
        self._images, self._seconds = 0, 0.0

    def __call__(self, row: Mapping[str, float], *, images: int, seconds: float) -> None:
        """Takes a look in.

        Args:
            row: Step, epoch, loss, accuracy, and the accuracy on what was watched.
            images: How many were trained on so far.
            seconds: What that took.
        """
        now = time.perf_counter()
        step = int(row["step"])
        if row["epoch"] % 1 and step < self._steps and now - self._told < QUIET_SECONDS:
            return
        rate = (images - self._images) / max(seconds - self._seconds, 1e-9)
        left = (now - self._begun) / max(step - self._done, 1) * (self._steps - step)
        self._told, self._images, self._seconds = now, images, seconds
        shares = {"validation": row["accuracy"], **{k: v for k, v in row.items() if k not in OWN_KEYS}}
        parts = [
            f"epoch {round(row['epoch'], 2):g}/{self._epochs}: loss {row['loss']:.4f}",
            *(f"{name} {share:.2%}" for name, share in shares.items()),
            f"{rate:,.0f} images/s",
            *([f"{duration(left)} left"] if step < self._steps else []),
        ]
        self._report(", ".join(parts))


OWN_KEYS = ("step", "epoch", "loss", "accuracy")
"""What a row has in any training; the rest are accuracies on what was watched."""


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def check_tensorboard() -> None:
    """Refuses where TensorBoard is not installed.

    Raises:
        UsageError: It is not.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            "Logs for TensorBoard were asked for, but it is not installed here: pip install 'capsbench[tensorboard]'."
        )


def _lines_until(path: Path, step: int) -> list[bytes]:
    """The whole lines of a log up to a step; a kill may have cut the last one."""
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
