"""A result and its file: one JSON for each cell, with a schema version and where it was measured."""

import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_origin

from capsbench.errors import DataFileError, shown
from capsbench.paths import user_path
from capsbench.spec import MNIST
from capsbench.system.disk import human_bytes, is_regular, kind_of, write_atomically

SCHEMA_VERSION = 1
METRICS_VERSION = 1
"""Raised when what a figure of several suites means changes, and no suite's own version says it."""

ORIGINS = {"trained": "trained here", "weights": "trained elsewhere", "scores": "scores"}
"""Where a network's answers come from, and what a table says of it; of weights that ship it says `SHIP`."""

SHIP = "weights that ship"
PRETRAINED = "pretrained"
"""In place of a file of weights: those that ship."""

DEEPEST = 60  # levels of a result; ours have some ten
OURS = re.compile(r".+-seed\d+-[0-9a-f]{12}\.json")
"""How a run names the files of results."""

LARGEST = 2**28  # bytes; one of throughput or of figures at the paper's size has some millions


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one cell measured.

    Attributes:
        suite: The suite's name.
        preset: The preset's name, with the settings that were changed.
        version: The suite's version.
        model: The model's name as the user gave it.
        label: Its name in tables: the model's name with its changed parameters.
        source: SHA-256 of what the model is made of; empty for a model that ships with capsbench.
        seed: Of the initial weights, the order of the samples and dropout.
        cell: The cell's identity, see `capsbench.bench.cells.Cell.id`.
        settings: The suite's settings, all of them.
        parameters: What the model was built with.
        digits: The name of the source digits: ``"embedded"``, ``"mnist"``, that of others, or ``"none"`` where the
            suite shows none. ``identity`` has the SHA-256 of those that are not MNIST's.
        data: For each data set used: its spec, and the root digest of its file where it was one.
        metrics: What the suite reports.
        seconds: Time spent, training in earlier and interrupted runs included.
        environment: Where it was measured; see `capsbench.system.machine.environment`.
        date: When, UTC, ISO 8601.
        identity: What the model and the suite are made of, where they do not ship with capsbench: the SHA-256 of each
            file, and of each piece of code without a file.
        origin: One of `ORIGINS`: ``"trained"`` by this run, ``"weights"`` from a file of weights trained elsewhere,
            ``"scores"`` from files of scores.
        remarks: Sentences that every table must say of the network, such as how it was fitted to the images.
        training: The ``id`` of what determined the weights, and under ``weights`` the file of each training's, in the
            folder ``weights`` of the run; where an earlier run had trained, also the date and the environment of that.
            Of weights trained elsewhere their ``file``, `PRETRAINED` of those that ship, and its ``sha256``.
        writers: Who wrote the test digits, where it is known, by the key that an accuracy states; see
            `capsbench.results.writers`.
        path: The file that it was read from.
    """

    suite: str
    version: int
    preset: str
    model: str
    label: str
    source: str
    seed: int
    cell: str
    settings: dict[str, Any]
    parameters: dict[str, Any]
    digits: str
    data: dict[str, Any]
    metrics: dict[str, Any]
    seconds: float
    environment: dict[str, Any]
    date: str
    identity: dict[str, Any] = field(default_factory=dict)
    origin: str = "trained"
    remarks: list[Any] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    writers: dict[str, Any] = field(default_factory=dict)
    path: Path | None = field(default=None, compare=False, repr=False)

    @property
    def from_where(self) -> str:
        """Where the network's answers come from, in words."""
        ships = self.origin == "weights" and self.training.get("file") == PRETRAINED
        return SHIP if ships else ORIGINS[self.origin]

    @property
    def protocol(self) -> str:
        """What it was measured by, 12 hexadecimal digits: results of another protocol are never in one table with it.

        It stands for the suite and its version, the preset, all settings, the specs of the test data and the version of
        the metrics; where no digits are shown, as where speed is measured, also for the device. The number of threads
        is not in it.
        """
        content = json.dumps(protocol_of(self), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def protocol_of(result: Result) -> dict[str, Any]:
    """What `Result.protocol` stands for."""
    files = result.identity.get("settings")
    files = files if isinstance(files, Mapping) else {}
    settings = {}
    for key, value in result.settings.items():
        # A file is the same file in any folder.
        settings[key] = files.get(f"{key}={value}", value)
    return {
        "suite": result.suite,
        "version": result.version,
        "metrics version": METRICS_VERSION,
        "preset": result.preset,
        "settings": settings,
        "digits": result.digits,
        **({"digits sums": result.identity["digits"]} if "digits" in result.identity else {}),
        "tests": {role: spec for role, spec in _specs(result) if spec.get("split") == "test"},
        **({"device": result.environment.get("device")} if result.digits == "none" else {}),
    }


def _specs(result: Result) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for role, used in result.data.items():
        spec = used.get("spec") if isinstance(used, Mapping) else None
        if isinstance(spec, Mapping):
            yield role, spec


def now() -> str:
    """The date and time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def name_of(result: Result) -> str:
    """What errors call a result."""
    digits = "" if result.digits in (*MNIST, "none") else f", digits {result.digits}"
    return f"{result.label} ({result.suite}, preset {result.preset}{digits}, seed {result.seed})"


def content_of(result: Result) -> dict[str, Any]:
    """A result in plain JSON types, as its file has it; without writers where they are not known."""
    return {key: value for key, value in asdict(result).items() if key != "path" and (value or key != "writers")}


def save_result(result: Result, path: Path) -> None:
    """Writes a result's file, whole or not at all.

    Raises:
        DataFileError: It would be damage, such as a share that is not that of its counts.
        StorageError: It could not be written.
    """
    _check_all(path, result)
    content = {"schema_version": SCHEMA_VERSION, "protocol": result.protocol, **content_of(result)}
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False).encode() + b"\n")


def load_result(path: Path) -> Result:
    """Reads a result's file.

    Raises:
        DataFileError: It cannot be read, or is no result of ours.
    """
    content = _json(path)
    if not _is_result(content):
        raise DataFileError(f"{path} is not a result of capsbench.")
    return _result(path, content)


def _json(path: Path) -> Any:
    """What a file has, as JSON.

    Raises:
        DataFileError: It cannot be read, or is no JSON.
    """
    try:
        if path.exists() and not is_regular(path):
            raise DataFileError(f"{path} is not a file.")
        if path.stat().st_size > LARGEST:
            raise DataFileError(f"{path} has more than {human_bytes(LARGEST)}, which no result of capsbench has.")
        return json.loads(path.read_bytes(), parse_constant=_finite, parse_float=_finite, parse_int=_whole)
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{path} is damaged, or is not JSON: {error}.") from None


def _is_result(content: Any) -> bool:
    """Whether JSON is a result; a folder of results also holds the sidecars of data files."""
    return isinstance(content, dict) and "schema_version" in content


def _result(path: Path, content: dict[str, Any]) -> Result:
    """The result that a file has.

    Raises:
        DataFileError: It is none of ours, or damaged.
    """
    version = content.pop("schema_version")
    if version != SCHEMA_VERSION:
        raise DataFileError(f"{path} is of schema version {version}; this capsbench reads version {SCHEMA_VERSION}.")
    content.pop("protocol", None)  # it is made from the rest
    try:
        result = Result(**{**content, "path": path})
    except TypeError as error:
        raise DataFileError(f"{path} is not a result of capsbench: {error}.") from None
    for one in fields(Result):
        if one.name == "path":
            continue
        kind: Any = get_origin(one.type) or one.type
        value = getattr(result, one.name)
        if not isinstance(value, (int, float) if kind is float else kind):
            raise DataFileError(f"{path} is not a result of capsbench: its {one.name} is of a wrong type.")
    _check_all(path, result)
    if result.origin not in ORIGINS:
        raise DataFileError(f"{path} is not a result of capsbench: its origin is {shown(result.origin)}.")
    return result


def _check_all(path: Path, result: Result) -> None:
    """Checks every part of a result as `_check` does."""
    for one in fields(Result):
        value = getattr(result, one.name)
        if isinstance(value, dict | list):
            _check(path, value, (one.name,))


def _check(path: Path, value: Any, place: tuple[str, ...]) -> None:
    """Refuses what is nested too deeply to be read, and an accuracy that is not that of its own counts.

    Raises:
        DataFileError: It is so.
    """
    if len(place) > DEEPEST:
        raise DataFileError(f"{path} is damaged, or is no result of capsbench: its {place[0]} has {DEEPEST} levels.")
    if isinstance(value, dict):
        share, correct, total, answers = (value.get(name) for name in ("share", "correct", "total", "answers"))
        counted = isinstance(answers, str) and "share" in value
        if counted and isinstance(correct, int) and isinstance(total, int) and (total < 1 or share != correct / total):
            raise DataFileError(
                f"{path} is damaged: {', '.join(place)} is {shown(share)}, with {correct} of {total} right."
            )
        inner: Iterable[tuple[Any, Any]] = value.items()
    else:
        inner = enumerate(value)
    for key, one in inner:
        if isinstance(one, dict | list):
            _check(path, one, (*place, str(key)))


def _finite(text: str) -> float:
    """A number of a result's file; `save_result` writes finite numbers alone."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shown(text)} is no finite number")
    return number


def _whole(text: str) -> int:
    """A whole number of a result's file, no larger than a float can be: figures are made of them."""
    number = int(text)
    try:
        float(number)
    except OverflowError:
        raise ValueError(f"{shown(text)} is too large a number") from None
    return number


def load_all_results(places: Iterable[str | Path]) -> list[Result]:
    """The results of several folders and files; one that is in two of them counts once.

    Raises:
        DataFileError: As `load_results`.
    """
    found = (result for place in places for result in load_results(place))
    return list({(result.cell, result.date, result.model): result for result in found}.values())


def load_results(folder: str | Path) -> list[Result]:
    """Every result in a folder and below it, or the one in a file, in the order of their paths.

    Raises:
        DataFileError: There is no such folder, there are no results in it, or one of them is damaged.
    """
    place = user_path(folder)
    if kind_of(place) == "file":
        return [load_result(place)]
    if kind_of(place) != "folder":
        raise DataFileError(f"There is no folder {place} to read results from.")
    found = [result for path in _json_files(place) if (result := _found(path))]
    if not found:
        raise DataFileError(
            f"There are no results in {place}. Make some with: capsbench run --suite affine --out {place}"
        )
    return found


def _json_files(folder: Path) -> list[Path]:
    """Every JSON file in a folder and below it that is not hidden, in the order of their paths.

    Raises:
        DataFileError: A folder cannot be read, so that results in it would be missing without a word.
    """

    def refuse(error: OSError) -> None:
        raise DataFileError(f"The folder {error.filename} cannot be read: {error.strerror}.")

    found = []
    for here, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]  # those of editors, and the like
        found += [Path(here, name) for name in names if name.endswith(".json") and not name.startswith(".")]
    return sorted(path for path in found if is_regular(path))


def _found(path: Path) -> Result | None:
    """The result in a JSON file of a folder; None where it is something else.

    What is no JSON gets a warning; where its name or its content is that of a result, it is an error.

    Raises:
        DataFileError: It is damaged.
    """
    try:
        content = _json(path)
    except DataFileError as error:
        if OURS.fullmatch(path.name) or _mentions_version(path):
            raise
        warnings.warn(f"{error} It was passed over.", stacklevel=2)
        return None
    return _result(path, content) if _is_result(content) else None


def _mentions_version(path: Path) -> bool:
    """Whether a file that is damaged or cannot be read may be a result."""
    try:
        with path.open("rb") as file:
            return b'"schema_version"' in file.read(LARGEST)
    except OSError:
        return True
