"""MATLAB files to be damaged: those of affNIST, compressed and not, and what an import makes of them.

Without a checksum a pixel that is another is no fault that anyone could see. What must hold is that an import ends,
with an error or with a file of what scipy reads, which names the MATLAB file by its hash.
"""

import hashlib
import importlib
import io
import json
import signal
import subprocess
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy.io
import scipy.stats  # of the comparison: in a fork with a limit on memory there may be no room to import it

from capsbench.data.recipes import make_recipe
from capsbench.errors import CapsbenchError, DataFileError
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.importing import affnist as importing
from capsbench.importing import matfile
from capsbench.importing.affnist import import_affnist
from capsbench.importing.agreement import measure_agreement

from .forked import forked
from .mutation import Draw, bits, extremes, hole, swapped

MAT, OUT = Path("x.mat"), Path("x.h5")
AS_IT_IS = "what scipy reads"
COUNT = 30
TAG = 128 + 8  # bytes before a compressed variable: the header, its type and its length
SECONDS = 4.0
GROWTH = 300_000_000  # bytes


class Mat:
    """Files of affNIST, read in a forked child instead of a fresh interpreter, which takes half a second to start."""

    header = 700
    refusal: type[CapsbenchError] = DataFileError

    def __init__(self) -> None:
        self.contents = {AS_IT_IS}
        self.damages: Sequence[Callable[[bytes, Draw], bytes]] = [self._inside] * 6
        sampler = make_recipe("affnist", split="test", digits="embedded", count=COUNT).sampler
        batch = sampler.batch(np.arange(COUNT))
        assert batch.transform is not None
        fields = {
            "label_int": batch.labels[None],
            "label_one_of_n": (np.arange(10)[:, None] == batch.labels).astype(np.uint8),
            "human_readable_transform": batch.transform.T.astype(np.float64),
            "original_id": np.arange(1, COUNT + 1, dtype=np.float64)[None],
            "image": batch.images.reshape(COUNT, -1).T,
        }
        self.goods: Sequence[bytes] = [self.written(fields, False), self.written(fields, True)]
        self.plain = self.goods[0]
        self.start()

    @staticmethod
    def written(fields: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]], compressed: bool) -> bytes:
        """A file as scipy writes it."""
        file = io.BytesIO()
        scipy.io.savemat(file, {"affNISTdata": fields}, do_compression=compressed)
        return file.getvalue()

    def start(self) -> None:
        """Puts a fork in the place of a fresh interpreter."""
        importing.in_child = in_fork
        importlib.import_module("scipy.stats")  # so that no child has to import it

    def read(self, content: bytes, draw: Draw) -> str:
        """As an import sees it; the file that it makes holds what scipy reads. Now and then it is held against ours."""
        for path in Path().glob("x.*"):
            path.unlink()
        MAT.write_bytes(content)
        try:
            import_affnist(MAT, OUT)
        except DataFileError:
            assert [path.name for path in Path().glob("x.*")] == ["x.mat"]
            raise
        file = open_dataset(OUT)
        if draw.random() < 0.25:
            warnings.simplefilter("error")
            json.dumps(measure_agreement(file).to_dict(), allow_nan=False)
        return AS_IT_IS if agrees(file, content) else "something else"

    def _inside(self, content: bytes, draw: Draw) -> bytes:
        """What is compressed was damaged before: its checksum is right."""
        data = zlib.decompress(self.goods[1][TAG:])
        way = draw.choice((bits, extremes, hole, swapped))
        reach = draw.choice((100, 700, len(data)))
        data = way(data, draw, reach) if way in (bits, extremes) else way(data, draw)
        packed = zlib.compress(data)
        return self.goods[1][: TAG - 4] + len(packed).to_bytes(4, "little") + packed


class MatApart(Mat):
    """The same, read as an import does it."""

    def start(self) -> None:
        """Leaves the child what it is, with limits below the campaign's own."""
        importing.MEMORY, importing.SECONDS = 2**30, 6


def agrees(file: DataFile, content: bytes) -> bool:
    """Whether a file of ours holds what scipy reads in a file of affNIST."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = scipy.io.loadmat(io.BytesIO(content), variable_names=["affNISTdata"])["affNISTdata"]
    image, label, transform = (data[name][0, 0] for name in ("image", "label_int", "human_readable_transform"))
    assert file.transform is not None
    return (
        file.spec.parameters["mat"] == hashlib.sha256(content).hexdigest()
        and np.array_equal(file.images.reshape(len(file), -1), image.T)
        and np.array_equal(file.labels, label[0])
        and np.array_equal(file.transform, transform.T.astype(np.float32))
    )


def in_fork(source: int, target: int) -> "subprocess.CompletedProcess[bytes]":
    """What `capsbench.importing.affnist.in_child` does, without a fresh interpreter."""
    end = forked(lambda: matfile.answer(source, target), seconds=SECONDS, growth=GROWTH)
    code = -signal.SIGXCPU if end.code == -signal.SIGALRM else end.code
    said = end.said.encode()
    return subprocess.CompletedProcess([], code, b"" if code else said, said if code else b"")
