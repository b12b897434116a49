"""Folders of IDX files that pass for full MNIST's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from capsbench.contracts import UInt8Array

TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"

Placer = Callable[..., Path]


def idx_header(*shape: int) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()


def numbers(images: UInt8Array) -> list[int]:
    """Which digits of `written` these are."""
    first_pixels = images.reshape(len(images), -1)[:, :4]
    return np.ascontiguousarray(first_pixels).view(">u4").ravel().tolist()
