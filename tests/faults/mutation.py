"""Damages good files in many ways and has each read in a forked child: it is refused, or nothing of it has changed.

A kind of file is a class in a file beside this one; see `Kind`.
"""

import importlib
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from capsbench.errors import CapsbenchError

from .forked import forked

SECONDS = 8.0  # in which a file has been read or refused
GROWTH = 200_000_000  # bytes that this may take
EXTREMES = (0, 1, 127, 128, 255)

Draw = random.Random

Damage = Callable[[bytes, Draw], bytes]
"""Something done to a file; it returns what is left."""


class Kind(Protocol):
    """A kind of file.

    Attributes:
        goods: Whole files; one of them is mutated.
        contents: What `read` makes of each of them.
        header: Bytes from the start on in which most of what can be misunderstood lies.
        damages: What can be done to this kind alone; returns the damaged file.
        refusal: The class of all its errors.
    """

    goods: Sequence[bytes]
    contents: set[str]
    header: int
    damages: Sequence[Damage]
    refusal: type[CapsbenchError]

    def read(self, content: bytes, draw: Draw) -> str:
        """What a reader sees in a file, all of it, as a digest; an error of `refusal` if it is refused."""


def bits(content: bytes, draw: Draw, reach: int | None = None) -> bytes:
    """A few bits flipped."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        data[draw.randrange(reach or len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def extremes(content: bytes, draw: Draw, reach: int | None = None) -> bytes:
    """Some bytes, or fields of up to eight, set to the ends of what they can hold."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 2, 8))):
        start, width = draw.randrange(reach or len(data)), draw.choice((1, 1, 2, 4, 8))
        data[start : start + width] = bytes([draw.choice(EXTREMES)]) * min(width, len(data) - start)
    return bytes(data)


def cut(content: bytes, draw: Draw) -> bytes:
    """The end is missing."""
    return content[: draw.randrange(len(content))]


def grown(content: bytes, draw: Draw) -> bytes:
    """There is more after the end."""
    more = draw.randrange(1, 9000)
    return content + draw.choice((bytes(more), content[:more], draw.randbytes(more)))


def hole(content: bytes, draw: Draw) -> bytes:
    """Some bytes are missing in the middle, or there twice."""
    start, length = draw.randrange(len(content)), draw.randrange(1, 600)
    return content[:start] + draw.choice((b"", content[start : start + length] * 2)) + content[start + length :]


def zeros(content: bytes, draw: Draw) -> bytes:
    """A part was never written."""
    start, length = draw.randrange(len(content)), draw.choice((512, 4096, 100_000))
    length = min(length, len(content) - start)
    return content[:start] + bytes(length) + content[start + length :]


def swapped(content: bytes, draw: Draw) -> bytes:
    """Two parts of one length stand in each other's place."""
    length = draw.randint(1, max(1, len(content) // 4))
    first, second = sorted(draw.sample(range(len(content) - length), 2))
    length = min(length, second - first)
    one, other = content[first : first + length], content[second : second + length]
    return content[:first] + other + content[first + length : second] + one + content[second + length :]


def spliced(content: bytes, other: bytes, draw: Draw) -> bytes:
    """A part of another file stands in the same place, or all from some place on."""
    start = draw.randrange(len(content))
    length = draw.choice((64, 1024, 30_000, len(content)))
    part = other[start : start + length]
    return content[:start] + part + content[start + len(part) :]


GENERAL: tuple[Damage, ...] = (bits, extremes, cut, grown, hole, zeros, swapped)


def damaged(kind: Kind, draw: Draw) -> tuple[str, bytes]:
    """A file that something was done to, and what."""
    content = draw.choice(kind.goods)
    ways: list[Damage | str] = [*GENERAL, *kind.damages, "header", "header", "spliced", "twice"]
    way = draw.choice(ways)
    if way == "header":
        how = draw.choice((bits, extremes))
        return f"{how.__name__} of the header", how(content, draw, min(kind.header, len(content)))
    if way == "spliced":
        return way, spliced(content, draw.choice(kind.goods), draw)
    if way == "twice":
        first, second = draw.sample(GENERAL, 2)
        return f"{first.__name__} and {second.__name__}", second(first(content, draw) or b"\0", draw)
    assert not isinstance(way, str)
    return way.__name__.strip("_"), way(content, draw)


def read(kind: Kind, content: bytes, draw: Draw) -> str:
    """How a file is read: "same", "refused", or what is wrong."""
    try:
        found = kind.read(content, draw)
    except kind.refusal as error:
        lines = str(error).splitlines()
        return "refused" if 1 <= len(lines) <= 2 else f"an error of {len(lines)} lines: {error}"
    return "same" if found in kind.contents else "read, and silently wrong"


def kind_of(name: str) -> Kind:
    """The kind that goes by ``module:Class``, in this folder."""
    module, _, attribute = name.partition(":")
    kind: Kind = getattr(importlib.import_module(f".{module}", __package__), attribute)()
    return kind


def main(seed: str, name: str, number: str, start: str = "0") -> None:
    """Reads so many damaged files of a kind, and prints how they were taken."""
    for call in ("fsync", "fdatasync"):  # nothing here outlives the system
        setattr(os, call, lambda handle: None)
    kind = kind_of(name)
    for content in kind.goods:  # a child's limits leave room enough for what is whole
        end = forked(partial(read, kind, content, Draw(0)), seconds=SECONDS, growth=GROWTH)
        assert (end.code, end.said) == (0, "same"), end
    counts: Counter[str] = Counter()
    slowest, largest = 0.0, 0
    for case in range(int(start), int(start) + int(number)):
        draw = Draw(f"{seed} {case}")
        what, content = damaged(kind, draw)
        end = forked(partial(read, kind, content, draw), seconds=SECONDS, growth=GROWTH)
        case_name = f"seed {seed}, case {case} of {name}, {what}"
        assert end.code == 0, f"{case_name}: ended with {end.code}\n{end.said}"
        assert end.said in ("same", "refused"), f"{case_name}: {end.said}"
        counts[end.said] += 1
        slowest, largest = max(slowest, end.seconds), max(largest, end.growth)
    told: dict[str, Any] = {"mutated files": int(number), **counts}
    told |= {"silently wrong": 0, "crashes": 0, "ms the slowest": round(1000 * slowest)}
    print(json.dumps(told | {"MB the largest": round(largest / 1e6)}))  # noqa: T201
