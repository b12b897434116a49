"""The spec of a data set: everything that determines its samples, and its canonical text."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

SPLITS = ("train", "validation", "trainval", "test")
"""``train`` and ``validation`` cut the training digits in two, ``trainval`` is both, ``test`` the test digits."""

WRITERS = "writers"
"""What `capsbench.data.digits.sums_of` calls the part of digits that no weight depends on: who wrote them."""

IMPORTED = "imported-affnist"
"""The generator of a file that was made from a file of the real affNIST."""

UNKNOWN = "unknown"
"""The digits of an imported file whose labels do not say which they are."""

SOURCES = {
    "embedded": "embedded digits of MNIST (3,200 train, 800 select, 1,000 test)",
    "mnist": "full MNIST",
    "fashion": "Fashion-MNIST (not MNIST)",
    "kmnist": "KMNIST (not MNIST)",
    "qmnist": "QMNIST (not MNIST)",
    "none": "",
}
"""The names of source digits, and what tables and pages call them; all other names are a user's."""

OTHER_IMAGES = {
    "cifar10": "CIFAR-10 (40,000 train, 10,000 select, 10,000 test)",
    "cifar10-like": "images in CIFAR-10's layout that are not CIFAR-10's",
    "made": "a made set in CIFAR-10's shapes, no photographs (400 train, 100 select, 100 test)",
}
"""The names of images that are no digits, and what tables and pages call them."""

MNIST = ("embedded", "mnist")
"""The sources that are MNIST's."""

NAME = re.compile(r"\w[\w .+-]{0,39}(?<! )")
"""How a user may name digits: one line that is neither a path nor a list."""

IMPORT = "capsbench import affnist FILE.mat --out FILE.h5"

CONTROL = re.compile(r"(?<!\\)(\\\\)*\\([bfnrt]|u00[0189]|u007f)")
"""A control character as JSON writes it: printed, it could control a terminal."""


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Everything that determines a data set, and nothing else.

    Attributes:
        generator: Registered name, such as ``"affnist"``.
        version: The generator's version; it changes whenever the bytes of its samples do.
        split: One of `SPLITS`.
        seed: 0 <= seed < 2**64.
        count: Number of samples.
        parameters: Every parameter of the generator, of plain JSON types, numbers normalised to their field's type.
        layers: Whether the file keeps the layers.
        digits: `Digits.sha256` of the source digits.
        digits_name: What the digits are called where they are not MNIST's. Those of MNIST have none, and their specs
            have no such key.
    """

    generator: str
    version: int
    split: str
    seed: int
    count: int
    parameters: Mapping[str, Any]
    layers: bool
    digits: str
    digits_name: str = ""

    def to_json(self) -> str:
        """The canonical text: keys sorted, no blanks, so that equal specs are equal bytes."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON types."""
        content = {**self.__dict__, "parameters": dict(self.parameters)}
        if not self.digits_name:
            del content["digits_name"]
        return content

    @classmethod
    def from_json(cls, text: str) -> "DataSpec":
        """The spec of a text from an untrusted source.

        Raises:
            ValueError: The text is not a spec: not JSON, a key too few or too many, or a value of a wrong type.
        """
        try:
            content = json.loads(text)
        except RecursionError:
            raise ValueError("too deeply nested") from None
        kinds = {field.name: dict if field.name == "parameters" else field.type for field in fields(cls)}
        name = kinds.pop("digits_name")
        if not isinstance(content, dict) or set(content) - {"digits_name"} != set(kinds):
            raise ValueError(f"its keys are not {', '.join(kinds)}")
        kinds |= {"digits_name": name} if "digits_name" in content else {}
        for key, kind in kinds.items():
            if type(content[key]) is not kind:
                raise ValueError(f"{key} is not of type {getattr(kind, '__name__', kind)}")
        spec = cls(**content)
        if spec.split not in SPLITS or spec.count < 1 or not 0 <= spec.seed < 2**64:
            raise ValueError("its split, count or seed is out of range")
        if "digits_name" in content and (not NAME.fullmatch(spec.digits_name) or spec.digits_name in (*MNIST, "none")):
            raise ValueError("its digits have an impossible name")
        if CONTROL.search(spec.to_json()):
            raise ValueError("it holds control characters")
        return spec

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def imported(self) -> bool:
        """Whether the samples come from a file of the real affNIST, so that no generator here can draw them."""
        return self.generator == IMPORTED

    def some(self, rows: str, count: int) -> "DataSpec":
        """The spec of some of the samples: ``rows`` is the SHA-256 of their indices, ``count`` how many they are."""
        chosen = {"of": self.count, "rows": rows}
        return replace(self, count=count, parameters={**self.parameters, **chosen}, layers=False)

    @property
    def chosen(self) -> bool:
        """Whether it is of some samples of a data set, so that no generator draws them by themselves."""
        return {"of", "rows"} <= self.parameters.keys()

    @property
    def digits_known(self) -> bool:
        """Whether the spec says which digits the samples show; an imported file may not."""
        return self.digits != UNKNOWN


def told_digits(name: str) -> str:
    """What tables and pages call source digits, by their name; nothing for those of no digits."""
    return (SOURCES | OTHER_IMAGES).get(name, f"{name!r} (a user's digits, not MNIST)")
