"""Results of the suite mnist, made by hand: which of some test digits a network classified wrongly."""

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np

from capsbench.results.result import Result

DIGITS = 100


def point(wrong: Iterable[int], digits: int = DIGITS) -> dict[str, Any]:
    """What a result keeps of answers to ``digits`` images that were wrong at some places."""
    wrong = list(wrong)
    correct = np.ones(digits, np.bool_)
    correct[wrong] = False
    share = float(correct.mean())
    return {
        "share": share,
        "correct": int(correct.sum()),
        "total": digits,
        "interval": [share - 0.01, share + 0.01],
        "digits": digits,
        "answers": base64.b64encode(np.packbits(correct).tobytes()).decode(),
        "mistakes": "".join(f"{place % 10}{(place + 1) % 10}" for place in sorted(wrong)),
    }


def measured(network: str, wrong: Iterable[int] = (), seed: int = 0, **changes: Any) -> Result:
    """A result of a network."""
    tested = {"test": point(wrong)}
    content: dict[str, Any] = {
        "suite": "mnist",
        "version": 1,
        "preset": "small",
        "model": network,
        "label": network,
        "source": "",
        "seed": seed,
        "cell": f"{abs(hash_of(network, seed)):012x}",
        "settings": {"epochs": 2},
        "parameters": {},
        "digits": "embedded",
        "data": {"test": {"spec": {"split": "test", "count": DIGITS}, "digest": "d" * 64}},
        "metrics": {
            "parameters": 1000,
            "checkpoints": {"best": tested, "last": tested},
            "history": [{"epoch": 1.0, "accuracy": 0.8}, {"epoch": 2.0, "accuracy": 0.9}],
        },
        "seconds": 1.0,
        "environment": {"device": "cpu", "threads": 2, "torch": "2.11.0", "capsbench": "0.1.0"},
        "date": "2026-01-01T00:00:00+00:00",
    }
    return Result(**(content | changes))


def hash_of(network: str, seed: int) -> int:
    """A number for each network and seed, the same in every process."""
    return int.from_bytes(f"{network} {seed}".encode()[-5:], "big")
