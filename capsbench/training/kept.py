"""The weights that a finished training leaves: the selected ones, each once, so that they can be measured again."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capsbench.contracts import Say
from capsbench.errors import LockedError
from capsbench.system.disk import lock, make_folder
from capsbench.training.checkpoints import fits, load_checkpoint, put_aside, save_checkpoint
from capsbench.training.config import Selected, State, Trained


@dataclass(frozen=True)
class Kept:
    """What a file of weights holds.

    Attributes:
        training: Identifies everything that determined the weights.
        trained: What the training left behind.
        about: When and where the network was trained: ``date``, and ``environment`` in plain values.
    """

    training: str
    trained: Trained
    about: Mapping[str, Any]

    def is_of(self, training: str, own: State, *, steps: int) -> bool:
        """Whether it is what a training of so many steps left, of a network with such a state."""
        states = [one.state for one in self.trained.selected.values()]
        return (self.training, self.trained.steps) == (training, steps) and all(fits(state, own) for state in states)


def save_kept(path: Path, kept: Kept) -> None:
    """Writes a file of weights: each of the selected ones once, and nothing of the optimizer.

    Raises:
        StorageError: It could not be written.
    """
    selected = kept.trained.selected
    content = {
        "name": path.stem,
        "training": kept.training,
        "facts": {key: value for key, value in vars(kept.trained).items() if key != "selected"},
        "selected": {name: [one.step, one.epoch, one.accuracy] for name, one in selected.items()},
        "states": {one.step: one.state for one in selected.values()},
        "about": dict(kept.about),
    }
    save_checkpoint(path, content)


def load_kept(path: Path, *, largest: int | None = None) -> Kept | None:
    """What `save_kept` wrote; None if it is missing, damaged or of another name.

    Args:
        path: The file.
        largest: More bytes than it can have; a larger file is not read.

    Raises:
        StorageError: The file exists but cannot be read.
        TrainingError: It is undamaged but cannot be loaded, because memory is short.
    """
    content = load_checkpoint(path, largest=largest)
    try:
        if content is None or content["name"] != path.stem:
            return None
        states = content["states"]
        selected = {
            name: Selected(step, epoch, accuracy, states[step])
            for name, (step, epoch, accuracy) in content["selected"].items()
        }
        trained = Trained(**content["facts"], selected=selected)
        about = dict(content["about"])
        return Kept(str(content["training"]), trained, about) if _is_sound(trained) and _says_where(about) else None
    except Exception:  # its digest is right, but anyone can write one
        return None


def _is_sound(trained: Trained) -> bool:
    """Whether everything that a result states of a training is of its type."""
    rows = [value for row in trained.history for value in row.values()]
    chosen = [value for one in trained.selected.values() for value in (one.step, one.epoch, one.accuracy)]
    facts = [value for key, value in vars(trained).items() if key not in ("history", "selected")]
    numbers = all(isinstance(one, int | float) and math.isfinite(one) for one in (*rows, *chosen, *facts))
    return numbers and {"best", "last"} <= trained.selected.keys() and trained.steps > 0


def _says_where(about: Mapping[str, Any]) -> bool:
    """Whether it is a date and an environment as results state them, which is read again here and in reports."""
    date, environment = about["date"], about["environment"]
    values = [value for value in environment.values() if not isinstance(value, str | int | None)]
    return (
        about.keys() == {"date", "environment"}
        and isinstance(date, str)
        and all(isinstance(key, str) for key in environment)
        and all(isinstance(value, float) and math.isfinite(value) for value in values)
        and type(environment["threads"]) is int
    )


@contextmanager
def held(path: Path, report: Say) -> Iterator[None]:
    """Holds a file of weights, so that of several runs one trains the network, and the others wait for its weights.

    Args:
        path: The file.
        report: Gets a line where another run holds it.

    Raises:
        StorageError: Its folder or its lock cannot be made.
    """
    make_folder(path.parent)
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(path))
        except LockedError:
            report(f"another run trains this network; waiting for {path}")
            stack.enter_context(lock(path, wait=True))
        yield


def put_foreign_aside(path: Path, report: Say) -> None:
    """Puts aside what stands in the place of a file of weights and is none of this training.

    Raises:
        StorageError: It could not be renamed.
    """
    if os.path.lexists(path):
        name = put_aside(path).name
        report(f"{path} is damaged or of another training; it is now called {name}, and the network is trained again")
