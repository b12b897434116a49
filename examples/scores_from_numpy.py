"""A linear classifier by least squares, in numpy alone: scores for the tests in a folder.

python examples/scores_from_numpy.py FOLDER
"""

import json
import sys
from pathlib import Path

import h5py
import numpy as np

import capsbench

folder = Path(sys.argv[1])
manifest = json.loads((folder / "manifest.json").read_text())
side = manifest["files"][0]["image_shape"][0]

(path,) = capsbench.generate("padded", out=folder / "train.h5", split="train", variants=4, size=side, shift=2)
with h5py.File(path) as train:
    pixels, labels = train["images"][:].reshape(-1, side * side) / 255, train["labels"][:]


def with_one(images: np.ndarray) -> np.ndarray:
    """Pixels, and a column of ones for the bias."""
    return np.column_stack([images, np.ones(len(images))])


inputs = with_one(pixels)
weights = np.linalg.solve(inputs.T @ inputs + 10 * np.eye(inputs.shape[1]), inputs.T @ np.eye(10)[labels])

for test in manifest["files"]:
    with h5py.File(folder / test["file"]) as file:
        scores = with_one(file["images"][:].reshape(-1, side * side) / 255) @ weights  # [N, 10], in the file's order
        digest = file["root"][:].tobytes().hex()  # of the images that were read
    np.savez(folder / f"{test['name']}.npz", scores=scores, digest=digest)
    print(f"{test['name']}: {len(scores)} rows of scores")
