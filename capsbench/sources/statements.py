"""The modules that a file's import statements name, in functions too, found without running anything."""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

from capsbench.sources.places import is_own


@dataclass(frozen=True)
class Named:
    """A module: its name, its file, and the package that its relative imports start from (empty for none)."""

    name: str
    path: Path
    package: str


def is_relative(path: Path) -> int:
    """How many folders the relative imports of a file go up; 0 if there are none."""
    return max((node.level for node in ast.walk(_parsed(path)) if isinstance(node, ast.ImportFrom)), default=0)


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


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):  # importing it says what is wrong
        return ast.Module([], [])


def _names(here: Named) -> Iterator[str]:
    for node in ast.walk(_parsed(here.path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = here.package.split(".") if here.package else []
            if node.level > len(package):
                continue
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield start
            yield from (f"{start}.{alias.name}" for alias in node.names if alias.name != "*")


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
