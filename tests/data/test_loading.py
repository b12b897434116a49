"""Batches from a stream and from a file: the same samples, in the order asked for, as a model takes them."""

import gc
import multiprocessing
import pickle
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ChainDataset, ConcatDataset, DataLoader, default_collate

from capsbench.contracts import Batch, IndexArray, TensorBatch, UInt8Array
from capsbench.data.loading import DRAWN, ORDERED, BatchDataset, SampleDataset, batches, to_tensors
from capsbench.data.recipes import make_recipe
from capsbench.data.samples import Samples, Subset
from capsbench.data.streaming import Stream, stream
from capsbench.errors import ParameterError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file
from capsbench.randomness import SHORT, Shuffle, permutation

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


def test_black_is_zero_and_white_is_one() -> None:
    images = np.array([[[0, 51], [102, 255]]], np.uint8)
    batch = to_tensors(Batch(images=images, labels=np.array([9], np.uint8)), images[:, None], "cpu")
    expected = torch.tensor([[[[0.0, 0.2], [0.4, 1.0]]]])
    torch.testing.assert_close(batch.images, expected)
    assert batch.layers is not None
    torch.testing.assert_close(batch.layers, expected)
    assert batch.images.max() == 1
    assert batch.labels.tolist() == [9]


def test_images_of_colours_keep_their_channels() -> None:
    images = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    batch = to_tensors(Batch(images=images, labels=np.array([9, 0], np.uint8)), None, "cpu")
    assert batch.images.shape == (2, 3, 4, 5) and torch.equal((255 * batch.images).round().byte(), torch.tensor(images))


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


WORKERS_COUNT = 320  # 20 batches of 16
STARTS = [("fork", 1), ("fork", 2), ("forkserver", 2), pytest.param("spawn", 1, marks=pytest.mark.campaign)]
"""A spawned worker gets what one of a server gets, and imports torch for it."""

in_workers = pytest.mark.filterwarnings(
    "ignore:This DataLoader will create:UserWarning",  # several workers on a machine of fewer cores are meant
    "ignore:.*fork.*:DeprecationWarning",  # so are forks of a process with threads
)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Samples, Samples]:
    """A file of one data set and a stream of another, every image of which differs from every other."""
    path = tmp_path_factory.mktemp("workers") / "padded.h5"
    generate_file(make_recipe("padded", split="test", count=WORKERS_COUNT, digits="embedded"), path)
    both = open_dataset(path), embedded("affnist", WORKERS_COUNT)
    for data in both:
        assert len(numbers_of(data)) == WORKERS_COUNT
    return both


def numbers_of(data: Samples) -> dict[bytes, int]:
    """An image's bytes to its index."""
    images = data.batch(np.arange(len(data))).images
    return {image.tobytes(): number for number, image in enumerate(images)}


def seen(data: Samples, images: Iterable[torch.Tensor]) -> list[int]:
    """Which samples came, one after another, told by their pixels."""
    numbers = numbers_of(data)
    return [
        numbers[(image * 255).round().to(torch.uint8).numpy().tobytes()] for batch in images for image in batch[:, 0]
    ]


def check_labels(data: Samples, order: list[int], labels: Iterable[torch.Tensor]) -> None:
    np.testing.assert_array_equal(torch.cat(list(labels)).numpy(), data.batch(np.array(order)).labels)


def loader(dataset: Any, method: str, workers: int, **options: Any) -> DataLoader[Any]:
    multiprocessing.set_forkserver_preload(["capsbench.data.loading"])  # torch is imported once, not by each worker
    context = multiprocessing.get_context(method) if workers else None
    return DataLoader(dataset, num_workers=workers, multiprocessing_context=context, **options)


@in_workers
@pytest.mark.parametrize(("method", "workers"), STARTS)
def test_samples_come_once_and_right_from_workers(both: tuple[Samples, Samples], method: str, workers: int) -> None:
    """File and stream one after the other in one loader, for starting workers is what takes the time."""
    order = permutation(2 * WORKERS_COUNT, seed=5, epoch=0)
    joined: Any = ConcatDataset([SampleDataset(data) for data in both])
    found = list(loader(joined, method, workers, batch_size=16, sampler=order.tolist()))
    images, labels = torch.cat([batch[0] for batch in found]), torch.cat([batch[1] for batch in found])
    assert images.dtype == torch.float32 and labels.dtype == torch.int64
    for k, data in enumerate(both):
        mine = order // WORKERS_COUNT == k
        rows = (order[mine] % WORKERS_COUNT).tolist()
        assert seen(data, [images[mine]]) == rows
        check_labels(data, rows, [labels[mine]])


