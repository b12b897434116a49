"""Cuts the digits that ship in the package from full MNIST: ``python tools/cut_digits.py DIR [OUT]``.

The first 400 digits of each class of the training file and the first 100 of each class of the test file, in file order.
The arrays are the same everywhere; the file too, wherever NumPy and zlib are of the same version.
"""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from capsbench.contracts import CLASSES, IndexArray, UInt8Array
from capsbench.data import embedded
from capsbench.data.digits import load_digits

PER_CLASS = {"train": 400, "test": 100}


def first_of_each_class(labels: UInt8Array, count: int) -> IndexArray:
    """Positions of the first ``count`` digits of each class, in file order: ``[10 * count]`` int64."""
    by_class = [np.flatnonzero(labels == digit)[:count] for digit in range(CLASSES)]
    return np.sort(np.concatenate(by_class))


def cut(folder: Path, out: Path) -> str:
    """Writes the embedded digits and gives the SHA-256 of the file.

    For each part, ``train`` and ``test``: ``{part}_images`` ``[n, 28, 28]`` uint8, ``{part}_labels`` ``[n]`` uint8 and
    ``{part}_index`` ``[n]`` int32, the place of each digit in MNIST's file.
    """
    arrays: dict[str, Any] = {}
    for part, split in (("train", "trainval"), ("test", "test")):
        digits = load_digits(split, folder)
        index = first_of_each_class(digits.labels, PER_CLASS[part])
        arrays[f"{part}_images"] = digits.images[index]
        arrays[f"{part}_labels"] = digits.labels[index]
        arrays[f"{part}_index"] = index.astype(np.int32)
    np.savez_compressed(out, **arrays)  # dates every member 1980, so that equal arrays make equal files
    return hashlib.sha256(out.read_bytes()).hexdigest()


def main() -> None:
    """Cuts the file and says whether it is the one that capsbench.data.embedded expects."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("folder", metavar="DIR", type=Path, help="the four IDX files of full MNIST")
    parser.add_argument("out", metavar="OUT", type=Path, nargs="?", default=embedded.FILE, help="a name ending in .npz")
    arguments = parser.parse_args()
    sha256 = cut(arguments.folder, arguments.out)
    print(f"{arguments.out}: SHA-256 {sha256}")
    if sha256 != embedded.SHA256:
        sys.exit(f"SHA256 in capsbench/data/embedded.py is {embedded.SHA256}.")


if __name__ == "__main__":
    main()
