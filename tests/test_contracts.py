"""What the packages hand to one another: digits, named by their bytes."""

import hashlib
from dataclasses import replace

import numpy as np

from capsbench.contracts import Digits


def test_digits_are_named_by_their_bytes() -> None:
    images = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28)
    labels = np.array([3, 7], np.uint8)
    digits = Digits(images, labels, "test", "embedded")
    assert len(digits) == 2
    assert digits.sha256 == hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    strided = np.asfortranarray(images)
    assert replace(digits, images=strided, split="train").sha256 == digits.sha256
    assert replace(digits, labels=labels[::-1]).sha256 != digits.sha256
