"""Files in CIFAR-10's two layouts: pickles as Python 2 wrote them, instruction by instruction, and binary ones."""

import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from capsbench.contracts import Digits, UInt8Array
from capsbench.data import cifar10
from capsbench.data.cifar10_made import made_images

HEAD = (
    b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x0ctraining setq\x03U\x04dataq\x04"
    b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07(K\x01"
)
TYPE = b"cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\x09(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
NAMES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")


def python_batch(images: UInt8Array, labels: UInt8Array) -> bytes:
    """A Python batch: a dictionary of Python 2 of a name, an array, a list of numbers and a list of names."""
    rows = images.reshape(len(images), 3072)
    shape = b"".join(b"M" + struct.pack("<H", side) for side in rows.shape) + b"\x86"
    pixels = b"T" + struct.pack("<i", rows.size) + rows.tobytes()
    answers = b"".join(b"K" + bytes([label]) for label in labels.tolist())
    files = b"".join(b"U\x05" + f"{number:05}".encode() + b"r" + struct.pack("<I", 300 + number) for number in range(3))
    return (
        HEAD + shape + TYPE + b"\x89" + pixels + b"tb" + b"U\x06labelsq\x0a]q\x0b(" + answers + b"e"
        + b"U\x09filenamesq\x0c]q\x0d(" + files + b"eu."
    )  # fmt: skip


def binary_batch(images: UInt8Array, labels: UInt8Array) -> bytes:
    """A binary batch: of each image its label, then red, green and blue."""
    return np.column_stack([labels, images.reshape(len(images), 3072)]).astype(np.uint8).tobytes()


def parts(train: Digits, test: Digits) -> Mapping[str, tuple[UInt8Array, UInt8Array]]:
    """Images and labels of each of the six files."""
    images, labels = np.array_split(train.images, 5), np.array_split(train.labels, 5)
    return dict(zip(NAMES, [*zip(images, labels, strict=True), (test.images, test.labels)], strict=True))


def write_folder(folder: Path, *, binary: bool = False, count: int = 40) -> Path:
    """A folder of the first images of the made set, in one of the layouts."""
    folder.mkdir(parents=True, exist_ok=True)
    train, test = (made_images(split) for split in ("trainval", "test"))
    some = (Digits(one.images[:count], one.labels[:count], one.split, one.origin) for one in (train, test))
    for name, (images, labels) in parts(*some).items():
        content = (binary_batch if binary else python_batch)(images, labels)
        (folder / (f"{name}.bin" if binary else name)).write_bytes(content)
    return folder


def pass_for_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the MD5s of a folder's files those that CIFAR-10's are compared with."""
    for name in NAMES:
        md5 = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
        monkeypatch.setitem(cifar10.MD5S, name, md5)
