"""Batches from a stream and from a file: the same samples, in the order asked for, as a model takes them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from capsbench.contracts import ArrayBatch, Batch, DataSpec, IndexArray
from capsbench.errors import ParameterError
from capsbench.generation import generate_file
from capsbench.layout import BLOCK
from capsbench.loading import Stream, batches, stream, to_tensors
from capsbench.randomness import permutation
from capsbench.recipes import make_recipe
from capsbench.storage import DataFile, open_dataset

COUNT = 4200  # more than one block of a file
NAMES = ("padded", "affnist", "multimnist")


def embedded(name: str, count: int = COUNT) -> Stream:
    return stream(name, split="test", count=count, digits="embedded")


@pytest.fixture(scope="module", params=NAMES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Stream, DataFile]:
    """A stream, and the same samples in a file that keeps layers."""
    path = tmp_path_factory.mktemp("loading") / "data.h5"
    made = make_recipe(request.param, split="test", count=COUNT, layers=True, digits="embedded")
    generate_file(made, path)
    return Stream(made), open_dataset(path)


def test_stream_knows_its_spec_and_length() -> None:
    data = stream("affnist", split="test", seed=3, variants=2, digits="embedded", shear=0.1)
    assert isinstance(data.spec, DataSpec)
    assert (data.spec.seed, data.spec.count, data.spec.parameters["shear"]) == (3, 2000, [0.1, 0.1])
    assert len(data) == 2000


def test_stream_refuses_what_a_recipe_refuses() -> None:
    with pytest.raises(ParameterError, match="size=41"):
        stream("padded", digits="embedded", size=41)


@pytest.mark.parametrize("indices", [[-1], [0, 100], [100], [2**40], [5, -(2**63)]])
def test_sample_past_the_end_is_an_index_error(indices: list[int]) -> None:
    data = embedded("padded", 100)
    for read in (data.batch, data.layers):
        with pytest.raises(IndexError, match=r"there are 0\.\.99"):
            read(np.array(indices))


def test_indices_may_come_as_any_whole_numbers() -> None:
    data = embedded("padded")
    expected = data.batch(np.array([3, 5])).images
    many: tuple[Any, ...] = ([3, 5], (3, 5), np.array([3, 5], np.uint8))
    for indices in many:
        np.testing.assert_array_equal(data.batch(indices).images, expected)


@pytest.mark.parametrize("name", NAMES)
def test_no_samples_are_an_empty_batch(name: str) -> None:
    data = embedded(name)
    batch = data.batch(np.zeros(0, np.int64))
    side = {"padded": 40, "affnist": 40, "multimnist": 36}[name]
    assert batch.images.shape == (0, side, side)
    assert data.layers(np.zeros(0, np.int64)).shape == (0, 2 if name == "multimnist" else 1, side, side)


def test_file_and_stream_give_the_same_bytes(pair: tuple[Stream, DataFile]) -> None:
    from_stream, from_file = pair
    assert len(from_stream) == len(from_file) == COUNT
    assert from_stream.spec == from_file.spec
    order = permutation(COUNT, seed=1, epoch=0)
    ours, theirs = from_stream.batch(order), from_file.batch(order)
    for name in ("images", "labels", "source", "shift", "transform"):
        first, second = getattr(ours, name), getattr(theirs, name)
        if first is None:
            assert second is None
            continue
        assert first.dtype == second.dtype, name
        np.testing.assert_array_equal(first, second, err_msg=name)
    np.testing.assert_array_equal(from_stream.layers(order), from_file.layers(order))


def test_file_and_stream_have_one_face(pair: tuple[Stream, DataFile]) -> None:
    ours, theirs = pair
    for name in ("labels", "source", "shift", "transform"):
        first, second = getattr(ours, name), getattr(theirs, name)
        if second is None:
            assert first is None, name
            continue
        np.testing.assert_array_equal(first, second, err_msg=name, strict=True)
        assert not first.flags.writeable and not second.flags.writeable
        assert getattr(ours, name) is first, "drawn once"
    assert (ours.shift is None) == (ours.recipe.generator.motion != "shift")
    assert ours.digest == theirs.digest


@pytest.mark.parametrize("name", NAMES)
def test_digest_without_layers_is_that_of_the_file_without_them(name: str, tmp_path: Path) -> None:
    data = embedded(name)
    generate_file(data.recipe, tmp_path / "data.h5")
    assert data.digest == open_dataset(tmp_path / "data.h5").digest


def test_what_is_known_of_a_stream_is_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = embedded("padded", 2 * BLOCK + 1)
    sizes: list[int] = []
    draw = data.recipe.sampler.batch

    def watched(indices: IndexArray) -> ArrayBatch:
        sizes.append(len(indices))
        return draw(indices)

    monkeypatch.setattr(data.recipe.sampler, "batch", watched)
    assert len(data.labels) == len(data.source) == 2 * BLOCK + 1
    assert data.shift is not None
    assert sizes == [BLOCK, BLOCK, 1]


@pytest.mark.parametrize("indices", [[1.9], [True, False], np.ones(COUNT, bool)])
def test_file_and_stream_refuse_masks_and_fractions(pair: tuple[Stream, DataFile], indices: Any) -> None:
    for data in pair:
        for read in (data.batch, data.layers):
            with pytest.raises(TypeError, match=r"by whole numbers; found (float64|bool)"):
                read(indices)


def test_file_and_stream_give_the_same_tensors(pair: tuple[Stream, DataFile]) -> None:
    order = permutation(300, seed=2, epoch=0)
    for ours, theirs in zip(*(batches(data, order, 128, layers=True) for data in pair), strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
        assert ours.layers is not None
        assert theirs.layers is not None
        assert torch.equal(ours.layers, theirs.layers)


@pytest.mark.parametrize(("number", "size", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 128, [3]), (0, 4, [])])
def test_last_batch_may_be_smaller(number: int, size: int, sizes: list[int]) -> None:
    found = [len(batch.labels) for batch in batches(embedded("padded"), np.arange(number), size)]
    assert found == sizes


@pytest.mark.parametrize("size", [1, 7, 128, 1000])
def test_samples_come_in_the_order_asked_for_whatever_the_batch_size(size: int) -> None:
    data = embedded("multimnist")
    order = permutation(500, seed=0, epoch=3)
    whole = data.batch(order)
    images = torch.cat([batch.images for batch in batches(data, order, size)])
    labels = torch.cat([batch.labels for batch in batches(data, order, size)])
    np.testing.assert_array_equal((images[:, 0] * 255).round().numpy(), whole.images)
    np.testing.assert_array_equal(labels.numpy(), whole.labels)


@pytest.mark.parametrize(("name", "digits", "side"), [("padded", 1, 40), ("affnist", 1, 40), ("multimnist", 2, 36)])
def test_tensors_are_what_a_model_takes(name: str, digits: int, side: int) -> None:
    (batch,) = batches(embedded(name), np.arange(5), 8, layers=True)
    assert batch.images.shape == (5, 1, side, side)
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous()
    assert batch.labels.shape == ((5, 2) if digits == 2 else (5,))
    assert batch.labels.dtype == torch.int64
    assert batch.layers is not None
    assert batch.layers.shape == (5, digits, side, side)
    assert batch.layers.dtype == torch.float32


def test_layers_come_only_where_asked_for() -> None:
    (batch,) = batches(embedded("multimnist"), np.arange(5), 8)
    assert batch.layers is None


def test_black_is_zero_and_white_is_one() -> None:
    images = np.array([[[0, 51], [102, 255]]], np.uint8)
    batch = to_tensors(Batch(images=images, labels=np.array([9], np.uint8)), images[:, None], "cpu")
    expected = torch.tensor([[[[0.0, 0.2], [0.4, 1.0]]]])
    torch.testing.assert_close(batch.images, expected)
    assert batch.layers is not None
    torch.testing.assert_close(batch.layers, expected)
    assert batch.images.max() == 1
    assert batch.labels.tolist() == [9]


def test_tensors_do_not_share_memory_with_a_file(tmp_path: Path) -> None:
    """A model may write into its batch; the file must not change."""
    path = tmp_path / "padded.h5"
    generate_file(make_recipe("padded", split="test", count=8, digits="embedded"), path)
    everything: IndexArray = np.arange(8)
    before = path.read_bytes()
    (batch,) = batches(open_dataset(path), everything, 8)
    batch.images.fill_(0.5)
    batch.labels.fill_(0)
    assert path.read_bytes() == before
