"""How fast samples are drawn, against what one would write or call instead: one thread, real digits, fresh samples.

A maker prepares what its contestant may have ready before the time is taken: tables, padded images, PIL images.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from torchvision.transforms import InterpolationMode, RandomAffine

from capsbench.contracts import Digits, Generator, IndexArray, UInt8Array
from capsbench.data.digits import load_digits
from capsbench.generators.affnist import AffNIST
from capsbench.generators.cluttered import Cluttered
from capsbench.generators.multimnist import MultiMNIST
from capsbench.generators.padded import Padded
from capsbench.geometry import Coefficients, WarpTable, inverse_coefficients

BATCH = 4000  # samples a round, about a block of a file
PAIRS = 1000  # of each base digit, as in the authors' data set
EDGE = 6  # pixels of black around a digit on the canvas of 40x40
PREPARED = 32  # rounds whose maps are made beforehand; more than there are

Contestant = Callable[[int], object]
"""Makes the samples of the round whose number it is handed."""

Maker = Callable[[Digits], Contestant]


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load_digits("trainval", "embedded")


def indices(turn: int) -> IndexArray:
    # All the digits there are come round again each time, but never with the same parameters.
    return np.arange(turn * BATCH, (turn + 1) * BATCH)


def capsbench(generator: Generator) -> Maker:
    def make(digits: Digits) -> Contestant:
        sampler = generator.sampler(digits, 0)
        return lambda turn: sampler.batch(indices(turn))

    return make


def authors_loop(digits: Digits) -> Contestant:
    """For each base digit: shift it once, then shift, add and clip one partner after the other."""
    padded = np.pad(digits.images, ((0, 0), (4, 4), (4, 4)))

    def shifted(image: UInt8Array, dy: int, dx: int) -> UInt8Array:
        room = np.pad(image, 5, "constant")  # one pixel more than the largest shift, as the authors have it
        return np.asarray(np.roll(np.roll(room, dy, axis=0), dx, axis=1)[5:-5, 5:-5])

    def run(turn: int) -> object:
        random = np.random.default_rng(turn)
        images, labels = np.empty((BATCH, 36, 36), np.uint8), np.empty((BATCH, 2), np.uint8)
        for i in range(0, BATCH, PAIRS):
            base = random.integers(len(digits))
            base_shift, *shifts = random.integers(-4, 5, (PAIRS + 1, 2))
            below = shifted(padded[base], *base_shift)
            chosen = random.choice(len(digits), 2 * PAIRS, replace=False)
            partners = [k for k in chosen if digits.labels[k] != digits.labels[base]][:PAIRS]
            for j, (k, shift) in enumerate(zip(partners, shifts, strict=True)):
                total = np.add(below, shifted(padded[k], *shift), dtype=np.int32)
                images[i + j] = np.minimum(total, 255).astype(np.uint8)
                labels[i + j] = digits.labels[base], digits.labels[k]
        return images, labels

    return run


def slicing_loop(digits: Digits) -> Contestant:
    def run(turn: int) -> object:
        images = np.zeros((BATCH, 40, 40), np.uint8)
        source = indices(turn) % len(digits)
        corners = np.random.default_rng(turn).integers(0, 2 * EDGE + 1, (BATCH, 2))
        for image, k, (top, left) in zip(images, source, corners, strict=True):
            image[top : top + 28, left : left + 28] = digits.images[k]
        return images, digits.labels[source]

    return run


def scraps_loop(digits: Digits) -> Contestant:
    """One sample after the other: put the digit, then cut, add and clip one scrap after the other, around its ink."""

    def run(turn: int) -> object:
        random = np.random.default_rng(turn)
        images, labels = np.zeros((BATCH, 60, 60), np.uint8), np.empty(BATCH, np.uint8)
        for i, k in enumerate(indices(turn) % len(digits)):
            image, labels[i] = images[i], digits.labels[k]
            y, x = random.integers(0, 60 - 28 + 1, 2)
            image[y : y + 28, x : x + 28] = digits.images[k]
            for _ in range(random.integers(4, 9)):
                other = (k + random.integers(1, len(digits))) % len(digits)
                inked = np.flatnonzero(digits.images[other])
                top, left = np.clip(np.divmod(inked[random.integers(len(inked))], 28), 4, 24) - 4
                y, x = random.integers(0, 60 - 8 + 1, 2)
                below = image[y : y + 8, x : x + 8]
                total = np.add(below, digits.images[other, top : top + 8, left : left + 8], dtype=np.int32)
                image[y : y + 8, x : x + 8] = np.minimum(total, 255)
        return images, labels

    return run


def draw_maps(turn: int) -> Coefficients:
    """``[BATCH, 6]``: affnist's maps, but for the places, which here are within 4 pixels of the middle."""
    low, high = np.array([(-20, 20), (-0.2, 0.2), (0.8, 1.2), (0.8, 1.2), (-4, 4), (-4, 4)]).T
    return inverse_coefficients(np.random.default_rng(turn).uniform(low, high, (BATCH, 6)))


