"""Small images as PNG, the same bytes on every machine: not compressed, since compressors differ."""

import struct
import zlib

import numpy as np

from capsbench.contracts import UInt8Array


def png(image: UInt8Array) -> bytes:
    """An image ``[h, w]`` grey or ``[h, w, 3]`` RGB as a PNG file."""
    height, width = image.shape[:2]
    rows = np.zeros((height, 1 + image[0].size), np.uint8)  # each begins with the number of its filter: none
    rows[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if image.ndim == 3 else 0, 0, 0, 0)
    parts = {b"IHDR": header, b"IDAT": zlib.compress(rows.tobytes(), 0), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in parts.items())


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
