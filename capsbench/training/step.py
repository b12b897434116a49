"""One step of training: forward, loss, backward, Adam; in half precision if wanted, and as a CUDA graph on a GPU."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from capsbench.contracts import Batch, Say, TensorBatch, checked_output, loss_of, silent
from capsbench.errors import ModelError, TrainingError, first_line
from capsbench.system import memory
from capsbench.training.capture import capture, on_side_stream, place_of, waiting_refused
from capsbench.training.config import TrainConfig

DECAY = 0.96  # of the learning rate in `decay_steps`, with the schedule "exponential"
WARM_UP = 3  # steps before a capture, as torch's documentation advises: libraries set themselves up in them

Gradients = list[Tensor | None]


def adam(model: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """The paper's optimizer, in the form that makes one pass over the weights; complex weights have no such form.

    Raises:
        ModelError: There is nothing to train.
    """
    parameters = list(model.parameters())
    if not any(one.requires_grad for one in parameters):
        why = f"trains none of its {len(parameters)} parameters: requires_grad is False for all"
        if not parameters:
            why = (
                "has no parameters: torch does not find layers in a list or dict; use torch.nn.ModuleList or ModuleDict"
            )
        raise ModelError(f"The network {why}. A network that was trained elsewhere is measured with --weights FILE.")
    return torch.optim.Adam(parameters, lr=learning_rate, fused=all(map(torch.is_floating_point, parameters)))


def scheduler(
    optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """What changes the learning rate after each of so many steps, as the configuration says."""
    if config.schedule == "one-cycle":  # one more, because it is stepped after the last step, too
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps + 1)
    # The authors' code decays smoothly, down to 1e-6 / 1e-3 of the first rate.
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(DECAY ** (step / config.decay_steps), 1e-3))


def autocast(device: str, precision: str) -> torch.autocast:
    """Products of matrices in bfloat16 with ``"bf16"``; nothing with ``"fp32"``."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")


