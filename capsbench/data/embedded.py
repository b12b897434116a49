"""The 5,000 digits that ship in the package: of each class 400 training and 100 test digits, in MNIST's order."""

import hashlib
import io
from pathlib import Path

import numpy as np

from capsbench.contracts import UInt8Array
from capsbench.errors import DigitsError

FILE = Path(__file__).with_name("digits.npz")
SHA256 = "5fe48b9da68d149e0d5c76d55bea0083419ffcf37160c4d53e8fd94fda707a79"
"""Of the file that tools/cut_digits.py writes."""


def read_embedded() -> dict[str, UInt8Array]:
    """Its arrays by name, such as ``train_images`` ``[4000, 28, 28]`` and ``test_labels`` ``[1000]``.

    Raises:
        DigitsError: The file is missing or damaged.
    """
    try:
        content = FILE.read_bytes()
    except OSError as error:
        raise DigitsError(f"{FILE} cannot be read: {error.strerror}. Reinstall capsbench.") from None
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise DigitsError(f"{FILE} is damaged: its SHA-256 should be {SHA256}, found {found}.\nReinstall capsbench.")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return dict(stored)
