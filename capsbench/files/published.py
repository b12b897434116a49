"""The published root digests, and the data sets that have them."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("digests.json")
"""Written by tools/digests.py: digits to ``{"multimnist/test": root digest}``, with seed 0 and one sample a digit."""

DIGITS = {"mnist": "full MNIST", "embedded": "the embedded digits"}


@cache
def digests() -> Mapping[str, Mapping[str, str]]:
    """The table, by digits and by data set and split."""
    table: dict[str, dict[str, str]] = json.loads(FILE.read_text())
    return table


def recognise(digest: str) -> str | None:
    """``"multimnist/test of full MNIST, seed 0"`` for a published root digest, None for any other."""
    for digits, table in digests().items():
        for name, stated in table.items():
            if stated == digest:
                return f"{name} of {DIGITS[digits]}, seed 0"
    return None
