"""What a run of the suite throughput has timed, beside its result: a run that was stopped goes on after it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from capsbench.errors import CapsbenchError
from capsbench.parameters import construct
from capsbench.system.disk import make_folder, storage_errors, write_atomically
from capsbench.system.timing import Rates
from capsbench.training.rows import Row


class Condition(NamedTuple):
    """Under what alternatives take turns: the side of the images in pixels, images at a time, the precision."""

    size: int
    batch: int
    precision: str


class KeptRows:
    """The rows of a cell in a file of JSON lines, a line for each condition.

    Alternatives take turns under one condition, and all its rows are written at once; so what was timed in two runs is
    never compared. The first line says what was timed and where. Where that differs, in the code, the device or a
    version, the file is begun again.

    Args:
        path: The file; its folder is made.
        facts: What times depend on, of plain JSON types.
        measure_rates: The rates of the machine, by precision; those of the first run hold for all of a file.
        since: Seconds since 1970; a file that was last written before does not count.

    Attributes:
        rates: The machine's rates.

    Raises:
        StorageError: The file cannot be read or written.
    """

    def __init__(
        self, path: Path, facts: Mapping[str, Any], measure_rates: Callable[[], dict[str, Rates]], *, since: float = 0.0
    ) -> None:
        self._path = path
        make_folder(path.parent)
        with storage_errors(path):
            counts = path.is_file() and path.stat().st_mtime >= since
            lines = path.read_bytes().splitlines(keepends=True) if counts else []
        found = _read(lines, dict(facts))
        self.rates, self._rows = found or (measure_rates(), {})
        first = {"facts": dict(facts), "rates": {name: asdict(one) for name, one in self.rates.items()}}
        whole = [first, *(_line(condition, rows) for condition, rows in self._rows.items())]
        write_atomically(path, b"".join(map(_encoded, whole)))  # without what a kill has cut

    def of(self, condition: Condition) -> list[Row] | None:
        """What was timed under a condition; None if nothing was."""
        return self._rows.get(condition)

    def add(self, condition: Condition, rows: Sequence[Row]) -> None:
        """Keeps what was timed under a condition.

        Raises:
            StorageError: It cannot be written.
        """
        self._rows[condition] = list(rows)
        with storage_errors(self._path), self._path.open("ab") as file:
            file.write(_encoded(_line(condition, rows)))


def _line(condition: Condition, rows: Sequence[Row]) -> dict[str, Any]:
    return {"condition": list(condition), "rows": [asdict(row) for row in rows]}


def _encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _read(
    lines: Sequence[bytes], facts: Mapping[str, Any]
) -> tuple[dict[str, Rates], dict[Condition, list[Row]]] | None:
    """What a file holds, if it is of the same facts; None if it is not, or was not written by `KeptRows`."""
    whole = [line for line in lines if line.endswith(b"\n")]
    try:
        first, *others = map(json.loads, whole)
        if first["facts"] != facts:
            return None
        rates = {name: construct(Rates, one, owner="the rates") for name, one in first["rates"].items()}
        rows = {
            Condition(*one["condition"]): [construct(Row, row, owner="a row") for row in one["rows"]] for one in others
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, CapsbenchError):
        return None
    return rates, rows
