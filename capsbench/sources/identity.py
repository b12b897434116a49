"""What identifies a network or a suite that a user brings: every file of it, or its code where there is no file."""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

from capsbench.sources.described import described, readable
from capsbench.sources.places import CAPSBENCH, digest, is_own
from capsbench.sources.room import Noted, Room


@dataclass(frozen=True)
class Identity:
    """What something is made of.

    Attributes:
        name: Its name, without the folder of a file.
        parts: For each file, installed package or piece of code the SHA-256 of its content; for a partial its
            arguments. Nothing for what ships with capsbench, which is identified by name and version.
    """

    name: str
    parts: Mapping[str, str]

    @property
    def hash(self) -> str:
        """SHA-256 over the parts; empty where there are none."""
        if not self.parts:
            return ""
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()


def identity_of_code(name: str, thing: Any) -> Identity:
    """The identity of a class or a function that was given in Python: its code, its constants and what it names."""
    return Identity(name, {} if _ships(thing) else {f"code of {name}": described(thing)})


def identity_of_file(name: str, thing: Any, room: Room, noted: Noted, parameters: Mapping[str, Any]) -> Identity:
    """The identity of an attribute of a user's file or module.

    Args:
        name: Its name, without the folder of a file.
        thing: The attribute.
        room: The room that it was loaded in.
        noted: What was read while it was loaded and tried; the files that its parameters name are added.
        parameters: Its parameters.
    """
    for path in _files_named_in(list(parameters.values())):
        noted.files.setdefault(path, digest(path))
    parts: dict[str, str] = {}
    for path in sorted(noted.files):
        label = _label(path, room.root, noted.names.get(path, ""))
        while label in parts:  # two files of one name in other folders
            label += "'"
        parts[label] = noted.files[path]
    if isinstance(thing, functools.partial):  # its arguments may come from the environment
        parts[f"arguments of {name.rpartition(':')[2]}"] = readable(thing)
    return Identity(name, parts)


def identity_of_installed(name: str, module: ModuleType) -> Identity:
    """The identity of an attribute of an installed package: its version, and the source of the whole package."""
    top = module.__name__.partition(".")[0]
    if top == CAPSBENCH.name:
        return Identity(name, {})
    file = getattr(module, "__file__", None)
    if file is None:
        return Identity(name, {})
    path = Path(file).resolve()
    folder = (
        path.parents[module.__name__.count(".") - (path.name != "__init__.py")]
        if "." in module.__name__ or (path.name == "__init__.py")
        else path
    )
    sources = sorted(folder.rglob("*.py")) if folder.is_dir() else [path]
    content = hashlib.sha256()
    for source in sources:
        content.update(f"{source.name} {digest(source)}\n".encode(errors="surrogateescape"))
    return Identity(name, {f"{top} {_version(top)}".strip(): content.hexdigest()})


def _version(package: str) -> str:
    try:
        named = distribution(package)  # most have its name, and reading all that is installed takes a second
        held = (named.read_text("top_level.txt") or "").split() or (file.parts[0] for file in named.files or ())
        if package in held:
            return named.version
    except PackageNotFoundError:
        pass
    try:
        return version(packages_distributions().get(package, [package])[0])
    except PackageNotFoundError:
        return ""


def _ships(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).partition(".")[0] == CAPSBENCH.name


def _files_named_in(values: list[Any]) -> Iterator[Path]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _files_named_in(list(value))
        elif isinstance(value, dict):
            yield from _files_named_in(list(value.values()))
        elif isinstance(value, str | Path) and value:
            try:
                path = Path(value).expanduser().resolve()
                if path.is_file() and is_own(path):
                    yield path
            except (OSError, ValueError, RuntimeError):  # no path at all
                continue


def _label(path: Path, root: Path, module: str) -> str:
    """A file's name that is the same on any machine: from the root, else of its module, else the last part."""
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    if module:
        name = module.replace(".", "/")
        return f"{name}/{path.name}" if path.stem == "__init__" else f"{name}{path.suffix}"
    return path.name