def prepared_maps() -> Callable[[int], Coefficients]:
    return [draw_maps(turn) for turn in range(PREPARED)].__getitem__


def capsbench_warp(digits: Digits) -> Contestant:
    table, maps = WarpTable(digits.images), prepared_maps()
    return lambda turn: table.warp(indices(turn) % len(digits), maps(turn))


def torchvision(digits: Digits) -> Contestant:
    """It keeps the size, so that it is handed digits in the middle of their canvas; its parameters are its own."""
    wide = [Image.fromarray(np.pad(image, EDGE)) for image in digits.images]
    slant = float(np.degrees(np.arctan(0.2)))  # it has shear in degrees
    transform = RandomAffine(20, (0.1, 0.1), (0.8, 1.2), slant, InterpolationMode.BILINEAR)

    def run(turn: int) -> object:
        source = indices(turn) % len(digits)
        return collect((transform(wide[k]) for k in source), digits, source)

    return run


def scipy(maps: Callable[[int], Coefficients], digits: Digits) -> Contestant:
    def warp(image: UInt8Array, back: Any) -> object:
        matrix, offset = back[::-1, 1::-1], back[::-1, 2]  # its axes are (y, x)
        return ndimage.affine_transform(image, matrix, offset, (40, 40), order=1, mode="grid-constant")

    return warp_loop(warp, maps, digits)


def opencv(maps: Callable[[int], Coefficients], digits: Digits) -> Contestant:
    cv2 = pytest.importorskip("cv2")
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return warp_loop(lambda image, back: cv2.warpAffine(image, back, (40, 40), flags=flags), maps, digits)


def warp_loop(
    warp: Callable[[UInt8Array, Any], object], maps: Callable[[int], Coefficients], digits: Digits
) -> Contestant:
    def run(turn: int) -> object:
        source = indices(turn) % len(digits)
        back = maps(turn).reshape(BATCH, 2, 3) / 65536
        return collect((warp(digits.images[k], one) for k, one in zip(source, back, strict=True)), digits, source)

    return run


def collect(made: Iterable[Any], digits: Digits, source: IndexArray) -> object:
    images = np.empty((BATCH, 40, 40), np.uint8)
    for i, image in enumerate(made):
        images[i] = image
    return images, digits.labels[source]


CONTESTS: Mapping[str, Mapping[str, Maker]] = {
    "multimnist": {"capsbench": capsbench(MultiMNIST()), "the authors' loop": authors_loop},
    "padded": {"capsbench": capsbench(Padded()), "a loop of slices": slicing_loop},
    "cluttered": {"capsbench": capsbench(Cluttered()), "a loop of scraps": scraps_loop},
    "affnist warp": {
        "capsbench": capsbench_warp,
        "torchvision's RandomAffine, PIL": torchvision,
        "scipy's affine_transform": lambda digits: scipy(prepared_maps(), digits),
        "cv2.warpAffine": lambda digits: opencv(prepared_maps(), digits),
    },
    "affnist stream": {
        "capsbench": capsbench(AffNIST()),
        "torchvision's RandomAffine, PIL": torchvision,
        "scipy's affine_transform": lambda digits: scipy(draw_maps, digits),
        "cv2.warpAffine": lambda digits: opencv(draw_maps, digits),
    },
}
"""Task to contestants, of whom the first is ours."""

GATES: Mapping[str, Mapping[str, float]] = {
    "multimnist": {"the authors' loop": 50},
    "cluttered": {"a loop of scraps": 50},
    "affnist warp": {"torchvision's RandomAffine, PIL": 6, "cv2.warpAffine": 0.9},
    "affnist stream": {"torchvision's RandomAffine, PIL": 5},
}
"""Task to how many times as fast as another contestant ours must be."""


@pytest.mark.parametrize("group", CONTESTS)
def test_ratio(
    benchmark: Any,
    alternate: Callable[..., dict[str, float]],
    digits: Digits,
    group: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not benchmark.enabled:
        monkeypatch.setitem(globals(), "BATCH", PAIRS)
    contestants = {}
    for name, make in CONTESTS[group].items():
        with suppress(pytest.skip.Exception):  # what is not installed does not take part
            contestants[name] = make(digits)
    benchmark.group = group
    benchmark.extra_info.update(batch=BATCH, device="cpu", dtype="uint8")
    minima = alternate(contestants, gates=GATES.get(group))
    benchmark.extra_info["images_per_s"] = {name: round(BATCH / seconds) for name, seconds in minima.items()}
