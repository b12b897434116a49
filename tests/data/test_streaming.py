"""A data set without a file: what a file of its spec has, byte for byte, and light enough to be sent to a worker."""

import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capsbench.contracts import ArrayBatch, IndexArray
from capsbench.data.columns import BLOCK
from capsbench.data.recipes import make_recipe
from capsbench.data.streaming import Stream, stream
from capsbench.errors import ParameterError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file
from capsbench.randomness import permutation
from capsbench.spec import DataSpec

COUNT = 4200  # more than one block of a file
NAMES = ("padded", "affnist", "multimnist")

OWN = """
from dataclasses import dataclass
from capsbench.generators.padded import Padded

@dataclass(frozen=True, kw_only=True)
class Mine(Padded):
    shift: int = 3
"""
"""A data set of a user's own, in a file that no other process could import."""


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
    with pytest.raises(ParameterError, match="got 41"):
        stream("padded", digits="embedded", size=41)


@pytest.mark.parametrize("indices", [[-1], [0, 100], [100], [2**40], [5, -(2**63)]])
def test_sample_past_the_end_is_an_index_error(indices: list[int]) -> None:
    data = embedded("padded", 100)
    for read in (data.batch, data.layers):
        with pytest.raises(IndexError, match=r"must be 0\.\.99"):
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
    for name in ("images", "labels", "source", "shift", "transform", "scraps"):
        first, second = getattr(ours, name), getattr(theirs, name)
        if first is None:
            assert second is None
            continue
        assert first.dtype == second.dtype, name
        np.testing.assert_array_equal(first, second, err_msg=name)
    np.testing.assert_array_equal(from_stream.layers(order), from_file.layers(order))


def test_file_and_stream_have_one_face(pair: tuple[Stream, DataFile]) -> None:
    ours, theirs = pair
    for name in ("labels", "source", "shift", "transform", "scraps"):
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
            with pytest.raises(TypeError, match=r"must be whole numbers, got (float64|bool)"):
                read(indices)


def used(data: Stream) -> Stream:
    """A stream whose tables are made, and whose facts are drawn and kept."""
    assert len(data.batch([0, 1]).images) == len(data.labels[:2])
    assert data.digest
    return data


@pytest.mark.parametrize("name", [*NAMES, "crowded", "cluttered"])
def test_stream_is_sent_without_its_tables_and_draws_the_same(name: str) -> None:
    data = used(embedded(name))
    sent = pickle.dumps(data)
    assert len(sent) < data.recipe.digits.images.nbytes + 10_000
    received: Stream = pickle.loads(sent)
    assert received.spec == data.spec
    order = permutation(COUNT, seed=4, epoch=0)[:300]
    np.testing.assert_array_equal(received.batch(order).images, data.batch(order).images)
    np.testing.assert_array_equal(received.layers(order), data.layers(order))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_stream_of_a_users_own_file_is_drawn_in_another_process(method: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    data = used(stream(f"{tmp_path}/mine.py:Mine", split="test", count=50, digits="embedded", size=36))
    order = permutation(50, seed=0, epoch=0)
    # Of this pool a worker that cannot read the stream is an error; `multiprocessing.Pool` would wait for ever.
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        found = pool.submit(Stream.batch, data, order).result()
    np.testing.assert_array_equal(found.images, data.batch(order).images)
    assert found.images.shape == (50, 36, 36)


def test_stream_is_drawn_without_torch() -> None:
    script = """
import sys, capsbench
data = capsbench.stream("multimnist", split="test", count=10, digits="embedded")
assert data.batch([3, 1]).images.any()
assert "torch" not in sys.modules, "torch"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
