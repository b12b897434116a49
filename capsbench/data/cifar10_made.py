"""A set in CIFAR-10's shapes that is made and not photographed: each class has a colour, under noise.

It serves tests and the preset ``smoke`` where CIFAR-10 is not here. What a network reaches on it says nothing about
CIFAR-10.
"""

import numpy as np

from capsbench.contracts import CLASSES, Digits
from capsbench.randomness import integers, words

MADE = "made"
"""The origin of these images."""

SIDE, COLOURS = 32, 3
MADE_STREAM = 3  # of Philox; capsbench itself has those below 16
SIZES = {"train": range(400), "validation": range(400, 500), "trainval": range(500), "test": range(500, 600)}

SHADES = np.array(
    [
        (200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60), (200, 60, 200),
        (60, 200, 200), (200, 200, 200), (60, 60, 60), (200, 128, 60), (128, 60, 200),
    ],
    np.int64,
)  # fmt: skip
"""Red, green and blue of each class."""

NOISE = 101  # values of 0..100, less 50, that are added to each colour of each pixel: 0..255 is never left


def made_images(split: str) -> Digits:
    """The images of a split: ``[n, 3, 32, 32]`` uint8, with labels ``[n]`` uint8, 0..9 in turn; always the same.

    Image i has label i mod 10; its pixel j in reading order takes words 0, 1 and 2 of the counter (1,024 i + j,
    `MADE_STREAM`, 0) under the key 0 for the noise of red, green and blue.
    """
    numbers = np.array(SIZES[split])
    labels = numbers % CLASSES
    counters = np.add.outer(numbers * SIDE * SIDE, np.arange(SIDE * SIDE)).ravel()
    noise = np.stack([integers(word, NOISE) for word in words(counters, seed=0, stream=MADE_STREAM)[:COLOURS]])
    noise = noise.reshape(COLOURS, len(numbers), SIDE, SIDE).swapaxes(0, 1) - NOISE // 2
    images = (SHADES[labels][:, :, None, None] + noise).astype(np.uint8)
    labels = labels.astype(np.uint8)
    for array in (images, labels):
        array.setflags(write=False)
    return Digits(images, labels, split, MADE)