class TrainingStep:
    """Trains a model on one batch at a time, and never waits for the device.

    Args:
        model: The network, on its device.
        optimizer: Over its parameters.
        precision: ``"fp32"``, or ``"bf16"`` for autocast: products of matrices are rounded to bfloat16; sums, weights
            and their gradients stay in float32.
        device: ``"cpu"`` or ``"cuda"``.
        graph: Size of the batches whose gradients are computed by a CUDA graph: launching the hundreds of kernels of a
            step takes longer than small networks compute. The optimizer stays outside, so that its settings may
            change with every step. Batches of another size, such as the last of an epoch, run without the graph; 0
            captures none.
        micro_batches: Number of parts that a batch is cut into; their gradients are added up. If memory runs out, it is
            doubled and the step is repeated.
        cut: Whether this may happen; if not, a batch that does not fit into memory is an error.
        report: Gets a line if memory runs out, or if the step cannot be captured, because the model waits for the
            device, for instance.

    Raises:
        TypeError: ``graph`` is a truth value instead of a size.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        precision: str = "fp32",
        device: str = "cpu",
        graph: int = 0,
        micro_batches: int = 1,
        cut: bool = True,
        report: Say = silent,
    ) -> None:
        if isinstance(graph, bool):
            raise TypeError(f"graph must be the size of a batch, or 0; got {graph}")
        self._model = model
        self._optimizer = optimizer
        self._autocast = autocast(device, precision)
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._graph = graph
        self._cut = cut
        self.micro_batches = micro_batches
        self._report = report
        self._steps = 0
        self._replay: Callable[[], tuple[Tensor, Gradients]] | None = None
        self._held: TensorBatch | None = None  # the memory that a captured step reads

    def __call__(self, batch: TensorBatch) -> Tensor:
        """Trains on a batch.

        Returns:
            The loss, a mean over the batch: a float32 scalar on the device.

        Raises:
            ModelError: The model does not return what a model must return.
            TrainingError: One image alone needs more memory than there is.
            RuntimeError: The batch needs more memory than there is, and must not be cut.
        """
        while True:
            try:
                return self._train(batch)
            except RuntimeError as error:
                if not (self._cut and memory.is_out_of_memory(error)):
                    raise
                reason = first_line(error)
            # The tensors of the failed step are freed only after the except block.
            self._make_room(len(batch.images), reason)

    def _train(self, batch: TensorBatch) -> Tensor:
        loss, gradients = self._captured(batch)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient  # a graph writes to its own tensors; a batch without it leaves others here
        self._optimizer.step()
        return loss.clone()  # a graph overwrites its own

    def _captured(self, batch: TensorBatch) -> tuple[Tensor, Gradients]:
        """The loss and the gradients, through a captured graph if there is to be one and it can be captured."""
        if len(batch.images) != self._graph:
            return self._differentiate(batch)
        self._steps += 1
        if self._held is None:
            self._held = _map(Tensor.clone, batch)
        _map(Tensor.copy_, self._held, batch)
        if self._replay is not None:
            return self._replay()
        differentiate = partial(self._differentiate, self._held)
        try:
            if self._steps < WARM_UP:
                return on_side_stream(differentiate)
            if self._steps == WARM_UP:  # better found here than by a capture that fails
                with waiting_refused():
                    return on_side_stream(differentiate)
            self._replay = capture(differentiate)
        except RuntimeError as error:
            if self._steps < WARM_UP or memory.is_out_of_memory(error):
                raise
            reason = first_line(error)
            if self._steps == WARM_UP:
                reason = f"the network waits for the GPU in {place_of(error)} ({reason}); replace .item(), .cpu() "
                reason += "and conditions on tensors by operations on tensors"
        if self._replay is None:  # the tensors of the attempt are freed only after the except block
            self._graph, self._held = 0, None
            self._report(f"the step is not captured in a CUDA graph and runs slower: {reason}")
            return self._differentiate(batch)
        return self._replay()

    def _differentiate(self, batch: TensorBatch) -> tuple[Tensor, Gradients]:
        """The loss and the gradients, launched kernel by kernel."""
        self._optimizer.zero_grad(set_to_none=True)
        images = len(batch.images)
        total = torch.zeros((), device=batch.images.device)
        for one in _parts(images, self.micro_batches):
            part = batch if one == slice(0, images) else _map(itemgetter(one), batch)
            with self._autocast:
                output = checked_output(self._model(part.images), len(part.images))
                loss = loss_of(self._model, output, part)
                if not loss.requires_grad:
                    raise ModelError(
                        "The loss depends on no parameter that is trained. Something between them ends gradients, such "
                        "as detach(), numpy() or torch.no_grad()."
                    )
                if len(part.images) < images:
                    loss = loss * (len(part.images) / images)
            torch.autograd.backward(loss)
            total += loss.detach()
        return total, [parameter.grad for parameter in self._parameters]

    def _make_room(self, images: int, reason: str) -> None:
        """Cuts batches into twice as many parts."""
        if self.micro_batches >= images:
            raise TrainingError(f"Memory runs out at a single image. Try a smaller network. ({reason})")
        self.micro_batches = min(2 * self.micro_batches, images)
        # A graph holds on to the memory of its step for as long as it lives.
        self._replay, self._held, self._steps = None, None, 0
        self._optimizer.zero_grad(set_to_none=True)
        memory.release()
        size = -(-images // self.micro_batches)
        self._report(f"memory ran out: batches of {images} are now computed {size} at a time, their gradients added up")


def _parts(images: int, parts: int) -> list[slice]:
    """Cuts a batch into parts whose sizes differ by one at most: batch normalization cannot train on one image."""
    size = -(-images // parts)
    number = -(-images // size)
    ends = [images * part // number for part in range(number + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def _map(function: Callable[..., Tensor], *batches: TensorBatch) -> TensorBatch:
    """Applies a function to the tensors of batches."""
    mapped: dict[str, Any] = {}
    for field in fields(Batch):
        tensors = [getattr(batch, field.name) for batch in batches]
        mapped[field.name] = None if tensors[0] is None else function(*tensors)
    return Batch(**mapped)
