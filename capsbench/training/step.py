"""One step of training: forward, loss, backward, Adam; in half precision if wanted, and one launch on a GPU."""

from collections.abc import Callable
from dataclasses import fields
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from capsbench.contracts import Batch, Say, TensorBatch, checked_output, silent
from capsbench.errors import TrainingError, first_line
from capsbench.system import memory

WARM_UP = 3  # steps before a capture, as torch's documentation advises: libraries set themselves up in them


def adam(model: nn.Module, learning_rate: float, device: str) -> torch.optim.Adam:
    """The paper's optimizer, in the form that makes one pass over the weights.

    On a GPU its learning rate is a tensor on that GPU, so that a schedule can change it inside a captured graph.
    """
    if device != "cuda":
        return torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    rate = torch.tensor(learning_rate, device=device)
    return torch.optim.Adam(model.parameters(), lr=rate, fused=True, capturable=True)


class TrainingStep:
    """Trains a model on one batch at a time, and never waits for the device.

    Args:
        model: The network, on its device.
        optimizer: Over its parameters.
        precision: ``"fp32"``, or ``"bf16"`` for autocast: products of matrices are rounded to bfloat16; sums, weights
            and their gradients stay in float32.
        device: ``"cpu"`` or ``"cuda"``.
        graph: Size of the batches whose step is captured in a CUDA graph and replayed: launching the hundreds of
            kernels of a step takes longer than small networks compute. Batches of another size, such as the last of
            an epoch, run without it; 0 captures nothing.
        micro_batches: Number of parts that a batch is cut into; their gradients are added up. If memory runs out, it is
            doubled and the step is repeated.
        report: Gets a line if memory runs out, or if the step cannot be captured, because the model waits for the
            device, for instance.
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
        report: Say = silent,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._autocast = torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")
        self._graph = graph
        self.micro_batches = micro_batches
        self._report = report
        self._steps = 0
        self._replay: Callable[[], Tensor] | None = None
        self._held: TensorBatch | None = None  # the memory that a captured step reads

    def __call__(self, batch: TensorBatch) -> Tensor:
        """Trains on a batch.

        Returns:
            The loss, a mean over the batch: a float32 scalar on the device.

        Raises:
            ModelError: The model does not return what a model must return.
            TrainingError: One image alone needs more memory than there is.
        """
        while True:
            try:
                return self._captured(batch)
            except RuntimeError as error:
                if not memory.is_out_of_memory(error):
                    raise
                reason = first_line(error)
            # The tensors of the failed step are freed only after the except block.
            self._make_room(len(batch.images), reason)

    def _captured(self, batch: TensorBatch) -> Tensor:
        """Takes the step, through a captured graph if there is to be one and it can be captured."""
        if len(batch.images) != self._graph:
            return self._step(batch)
        self._steps += 1
        if self._held is None:
            self._held = _map(Tensor.clone, batch)
        if self._steps <= WARM_UP:
            return on_side_stream(lambda: self._step(batch))
        _map(Tensor.copy_, self._held, batch)
        if self._replay is None:
            held = self._held
            try:
                self._replay = capture(lambda: self._step(held))
            except RuntimeError as error:
                if memory.is_out_of_memory(error):
                    raise
                reason = first_line(error)
        if self._replay is None:  # the tensors of the attempt are freed only after the except block
            self._graph, self._held = 0, None
            self._report(f"the step is not captured in a CUDA graph: {reason}")
            return self._step(batch)
        return self._replay()

    def _step(self, batch: TensorBatch) -> Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        images = len(batch.images)
        size = -(-images // self.micro_batches)
        total = torch.zeros((), device=batch.images.device)
        for start in range(0, images, size):
            part = _map(itemgetter(slice(start, start + size)), batch) if size < images else batch
            with self._autocast:
                output = checked_output(self._model(part.images), len(part.images))
                loss: Tensor = self._model.loss(output, part)  # type: ignore[operator]  # a Model
                if size < images:
                    loss = loss * (len(part.images) / images)
            torch.autograd.backward(loss)
            total += loss.detach()
        self._optimizer.step()
        return total

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


def on_side_stream(function: Callable[[], Tensor]) -> Tensor:
    """Runs a function on a stream of its own, as a capture does, between what was launched before and after it."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = function()
    torch.cuda.current_stream().wait_stream(stream)
    return result


def capture(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Records what a function does on the GPU, without doing it; calling the returned function does it.

    Raises:
        RuntimeError: It cannot be recorded; the stream and the random numbers are as they were before.
    """
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream()
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    randomness = generator.get_state()
    try:
        with torch.cuda.graph(graph):
            result = function()
    except RuntimeError:
        # A failed capture may leave its stream current, and the generator counting for a graph that no longer exists.
        torch.cuda.set_stream(stream)
        fresh = torch.Generator(device="cuda")
        fresh.set_state(randomness)
        generator.graphsafe_set_state(fresh)
        raise

    def replay() -> Tensor:
        graph.replay()
        return result.clone()

    return replay


def _map(function: Callable[..., Tensor], *batches: TensorBatch) -> TensorBatch:
    """Applies a function to the tensors of batches."""
    mapped: dict[str, Any] = {}
    for field in fields(Batch):
        tensors = [getattr(batch, field.name) for batch in batches]
        mapped[field.name] = None if tensors[0] is None else function(*tensors)
    return Batch(**mapped)
