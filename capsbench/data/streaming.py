"""A data set without a file: its samples are drawn on demand, byte for byte those of a file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from capsbench.contracts import ArrayBatch, IndexArray, UInt8Array
from capsbench.data.columns import block_count, block_digest, block_range, columns_of, root_digest, stored_arrays
from capsbench.data.naming import named_digits
from capsbench.data.recipes import Recipe, make_recipe
from capsbench.data.samples import SampleColumns, checked_indices
from capsbench.spec import DataSpec


@dataclass(frozen=True)
class Stream(SampleColumns):
    """A data set without a file, with the interface of one except ``images``: samples are drawn on demand."""

    recipe: Recipe

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker gets the recipe alone, and draws again what was drawn and kept here.
        return Stream, (self.recipe,)

    @property
    def spec(self) -> DataSpec:
        """Everything that determines the samples."""
        return self.recipe.spec

    @property
    def writers(self) -> npt.NDArray[np.int32] | None:
        """``[digits]`` int32: who wrote each digit of the split; None where it is not known."""
        return self.recipe.digits.writers

    def fresh(self) -> "Stream":
        """The same samples, without what this stream keeps of them and without the tables of its sampler."""
        return Stream(replace(self.recipe))

    def __len__(self) -> int:
        return self.recipe.spec.count

    def __repr__(self) -> str:
        return f"<{self.spec.generator}/{self.spec.split}, {len(self):,} samples, drawn on demand>"

    @cached_property
    def digest(self) -> str:
        """The root digest that a file of this spec has, in hexadecimal; its first use draws every sample once."""
        columns = columns_of(self.recipe.generator, self.spec)
        digests = b"".join(
            block_digest(stored_arrays(columns, self.recipe.sampler, indices)) for indices in self._blocks()
        )
        return root_digest(self.spec.to_json(), digests).hex()

    def batch(self, indices: Sequence[int] | IndexArray | slice) -> ArrayBatch:
        """Samples ``indices`` ``[n]``."""
        return self.recipe.sampler.batch(checked_indices(indices, len(self)))

    def layers(self, indices: Sequence[int] | IndexArray | slice) -> UInt8Array:
        """``[n, k, H, W]`` uint8: each digit alone."""
        return self.recipe.sampler.layers(checked_indices(indices, len(self)))

    def _arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        return self._facts

    @cached_property
    def _facts(self) -> dict[str, npt.NDArray[Any]]:
        """Everything but the pixels that a file holds of every sample; read-only, as the maps of a file are."""
        columns = [
            column for column in columns_of(self.recipe.generator, self.spec) if column.name not in ("images", "layers")
        ]
        facts = {column.name: np.empty((len(self), *column.shape), column.dtype) for column in columns}
        for indices in self._blocks():
            for name, array in stored_arrays(columns, self.recipe.sampler, indices).items():
                facts[name][indices] = array
        for array in facts.values():
            array.flags.writeable = False  # all callers share them
        return facts

    def _blocks(self) -> Iterator[IndexArray]:
        """The indices of each block's samples, so that only one block's pixels are in memory at a time."""
        for block in range(block_count(len(self))):
            yield np.arange(*block_range(block, len(self)))


def stream(
    name: str,
    *,
    split: str = "train",
    seed: int = 0,
    count: int | None = None,
    variants: int | None = None,
    preset: str | None = None,
    digits: str | Path = "auto",
    digits_as: str | None = None,
    **parameters: Any,
) -> Stream:
    """A data set without a file.

    Args:
        name: The data set, such as ``"affnist"``.
        split: One of `capsbench.spec.SPLITS`.
        seed: 0..2**64-1.
        count: Number of samples; by default the digits of the split times ``variants``.
        variants: Samples a digit; by default 1, or what the preset says.
        preset: A named set of parameters.
        digits: ``"auto"``, ``"embedded"``, a set that was fetched (such as ``"fashion"``), or a folder of
            IDX files.
        digits_as: What the digits of a folder, or of a file like Keras' ``mnist.npz``, are called, where they are not
            MNIST's.
        parameters: The data set's own parameters.

    Raises:
        UsageError: A name, a key or a value is not valid.
        DigitsError: The digits are missing or damaged.
    """
    recipe = make_recipe(
        name,
        split=split,
        seed=seed,
        count=count,
        variants=variants,
        preset=preset,
        parameters=parameters,
        digits=named_digits(digits, digits_as),
    )
    return Stream(recipe)
