"""The spec of a data set: everything that determines its samples, and its canonical text."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

SPLITS = ("train", "validation", "trainval", "test")
"""``train`` and ``validation`` cut the training digits in two, ``trainval`` is both, ``test`` the test digits."""

IMPORTED = "imported-affnist"
"""The generator of a file that was made from a file of the real affNIST."""

UNKNOWN = "unknown"
"""The digits of an imported file whose labels do not say which they are."""

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
    """

    generator: str
    version: int
    split: str
    seed: int
    count: int
    parameters: Mapping[str, Any]
    layers: bool
    digits: str

    def to_json(self) -> str:
        """The canonical text: keys sorted, no blanks, so that equal specs are equal bytes."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON types."""
        return {**self.__dict__, "parameters": dict(self.parameters)}

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
        if not isinstance(content, dict) or set(content) != set(kinds):
            raise ValueError(f"its keys are not {', '.join(kinds)}")
        for key, kind in kinds.items():
            if type(content[key]) is not kind:
                raise ValueError(f"{key} is not of type {getattr(kind, '__name__', kind)}")
        spec = cls(**content)
        if spec.split not in SPLITS or spec.count < 1 or not 0 <= spec.seed < 2**64:
            raise ValueError("its split, count or seed is out of range")
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
