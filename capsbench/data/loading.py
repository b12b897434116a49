"""From a file or a stream to torch: both share one interface, and give the same samples byte for byte."""

import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from capsbench.contracts import ArrayBatch, Batch, IndexArray, TensorBatch, UInt8Array
from capsbench.data.samples import Samples, checked_indices
from capsbench.errors import ParameterError, shown
from capsbench.parameters import check_number, check_seed, convert
from capsbench.randomness import Shuffle

DRAWN = 1024  # samples drawn or read at once for smaller batches: many cost a generator hardly more time than a few
ORDERED = 8192  # samples whose order is computed at once: many batches, so that each costs little

LARGEST_BATCH = 2**20
LARGEST_EPOCH = 2**32 - 1

DTYPES = (torch.float32, torch.uint8)
"""Types that images may have as tensors: 0..1, or 0..255 as they are stored."""


class SampleDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A file or a stream as torch's own `torch.utils.data.DataLoader` takes it: one sample an index.

    An item is an image ``[1, H, W]`` float32 in 0..1 and its label, int64: a scalar, or ``[2]`` for pairs. It works in
    loader workers, whichever way they are started. If speed matters, use `BatchDataset`: torch's loader and its default
    collation handle samples one by one.

    Args:
        data: A file or a stream.
    """

    def __init__(self, data: Samples) -> None:
        _check_samples(data)
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Sample ``index``, 0..N-1.

        Raises:
            TypeError: It is not a whole number.
            IndexError: There is no such sample; a negative index does not count from the end.
        """
        return self.__getitems__([operator.index(index)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Samples ``indices`` as a list, drawn or read at once; torch's loader calls this for a batch."""
        chosen = checked_indices(indices, len(self))
        batch = to_tensors(self.data.batch(chosen), None, "cpu")
        return list(zip(batch.images.unbind(), batch.labels.unbind(), strict=True))


class BatchDataset(IterableDataset[TensorBatch]):
    """A file or a stream as ready batches of tensors, in order or shuffled, one epoch an iteration.

    It is used alone in a ``for`` loop, or in ``DataLoader(batches, batch_size=None, num_workers=k)``. The workers of a
    loader share the batches out: worker w of k makes batches w, w + k, w + 2 k, .... The loader takes from them in
    turns, so that each sample comes once, and batches come in the same order whatever the number of workers.

    A shuffled order is a function of (seed, epoch, number of samples) and is computed as needed, without an array of
    the length of the data set, which may be longer than memory allows (`capsbench.randomness.Shuffle`).

    Args:
        data: A file or a stream.
        batch_size: Samples a batch; the last may be smaller.
        shuffle: Whether the order is random; otherwise samples come in the order of their index.
        seed: 0..2**64-1, of the order.
        epoch: 0..2**32-1: each has an order of its own. `set_epoch` changes it.
        drop_last: Whether a smaller last batch is left out.
        layers: Whether batches carry each digit alone.
        device: Where the tensors go; in loader workers only ``"cpu"``.
        dtype: Of images and layers: `torch.float32` in 0..1, or `torch.uint8` as they are stored, a quarter of the
            bytes.

    Raises:
        ParameterError: A value is out of its range.
    """

    def __init__(
        self,
        data: Samples,
        *,
        batch_size: int = 128,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        drop_last: bool = False,
        layers: bool = False,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._size: int = convert("batch_size", batch_size, int)
        _check_samples(data)
        check_number("batch_size", self._size, 1, LARGEST_BATCH)
        if dtype not in DTYPES:
            raise ParameterError(f"dtype must be torch.float32 or torch.uint8, got {dtype}.")
        _check_device(device)
        self.data = data
        self._shuffle = shuffle
        self._seed = check_seed(seed)
        self._drop_last = drop_last
        self._layers = layers
        self._device = device
        self._dtype = dtype
        self._epoch = torch.zeros((), dtype=torch.int64)
        with suppress(RuntimeError, OSError):  # a system may have no shared memory; torch's loader then has no workers
            self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # workers of many epochs see it change
        self.set_epoch(epoch)

    @property
    def epoch(self) -> int:
        """Which order the next iteration has."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Gives the next iteration another order, also in workers that are running (``persistent_workers=True``)."""
        chosen: int = convert("epoch", epoch, int)
        check_number("epoch", chosen, 0, LARGEST_EPOCH)
        self._epoch.fill_(chosen)

    def __len__(self) -> int:
        """How many batches an epoch has."""
        return len(self.data) // self._size if self._drop_last else -(-len(self.data) // self._size)

    def __getitem__(self, index: Any) -> NoReturn:
        raise TypeError(
            f"BatchDataset gives batches in a loop: for batch in batches. For sample {shown(index)} alone: "
            f"data.batch([{shown(index)}]), or SampleDataset(data)[{shown(index)}]."
        )

    def __iter__(self) -> Iterator[TensorBatch]:
        worker = get_worker_info()
        if worker is not None and torch.device(self._device).type != "cpu":
            raise ParameterError(
                f"device must be 'cpu' in a loader worker, got {self._device!r}. Move the batches in the main process."
            )
        if torch.device(self._device).type == "cuda" and not torch.cuda.is_available():
            raise ParameterError(f"device is {self._device!r}, but torch finds no GPU here. Use device='cpu'.")
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        return self._batches(range(first, len(self), step), self.epoch)  # the epoch now, not that of the first batch

    def _batches(self, numbers: range, epoch: int) -> Iterator[TensorBatch]:
        """The batches of these numbers."""
        shuffle = Shuffle(len(self.data), seed=self._seed, epoch=epoch) if self._shuffle else None
        ahead = -(-ORDERED // self._size)
        for start in range(0, len(numbers), ahead):
            positions = np.add.outer(np.array(numbers[start : start + ahead]) * self._size, np.arange(self._size))
            positions = positions[positions < len(self.data)]
            rows = positions if shuffle is None else shuffle.rows(positions)
            yield from batches(self.data, rows, self._size, device=self._device, layers=self._layers, dtype=self._dtype)


def _refuse_to_collate(some: Any, **how: Any) -> NoReturn:
    raise ParameterError(
        "Batches are made already: torch's DataLoader takes them with batch_size=None, as in "
        "DataLoader(BatchDataset(data, batch_size=128), batch_size=None)."
    )


default_collate_fn_map[Batch] = _refuse_to_collate


def _check_samples(data: Samples) -> None:
    """Refuses the name of a file, which has a length, too."""
    if isinstance(data, str | os.PathLike):
        raise ParameterError(f"data must be a file or a stream, got {data!r}. Open it: capsbench.open_dataset(path)")


def batches(
    data: Samples,
    order: IndexArray,
    size: int,
    *,
    device: str = "cpu",
    layers: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Iterator[TensorBatch]:
    """Samples in an order, ``size`` at a time (the last batch may be smaller), on a device.

    Args:
        data: A file or a stream.
        order: ``[n]`` indices of samples.
        size: Samples a batch.
        device: Where the tensors go.
        layers: Whether batches carry each digit alone.
        dtype: Of images and layers, one of `DTYPES`.
    """
    drawn = max(1, DRAWN // size) * size
    for first in range(0, len(order), drawn):
        indices = order[first : first + drawn]
        samples, alone = data.batch(indices), data.layers(indices) if layers else None
        for start in range(0, len(indices), size):
            part = slice(start, start + size)
            some = Batch(images=samples.images[part], labels=samples.labels[part])
            yield to_tensors(some, None if alone is None else alone[part], device, dtype)


def to_tensors(
    batch: ArrayBatch, layers: UInt8Array | None, device: str, dtype: torch.dtype = torch.float32
) -> TensorBatch:
    """A batch as a model takes it: images ``[n, C, H, W]`` float32 in 0..1, labels int64, layers like images.

    Grey images ``[n, H, W]`` have one channel, C; those of colours have theirs already.
    With ``dtype`` uint8, images and layers are 0..255.
    """
    images = _pixels(batch.images, device, dtype)
    return Batch(
        images=images if images.dim() == 4 else images[:, None],
        labels=_moved(batch.labels.astype(np.int64), device),
        layers=None if layers is None else _pixels(layers, device, dtype),
    )


def _pixels(images: UInt8Array, device: str, dtype: torch.dtype) -> torch.Tensor:
    # One byte a pixel crosses to the device; it becomes a float there.
    pixels = _moved(np.ascontiguousarray(images), device)
    return pixels if dtype is torch.uint8 else pixels.float().div_(255)


def _moved(array: npt.NDArray[Any], device: str) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    if device == "cpu":
        return tensor
    # From pinned memory the copy runs beside the device's other work, and this process does not wait for it.
    pinned = torch.device(device).type == "cuda"
    return tensor.pin_memory().to(device, non_blocking=True) if pinned else tensor.to(device)


def _check_device(device: str) -> None:
    try:
        torch.device(device)
    except (RuntimeError, TypeError):
        raise ParameterError(f"device must be like 'cpu', 'cuda' or 'cuda:1', got {device!r}.") from None
