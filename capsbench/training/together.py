"""One step of training on several devices: torch's DistributedDataParallel, with the batch of one device cut up.

Each process computes a part of the batch. The loss is the mean over the whole batch and the gradients are its own, as
on one device but for the order of sums.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from capsbench.contracts import IndexArray, TensorBatch, checked_output, loss_of
from capsbench.data.loading import batches
from capsbench.data.samples import Samples
from capsbench.errors import TrainingError
from capsbench.sources.seeding import seeded
from capsbench.system.ranks import Ranks
from capsbench.training.step import Gradients, TrainingStep


class _Loss(nn.Module):
    """A network with its loss in one, so that torch sees every parameter that the loss uses, a decoder's too."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: TensorBatch) -> Tensor:
        return loss_of(self.model, checked_output(self.model(batch.images), len(batch.images)), batch)


class SharedStep(TrainingStep):
    """Trains a model on this process's part of each batch, together with the other processes.

    Args:
        model: The network, on its device; it gets the weights of the first process.
        optimizer: Over its parameters.
        ranks: The processes.
        seed: Of dropout: each process draws its own numbers in each step, the same after a restart.
        precision: As in `TrainingStep`.
        device: ``"cpu"`` or ``"cuda"``.

    Attributes:
        images: Images of the whole batch that comes next; of a part that is empty, one image comes without weight.
        number: Of the step that comes next.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        ranks: Ranks,
        seed: int,
        precision: str = "fp32",
        device: str = "cpu",
    ) -> None:
        super().__init__(model, optimizer, precision=precision, device=device, cut=False)
        self.images = 0
        self.number = 0
        self._ranks = ranks
        self._seed = seed
        self._device = device
        self._group = ranks.group(device)
        self._shared = nn.parallel.DistributedDataParallel(
            _Loss(model), process_group=self._group, find_unused_parameters=True
        )

    def _differentiate(self, batch: TensorBatch) -> tuple[Tensor, Gradients]:
        import torch.distributed as dist

        self._optimizer.zero_grad(set_to_none=True)
        own = self._ranks.part(self.images)
        weight = (own.stop - own.start) / self.images
        name = f"{self._seed} {self.number} {self._ranks.rank}".encode()
        with seeded(int.from_bytes(hashlib.sha256(name).digest()[:8], "little"), self._device), self._autocast:
            loss = self._shared(batch)
        torch.autograd.backward(loss * (weight * self._ranks.size))  # gradients are averaged over the processes
        total = loss.detach().float() * weight
        dist.all_reduce(total, group=self._group)
        return total, [parameter.grad for parameter in self._parameters]


def shared_batches(
    data: Samples, order: IndexArray, size: int, ranks: Ranks, *, device: str, layers: bool
) -> Iterator[tuple[TensorBatch, int]]:
    """This process's part of each batch, and how many images all parts have; no sample comes twice or is left out.

    Args:
        data: A file or a stream.
        order: ``[n]`` indices of samples.
        size: Samples in a batch; the last batch may be smaller.
        ranks: The processes.
        device: Where the tensors go.
        layers: Whether batches carry each digit alone.
    """
    whole = len(order) // size * size
    for rows in (order[:whole].reshape(-1, size), order[whole:].reshape(1, -1)):
        count = rows.shape[1]
        if rows.size:
            own = ranks.part(count)
            mine = rows[:, own] if own.stop > own.start else rows[:, :1]  # without weight
            for batch in batches(data, np.ascontiguousarray(mine).ravel(), mine.shape[1], device=device, layers=layers):
                yield batch, count


def joined_statistics(model: nn.Module, ranks: Ranks, device: str) -> None:
    """Makes batch normalization take its statistics over the parts of all processes.

    Raises:
        TrainingError: Torch cannot do that on a CPU.
    """
    kind: Any = nn.modules.batchnorm._BatchNorm
    found = next((name for name, one in model.named_modules() if isinstance(one, kind)), None)
    if found is None:
        return
    if device == "cpu":
        raise TrainingError(
            f"{found or 'The network'} normalizes over a batch. Each of {ranks.size} processes has a part of it, "
            "and torch joins the statistics of parts on GPUs only. Train this network in one process, or on GPUs."
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(model, ranks.group(device))  # type: ignore[no-untyped-call]
