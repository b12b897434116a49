"""How fast shuffled batches come, against h5py's fancy indexing of the same images in a compressed file.

One thread, real digits, batches of 128 with labels. What h5py gives is uint8; so do those of ours that are held to a
gate. Batches of float32 tensors, which h5py's user would still have to make, are timed beside them without one.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from capsbench.contracts import TensorBatch
from capsbench.data.loading import ORDERED, BatchDataset
from capsbench.data.samples import Samples
from capsbench.data.streaming import stream
from capsbench.files.datafile import open_dataset
from capsbench.files.generation import generate_file

BATCH = 128
CHUNK = 128  # images a chunk of the compressed file, one batch
LEVEL = 4  # of gzip
OURS = ORDERED // BATCH  # batches a round: as many as have their order computed at a time
THEIRS = 2  # of theirs take as long as hundreds of ours

H5PY = "h5py, gzip 4, chunks of 128"

GATES: Mapping[tuple[str, str, torch.dtype], float] = {
    ("multimnist", "file", torch.uint8): 200,
    ("multimnist", "stream", torch.uint8): 200,
    ("affnist", "file", torch.uint8): 200,
    ("affnist", "stream", torch.uint8): 30,
}
"""Data set, source and tensors to how many times as fast as h5py ours must be."""


@pytest.fixture(scope="module")
def sources(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, Any]]:
    """A data set as our file, as a stream and as a compressed file of h5py's, each made when it is first asked for."""
    samples = 20_000 if request.config.getoption("benchmark_enable") else 1000
    folder = tmp_path_factory.mktemp("loading")
    made: dict[str, dict[str, Any]] = {}

    def make(name: str) -> dict[str, Any]:
        if name not in made:
            drawn = stream(name, split="trainval", count=samples, digits="embedded")
            generate_file(drawn.recipe, folder / f"{name}.h5")
            file = open_dataset(folder / f"{name}.h5")
            with h5py.File(folder / f"{name}-gzip.h5", "w") as packed:
                for part in ("images", "labels"):
                    array = getattr(file, part)
                    chunks = (CHUNK, *array.shape[1:])
                    packed.create_dataset(part, data=array, chunks=chunks, compression="gzip", compression_opts=LEVEL)
            made[name] = {"file": file, "stream": drawn, "packed": folder / f"{name}-gzip.h5"}
        return made[name]

    return make


def ours(data: Samples, dtype: torch.dtype) -> Callable[[int], object]:
    """Epoch after epoch, so that a new order is paid for whenever one begins."""
    ready = BatchDataset(data, batch_size=BATCH, shuffle=True, drop_last=True, dtype=dtype)

    def endless() -> Iterator[TensorBatch]:
        for epoch in count():
            ready.set_epoch(epoch)
            yield from ready

    batches = endless()

    def run(turn: int) -> object:
        images = 0
        for batch in islice(batches, OURS):
            images += len(batch.labels)
        assert images == OURS * BATCH
        return images

    return run


def theirs(path: Path) -> Callable[[int], object]:
    packed = h5py.File(path)
    images, labels = packed["images"], packed["labels"]

    def run(turn: int) -> object:
        order = np.random.default_rng(turn + 1).permutation(len(labels))
        # h5py takes indices in ascending order only.
        chosen = [np.sort(order[k * BATCH : (k + 1) * BATCH]) for k in range(THEIRS)]
        return [(images[rows], labels[rows]) for rows in chosen]

    return run


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=["uint8", "float32"])
@pytest.mark.parametrize("source", ["file", "stream"])
@pytest.mark.parametrize("name", ["multimnist", "affnist"])
def test_shuffled_batches(
    benchmark: Any,
    alternate: Callable[..., dict[str, float]],
    sources: Callable[[str], dict[str, Any]],
    name: str,
    source: str,
    dtype: torch.dtype,
) -> None:
    found = sources(name)
    me = f"capsbench, {str(dtype).removeprefix('torch.')}"
    contestants = {me: ours(found[source], dtype), H5PY: theirs(found["packed"])}
    benchmark.group = f"{name} {source}, shuffled batches of {BATCH}"
    benchmark.extra_info.update(batch=BATCH, device="cpu", dtype=str(dtype), samples=len(found["file"]))
    gate = GATES.get((name, source, dtype))
    minima = alternate(contestants, gates={H5PY: gate} if gate else None, work={me: OURS, H5PY: THEIRS})
    benchmark.extra_info["images_per_s"] = {who: round(BATCH / seconds) for who, seconds in minima.items()}
