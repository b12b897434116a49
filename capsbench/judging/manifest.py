"""The manifest of a suite's test files: which there are, and the digest of each."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from capsbench.errors import DataFileError, UsageError, shown
from capsbench.system.disk import is_regular, write_atomically

MANIFEST = "manifest.json"
LARGEST = 2**24  # bytes; one of a hundred files has twenty thousand


@dataclass(frozen=True)
class Entry:
    """One test.

    Attributes:
        name: What its scores are called: ``NAME.npz`` or ``NAME.csv``.
        file: The name of its file.
        digest: The root digest of its file, in hexadecimal.
        count: How many images it has.
        image_shape: Their height and width in pixels.
    """

    name: str
    file: str
    digest: str
    count: int
    image_shape: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """What scores are given for.

    Attributes:
        suite: The suite.
        preset: The preset's name.
        files: The tests.
        changes: The settings that differ from the preset, as text.
        digits: The name of the source digits; empty where it is not stated.
    """

    suite: str
    preset: str
    files: list[Entry]
    changes: Mapping[str, str] = field(default_factory=dict)
    digits: str = ""

    def save(self, folder: Path) -> None:
        """Writes ``manifest.json``, whole or not at all.

        Raises:
            StorageError: It could not be written.
        """
        content: dict[str, Any] = {
            "suite": self.suite,
            "preset": self.preset,
            "files": [asdict(one) for one in self.files],
        }
        content |= {"digits": self.digits} if self.digits else {}
        if self.changes:
            content |= {"set": dict(self.changes)}
        write_atomically(folder / MANIFEST, json.dumps(content, indent=2).encode() + b"\n")


def load_manifest(folder: Path) -> Manifest:
    """Reads the manifest in a folder.

    Raises:
        DataFileError: There is none, it cannot be read, or it is not one of ours.
    """
    path = folder / MANIFEST
    if not is_regular(path):
        raise DataFileError(
            f"There is no {MANIFEST} in {folder}. Write it with capsbench tests --suite S --out {folder}, and put the "
            "scores beside it."
        )
    try:
        if path.stat().st_size > LARGEST:
            raise DataFileError(f"{path} is too large to be a manifest.")
        content: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{path} is not JSON: {error}.") from None
    try:
        return _read(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataFileError(
            f"{path} is not a manifest of capsbench ({shown(error)}). Write it again: "
            f"capsbench tests --suite S --out {folder} --force"
        ) from None


def _read(content: Any) -> Manifest:
    """A manifest from what a file holds; what is none raises any error."""
    suite, preset, files = (content[key] for key in ("suite", "preset", "files"))
    changes: Any = content.get("set", {})
    digits: Any = content.get("digits", "")
    if not (isinstance(digits, str) and isinstance(suite, str) and isinstance(preset, str) and isinstance(files, list)):
        raise ValueError("suite, preset and digits must be text, and files a list")
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in changes.items()):
        raise ValueError("set must map text to text")
    entries = [Entry(**{**one, "image_shape": tuple(one["image_shape"])}) for one in files]
    for entry in entries:
        if not (isinstance(entry.name, str) and isinstance(entry.digest, str) and type(entry.count) is int):
            raise ValueError("a file needs a name, a digest and a count")
        if not all(type(side) is int for side in entry.image_shape):
            raise ValueError("image_shape must be whole numbers")
    return Manifest(suite, preset, entries, changes, digits)


def check_replaceable(folder: Path, manifest: Manifest, *, force: bool) -> None:
    """Refuses to write a manifest over another one.

    Raises:
        UsageError: Another one stands there, of other tests or not of ours.
    """
    path = folder / MANIFEST
    if force or not path.exists():
        return
    try:
        found = load_manifest(folder)
    except DataFileError as error:
        raise UsageError(f"{error} Add --force to replace it, or choose another folder.") from None
    if (found.suite, found.preset, dict(found.changes)) != (manifest.suite, manifest.preset, dict(manifest.changes)):
        raise UsageError(
            f"{path} is of suite {shown(found.suite)}, preset {shown(found.preset)}. Add --force to replace it, or "
            "choose another folder."
        )
