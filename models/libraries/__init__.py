"""The networks of torchvision and timm, fitted to small images of one channel; never with pretrained weights."""

import json
from pathlib import Path
from typing import Any

LIBRARIES = {
    "torchvision": "capsbench.models.libraries.torchvision_networks:TorchvisionNetwork",
    "timm": "capsbench.models.libraries.timm_networks:TimmNetwork",
}
"""The prefix of a network's name, ``torchvision:resnet18``, and the class of what builds it."""

SIZES: dict[str, int | tuple[int, int]] = {"28x28": 28, "36x36": 36, "40x40": 40, "28x84": (28, 84)}
"""The images of the suites."""


def measured(library: str) -> dict[str, Any]:
    """Which networks of a library work at which of `SIZES`: what tools/torchvision_fits.py measured.

    Returns:
        ``version``, of the library, and ``networks``: for each its ``parameters``, and for each size by how much images
        are enlarged; None where it does not work.

    Raises:
        FileNotFoundError: Those of this library were not measured.
    """
    content: dict[str, Any] = json.loads((Path(__file__).parent / f"{library}.json").read_text())
    return content
