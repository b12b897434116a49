"""Code without a file: each pair computes differently, and must not have one digest."""

import functools
import logging
from typing import Any

import numpy as np
import pytest
import torch

from capsbench.sources.described import described, readable

METHOD = "class Net:\n    def forward(self, x):\n        return "
PAIRS = {
    "a constant": (METHOD + "x + 1", METHOD + "x + 2"),
    "an operation": (METHOD + "x + 1", METHOD + "x - 1"),
    "an attribute": ("class Net:\n    width = 4", "class Net:\n    width = 8"),
    "a default": ("def Net(width=4): pass", "def Net(width=8): pass"),
    "a keyword's default": ("def Net(*, width=4): pass", "def Net(*, width=8): pass"),
    "a global number": ("W = 4\ndef Net(): return W", "W = 8\ndef Net(): return W"),
    "a global of an inner function": ("W = 4\ndef Net(): return lambda: W", "W = 8\ndef Net(): return lambda: W"),
    "a function that is called": (
        "def f(): return 1\ndef g(): return f()\ndef Net(): return g()",
        "def f(): return 2\ndef g(): return f()\ndef Net(): return g()",
    ),
    "a base": ("class B:\n    n = 1\nclass Net(B): pass", "class B:\n    n = 2\nclass Net(B): pass"),
    "what is enclosed": ("def m(n):\n    return lambda: n\nNet = m(1)", "def m(n):\n    return lambda: n\nNet = m(2)"),
    "a partial": (
        "import functools\nNet = functools.partial(dict, a=1)",
        "import functools\nNet = functools.partial(dict, a=2)",
    ),
    "a property": (
        "class Net:\n    @property\n    def n(self): return 1",
        "class Net:\n    @property\n    def n(self): return 2",
    ),
    "a static method": (
        "class Net:\n    @staticmethod\n    def n(): return 1",
        "class Net:\n    @staticmethod\n    def n(): return 2",
    ),
    "a cached function": (
        "import functools\n@functools.cache\ndef f(): return 1\ndef Net(): return f()",
        "import functools\n@functools.cache\ndef f(): return 2\ndef Net(): return f()",
    ),
    "a tensor": (
        "import torch\nT = torch.zeros(2)\ndef Net(): return T",
        "import torch\nT = torch.ones(2)\ndef Net(): return T",
    ),
    "a callable object": (
        "class F:\n    def __init__(self, n): self.n = n\n    def __call__(self): pass\nNet = F(1)",
        "class F:\n    def __init__(self, n): self.n = n\n    def __call__(self): pass\nNet = F(2)",
    ),
    "a layer": (
        "import torch\nL = torch.nn.LeakyReLU(0.1)\ndef Net(): return L",
        "import torch\nL = torch.nn.LeakyReLU(0.2)\ndef Net(): return L",
    ),
}


def made(code: str) -> Any:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(code, space)
    return space["Net"]


@pytest.mark.parametrize("what", PAIRS)
def test_what_computes_differently_is_told_apart(what: str) -> None:
    first, second = PAIRS[what]
    assert described(made(first)) != described(made(second))
    assert described(made(first)) == described(made(f"# a comment\n\nunused = 3\n{first}"))


def test_what_refers_to_itself_ends() -> None:
    code = "class Net:\n    def copy(self): return Net()\n    parts = []\nNet.parts.append(Net)\n"
    assert described(made(code)) == described(made(code))


def test_what_is_neither_code_nor_a_value_has_a_digest_that_stays() -> None:
    code = (
        "import logging, threading, re, random\n"
        "log, lock, form = logging.getLogger('x'), threading.Lock(), re.compile('a')\n"
        "def Net(): return log, lock, form, random.random"
    )
    before = described(made(code))
    logging.getLogger("another").setLevel(10)
    assert described(made(code)) == before


def test_values_of_every_dtype_are_told_apart() -> None:
    values = [torch.zeros(2, dtype=dtype) for dtype in (torch.bfloat16, torch.bool, torch.int8, torch.complex64)]
    values += [torch.zeros(()), torch.zeros(1), torch.zeros(0)]
    found = [described(value) for value in [*values, np.zeros(2), np.zeros(2, "f4"), {1, 2}, {1, 3}, [1], (1,)]]
    assert len(set(found)) == len(found)


def test_a_partial_reads_as_it_was_written() -> None:
    assert readable(functools.partial(functools.partial(dict, a=1), [2], b="c")) == "dict([2], a=1, b='c')"
