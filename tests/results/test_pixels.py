"""Pixels in a result: what is kept comes back, and damaged or hostile content is refused."""

import base64
import json
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsbench.errors import DataFileError
from capsbench.results.pixels import LARGEST_ARRAY, packed, unpacked


@given(st.lists(st.integers(0, 5), max_size=4), st.integers(0, 99))
def test_pixels_come_back_from_json_as_they_were(shape: list[int], seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    back = unpacked(json.loads(json.dumps(packed(array))))
    assert back.dtype == np.uint8 and back.shape == array.shape and np.array_equal(back, array)
    turned = array.T  # not in C order
    assert np.array_equal(unpacked(packed(turned)), turned)


def test_only_bytes_are_packed() -> None:
    with pytest.raises(ValueError, match="float64"):
        packed(np.zeros(3))  # type: ignore[arg-type]


def deflated(size: int) -> str:
    return base64.b64encode(zlib.compress(bytes(size))).decode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a shape with compressed bytes is missing"),
        ([], "a shape with compressed bytes is missing"),
        ({"shape": [2, 2]}, "a shape with compressed bytes is missing"),
        ({"zlib": deflated(4)}, "a shape with compressed bytes is missing"),
        ({"shape": "22", "zlib": deflated(4)}, "a shape with compressed bytes is missing"),
        ({"shape": [2, "2"], "zlib": deflated(4)}, "a shape with compressed bytes is missing"),
        ({"shape": [2, 2.0], "zlib": deflated(4)}, "a shape with compressed bytes is missing"),
        ({"shape": [True, 4], "zlib": deflated(4)}, "a shape with compressed bytes is missing"),
        ({"shape": [-2, -2], "zlib": deflated(4)}, "a shape with compressed bytes is missing"),
        ({"shape": [2**70, 0], "zlib": deflated(0)}, "a shape with compressed bytes is missing"),
        ({"shape": [2, 2], "zlib": 4}, "a shape with compressed bytes is missing"),
        ({"shape": [LARGEST_ARRAY, 2], "zlib": deflated(4)}, "are more than 16,777,216"),
        ({"shape": [2, 2], "zlib": "not base64!"}, "damaged"),
        ({"shape": [2, 2], "zlib": "ü"}, "damaged"),
        ({"shape": [2, 2], "zlib": "!".join(deflated(4))}, "damaged"),
        ({"shape": [2, 2], "zlib": "AAAA"}, "damaged: Error -3"),
        ({"shape": [2, 2], "zlib": deflated(3)}, r"not those of \[2, 2\]"),
        ({"shape": [2, 2], "zlib": deflated(5)}, r"not those of \[2, 2\]"),
        ({"shape": [2, 2], "zlib": base64.b64encode(zlib.compress(bytes(4))[:-1]).decode()}, "not those of"),
        ({"shape": [2, 2], "zlib": base64.b64encode(zlib.compress(bytes(4)) + b"more").decode()}, "not those of"),
    ],
)
def test_damaged_pixels_are_refused(content: Any, message: str) -> None:
    with pytest.raises(DataFileError, match=message):
        unpacked(content)


def test_pixels_that_unfold_without_end_are_never_unfolded() -> None:
    bomb = {"shape": [2, 2], "zlib": deflated(100_000_000)}
    tracemalloc.start()
    with pytest.raises(DataFileError, match="not those of"):
        unpacked(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
