"""From a file or a generator to torch batches: both have one face, and give the same samples byte for byte."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from capsbench.contracts import ArrayBatch, Batch, DataSpec, IndexArray, TensorBatch, UInt8Array
from capsbench.recipes import Recipe, make_recipe


class Samples(Protocol):
    """What a `capsbench.storage.DataFile` and a `Stream` have in common."""

    @property
    def spec(self) -> DataSpec:
        """Everything that determines the samples."""

    def __len__(self) -> int: ...

    def batch(self, indices: IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]``."""

    def layers(self, indices: IndexArray) -> UInt8Array:
        """``[n, k, H, W]`` uint8: each digit alone."""


@dataclass(frozen=True)
class Stream:
    """A data set without a file: samples are drawn when they are asked for."""

    recipe: Recipe

    @property
    def spec(self) -> DataSpec:
        """Everything that determines the samples."""
        return self.recipe.spec

    def __len__(self) -> int:
        return self.recipe.spec.count

    def batch(self, indices: IndexArray) -> ArrayBatch:
        """Samples ``indices`` ``[n]``."""
        return self.recipe.sampler.batch(self._checked(indices))

    def layers(self, indices: IndexArray) -> UInt8Array:
        """``[n, k, H, W]`` uint8: each digit alone."""
        return self.recipe.sampler.layers(self._checked(indices))

    def _checked(self, indices: IndexArray) -> IndexArray:
        indices = np.asarray(indices, np.int64)
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"Samples {indices.min()}..{indices.max()} were asked for; there are 0..{len(self) - 1}.")
        return indices


def stream(
    name: str,
    *,
    split: str = "train",
    seed: int = 0,
    count: int | None = None,
    variants: int | None = None,
    preset: str | None = None,
    digits: str = "auto",
    **parameters: Any,
) -> Stream:
    """A data set without a file; see `capsbench.recipes.make_recipe` for the arguments."""
    chosen: Mapping[str, Any] = parameters
    recipe = make_recipe(
        name, split=split, seed=seed, count=count, variants=variants, preset=preset, parameters=chosen, digits=digits
    )
    return Stream(recipe)


def batches(
    data: Samples, order: IndexArray, size: int, *, device: str = "cpu", layers: bool = False
) -> Iterator[TensorBatch]:
    """Samples in an order, ``size`` at a time (the last batch may be smaller), on a device.

    Args:
        data: A file or a stream.
        order: ``[n]`` which samples.
        size: Samples a batch.
        device: Where the tensors go.
        layers: Whether each digit alone comes along.
    """
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        yield to_tensors(data.batch(indices), data.layers(indices) if layers else None, device)


def to_tensors(batch: ArrayBatch, layers: UInt8Array | None, device: str) -> TensorBatch:
    """A batch as a model takes it: images ``[n, 1, H, W]`` float32 in 0..1, labels int64, layers like images."""
    return Batch(
        images=_pixels(batch.images, device)[:, None],
        labels=torch.from_numpy(batch.labels.astype(np.int64)).to(device),
        layers=None if layers is None else _pixels(layers, device),
    )


def _pixels(images: UInt8Array, device: str) -> torch.Tensor:
    # One byte a pixel crosses to the device; it becomes a float there.
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).float().div_(255)
