"""Sets of digits in MNIST's format that are known by name: their four files, as torchvision pins them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from capsbench.errors import DigitsError

LARGEST_PACKED = 2**26  # bytes of a known set's file; the largest, Fashion-MNIST's, has 26 million


@dataclass(frozen=True)
class KnownSet:
    """A set of 28x28 grey images with the labels 0..9.

    Attributes:
        title: What people call it.
        folder: The name of torchvision's class, and of the folder that it downloads to.
        mirrors: Where its files are published, as torchvision has it; the first that answers is taken.
        licence: Under which it is published, and where.
        shows: What an image shows, and what several do.
        made: Who collected the images.
        files: The MD5 of each file, packed as it is published: images and labels to train, then to test.
    """

    title: str
    folder: str
    mirrors: Sequence[str]
    licence: str
    shows: tuple[str, str]
    made: str
    files: Mapping[str, str]


SETS = {
    "fashion": KnownSet(
        title="Fashion-MNIST",
        folder="FashionMNIST",
        mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        licence="MIT, https://github.com/zalandoresearch/fashion-mnist",
        shows=("a piece of clothing", "pieces of clothing"),
        made="H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST, 2017, arXiv:1708.07747",
        files={
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
    "kmnist": KnownSet(
        title="KMNIST",
        folder="KMNIST",
        mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        licence="CC BY-SA 4.0, http://codh.rois.ac.jp/kmnist/",
        shows=("a handwritten Japanese character", "handwritten Japanese characters"),
        made="T. Clanuwat et al., Deep Learning for Classical Japanese Literature, 2018, arXiv:1812.01718",
        files={
            "train-images-idx3-ubyte.gz": "bdb82020997e1d708af4cf47b453dcf7",
            "train-labels-idx1-ubyte.gz": "e144d726b3acfaa3e44228e80efcd344",
            "t10k-images-idx3-ubyte.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
            "t10k-labels-idx1-ubyte.gz": "7320c461ea6c1c855c0b718fb2a4b134",
        },
    ),
    "qmnist": KnownSet(
        title="QMNIST",
        folder="QMNIST",
        mirrors=("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
        licence="BSD, https://github.com/facebookresearch/qmnist",
        shows=("a handwritten digit", "handwritten digits"),
        made="C. Yadav and L. Bottou, Cold Case: The Lost MNIST Digits, 2019, arXiv:1905.10498",
        files={
            "qmnist-train-images-idx3-ubyte.gz": "ed72d4157d28c017586c42bc6afe6370",
            "qmnist-train-labels-idx2-int.gz": "0058f8dd561b90ffdd0f734c6a30e5e4",
            "qmnist-test-images-idx3-ubyte.gz": "1394631089c404de565df7b7aeaf9412",
            "qmnist-test-labels-idx2-int.gz": "5b5b05890a5e13444e108efe57b788aa",
        },
    ),
}
"""By the word that ``--digits`` takes."""


def packed_file(known: KnownSet, path: Path) -> bytes:
    """A file of a known set, packed as it was published.

    Raises:
        DigitsError: It cannot be read, or has another MD5.
    """
    expected = known.files[path.name]
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_PACKED)
    except OSError as error:
        raise DigitsError(f"{path} cannot be read: {error.strerror}.") from None
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise DigitsError(
            f"{path} is not {known.title}'s: its MD5 should be {expected}, found {found}.\n"
            "Fetch it again, or give digits of your own another name with --digits-as NAME."
        )
    return content
