"""Indices of samples: which are taken, and which are refused."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from capsbench.data.loading import SampleDataset
from capsbench.data.samples import checked_indices
from capsbench.data.streaming import stream
from capsbench.files.datafile import open_dataset
from capsbench.files.generation import generate


@pytest.mark.parametrize("asked", [[3, 0, 3], (3, 0, 3), np.array([3, 0, 3], np.uint8), np.array([3, 0, 3], ">i4")])
def test_samples_are_asked_for_by_whole_numbers(asked: Any) -> None:
    chosen = checked_indices(asked, 4)
    assert chosen.dtype == np.int64 and chosen.dtype.isnative
    assert chosen.tolist() == [3, 0, 3]


@pytest.mark.parametrize("asked", [[], (), np.zeros(0, np.int64)])
def test_no_samples_may_be_asked_for(asked: Any) -> None:
    chosen = checked_indices(asked, 4)
    assert chosen.dtype == np.int64 and chosen.shape == (0,)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([1.9], r"got float64\."),
        (np.array([1.0], np.float32), r"got float32\."),
        ([True, False], r"got bool; for a mask use np\.flatnonzero\(mask\)\."),
        (["1"], "got <U1"),
        ([None], "got object"),
        (2, r"shape \(\)"),
        ([[0, 1], [2, 3]], r"shape \(2, 2\)"),
    ],
)
def test_what_is_no_list_of_whole_numbers_is_refused(asked: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        checked_indices(asked, 4)


@pytest.mark.parametrize("asked", [[4], [-1], [0, 4], [2**63], [-(2**63)]])
def test_samples_that_are_not_there_are_an_index_error(asked: Any) -> None:
    with pytest.raises(IndexError, match=r"must be 0\.\.3, got "):
        checked_indices(asked, 4)


def test_a_slice_is_a_batch_and_one_number_leads_to_the_dataset_of_samples() -> None:
    made = stream("padded", split="test", digits="embedded", count=20)
    (path,) = generate("padded", out=".", split="test", digits="embedded", count=20)
    for data in (made, open_dataset(path)):
        for index, rows in ((slice(2, 9, 3), [2, 5, 8]), (slice(-2, None), [18, 19]), ([4, 1], [4, 1]), (slice(0), [])):
            assert np.array_equal(data[index].images, made.batch(rows).images)
            assert np.array_equal(data.batch(index).labels, made.batch(rows).labels)
        for one in (0, np.int64(3)):
            with pytest.raises(TypeError, match=r"DataLoader\(capsbench\.SampleDataset\(data\)\)"):
                data[one]  # type: ignore[index]  # which mypy knows, too
        with pytest.raises(TypeError, match="SampleDataset"):
            next(iter(DataLoader(data)))  # type: ignore[arg-type]
        images, labels = next(iter(DataLoader(SampleDataset(data), batch_size=5)))
        assert images.shape == (5, 1, 40, 40) and labels.dtype == torch.int64
