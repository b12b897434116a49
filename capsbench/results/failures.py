"""Why a cell has no result: a text file beside where its result would be, whose last line is the reason."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from capsbench.errors import StorageError, plain
from capsbench.paths import user_path
from capsbench.results.result import Result, now
from capsbench.system.disk import is_regular, kind_of, write_atomically

ENDING = ".error.txt"
LONGEST_LINE = 400  # characters of a reason
READ = 2**14  # bytes of either end of a file


class Measured(Protocol):
    """What a cell and its result say of what is measured; the code of a network and of a suite may change."""

    @property
    def suite(self) -> str:
        """Its suite's name."""

    @property
    def preset(self) -> str:
        """Its preset's name, with the settings that were changed."""

    @property
    def digits(self) -> str:
        """The source digits."""

    @property
    def label(self) -> str:
        """The network's name in tables."""

    @property
    def seed(self) -> int:
        """The seed."""


def failure_file(path: Path) -> Path:
    """The file of the reason, from that of the result."""
    return path.with_suffix(ENDING)


def keep_failure(cell: Measured, path: Path, why: str, details: str = "") -> Path | None:
    """Writes why a cell failed: first what failed and when, at the end the reason in one line.

    Args:
        cell: What failed.
        path: Of its result.
        why: The reason.
        details: Such as a traceback, or what its process said.

    Returns:
        The file; None where it cannot be written: a full disk may have stopped the cell, and must not hide the reason.
    """
    log = failure_file(path)
    details = details if not details or details.endswith("\n") else f"{details}\n"
    text = f"{_named(cell)}\n{now()}\n{details}{' '.join(why.split())}\n"
    try:
        write_atomically(log, text.encode(errors="replace"))
    except StorageError:
        return None
    return log


def forget_failure(path: Path) -> None:
    """Removes the reason of an earlier try."""
    with suppress(OSError):
        failure_file(path).unlink(missing_ok=True)


def failed_cells(places: Iterable[str | Path], results: Iterable[Result] = ()) -> list[tuple[str, str]]:
    """The cells below folders that failed and have no result since: the stem of their files, and the reason.

    A cell of a network whose code has been mended has another id: its result counts as well.

    Args:
        places: Folders of results.
        results: All results in them.
    """
    dates: dict[str, str] = {}
    for one in results:
        dates[_named(one)] = max(one.date, dates.get(_named(one), ""))
    found = {}
    for place in map(user_path, places):
        if kind_of(place) == "folder":
            for log in sorted(place.rglob(f"*{ENDING}")):
                name = log.name.removesuffix(ENDING)
                if is_regular(log) and not log.with_name(f"{name}.json").exists():
                    reason = _reason(log, dates)
                    if reason is not None:
                        found[name] = reason
    return list(found.items())


def _named(one: Measured) -> str:
    return plain(f"{one.suite}, preset {one.preset}, digits {one.digits}: {one.label}, seed {one.seed}")


def _reason(path: Path, dates: Mapping[str, str]) -> str | None:
    """The last line of a file; None if what failed was measured later."""
    try:
        with path.open("rb") as file:
            first, date, *_ = [*file.read(READ).decode(errors="replace").split("\n"), ""]
            file.seek(max(0, path.stat().st_size - READ))
            lines = file.read(READ).decode(errors="replace").split("\n")
    except OSError:
        return "its reason cannot be read"
    if date <= dates.get(first, ""):
        return None
    return next((line[:LONGEST_LINE] for line in reversed(lines) if line.strip()), "no reason is kept")
