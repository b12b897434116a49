"""How a network is trained, and what training leaves behind; nothing here loads torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from capsbench.parameters import check_choice, check_number

SCHEDULES = ("exponential", "one-cycle")
PRECISIONS = ("fp32", "bf16")

State = dict[str, Any]
"""Tensors by name, and the extra state of modules that have one."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a network is trained; the defaults are the paper's, as its authors' code has them.

    Attributes:
        epochs: Passes over the digits; the placements are new in each.
        batch_size: Images a step. The last batch of an epoch may be smaller; one image joins the batch before it.
        learning_rate: Adam's; the peak of a one-cycle schedule.
        schedule: ``exponential``, times 0.96 every `decay_steps`, or ``one-cycle`` (Smith and Topin 2018), which gets
            there sooner when epochs are few.
        decay_steps: Steps of the exponential schedule; the paper has ten times as many on MultiMNIST (section 6).
        precision: ``fp32``, or ``bf16`` for products of matrices in bfloat16, with sums, weights and gradients in
            float32; testing is in float32 either way.
        eval_every: Steps between validations, which select the checkpoints; 0 validates at the end of each epoch. The
            last step is always followed by one.
        target: The clean validation accuracy 0..1 at which networks are compared.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: str = "exponential"
    decay_steps: int = 2000
    precision: str = "fp32"
    eval_every: int = 0
    target: float = 0.9923

    def __post_init__(self) -> None:
        check_number("epochs", self.epochs, 1, 1_000_000)
        check_number("batch_size", self.batch_size, 1, 1_000_000)
        check_number("learning_rate", self.learning_rate, 1e-12, 1e3)
        check_number("decay_steps", self.decay_steps, 1, 1e9)
        check_number("eval_every", self.eval_every, 0, 1e9)
        check_number("target", self.target, 0, 1)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("precision", self.precision, PRECISIONS)


@dataclass
class Selected:
    """Weights that evaluation uses.

    Attributes:
        step: Steps trained until then.
        epoch: Passes over the digits until then.
        accuracy: On the validation digits, 0..1.
        state: The weights, on the CPU.
    """

    step: int
    epoch: float
    accuracy: float
    state: State


@dataclass
class Trained:
    """What training leaves behind; of weights that were trained elsewhere only ``"best"``, at step 0.

    Attributes:
        history: One row a validation: step, epoch, mean loss of the steps since the last one, validation accuracy
            0..1, and the accuracy on each watched data set.
        selected: ``"target"``, the weights of the first validation that reached the target, if one did; ``"best"`` on
            validation, the earliest of equals; ``"last"``.
        steps: Number of steps done.
        images: Number of images trained on.
        seconds: Time spent, earlier and interrupted runs included.
        stepping: The part of it that went into training alone, without validations, checkpoints, and the first steps
            of each run: those compile kernels, choose algorithms and capture a CUDA graph.
        untimed: Number of images of those first steps.
        fastest: Images a second between the two validations between which it was fastest: other work on the machine
            slows the others down.
        micro_batches: Number of parts that a batch was cut into because memory ran out; 1 if it did not.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    selected: dict[str, Selected] = field(default_factory=dict)
    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    stepping: float = 0.0
    untimed: int = 0
    fastest: float = 0.0
    micro_batches: int = 1

    def select(self, row: dict[str, float], state: Callable[[], State], *, target: float, last: bool) -> None:
        """Adds a validation to the history, and keeps its weights if they are the best, last or first at the target."""
        self.history.append(row)
        best = "best" not in self.selected or row["accuracy"] > self.selected["best"].accuracy
        first = row["accuracy"] >= target and "target" not in self.selected
        if best or first or last:
            here = Selected(int(row["step"]), row["epoch"], row["accuracy"], state())
            self.selected |= {
                name: here for name, is_it in (("best", best), ("target", first), ("last", last)) if is_it
            }

    @property
    def timed(self) -> int:
        """Number of images that `stepping` was spent on."""
        return self.images - self.untimed

    def metrics(self) -> dict[str, Any]:
        """The training as a result states it, in plain JSON types; nothing of weights that were trained elsewhere."""
        if not self.steps:
            return {}
        return {
            "training_seconds": self.seconds,
            "images_per_second": self.fastest,
            "steps": self.steps,
            "micro_batches": self.micro_batches,
            "history": self.history,
        }
