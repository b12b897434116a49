"""The global generators of torch, NumPy and Python: seeded for a user's code, and put back."""

import random

import numpy as np
import pytest
import torch

from capsbench.sources import seeding


def drawn() -> list[float]:
    return [
        random.random(),
        random.gauss(),
        np.random.rand(),
        np.random.randn(),
        float(torch.rand(())),
        float(torch.randn(())),
    ]


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_what_is_drawn_depends_on_the_seed_alone(seed: int) -> None:
    found = []
    for _ in range(2):
        drawn()
        with seeding.seeded(seed):
            found.append(drawn())
    assert found[0] == found[1]
    assert len(set(found[0])) == len(found[0])
    with seeding.seeded(seed ^ 1):
        assert not set(drawn()) & set(found[0])


@pytest.mark.parametrize(
    "numpy",
    [
        [],
        ["PCG64", [1] * 624, 0, 0, 0.0],
        ["MT19937", [1] * 623, 0, 0, 0.0],
        ["MT19937", [1] * 624, 625, 0, 0.0],
        ["MT19937", [1] * 624, -1, 0, 0.0],
        ["MT19937", [2**32] * 624, 0, 0, 0.0],
        ["MT19937", [0] * 624, 0, 0, 0.0],
    ],
    ids=["empty", "another generator", "short", "past its end", "before its beginning", "too large", "zeros"],
)
def test_a_state_that_is_none_is_refused_and_changes_nothing(numpy: list[object]) -> None:
    before = seeding.state()
    with pytest.raises(ValueError):
        seeding.restore(before | {"numpy": numpy})
    expected = drawn()
    seeding.restore(before)
    assert drawn() == expected


def test_the_generators_go_on_as_before() -> None:
    random.gauss(), np.random.randn()  # each keeps a second number for the next call
    before = seeding.state()
    expected = drawn()
    seeding.restore(before)
    with pytest.raises(RuntimeError), seeding.seeded(5):
        drawn()
        raise RuntimeError
    assert drawn() == expected
