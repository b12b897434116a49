"""Code as data: a digest of a class, a function or a value that tells apart what computes differently.

It is taken from what is in memory, so that it needs no source, as in a notebook: bytecode, constants, defaults,
what a function encloses, and whatever of the user's own it names, at any depth. Bytecode differs between versions of
Python; a class that is given in Python is measured again under another.
"""

import dis
import functools
import hashlib
import sys
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from capsbench.sources.places import is_own

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), range, slice, PurePath, Enum)
DEEPEST = 100  # of a value inside a value; what is deeper is described by its class
BOOKKEEPING = {
    "__abstractmethods__",
    "__annotate__",
    "__annotate_func__",
    "__annotations_cache__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__module__",
    "__static_attributes__",
    "__weakref__",
    "_abc_impl",
}
"""Attributes of a class that say nothing about what it does."""

GLOBAL_NAMES = ("LOAD_GLOBAL", "LOAD_NAME", "IMPORT_NAME")


def described(thing: Any) -> str:
    """SHA-256, in hexadecimal digits, of everything that determines what a class, a function or a value does."""
    content = hashlib.sha256()
    for token in _Description().tokens(thing):
        content.update(f"{len(token)}:{token}".encode(errors="surrogateescape"))
    return content.hexdigest()


def readable(thing: Any) -> str:
    """A partial as it was written, ``Net(width=4)``; of a value that is not plain, the digest."""
    if isinstance(thing, functools.partial):
        values = [readable(value) for value in thing.args]
        values += [f"{key}={readable(value)}" for key, value in sorted(thing.keywords.items())]
        return f"{readable(thing.func)}({', '.join(values)})"
    if isinstance(thing, PLAIN):
        return repr(thing)
    if isinstance(thing, type | types.FunctionType | types.BuiltinFunctionType):
        return thing.__qualname__
    if isinstance(thing, list | tuple):
        return f"[{', '.join(map(readable, thing))}]"
    return described(thing)


