"""A figure of results: an image and, beside it, what it shows as CSV."""

import csv
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from capsbench.errors import escaped
from capsbench.system.disk import make_folder, write_atomically

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
"""Okabe and Ito's (2008): told apart by every kind of colour vision."""


@dataclass(frozen=True, kw_only=True)
class Figure(ABC):
    """What a suite shows beside its table.

    Attributes:
        name: What its files are called.
        title: A line above it.
        note: What stands below it.
        digits: The name of the source digits; it is a column of the CSV. Empty where they are MNIST's.
        networks: The labels of all networks whose results may be shown, in the order that gives them their colours, so
            that a network has one colour in all charts of a suite. Empty: series take colours one after another.
    """

    name: str
    title: str
    note: str = ""
    digits: str = ""
    networks: Sequence[str] = ()

    @property
    def stem(self) -> str:
        """What its files are called, without their endings."""
        return re.sub(r"[^\w.-]", "-", self.name)  # it may be made of what a result from elsewhere says

    def save(self, folder: Path) -> list[Path]:
        """Writes ``NAME.png`` and ``NAME.csv``, each whole or not at all.

        Args:
            folder: Where they go; what a file's name cannot bear becomes a dash.

        Raises:
            StorageError: They cannot be written.
        """
        make_folder(folder)
        paths = [folder / f"{self.stem}.png", folder / f"{self.stem}.csv"]
        write_atomically(paths[0], self.png())
        write_atomically(paths[1], self.csv())
        return paths

    def png(self) -> bytes:
        """The image."""
        import matplotlib  # takes half a second

        with matplotlib.rc_context({"text.parse_math": False}):  # a dollar sign in a model's name begins no formula
            drawable: Figure = _drawable(self)
            return drawable._drawn()

    def csv(self) -> bytes:
        """What the image shows, in lines of UTF-8 below a line of titles."""
        buffer = io.StringIO()
        lines = self._lines()
        if self.digits:
            lines = ([*line, self.digits if number else "digits"] for number, line in enumerate(lines))
        csv.writer(buffer, lineterminator="\n").writerows(lines)
        return buffer.getvalue().encode(errors="backslashreplace")

    @abstractmethod
    def _drawn(self) -> bytes:
        """The image, as PNG."""

    @abstractmethod
    def _lines(self) -> Iterable[Sequence[Any]]:
        """The titles of the columns, then a line for each thing that is shown."""


def _drawable(content: Any) -> Any:
    """The same with texts that can be drawn: a name in a file from elsewhere may hold what no font has."""
    made = content
    if isinstance(content, str):
        made = escaped(content).encode(errors="backslashreplace").decode()
    elif isinstance(content, Mapping):
        made = {}
        for key, value in content.items():
            name = _drawable(key)
            while name in made:  # of another name, which looks the same
                name += "'"
            made[name] = _drawable(value)
    elif type(content) in (list, tuple):
        made = type(content)(_drawable(one) for one in content)
    elif is_dataclass(content) and not isinstance(content, type):
        stated = ((one.name, getattr(content, one.name)) for one in fields(content) if one.init)
        made = replace(content, **{name: _drawable(value) for name, value in stated})
    return made
