"""Small files of the tests: recipes for them, runs that stop, samplers that note what they draw, and damage."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from capsbench.contracts import ArrayBatch, FloatArray, IndexArray, Sampler, UInt8Array
from capsbench.data.recipes import Recipe, make_recipe

SMALL = {"size": 28, "shift": 2}
MANY = 10_000  # three blocks


def recipe(name: str = "padded", **options: Any) -> Recipe:
    defaults: dict[str, Any] = {"split": "test", "digits": "embedded", "count": 100}
    if name == "padded":
        defaults["parameters"] = SMALL
    return make_recipe(name, **(defaults | options))


def names(folder: Path = Path()) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Counting:
    """A sampler that notes what it is asked for."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.drawn: list[int] = []

    def batch(self, indices: IndexArray) -> ArrayBatch:
        self.drawn += indices.tolist()
        return self.sampler.batch(indices)

    def layers(self, indices: IndexArray) -> UInt8Array:
        return self.sampler.layers(indices)

    def measures(self, batch: ArrayBatch) -> Mapping[str, FloatArray]:
        return self.sampler.measures(batch)


def counting(one: Recipe) -> Counting:
    """Makes a recipe's sampler note what it draws."""
    counter = Counting(one.sampler)
    one.__dict__["sampler"] = counter  # where cached_property keeps it
    return counter


def stop_after(samples: int) -> Callable[[int, int], None]:
    """A report that interrupts the run once so many samples are done."""

    def report(done: int, total: int) -> None:
        if done >= samples:
            raise KeyboardInterrupt

    return report


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def flip(path: Path, offset: int) -> None:
    byte = path.read_bytes()[offset]
    overwrite(path, offset, bytes([byte ^ 0x10]))
