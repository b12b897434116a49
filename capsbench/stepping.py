"""One step of training: forward, loss, backward, Adam; half precision where asked for, one launch on a GPU."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from capsbench.contracts import Batch, TensorBatch
from capsbench.evaluation import checked_output

PRECISIONS = ("fp32", "bf16")
WARM_UP = 3  # steps before a graph is captured, as torch's documentation asks for: libraries set themselves up in them


def adam(model: nn.Module, learning_rate: float, device: str) -> torch.optim.Adam:
    """The paper's optimizer, in the form that makes one pass over the weights.

    On a GPU its learning rate is a tensor there, so that a schedule can change it inside a captured graph.
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
        precision: ``"fp32"``, or ``"bf16"`` for autocast: products of matrices are rounded to bfloat16, sums, weights
            and their gradients stay in float32.
        device: ``"cpu"`` or ``"cuda"``.
        graph: Whether to capture the step in a CUDA graph and replay it: a step is some hundred launches of kernels,
            which take longer than small networks compute. Batches of another size than the first run without.
        report: Gets a line if the step cannot be captured, as that of a model that waits for the device cannot.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        precision: str = "fp32",
        device: str = "cpu",
        graph: bool = False,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._autocast = torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")
        self._graph = graph
        self._report = report
        self._steps = 0
        self._replay: Callable[[], Tensor] | None = None
        self._held: TensorBatch | None = None  # what a captured step reads

    def __call__(self, batch: TensorBatch) -> Tensor:
        """Trains on a batch; the loss, which is a mean over it, on the device.

        Raises:
            ModelError: The model returns what no model may return.
        """
        if not self._graph or (self._held is not None and len(batch.images) != len(self._held.images)):
            return self._step(batch)
        self._steps += 1
        if self._held is None:
            self._held = _map(Tensor.clone, batch)
        if self._steps <= WARM_UP:
            return beside(lambda: self._step(batch))
        _map(Tensor.copy_, self._held, batch)
        if self._replay is None:
            held = self._held
            try:
                self._replay = capture(lambda: self._step(held))
            except RuntimeError as error:
                self._graph = False
                self._report(f"the step is not captured in a CUDA graph: {str(error).splitlines()[0]}")
                return self._step(batch)
        return self._replay()

    def _step(self, batch: TensorBatch) -> Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        with self._autocast:
            output = checked_output(self._model(batch.images), len(batch.images))
            loss: Tensor = self._model.loss(output, batch)  # type: ignore[operator]  # a Model
        torch.autograd.backward(loss)
        self._optimizer.step()
        return loss.detach()


def beside(function: Callable[[], Tensor]) -> Tensor:
    """Runs what is going to be captured on a stream of its own, as a capture does."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = function()
    torch.cuda.current_stream().wait_stream(stream)
    return result


def capture(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Captures what a function does on the GPU, without doing it; calling what is returned does it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()

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
