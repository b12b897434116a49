"""Capsbench's own code that weights depend on: kept weights are those of this code, or the network is trained again.

Comments and documentation do not count, nor do tests and metrics: those may change, and kept weights are measured
again.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NETWORKS = "capsbench.models"

TRAINING = (
    "capsbench.building",
    "capsbench.contracts",
    "capsbench.data.loading",
    "capsbench.data.samples",
    "capsbench.evaluation.inference",
    "capsbench.evaluation.predictions",
    "capsbench.randomness",
    "capsbench.scoring",
    "capsbench.sources.seeding",
    "capsbench.system.convolutions",
    "capsbench.system.ranks",
    "capsbench.training.capture",
    "capsbench.training.config",
    "capsbench.training.plain",
    "capsbench.training.step",
    "capsbench.training.together",
    "capsbench.training.trainer",
)
"""The modules that build, train and select; what data show stands in their spec."""


def code_of(network: Any) -> str:
    """SHA-256 of the code of capsbench that a network's weights depend on.

    Args:
        network: Its class or function. One that ships brings in the modules that it imports, at any depth; of a user's
            own, which may import any network that ships, all of them count.
    """
    module = str(getattr(network, "__module__", ""))
    return _code_behind(module if module.startswith(f"{NETWORKS}.") else "")


@cache
def _code_behind(module: str) -> str:
    """The same by the module of a network that ships; of all of them where it is empty."""
    return _digest((*TRAINING, *sorted(_with_imported([module] if module else _every_network()))))


def _every_network() -> list[str]:
    folder = _path(NETWORKS).parent
    names = (path.relative_to(folder).with_suffix("").parts for path in sorted(folder.rglob("*.py")))
    return [".".join([NETWORKS, *name]) for name in names if name[-1] != "__init__"]


def _with_imported(modules: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found and find_spec(name) is not None:
            found.add(name)
            waiting += _imports(name)
    return found


@cache
def _imports(module: str) -> list[str]:
    """The modules among the networks that one imports, in functions too."""
    package = module if _path(module).name == "__init__.py" else module.rpartition(".")[0]
    found = []
    for node in ast.walk(_parsed(module)):
        if isinstance(node, ast.ImportFrom):
            start = f"{package}.{node.module}" if node.level else str(node.module)
            found += [start, *(f"{start}.{alias.name}" for alias in node.names if _is_module(start, alias.name))]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.startswith(f"{NETWORKS}.")]


def _is_module(package: str, name: str) -> bool:
    if not package.startswith(NETWORKS):
        return False
    folder = _path(package).parent
    return _path(package).name == "__init__.py" and ((folder / f"{name}.py").exists() or (folder / name).is_dir())


def _digest(modules: Iterable[str]) -> str:
    content = hashlib.sha256()
    for module in modules:
        content.update(f"{module}\n{_code(module)}\n".encode())
    return content.hexdigest()


@cache
def _code(module: str) -> str:
    """A module without comments and documentation; networks have most of their modules in common."""
    tree = _parsed(module)
    for node in _documented(tree):
        node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _documented(tree: ast.Module) -> Iterator[Any]:
    """Whatever begins with a docstring."""
    for node in ast.walk(tree):
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                if ast.get_docstring(node, clean=False) is not None:
                    yield node


def _parsed(module: str) -> ast.Module:
    return ast.parse(_path(module).read_bytes())


def _path(module: str) -> Path:
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None, module
    return Path(spec.origin)
