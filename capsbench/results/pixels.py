"""Images kept in a result: small arrays of pixels as plain JSON."""

import base64
import binascii
import zlib
from math import prod
from typing import Any

import numpy as np

from capsbench.contracts import UInt8Array
from capsbench.errors import DataFileError

LARGEST_ARRAY = 2**24  # bytes that a result's pixels may unfold to


def packed(pixels: UInt8Array) -> dict[str, Any]:
    """An array as plain JSON: its shape, and its bytes in C order, deflated, in base64.

    Args:
        pixels: uint8, of any shape.

    Raises:
        ValueError: It is of another type.
    """
    if pixels.dtype != np.uint8:
        raise ValueError(f"pixels are uint8, got {pixels.dtype}")
    return {"shape": list(pixels.shape), "zlib": base64.b64encode(zlib.compress(pixels.tobytes(), 9)).decode("ascii")}


def unpacked(content: Any) -> UInt8Array:
    """What `packed` put into a result, which may come from anywhere.

    Raises:
        DataFileError: It is damaged, or would unfold to more than 16 MB or to anything but its shape.
    """
    found: dict[Any, Any] = content if isinstance(content, dict) else {}
    shape: Any = found.get("shape")
    text: Any = found.get("zlib")
    sizes = isinstance(shape, list) and all(type(side) is int and 0 <= side <= LARGEST_ARRAY for side in shape)
    if not sizes or not isinstance(text, str):
        raise DataFileError("Pixels of a result are damaged: a shape with compressed bytes is missing.")
    size = prod(shape)
    if size > LARGEST_ARRAY:
        raise DataFileError(f"Pixels of a result are damaged: {shape} are more than {LARGEST_ARRAY:,}.")
    inflater = zlib.decompressobj()
    try:
        pixels = inflater.decompress(base64.b64decode(text, validate=True), size + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise DataFileError(f"Pixels of a result are damaged: {error}.") from None
    if len(pixels) != size or not inflater.eof or inflater.unused_data:
        raise DataFileError(f"Pixels of a result are damaged: their bytes are not those of {shape}.")
    return np.frombuffer(pixels, np.uint8).reshape(shape)
