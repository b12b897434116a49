"""A user's code draws from the global generators of torch, NumPy and Python: seeded here, and put back afterwards."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

WORD = 2**32 - 1

State = dict[str, Any]


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Inside it, what torch, NumPy and Python draw depends on the seed alone; afterwards they go on as before.

    Args:
        seed: 0..2**64-1.
        device: ``"cuda"`` also seeds the present GPU, not the others.
    """
    before = state(device)
    try:
        random.seed(seed)
        np.random.seed(
            [seed & WORD, seed >> 32, 1]
        )  # with 1 its numbers are not those of Python, of the same algorithm
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every GPU, too
            if device == "cuda":
                torch.cuda.manual_seed(seed)
        yield
    finally:
        restore(before)


def state(device: str = "cpu") -> State:
    """Where the global generators are, as tensors and plain values."""
    name, words, *rest = np.random.get_state()
    found: State = {"python": random.getstate(), "numpy": [name, [int(word) for word in words], *rest]}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = torch.get_rng_state()
        if device == "cuda":
            found["cuda"] = torch.cuda.get_rng_state()
    return found


def restore(state: State) -> None:
    """Puts the generators back to where they were."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch = sys.modules.get("torch")
    if torch is not None and "torch" in state:
        torch.set_rng_state(state["torch"])
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"])