class _Description:
    """Walks through a thing and what it refers to, each once."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no address is used twice
        self._depth = 0

    def tokens(self, thing: Any) -> Iterator[str]:
        if isinstance(thing, PLAIN):
            yield f"{type(thing).__qualname__} {thing!r}"
            return
        if not isinstance(thing, tuple | frozenset | types.CodeType):  # equal constants may or may not be one object
            if id(thing) in self._seen:
                yield f"again {self._seen[id(thing)]}"
                return
            self._seen[id(thing)] = len(self._seen)
            self._kept.append(thing)
        if self._depth == DEEPEST:
            yield _place(type(thing))
            return
        self._depth += 1
        yield from self._parts(thing)
        self._depth -= 1

    def _parts(self, thing: Any) -> Iterator[str]:
        if isinstance(thing, types.CodeType):
            yield from self._code(thing)
        elif isinstance(thing, types.FunctionType):
            yield from self._function(thing) if _is_users(thing) else [_place(thing)]
        elif isinstance(thing, type):
            yield from self._class(thing) if _is_users(thing) else [_place(thing)]
        elif isinstance(thing, types.ModuleType):
            yield f"module {thing.__name__}"
        elif isinstance(thing, list | tuple):
            yield f"{type(thing).__qualname__} of {len(thing)}"
            for one in thing:
                yield from self.tokens(one)
        elif isinstance(thing, set | frozenset):
            yield f"set {sorted(described(one) for one in thing)}"
        elif isinstance(thing, Mapping):
            yield f"{type(thing).__qualname__} of {len(thing)}"
            for key, value in thing.items():
                yield from self.tokens(key)
                yield from self.tokens(value)
        elif isinstance(thing, types.MethodType):
            yield "method"
            yield from self.tokens(thing.__func__)
            yield from self.tokens(thing.__self__)
        elif isinstance(thing, staticmethod | classmethod):
            yield type(thing).__qualname__
            yield from self.tokens(thing.__func__)
        elif isinstance(thing, property):
            yield "property"
            yield from self.tokens([thing.fget, thing.fset, thing.fdel])
        elif isinstance(thing, functools.partial):
            yield "partial"
            yield from self.tokens([thing.func, thing.args, dict(thing.keywords)])
        elif isinstance(thing, types.BuiltinFunctionType | types.WrapperDescriptorType | types.MethodDescriptorType):
            yield _place(thing)
        else:
            yield from self._instance(thing)

    def _code(self, code: types.CodeType) -> Iterator[str]:
        names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
        counts = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
        yield f"code {code.co_code.hex()} {names} {counts}"
        for constant in code.co_consts:
            yield from self.tokens(constant)

    def _function(self, function: types.FunctionType) -> Iterator[str]:
        yield f"function {function.__name__}"
        yield from self.tokens(function.__code__)
        yield from self.tokens([function.__defaults__, function.__kwdefaults__])
        for cell in function.__closure__ or ():
            try:
                yield from self.tokens(cell.cell_contents)
            except ValueError:  # not set yet
                yield "empty cell"
        if hasattr(function, "__wrapped__"):
            yield from self.tokens(function.__wrapped__)
        asked = sorted(_names(function.__code__, every=True))
        for name in sorted(_names(function.__code__)):
            if name in function.__globals__:
                yield f"global {name}"
                yield from self._named(function.__globals__[name], asked)
            elif _is_users(sys.modules.get(name)):  # imported inside the function
                yield from self._named(sys.modules[name], asked)

    def _named(self, thing: Any, names: list[str]) -> Iterator[str]:
        """What a global name stands for; of a module of the user's, what is asked of it."""
        yield from self.tokens(thing)
        if isinstance(thing, types.ModuleType) and _is_users(thing):
            for name in names:
                if name in vars(thing):
                    yield f"of {thing.__name__}: {name}"
                    yield from self._named(vars(thing)[name], names)

    def _class(self, kind: type) -> Iterator[str]:
        yield f"class {kind.__name__}"
        for base in kind.__bases__:
            yield from self.tokens(base)
        if type(kind) is not type:
            yield from self.tokens(type(kind))
        for name, value in sorted(vars(kind).items()):
            if name not in BOOKKEEPING and not isinstance(
                value, types.GetSetDescriptorType | types.MemberDescriptorType
            ):
                yield f"attribute {name}"
                yield from self.tokens(value)

    def _instance(self, thing: Any) -> Iterator[str]:
        yield f"instance of {_place(type(thing))}"
        if _is_users(type(thing)):
            yield from self.tokens(type(thing))
        for numbers in ("detach", "tobytes"):  # tensors and arrays
            if callable(getattr(thing, numbers, None)) and hasattr(thing, "shape"):
                yield from self._numbers(thing)
                return
        if hasattr(thing, "__wrapped__"):  # such as functools.cache
            yield from self.tokens(thing.__wrapped__)
            return
        try:
            reduced = thing.__reduce_ex__(4)  # what pickle would keep: a logger is its name, a lock is nothing
        except Exception:  # of anyone's class
            return
        if isinstance(reduced, str):
            yield reduced
        else:
            rest = [list(one) if hasattr(one, "__next__") else one for one in reduced[1:]]
            yield from self.tokens([reduced[0], *rest])

    @staticmethod
    def _numbers(thing: Any) -> Iterator[str]:
        if hasattr(thing, "detach"):
            array = thing.detach().cpu().flatten()
            content = array.view(sys.modules["torch"].uint8).numpy().tobytes()
        else:
            content = thing.tobytes()
        yield f"{thing.dtype} {tuple(thing.shape)} {hashlib.sha256(content).hexdigest()}"


def _names(code: types.CodeType, *, every: bool = False) -> set[str]:
    """The global names that a function's code and the functions inside it ask for; with ``every``, attributes too."""
    asked = {one.argval for one in dis.get_instructions(code) if one.opname in GLOBAL_NAMES}
    names = set(code.co_names) if every else asked
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant, every=every)
    return names


def _is_users(thing: Any) -> bool:
    """Whether a class, a function or a module is the user's own; one without a file is, as in a notebook."""
    if thing is None:
        return False
    module = thing if isinstance(thing, types.ModuleType) else sys.modules.get(getattr(thing, "__module__", None) or "")
    if module is None:  # its module is gone, or was never imported
        return True
    if module.__name__ == "__main__":
        return True
    file = getattr(module, "__file__", None)
    if file:
        return is_own(file)
    return module.__name__ not in sys.builtin_module_names and getattr(module, "__spec__", None) is None


def _place(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"
