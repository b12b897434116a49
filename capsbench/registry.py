"""From a name to the object that it names: shipped, installed by a plug-in, or in a user's own file.

The toolkit imports no data set, network or suite. A shipped one is a string in the CATALOG of its package; a plug-in
has an entry point of the same form in the group ``capsbench.generators``, ``capsbench.models`` or
``capsbench.suites``; a user's own is named by its place: ``package.module:attribute`` or ``path/to/file.py:attribute``.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from capsbench.errors import UnknownNameError, UsageError, first_line
from capsbench.paths import resolved
from capsbench.sources.hosting import printing_aside
from capsbench.sources.identity import Identity, identity_of_file, identity_of_installed
from capsbench.sources.room import Noted, Room, room_of
from capsbench.sources.seeding import seeded

FAMILIES = {"data set": "capsbench.generators", "model": "capsbench.models", "suite": "capsbench.suites"}
"""What a family is called in messages, and the package and entry-point group where it lives."""

DOWNLOADED = ("hf-hub", "local-dir", "http", "https")
"""Prefixes by which other tools download a network with its weights."""


def catalog(family: str) -> dict[str, str]:
    """Every known name of a family with its ``module:attribute``; what ships wins over a plug-in of the same name."""
    plugins = {point.name: point.value for point in entry_points(group=FAMILIES[family])}
    return plugins | shipped(family)


def shipped(family: str) -> dict[str, str]:
    """The names of a family that ship."""
    names: dict[str, str] = importlib.import_module(FAMILIES[family]).CATALOG
    return names


def load(family: str, name: str) -> Any:
    """The object that a name, ``module:attribute`` or ``file.py:attribute`` stands for.

    A file may import what lies beside it; a module is also looked for in the working folder. A network of a library,
    ``torchvision:resnet18``, is a function that builds it.

    Raises:
        UnknownNameError: There is no such name.
        UsageError: The place that the name states does not exist, or cannot be imported.
    """
    library = _library(family, name)
    if library:
        return _of_library(library, name.partition(":")[2])
    place, attribute = _place(family, name)
    module = _module(family, place)
    if ":" in name:
        known = f"{resolved(place)}:{attribute}" if place.endswith(".py") else name
        _named.update({known: None})
    try:
        return getattr(module, attribute)
    except AttributeError:
        public = {key: value for key, value in vars(module).items() if not key.startswith("_") and callable(value)}
        own = [key for key, value in public.items() if getattr(value, "__module__", place) == module.__name__]
        raise UnknownNameError(f"{family} in {place}", attribute, own or public) from None


def load_stated(family: str, name: str) -> Any:
    """The object that a file from elsewhere, such as a result, names; a file does not choose the code that is run.

    Args:
        family: One of `FAMILIES`.
        name: That of what ships or is installed as a plug-in; or a place, ``package.module:attribute`` or
            ``file.py:attribute``, that somebody named in this process, in whatever folder the file then was.

    Raises:
        UsageError: As `load`, or nobody named the place.
    """
    if ":" not in name and not name.endswith(".py"):
        return load(family, name)
    place, _, attribute = name.rpartition(":")
    whole = name
    with suppress(UsageError):  # a place that is no path
        whole = f"{resolved(place)}:{attribute}" if place.endswith(".py") else name
    if whole in _named:
        return load(family, whole)
    alike = [one for one in _named if place.endswith(".py") and _file_alone(one) == _file_alone(name)]
    if not alike:
        raise UsageError(
            f"The {family} {name!r} is code that a result names, and a file does not choose the code that is run. If "
            f"you trust it, name it yourself: --{family} {_file_alone(name)}, in Python suites={[_file_alone(name)]}"
        )
    if len(alike) > 1:
        raise UsageError(
            f"The {family} {name!r} of a result may be any of {', '.join(alike)}, which were named. Read the results "
            "of one at a time."
        )
    return load(family, alike[0])


def load_named(names: str | Sequence[str]) -> None:
    """Loads suites of a user's own, by one name or several, so that results of theirs are read: `load_stated`.

    Raises:
        UsageError: As `load`.
    """
    for name in [names] if isinstance(names, str) else names:
        load("suite", name)


_named: dict[str, None] = {}
"""Places that somebody named in this process, in order; a file has its absolute path."""


def _file_alone(name: str) -> str:
    """``file.py:attribute``, without its folder."""
    return name.replace("\\", "/").rpartition("/")[2]


def room(family: str, name: str) -> Room | None:
    """The room that a user's file or module is loaded in: inside it, imports lead where its code expects.

    None for what ships.

    Raises:
        UsageError: As `load`.
    """
    if _library(family, name):
        return None
    place, _ = _place(family, name)
    return None if _ships(place) else _room(family, place)


def identify(
    family: str, name: str, *, parameters: Mapping[str, Any] | None = None, trial: Callable[[], object] = lambda: None
) -> Identity:
    """What a named object is made of: every file of it that is not an installed package.

    Args:
        family: One of `FAMILIES`.
        name: As `load` takes it.
        parameters: What it is built with; a file that they name is part of it.
        trial: Builds it, so that the files which it then reads are known.

    Raises:
        UsageError: As `load`.
        Exception: Whatever the trial raises.
    """
    thing = load(family, name)
    library = _library(family, name)
    if library:
        trial()
        return identity_of_installed(name, importlib.import_module(library))
    place, attribute = _place(family, name)
    if _ships(place):
        trial()
        return Identity(name, {})
    here = _room(family, place)
    with here.trial() as noted:
        trial()
    if not noted.files:
        return identity_of_installed(name, _module(family, place))
    shown = f"{resolved(place).name}:{attribute}" if place.endswith(".py") else name
    found = identity_of_file(shown, thing, here, noted, parameters or {})
    _identified[found.hash] = here, noted
    return found


@contextmanager
def as_identified(source: str) -> Iterator[None]:
    """Inside it, code is what it was when it was identified in this process, whatever was edited since.

    Args:
        source: `capsbench.sources.identity.Identity.hash`.

    Raises:
        UsageError: Another file that it reads, such as its weights, was changed since.
    """
    if source not in _identified:
        yield
        return
    here, noted = _identified[source]
    changed = here.changed(noted)
    if changed:
        raise UsageError(f"{changed[0]} was changed since the run began. Run again.")
    with here:
        yield


_identified: dict[str, tuple[Room, Noted]] = {}


def _library(family: str, name: str) -> str:
    """The library that a network's name begins with; empty where there is none.

    Raises:
        UsageError: The name leads to something that would be downloaded, or into a library past its names.
    """
    before, colon, rest = name.partition(":")
    if family != "model" or not colon or before.endswith(".py"):
        return ""
    known = importlib.import_module(f"{FAMILIES[family]}.libraries").LIBRARIES
    inner = rest.partition(":")[0] if before in known else before
    if inner.replace("_", "-") in DOWNLOADED:
        raise UsageError(
            f"{name}: capsbench downloads neither networks nor weights. Name the architecture, such as "
            "timm:resnet18, and measure weights that you have with --weights FILE."
        )
    top = before.partition(".")[0]
    if top in known and before != top:
        raise UsageError(f"A network of {top} is named {top}:NAME, such as {top}:{rest}, got {name!r}.")
    return before if before in known else ""


def library_table(library: str) -> dict[str, Any]:
    """Which networks of a library work on which images, as they were measured.

    Raises:
        UsageError: There is no such library, or its networks were not measured.
    """
    package = importlib.import_module(f"{FAMILIES['model']}.libraries")
    if library not in package.LIBRARIES:
        raise UnknownNameError("library of networks", library, package.LIBRARIES)
    try:
        table: dict[str, Any] = package.measured(library)
    except FileNotFoundError:
        raise UsageError(
            f"Which networks of {library} work was not measured. Try one: capsbench try {library}:NAME. Its names: "
            f"python -c 'import {library}; print({library}.list_models())'"
        ) from None
    return table


def _of_library(library: str, name: str) -> Callable[..., Any]:
    """What builds a network of a library."""
    module, _, attribute = importlib.import_module(f"{FAMILIES['model']}.libraries").LIBRARIES[library].partition(":")
    builder: Callable[..., Any] = getattr(importlib.import_module(module), attribute)(name)
    return builder


def _place(family: str, name: str) -> tuple[str, str]:
    """The file or module that a name stands for, and the attribute."""
    if name.endswith(".py"):
        return name, _only_one(family, name)
    if ":" not in name:
        known = shipped(family)
        if name not in known:
            known = catalog(family)  # which reads what every installed package says of itself
        if name not in known:
            raise UnknownNameError(family, name, known)
        name = known[name]
    place, _, attribute = name.rpartition(":")
    if not place or (place.startswith(".") and not place.endswith(".py")):
        raise UsageError(f"A {family} is named package.module:attribute or file.py:attribute, got {name!r}.")
    return place, attribute


def _only_one(family: str, place: str) -> str:
    """The network that a file defines, if it is one.

    Raises:
        UsageError: It defines none, or several; or something else than a network is looked for.
    """
    module = _module(family, place)
    if family != "model":
        with _import_errors(family, place):
            own = [
                name
                for name, thing in vars(module).items()
                if isinstance(thing, type) and thing.__module__ == module.__name__ and not name.startswith("_")
            ]
        example = f", such as {place}:{own[-1]}" if own else ""
        raise UsageError(f"A {family} in a file is named file.py:attribute{example}, got {place!r}.")
    from torch import nn  # which the file has loaded by now, if it has a network

    found = [
        name
        for name, thing in vars(module).items()
        if isinstance(thing, type) and issubclass(thing, nn.Module) and thing.__module__ == module.__name__
    ]
    if len(found) != 1:
        way_out = f"Name one: {place}:{found[-1]}" if found else f"Name what builds one: {place}:NAME"
        raise UsageError(f"{place} defines {', '.join(found) or 'no network'}. {way_out}")
    return found[0]


def _ships(place: str) -> bool:
    return place.partition(".")[0] == "capsbench" and not place.endswith(".py")


def _module(family: str, place: str) -> ModuleType:
    if _ships(place):
        with _import_errors(family, place):
            return importlib.import_module(place)
    here = _room(family, place)
    # A file may draw numbers while it is imported, and print; what it sets holds for as long as it is imported.
    with _import_errors(family, place), seeded(0), printing_aside():
        return here.load()


def _room(family: str, place: str) -> Room:
    if not place.endswith(".py"):
        return room_of(place)
    path = resolved(place, f"The file of the {family}")
    if not path.is_file():
        raise UsageError(f"The {family} {place!r} cannot be imported: {path} is not a file.")
    try:
        return room_of(path)
    except OSError as error:
        raise UsageError(f"The {family} {place!r} cannot be read: {error.strerror}.") from None


@contextmanager
def _import_errors(family: str, place: str) -> Iterator[None]:
    """Turns every error of a user's code while it is imported into a message of one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"The {family} {place!r} cannot be imported: there is no module {error.name!r}.") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's code can fail in any way, and may even end the process
        raise UsageError(f"The {family} {place!r} cannot be imported: {first_line(error)}") from error
