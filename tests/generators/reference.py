"""A slow reference of each data set, written from the definitions alone.

One sample at a time, plain integers, no table, no shared code with what is held against it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from capsbench.contracts import Digits, UInt8Array


@dataclass(frozen=True)
class Sample:
    """One sample of a reference: what a batch has a row of."""

    layers: Sequence[Any]
    labels: Sequence[int]
    source: Sequence[int]
    motion: Sequence[Any]
    bystanders: Sequence[Any] = ()
    extras: Mapping[str, int] = field(default_factory=dict)

    @property
    def image(self) -> UInt8Array:
        return np.asarray(np.minimum(np.sum([*self.layers, *self.bystanders], 0), 255), np.uint8)


@dataclass(frozen=True)
class Randomness:
    """Philox4x32-10 in plain integers, as its paper has it."""

    seed: int
    stream: int

    def __call__(self, index: int, draw: int = 0) -> list[int]:
        counter = [index % 2**32, index // 2**32, self.stream, draw]
        key = [self.seed % 2**32, self.seed // 2**32]
        for _ in range(10):
            first, second = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
            counter = [
                second // 2**32 ^ counter[1] ^ key[0],
                second % 2**32,
                first // 2**32 ^ counter[3] ^ key[1],
                first % 2**32,
            ]
            key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
        return counter


def integer(word: int, limit: int) -> int:
    return word * limit // 2**32


def uniform(word: int, low: float, high: float) -> float:
    return low + (high - low) * ((word + 0.5) / 2**32)


def place_of(word: int, shift: int) -> tuple[int, int]:
    place = integer(word, (2 * shift + 1) ** 2)
    return place // (2 * shift + 1) - shift, place % (2 * shift + 1) - shift


def put(image: UInt8Array, size: int, corner: tuple[int, int]) -> Any:
    """``[size, size]`` int: the digit with its frame's corner at a place; what leaves the canvas is cut."""
    wide = np.zeros((size + 56, size + 56), int)
    top, left = corner[0] + 28, corner[1] + 28
    wide[top : top + 28, left : left + 28] = image
    return wide[28:-28, 28:-28]


def padded(digits: Digits, words: Randomness, i: int, *, size: int, shift: int) -> Sample:
    base = i % len(digits)
    dy, dx = place_of(words(i)[0], shift)
    margin = (size - 28) // 2
    layer = put(digits.images[base], size, (margin + dy, margin + dx))
    return Sample([layer], [digits.labels[base]], [base], (dy, dx))


def multimnist(digits: Digits, words: Randomness, i: int, *, shift: int, margin: int, reuse: bool) -> Sample:
    base = i % len(digits)
    partner_word, base_word, other_word, _ = words(i)
    if reuse:
        base_word = words(base, draw=1)[0]
    others = sorted((int(label), k) for k, label in enumerate(digits.labels) if label != digits.labels[base])
    source = base, others[integer(partner_word, len(others))][1]
    shifts = place_of(base_word, shift), place_of(other_word, shift)
    layers = [
        put(digits.images[k], 28 + 2 * margin, (margin + dy, margin + dx))
        for k, (dy, dx) in zip(source, shifts, strict=True)
    ]
    return Sample(layers, [digits.labels[k] for k in source], source, shifts)


def crowded(digits: Digits, words: Randomness, i: int, *, flankers: str, spacing: int, jitter: int) -> Sample:
    base = i % len(digits)
    place_word, *flanker_words, _ = words(i)
    dx = integer(place_word, 2 * jitter + 1) - jitter
    others = sorted((int(label), k) for k, label in enumerate(digits.labels) if label != digits.labels[base])
    bystanders = []
    for side in (0, 1) if flankers != "none" else ():
        image = digits.images[others[integer(flanker_words[side], len(others))][1]]
        if flankers == "shuffled":
            image = shuffled(image, words, i, first_draw=1 + 196 * side)
        bystanders.append(put_in_strip(image, 28 + dx + (spacing if side else -spacing)))
    layer = put_in_strip(digits.images[base], 28 + dx)
    return Sample([layer], [digits.labels[base]], [base], (0, dx), bystanders)


