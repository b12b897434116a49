"""What the packages hand to one another: digits, and who is told how things go."""

import hashlib
from dataclasses import replace

import numpy as np

from capsbench.contracts import Digits, Progress, Say, no_bar, silent


def test_digits_are_named_by_their_bytes() -> None:
    images = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28)
    labels = np.array([3, 7], np.uint8)
    digits = Digits(images, labels, "test", "embedded")
    assert len(digits) == 2
    assert digits.sha256 == hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    strided = np.asfortranarray(images)
    assert replace(digits, images=strided, split="train").sha256 == digits.sha256
    assert replace(digits, labels=labels[::-1]).sha256 != digits.sha256


def test_class_means_are_of_each_class_alone() -> None:
    labels = np.repeat(np.arange(10, dtype=np.uint8), 2)[::-1].copy()
    images = np.zeros((20, 28, 28), np.uint8)
    images[labels == 3, 1, 2] = 51, 153
    means = Digits(images, labels, "test", "embedded").class_means()
    expected = np.zeros((10, 28, 28))
    expected[3, 1, 2] = 0.4
    assert means.shape == (10, 28, 28) and np.array_equal(means, expected)


def test_silence_is_a_progress_and_a_say() -> None:
    say: Say = silent
    say("something")
    with no_bar("counting") as bar:
        progress: Progress = bar
        progress(1, 2)
