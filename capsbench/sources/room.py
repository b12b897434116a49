"""Importing a user's code as a process of its own would, beside other code with modules of the same names.

A network's file may import what lies beside it, and so may another's, in one process. Each has a room: inside it,
names lead to its own modules; outside, they lead where they did before. A room reads source, never Python's cached
bytecode, which goes by time and size alone, and it notes every file that was read.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from capsbench.sources.opened import opened_files
from capsbench.sources.places import digest, is_own
from capsbench.sources.statements import Named, is_relative, modules_named_in, spec_of


@dataclass
class Noted:
    """What was read.

    Attributes:
        files: The SHA-256 of each of the user's own files, as it was read.
        names: The names of the modules that are in some of them.
    """

    files: dict[Path, str] = field(default_factory=dict)
    names: dict[Path, str] = field(default_factory=dict)


class Room:
    """The modules of one file, or of one module by its name, and what they were read from.

    Inside it (``with room:``), imports lead to its modules. Rooms may be entered one inside another.

    Args:
        entry: A file, resolved; or a module's name, which is looked for in the working folder first, as by python -m.

    Attributes:
        entry: The file or the name.
        root: The folder that paths are shown relative to.
        noted: What was read until now.
    """

    def __init__(self, entry: Path | str) -> None:
        self.entry = entry
        self._modules: dict[str, ModuleType] = {}
        self._entered: list[tuple[dict[str, ModuleType], list[str]] | None] = []
        self._finder = _Finder(self)
        self._added: tuple[list[str], list[str]] = [], []  # to sys.path by the code itself: in front, and behind
        self._contents: dict[Path, bytes] = {}  # of source, so that an edit during a long run changes nothing in it
        self.noted = Noted()
        here = _working_folder()
        self._last = here
        if isinstance(entry, Path):
            self._name, package, folders = _as_python_would(entry)
            self._first = [str(folder) for folder in folders]
            # Whatever is called like something beside the file is in its way, even if only import_module names it.
            self._tops = {one.stem for one in entry.parent.iterdir() if one.suffix == ".py" or one.is_dir()}
            self.root = folders[0]
        else:
            self._name, package, self._first, self._tops = entry, "", here, set()
            self.root = Path(here[0]) if here else Path()
        importlib.invalidate_caches()
        with self:
            path = entry if isinstance(entry, Path) else self._path_of(entry)
            if path is not None:
                if isinstance(entry, str):
                    package = entry if path.name == "__init__.py" else entry.rpartition(".")[0]
                    self.root = path.parents[len(package.split(".")) if package else 0]
                    self._tops = {entry.partition(".")[0]}
                self.source(path)
                self._note_statements([Named(self._name, path, package)])

    @staticmethod
    def _path_of(name: str) -> Path | None:
        """The file of a module that is the user's own."""
        spec = spec_of(name)
        own = spec is not None and spec.has_location and spec.origin and is_own(spec.origin)
        return Path(str(spec.origin)).resolve() if spec is not None and own else None

    def load(self) -> ModuleType:
        """The module of the entry; it is executed the first time.

        Raises:
            BaseException: Whatever its code raises.
        """
        importlib.invalidate_caches()
        try:
            with self, self.noting():
                module = self._loaded()
                # What was imported by other means than a statement, or along a path that the code itself added.
                loaded = [sys.modules[name] for name in {*self._finder.found, self._name} if name in sys.modules]
                files = [(one.__name__, getattr(one, "__file__", None), one.__package__ or "") for one in loaded]
                self._note_statements(Named(name, Path(file), package) for name, file, package in files if file)
                return module
        except BaseException:
            _ROOMS.pop(_key(self.entry), None)  # what was missing may be there the next time
            raise

    def _loaded(self) -> ModuleType:
        if self._name in sys.modules:
            return sys.modules[self._name]
        if isinstance(self.entry, str) or "." in self._name:
            return importlib.import_module(self._name)
        loader = _Source(self, self._name, str(self.entry))
        spec = importlib.util.spec_from_file_location(self._name, self.entry, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[self._name] = module
        try:
            loader.exec_module(module)
        except BaseException:
            del sys.modules[self._name]
            raise
        return module

    def is_current(self) -> bool:
        """Whether all files are as they were read."""
        return all(digest(path) == known for path, known in self.noted.files.items())

    def changed(self, noted: Noted) -> list[Path]:
        """Files other than source that are not as they were read; source is kept in memory."""
        return [path for path, known in noted.files.items() if path not in self._contents and digest(path) != known]

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Also notes the files that are opened to be read."""
        with opened_files() as opened:
            yield
        for path in opened:
            self.note(path)

    @contextmanager
    def trial(self) -> Iterator[Noted]:
        """Notes what is read inside it, and forgets the modules that were imported: the next trial reads them again.

        So what one trial reads does not depend on those before it.
        """
        before, self.noted = self.noted, Noted(dict(self.noted.files), dict(self.noted.names))
        with self:
            known = set(sys.modules)
            try:
                with self.noting():
                    yield self.noted
            finally:
                self.noted = before
                for name in set(sys.modules) - known:
                    if name in self._finder.found:
                        del sys.modules[name]

    def note(self, path: Path, content: bytes | None = None, *, name: str = "") -> None:
        """Notes a file that was read."""
        place = path.resolve()
        if is_own(place):
            sha = digest(place) if content is None else hashlib.sha256(content).hexdigest()
            if sha and (content is not None or place not in self.noted.files):
                self.noted.files[place] = sha
            if name:
                self.noted.names.setdefault(place, name)

    def _note_statements(self, files: Iterable[Named]) -> None:
        """Notes what import statements name, whether or not they are executed: some are inside functions."""
        for name, found in modules_named_in(files).items():
            self.source(found.path, name=name)
            self._tops.add(name.partition(".")[0])

    def source(self, path: Path, *, name: str = "") -> bytes:
        """The content of a file of source, as it was when it was first read; it is noted.

        Raises:
            OSError: It cannot be read.
        """
        place = path.resolve()
        if place not in self._contents:
            self._contents[place] = place.read_bytes()
        self.note(place, self._contents[place], name=name)
        return self._contents[place]

    def __enter__(self) -> "Room":
        if _INSIDE and _INSIDE[-1] is self:
            self._entered.append(None)
        else:
            if _INSIDE:
                _INSIDE[-1]._remember()
            for other in _ROOMS.values():
                other._leave_nothing()
            tops = self._tops  # thousands of modules are looked at
            alike = [(name, one) for name, one in sys.modules.items() if name.partition(".")[0] in tops]
            hidden = {name: one for name, one in alike if self._is_in_the_way(name, one)}
            for name in hidden:
                del sys.modules[name]
            sys.modules.update(self._modules)
            self._entered.append((hidden, list(sys.path)))
            first, last = [*self._added[0], *self._first], [*self._last, *self._added[1]]
            sys.path[:] = [*first, *(one for one in sys.path if one not in first)]
            sys.path += [one for one in last if one not in sys.path]
            sys.meta_path.insert(0, self._finder)
        _INSIDE.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _INSIDE.pop()
        entered = self._entered.pop()
        if entered is not None:
            hidden, path = entered
            self._remember()
            sys.meta_path.remove(self._finder)
            known = {*path, *self._first, *self._last}
            middle = sys.path.index(self._first[0]) if self._first and self._first[0] in sys.path else 0
            in_front, behind = sys.path[:middle], sys.path[middle:]
            self._added = [one for one in in_front if one not in known], [one for one in behind if one not in known]
            sys.path[:] = path
            sys.modules.update(hidden)  # the rest stays: pickle, and an import inside a function, may ask for it later

    def _remember(self) -> None:
        mine = set(self._finder.found)  # a module by its name may be Python's
        if isinstance(self.entry, Path):
            mine.add(self._name)
        self._modules = {name: sys.modules[name] for name in mine if name in sys.modules}

    def _is_in_the_way(self, name: str, module: ModuleType) -> bool:
        """Whether a module, which has the name of one of this room's, is the user's own but was not read by it."""
        if self._modules.get(name) is module:
            return False
        if isinstance(getattr(getattr(module, "__spec__", None), "loader", None), ExtensionFileLoader):
            return False  # most can be loaded only once in a process
        places = [getattr(module, "__file__", None), *(getattr(module, "__path__", None) or [])]
        return any(place and is_own(place) for place in places)

    def _leave_nothing(self) -> None:
        """Takes out of sys.modules what stayed there."""
        if self not in _INSIDE:
            for name, module in self._modules.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]


class _Finder(MetaPathFinder):
    """Finds what the other finders find; the user's own source is read without bytecode, and noted."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.found: set[str] = set()

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            spec = None if isinstance(finder, _Finder) else finder.find_spec(name, path, target)
            if spec is not None:
                return self._read_here(name, spec)
        return None

    def _read_here(self, name: str, spec: ModuleSpec) -> ModuleSpec | None:
        archive = getattr(spec.loader, "archive", "")
        if archive:
            self._room.note(Path(archive))
        places = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or [])
        if archive or not places or not all(is_own(place) for place in places):
            return spec
        self.found.add(name)
        if type(spec.loader) is SourceFileLoader:
            spec.loader = _Source(self._room, name, str(spec.origin))
        elif spec.origin:
            self._room.note(Path(spec.origin), name=name)
        return spec


