"""A user's code draws from the global generators of torch, NumPy and Python: seeded here, and put back afterwards."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WORD = 2**32 - 1
WORDS = 624  # of the state of the Mersenne twister, beside the position in it

State = dict[str, Any]


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Inside it, what torch, NumPy and Python draw depends on the seed alone; afterwards they go on as before.

    Args:
        seed: 0..2**64-1.
        device: ``"cuda"`` also seeds the present GPU, not the others.
    """
    import numpy as np  # takes a tenth of a second, and `capsbench list` draws nothing

    before = state(device)
    try:
        random.seed(seed)
        # With the 1 its numbers are not those of Python, which has the same algorithm.
        np.random.seed([seed & WORD, seed >> 32, 1])
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
    import numpy as np

    name, words, *rest = np.random.get_state()
    found: State = {"python": random.getstate(), "numpy": [name, [int(word) for word in words], *rest]}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = torch.get_rng_state()
        if device == "cuda":
            found["cuda"] = torch.cuda.get_rng_state()
    return found


def restore(state: State) -> None:
    """Puts the generators back to where they were.

    Raises:
        ValueError: It is no state of theirs. NumPy 1.26 would end the process, and with zeros alone draw for ever.
    """
    import numpy as np

    name, words, position, has_gauss, gauss = state["numpy"]
    fits = len(words) == WORDS and any(words) and all(0 <= word <= WORD for word in words)
    if name != "MT19937" or not fits or not 0 <= position <= WORDS:
        raise ValueError("this is no state of NumPy's generator")
    np.random.set_state((name, np.array(words, np.uint32), position, has_gauss, gauss))
    version, numbers, next_gauss = state["python"]
    random.setstate((version, tuple(numbers), next_gauss))
    torch = sys.modules.get("torch")
    if torch is not None and "torch" in state:
        torch.set_rng_state(state["torch"])
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"])
