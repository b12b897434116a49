"""From a name to the object that it names: shipped, installed by a plug-in, or in a user's own file.

The toolkit imports no data set, network or suite. A shipped one is a string in the CATALOG of its package; a plug-in
has an entry point of the same form in the group ``capsbench.generators``, ``capsbench.models`` or
``capsbench.suites``; a user's own is named by its place: ``package.module:attribute`` or ``path/to/file.py:attribute``.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from capsbench.errors import UnknownNameError, UsageError, first_line

FAMILIES = {"data set": "capsbench.generators", "model": "capsbench.models", "suite": "capsbench.suites"}
"""What a family is called in messages, and the package and entry-point group where it lives."""


def catalog(family: str) -> dict[str, str]:
    """Every known name of a family with its ``module:attribute``; what ships wins over a plug-in of the same name."""
    group = FAMILIES[family]
    plugins = {point.name: point.value for point in entry_points(group=group)}
    shipped: dict[str, str] = importlib.import_module(group).CATALOG
    return plugins | shipped


def load(family: str, name: str) -> Any:
    """The object that a name, ``module:attribute`` or ``file.py:attribute`` stands for.

    Raises:
        UnknownNameError: There is no such name.
        UsageError: The place that the name states does not exist, or cannot be imported.
    """
    if ":" not in name:
        known = catalog(family)
        if name not in known:
            raise UnknownNameError(family, name, known)
        name = known[name]
    place, _, attribute = name.rpartition(":")
    if not place or (place.startswith(".") and not place.endswith(".py")):
        raise UsageError(f"A {family} is named package.module:attribute or file.py:attribute, got {name!r}.")
    module = _module_from_file(family, place) if place.endswith(".py") else _module_by_name(family, place)
    try:
        return getattr(module, attribute)
    except AttributeError:
        public = [key for key in vars(module) if not key.startswith("_")]
        raise UnknownNameError(f"{family} in {place}", attribute, public) from None


def source_hash(family: str, name: str) -> str:
    """SHA-256 of the file that a user's or a plug-in's object is in; empty for what ships with capsbench."""
    thing = load(family, name)
    if getattr(thing, "__module__", "").partition(".")[0] == "capsbench":
        return ""
    try:
        file = inspect.getsourcefile(inspect.unwrap(thing))
    except TypeError:  # nothing that is written in Python
        return ""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _module_by_name(family: str, name: str) -> ModuleType:
    with _import_errors(family, name):
        return importlib.import_module(name)


@contextmanager
def _import_errors(family: str, place: str) -> Iterator[None]:
    """Turns every error of a user's code while it is imported into a message of one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"The {family} {place!r} cannot be imported: there is no module {error.name!r}.") from None
    except (Exception, SystemExit) as error:
        raise UsageError(f"The {family} {place!r} cannot be imported: {first_line(error)}") from error


def _module_from_file(family: str, place: str) -> ModuleType:
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"The {family} {place!r} cannot be imported: {path} is not a file.")
    # Two files of one stem must not meet in sys.modules, nor two editions of one file.
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"The {family} {place!r} cannot be read: {error.strerror}.") from None
    name = f"{path.stem}_{hashlib.sha256(str(path).encode() + content).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        with _import_errors(family, place):
            specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
