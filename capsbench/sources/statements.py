"""The modules that a file's import statements name, in functions too, found without running anything."""

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path

from capsbench.sources.places import is_own

Statement = tuple[int, str, tuple[str, ...]]
"""Of an import: how many folders it goes up, the module that it names (empty for none), and what it takes from that."""


@dataclass(frozen=True)
class Named:
    """A module: its name, its file, and the package that its relative imports start from (empty for none)."""

    name: str
    path: Path
    package: str


def is_relative(path: Path) -> int:
    """How many folders the relative imports of a file go up; 0 if there are none."""
    return max((level for level, _, _ in _statements(path)), default=0)


def modules_named_in(files: Iterable[Named]) -> dict[str, Named]:
    """The user's own modules that files name in their imports, and those that they name, at any depth.

    Args:
        files: Files of Python; their own names are not looked at.
    """
    found: dict[str, Named] = {}
    known: dict[str, ModuleSpec | None] = {}
    waiting = list(files)
    while waiting:
        here = waiting.pop()
        for name in _names(here):
            for part in _with_parents(name):
                spec = _spec(part, known)
                if spec is None or part in found or not _is_source(spec):
                    continue
                inside = part if spec.submodule_search_locations is not None else part.rpartition(".")[0]
                found[part] = Named(part, Path(str(spec.origin)), inside)
                waiting.append(found[part])
    return found


def spec_of(name: str) -> ModuleSpec | None:
    """Where a module would be imported from, without importing its parents."""
    return _spec(name, {})


def _statements(path: Path) -> Sequence[Statement]:
    try:
        return _statements_in(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):  # importing it says what is wrong
        return ()


@lru_cache(maxsize=256)
def _statements_in(content: bytes) -> Sequence[Statement]:
    """The import statements of a file: a run goes through the same ones for each of its cells."""
    found: list[Statement] = []
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
    return tuple(found)


def _names(here: Named) -> Iterator[str]:
    package = here.package.split(".") if here.package else []
    for level, module, members in _statements(here.path):
        if level > len(package):
            continue
        base = package[: len(package) - level + 1] if level else []
        start = ".".join([*base, *([module] if module else [])])
        yield start
        yield from (f"{start}.{member}" for member in members if member != "*")


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:number]) for number in range(1, len(parts) + 1)]


def _spec(name: str, known: dict[str, ModuleSpec | None]) -> ModuleSpec | None:
    if name not in known:
        known[name] = None  # of a module that is being found already
        top, _, rest = name.partition(".")
        if top in sys.stdlib_module_names or top == "capsbench" or not all(name.split(".")):
            return None
        path = None
        if rest:
            parent = _spec(name.rpartition(".")[0], known)
            if parent is None or parent.submodule_search_locations is None:
                return None
            if parent.origin and not is_own(parent.origin):  # what an installed package contains is installed, too
                return None
            path = list(parent.submodule_search_locations)
        known[name] = _found(name, path)
    return known[name]


def _found(name: str, path: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path)
        except Exception:  # a finder of anyone's
            continue
        if spec is not None:
            return spec
    return None


def _is_source(spec: ModuleSpec) -> bool:
    return bool(spec.has_location and spec.origin and is_own(spec.origin))