def shuffled(image: UInt8Array, words: Randomness, i: int, *, first_draw: int) -> UInt8Array:
    """The pixels in the box of the ink, in the order of their words."""
    (top, left), (bottom, right) = np.argwhere(image).min(0), np.argwhere(image).max(0)
    pixels = image[top : bottom + 1, left : right + 1].ravel().tolist()
    drawn = [word for draw in range(-(-len(pixels) // 4)) for word in words(i, draw=first_draw + draw)]
    ordered = [pixels[k] for k in sorted(range(len(pixels)), key=lambda k: (drawn[k], k))]
    result = np.zeros_like(image)
    result[top : bottom + 1, left : right + 1] = np.reshape(ordered, (bottom + 1 - top, right + 1 - left))
    return result


def put_in_strip(image: UInt8Array, column: int) -> Any:
    """``[28, 84]`` int: the digit with its frame's corner at a column; what leaves the strip is cut."""
    wide = np.zeros((28, 28 + 84 + 28), int)
    wide[:, 28 + column : 56 + column] = image
    return wide[:, 28:-28]


def cluttered(
    digits: Digits, words: Randomness, i: int, *, size: int, scraps: tuple[int, int], scrap_size: int
) -> Sample:
    base = i % len(digits)
    place_word, number_word, _, _ = words(i)
    shift = place_of(place_word, (size - 28) // 2)
    least, most = scraps
    bystanders = []
    for k in range(least + integer(number_word, most - least + 1)):
        source_word, cut_word = words(i, draw=1 + k // 2)[2 * (k % 2) :][:2]
        image = digits.images[
            [other for other in range(len(digits)) if other != base][integer(source_word, len(digits) - 1)]
        ]
        last = size - scrap_size  # the last row, and the last column, of a scrap's corner
        inked = [(y, x) for y in range(28) for x in range(28) if image[y, x] > 0]
        way, place = divmod(integer(cut_word, len(inked) * (last + 1) ** 2), (last + 1) ** 2)
        top, left = (min(max(middle - scrap_size // 2, 0), 28 - scrap_size) for middle in inked[way])
        y, x = place // (last + 1), place % (last + 1)
        bystander = np.zeros((size, size), int)
        bystander[y : y + scrap_size, x : x + scrap_size] = image[top : top + scrap_size, left : left + scrap_size]
        bystanders.append(bystander)
    corner = (size - 28) // 2 + shift[0], (size - 28) // 2 + shift[1]
    layer = put(digits.images[base], size, corner)
    return Sample([layer], [digits.labels[base]], [base], shift, bystanders, {"scraps": len(bystanders)})


def affnist(digits: Digits, words: Randomness, i: int, *, size: int, **ranges: tuple[float, float]) -> Sample:
    base = i % len(digits)
    names = ("rotation", "shear", "scale", "scale")
    drawn = [uniform(word, *ranges[name]) for word, name in zip(words(i), names, strict=True)]
    rotation, shear, scale_y, scale_x = (float(np.float32(value)) for value in drawn)
    sine, cosine = math.sin(math.radians(rotation)), math.cos(math.radians(rotation))
    forward = np.array([[cosine, sine], [-sine, cosine]]) @ [[1, shear], [0, 1]] @ np.diag([scale_x, scale_y])
    inked = [(x, y) for y, x in np.argwhere(digits.images[base])]
    skirt = [(x + right, y + down) for x, y in inked for right in (-1, 1) for down in (-1, 1)]
    centre = (size - 1) / 2
    reach = (np.array(skirt) - 13.5) @ forward.T + centre  # [points, 2] x, y
    ends = [(-1 - least, size - most) for least, most in zip(reach.min(0), reach.max(0), strict=True)]
    word_y, word_x, _, _ = words(i, draw=1)
    dx, dy = (
        float(np.float32(uniform(word, low, high) if low <= high else (low + high) / 2))
        for word, (low, high) in zip((word_x, word_y), ends, strict=True)
    )
    back = np.linalg.inv(forward)
    middle = 13.5 - back @ (centre + dx, centre + dy) + 1 / 512
    a, b, d, e = (math.floor(value * 65536 + 0.5) for value in back.ravel())
    c, f = (math.floor(value * 65536 + 0.5) for value in middle)
    y, x = np.mgrid[:size, :size]
    layer = bilinear(digits.images[base], a * x + b * y + c, d * x + e * y + f)
    return Sample([layer], [digits.labels[base]], [base], (rotation, shear, scale_y, scale_x, dy, dx))


def bilinear(image: UInt8Array, x: Any, y: Any) -> Any:
    """The image at points in 1/65536 of a pixel, with weights in 1/256 of a pixel and zero outside."""

    def at(row: Any, column: Any) -> Any:
        inside = (row >= 0) & (row < 28) & (column >= 0) & (column < 28)
        return np.where(inside, image[np.clip(row, 0, 27), np.clip(column, 0, 27)].astype(int), 0)

    column, row = x // 65536, y // 65536
    right, down = x % 65536 // 256, y % 65536 // 256
    upper = at(row, column) * (256 - right) + at(row, column + 1) * right
    lower = at(row + 1, column) * (256 - right) + at(row + 1, column + 1) * right
    return (upper * (256 - down) + lower * down + 32768) // 65536


REFERENCES: dict[str, Callable[..., Sample]] = {
    "affnist": affnist,
    "cluttered": cluttered,
    "crowded": crowded,
    "multimnist": multimnist,
    "padded": padded,
}

NUMBERS = {"padded": 1, "affnist": 2, "multimnist": 3, "crowded": 4, "cluttered": 5}
"""Which of the published streams each draws from."""