@in_workers
@pytest.mark.parametrize(("method", "workers"), STARTS)
def test_batches_come_once_and_in_order_from_workers(both: tuple[Samples, Samples], method: str, workers: int) -> None:
    """20 batches of the file, then 20 of the stream: any number of workers that divides 20 keeps them apart."""
    chain = ChainDataset([BatchDataset(data, batch_size=16, shuffle=True, seed=3, epoch=2) for data in both])
    found = list(loader(chain, method, workers, batch_size=None))
    assert len(found) == 40
    order = Shuffle(WORKERS_COUNT, seed=3, epoch=2).rows(np.arange(WORKERS_COUNT)).tolist()
    for data, part in zip(both, (found[:20], found[20:]), strict=True):
        assert seen(data, [batch.images for batch in part]) == order
        check_labels(data, order, [batch.labels for batch in part])


@in_workers
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize(("count", "size", "drop_last"), [(100, 16, False), (100, 16, True), (3, 16, False)])
def test_order_does_not_depend_on_the_number_of_workers(workers: int, count: int, size: int, drop_last: bool) -> None:
    data = embedded("padded", count)
    ready = BatchDataset(data, batch_size=size, shuffle=True, seed=1, drop_last=drop_last)
    found = list(
        DataLoader(ready, batch_size=None, num_workers=workers, multiprocessing_context="fork" if workers else None)
    )
    assert len(found) == len(ready) == (count // size if drop_last else -(-count // size))
    order = Shuffle(count, seed=1, epoch=0).rows(np.arange(count)).tolist()
    assert seen(data, [batch.images for batch in found]) == (order[: count // size * size] if drop_last else order)


@in_workers
def test_workers_that_live_on_see_the_next_epoch() -> None:
    data = embedded("padded", 200)
    ready = BatchDataset(data, batch_size=16, shuffle=True)
    live = loader(ready, "fork", 2, batch_size=None, persistent_workers=True)
    for epoch in (0, 1, 7):
        ready.set_epoch(epoch)
        assert ready.epoch == epoch
        order = Shuffle(200, seed=0, epoch=epoch).rows(np.arange(200)).tolist()
        assert seen(data, [batch.images for batch in live]) == order


def test_workers_keep_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsbench.data.loading.get_worker_info", lambda: SimpleNamespace(id=0, num_workers=1))
    with pytest.raises(ParameterError, match="must be 'cpu' in a loader worker"):
        iter(BatchDataset(embedded("padded", 8), device="cuda"))


@pytest.mark.parametrize(
    ("count", "size"),
    [
        *[(count, size) for count in (1, 31, 1000) for size in (1, 7, 128, 3000)],
        *[(count, size) for count in (SHORT + 1, ORDERED + DRAWN + 1) for size in (31, 128, 3000, 10_000)],
    ],
)
def test_every_sample_comes_once_an_epoch(count: int, size: int) -> None:
    data = Numbered(count)
    for shuffle in (False, True):
        ready = BatchDataset(data, batch_size=size, shuffle=shuffle, seed=9, epoch=4, dtype=torch.uint8)
        found = [data.indices_of(batch) for batch in ready]
        assert [len(part) for part in found[:-1]] == [size] * (len(ready) - 1)
        order = np.concatenate(found)
        expected = Shuffle(count, seed=9, epoch=4).rows(np.arange(count)) if shuffle else np.arange(count)
        np.testing.assert_array_equal(order, expected)
        assert sorted(order.tolist()) == list(range(count))


class Numbered:
    """Samples whose pixels are their index, in four bytes."""

    spec: Any = None

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: IndexArray) -> Batch[Any]:
        images = np.ascontiguousarray(indices, "<i4").view(np.uint8).reshape(-1, 2, 2)
        return Batch(images=images, labels=(indices % 10).astype(np.uint8))

    def layers(self, indices: IndexArray) -> UInt8Array:
        return np.asarray(self.batch(indices).images[:, None])

    def indices_of(self, batch: TensorBatch) -> IndexArray:
        found = batch.images.numpy().reshape(-1, 4).view("<i4")[:, 0].astype(np.int64)
        np.testing.assert_array_equal(batch.labels.numpy(), found % 10)
        return np.asarray(found)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    data = Numbered(500)
    orders = {
        tuple(np.concatenate([data.indices_of(batch) for batch in ready]).tolist())
        for seed in (0, 1)
        for epoch in (0, 1)
        for ready in [BatchDataset(data, shuffle=True, seed=seed, epoch=epoch, dtype=torch.uint8)]
    }
    assert len(orders) == 4


def test_an_iteration_keeps_the_order_that_it_began_with() -> None:
    data = Numbered(100)
    ready = BatchDataset(data, batch_size=10, shuffle=True, dtype=torch.uint8)
    begun = iter(ready)
    ready.set_epoch(1)
    found = np.concatenate([data.indices_of(batch) for batch in begun])
    np.testing.assert_array_equal(found, Shuffle(100, seed=0, epoch=0).rows(np.arange(100)))


def test_ready_batches_come_in_a_loop_alone() -> None:
    with pytest.raises(TypeError, match=r"for batch in batches\. For sample 3 alone: data\.batch\(\[3\]\)"):
        BatchDataset(embedded("padded"))[3]


def test_ready_batches_are_what_a_model_takes() -> None:
    data = embedded("multimnist", 10)
    (batch,) = BatchDataset(data, layers=True)
    expected = to_tensors(data.batch(np.arange(10)), data.layers(np.arange(10)), "cpu")
    assert torch.equal(batch.images, expected.images)
    assert torch.equal(batch.labels, expected.labels)
    assert batch.layers is not None and expected.layers is not None
    assert torch.equal(batch.layers, expected.layers)
    (plain,) = BatchDataset(data)
    assert plain.layers is None


def test_stored_pixels_become_tensors_as_they_are() -> None:
    data = embedded("multimnist", 10)
    (batch,) = BatchDataset(data, layers=True, dtype=torch.uint8)
    assert batch.images.dtype == torch.uint8 and batch.layers is not None and batch.layers.dtype == torch.uint8
    np.testing.assert_array_equal(batch.images[:, 0].numpy(), data.batch(np.arange(10)).images)
    np.testing.assert_array_equal(batch.layers.numpy(), data.layers(np.arange(10)))
    assert batch.labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"batch_size must be .* got 0"),
        ({"batch_size": 2.5}, r"batch_size must be a whole number, got 2\.5"),
        ({"seed": -1}, r"seed must be .* got -1"),
        ({"epoch": 2**32}, r"epoch must be .* got 4294967296"),
        ({"epoch": 0.5}, r"epoch must be a whole number, got 0\.5"),
        ({"dtype": torch.float16}, r"dtype must be torch\.float32 or torch\.uint8, got torch\.float16"),
        ({"device": "gpu"}, r"device must be like 'cpu', 'cuda' or 'cuda:1', got 'gpu'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        BatchDataset(Numbered(10), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(ParameterError, match="torch finds no GPU here"):
        iter(BatchDataset(Numbered(10), device="cuda"))


@pytest.mark.parametrize(("name", "shape"), [("padded", ()), ("multimnist", (2,))])
def test_a_sample_is_an_image_and_its_label(name: str, shape: tuple[int, ...]) -> None:
    data = embedded(name, 12)
    dataset: Any = SampleDataset(data)
    whole = data.batch(np.arange(12))
    assert len(dataset) == 12
    for number, (image, label) in enumerate(dataset):  # ends where there is no next sample
        assert image.dtype == torch.float32 and image.shape == (1, *whole.images.shape[1:])
        assert label.dtype == torch.int64 and label.shape == shape
        np.testing.assert_array_equal((image[0] * 255).round().numpy(), whole.images[number])
        np.testing.assert_array_equal(label.numpy(), whole.labels[number])
    assert number == 11
    images, labels = default_collate(dataset.__getitems__([5, 0, 5]))  # what torch's loader does
    assert images.shape[0] == 3 and torch.equal(images[0], images[2]) and torch.equal(images[1], dataset[0][0])
    np.testing.assert_array_equal(labels.numpy(), whole.labels[[5, 0, 5]])


@in_workers
@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_that_would_make_batches_of_batches_says_the_way_out(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    ready = BatchDataset(embedded("padded", 8), batch_size=4)
    context = "fork" if workers else None
    with pytest.raises(ParameterError, match=r"DataLoader takes them with batch_size=None"):
        next(iter(DataLoader(ready, num_workers=workers, multiprocessing_context=context)))
    gc.collect()  # the loader's iterator waits so long for a worker that it has lost


def test_samples_of_a_part_are_its_own() -> None:
    data = Numbered(100)
    part = SampleDataset(Subset(data, np.array([40, 7])))
    assert len(part) == 2
    np.testing.assert_array_equal((part[1][0] * 255).round().numpy().ravel(), [7, 0, 0, 0])
    with pytest.raises(IndexError):
        _ = part[-1]


@pytest.mark.parametrize(("index", "error"), [(-1, IndexError), (12, IndexError), (1.0, TypeError), ("1", TypeError)])
def test_there_is_no_such_sample(index: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        _ = SampleDataset(embedded("padded", 12))[index]


@pytest.mark.parametrize("make", [SampleDataset, BatchDataset])
def test_datasets_of_a_file_are_sent_without_its_samples(make: Callable[[Samples], Any], tmp_path: Path) -> None:
    path = tmp_path / "padded.h5"
    generate_file(make_recipe("padded", split="test", count=500, digits="embedded"), path)
    sent = pickle.dumps(make(open_dataset(path)))
    assert len(sent) < 5000
    received = pickle.loads(sent)
    np.testing.assert_array_equal(received.data.batch([3]).images, open_dataset(path).images[3:4])
    assert make is SampleDataset or next(iter(received)).images.shape == (128, 1, 40, 40)


MEMORY = """
import resource, sys, torch, capsbench
from itertools import islice, count, chain
data = capsbench.stream("multimnist", split="train", count=int(sys.argv[1]), digits="embedded")
ready = capsbench.BatchDataset(data, shuffle=True, dtype=torch.uint8)

def epochs():
    for epoch in count():
        ready.set_epoch(epoch)
        yield from ready

assert sum(len(batch.labels) for batch in islice(epochs(), 500)) > 60_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_a_stream_may_be_longer_than_memory(warm_python: str) -> None:
    """60,000,000 samples, the paper's training set, cost no more memory than 60,000."""
    running = [
        subprocess.Popen([warm_python, "-c", MEMORY, str(count)], stdout=subprocess.PIPE, text=True)
        for count in (60_000, 60_000_000)
    ]
    few, many = (int(one.communicate(timeout=300)[0]) for one in running)
    assert not any(one.returncode for one in running)
    assert abs(many - few) < 30 * 1024, f"{few} and {many} kB"


@in_workers
def test_the_python_of_the_document_runs() -> None:
    document = Path(__file__).resolve().parents[2] / "docs" / "loading.md"
    blocks = re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), str(document), "exec"), names)
    file, drawn, batch = names["file"], names["stream"], names["batch"]
    np.testing.assert_array_equal(file.images, drawn.batch(np.arange(1000)).images)
    assert (batch.images.shape, batch.labels.shape) == ((128, 1, 36, 36), (128, 2))
    assert len(names["batches"]) == 468_750
    assert names["image"].shape == (1, 36, 36)


@pytest.mark.parametrize("kind", [SampleDataset, BatchDataset])
def test_the_name_of_a_file_is_no_file(kind: Any) -> None:
    for name in ("x.h5", Path("x.h5")):
        with pytest.raises(ParameterError, match=r"Open it: capsbench\.open_dataset"):
            kind(name)


def test_without_shared_memory_batches_come_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to open shared memory object: Read-only file system")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refused)
    batched = BatchDataset(stream("padded", split="test", digits="embedded"), shuffle=True, epoch=1)
    assert batched.epoch == 1 and sum(len(batch.images) for batch in batched) == 1000
