"""The committed results, read without capsbench: their JSON, and the bits in it.

Tests import scikit-learn and statsmodels where they use them: each process that collects tests would take two seconds.
"""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).resolve().parents[2] / "results"


def results(folder: str) -> dict[tuple[str, int], dict[str, Any]]:
    """The results of a folder by the network's label and seed."""
    found = {}
    for path in sorted((RESULTS / folder).glob("*.json")):
        content = json.loads(path.read_text())
        found[content["label"], content["seed"]] = content
    assert found, folder
    return found


def bits(point: dict[str, Any]) -> np.ndarray:
    """``[total]`` bool: who was right."""
    packed = np.frombuffer(base64.b64decode(point["answers"]), np.uint8)
    return np.unpackbits(packed, count=point["total"]).astype(bool)


def unfolded(content: dict[str, Any]) -> np.ndarray:
    """An array of bytes."""
    return np.frombuffer(zlib.decompress(base64.b64decode(content["zlib"])), np.uint8).reshape(content["shape"])


def reached(result: dict[str, Any]) -> np.ndarray:
    """``[N]`` bool: the affine images within the training's reach."""
    kept = result["metrics"]["within reach"]
    return np.unpackbits(unfolded(kept["images"]), count=kept["total"]).astype(bool)