class _Source(SourceFileLoader):
    """Reads the source itself; the digest is that of the bytes that are executed."""

    def __init__(self, room: Room, name: str, path: str) -> None:
        super().__init__(name, path)
        self._room = room

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        return self.source_to_code(self._room.source(Path(path), name=fullname), path)


_ROOMS: dict[Path | str, Room] = {}
_INSIDE: list[Room] = []  # the rooms that were entered and not left, the innermost last


def room_of(entry: Path | str) -> Room:
    """The room of a file or a module; a new one where a file was edited since it was read."""
    for room in reversed(_INSIDE):
        if room.entry == entry:  # a run goes on with what it began with
            return room
    known = _ROOMS.get(_key(entry))
    if known is not None and known.is_current():
        return known
    if known is not None:
        known._leave_nothing()
    made = _ROOMS[_key(entry)] = Room(entry)
    return made


def _key(entry: Path | str) -> Path | str:
    return entry if isinstance(entry, Path) else "\n".join([*_working_folder(), entry])


def _working_folder() -> list[str]:
    """The working folder, or nothing where it was removed."""
    try:
        return [str(Path.cwd())]
    except FileNotFoundError:
        return []


def _as_python_would(path: Path) -> tuple[str, str, list[Path]]:
    """A file's module name, its package, and the folders that are searched first.

    A file by itself has a name that no other has. One with relative imports is part of a package.
    """
    above = [path.parent]
    while (above[-1] / "__init__.py").is_file() and above[-1] != above[-1].parent:
        above.append(above[-1].parent)
    level = is_relative(path)
    if level:
        root = path.parents[max(level, len(above) - 1)]
        package = ".".join(path.parent.relative_to(root).parts)
        return f"{package}.{path.stem}", package, [root, path.parent]
    content = hashlib.sha256(str(path).encode(errors="surrogateescape") + path.read_bytes()).hexdigest()[:8]
    return f"{path.stem}_{content}", "", list(dict.fromkeys([path.parent, above[-1]]))
