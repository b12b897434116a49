"""Writes the root digests of the named data sets: ``python tools/digests.py DIR|embedded [OUT]``.

Of each split, with seed 0 and one sample a digit, into capsbench/files/digests.json, below the name of the digits; what
stands there of other digits is kept. ``capsbench verify`` knows files by it; a table of the documents is made of it.
"""

import argparse
import json
from pathlib import Path

import capsbench
from capsbench.files.published import FILE
from capsbench.spec import SPLITS

NAMED = {
    "padded": ("padded", None),
    "padded centered": ("padded", "centered"),
    "affnist": ("affnist", None),
    "cluttered": ("cluttered", None),
    "cluttered clean": ("cluttered", "clean"),
    "crowded": ("crowded", None),
    "crowded alone": ("crowded", "alone"),
    "multimnist": ("multimnist", None),
    "multimnist release": ("multimnist", "release"),
}
"""What is published: the data set and its preset. `paper` differs in the number of samples only."""


def root_digests(digits: str) -> dict[str, str]:
    """``{"padded centered/test": hexadecimal}`` for each data set and split of some digits."""
    return {
        f"{title}/{split}": capsbench.stream(name, split=split, preset=preset, digits=digits).digest
        for title, (name, preset) in NAMED.items()
        for split in SPLITS
    }


def main() -> None:
    """Writes the digests of the digits that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("digits", metavar="DIR|embedded", help="the four IDX files of full MNIST, or: embedded")
    parser.add_argument("out", metavar="OUT", type=Path, nargs="?", default=FILE)
    arguments = parser.parse_args()
    published = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    published["embedded" if arguments.digits == "embedded" else "mnist"] = root_digests(arguments.digits)
    arguments.out.write_text(json.dumps(published, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
