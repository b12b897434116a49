"""Measures against what is known: sleeps, tensors of a stated size, the order of turns."""

import time
from functools import partial

import pytest
import torch

from capsbench.measuring import MIN_ROUNDS, available_memory, is_out_of_memory, machine_rates, minima, peak_memory


def test_minima_are_of_turns_that_alternate() -> None:
    turns: list[str] = []
    naps = {"short": iter([0.0, 0.03, 0.01, 0.03]), "long": iter([0.0, 0.05, 0.05, 0.05])}

    def contestant(name: str) -> None:
        turns.append(name)
        time.sleep(next(naps[name]))

    found = minima({name: partial(contestant, name) for name in naps}, seconds=0, device="cpu")
    assert turns == ["short", "long"] * (1 + MIN_ROUNDS)
    assert 0.01 <= found["short"] < 0.03 and found["long"] >= 0.05  # the warm-up, which was shorter, does not count


def test_rounds_end_with_the_time_or_their_number() -> None:
    calls: list[int] = []
    minima({"one": lambda: calls.append(0)}, seconds=60, device="cpu", rounds=7)
    assert len(calls) == 1 + 7
    calls.clear()

    def nap() -> None:
        calls.append(0)
        time.sleep(0.02)

    minima({"one": nap}, seconds=0.2, device="cpu")
    assert MIN_ROUNDS < len(calls) <= 12


def test_peak_memory_is_the_most_at_any_time() -> None:
    kept = torch.ones(1 << 20)  # was there before

    def function() -> object:
        first = kept + 1  # 4 MiB
        second = first.repeat(2)  # 8 MiB beside it
        del first
        return second[: 1 << 20].clone()  # 4 MiB beside that

    assert 0 <= peak_memory(function, "cpu") - (12 << 20) < 1024


def test_rates_are_those_of_a_machine() -> None:
    rates = machine_rates("cpu", torch.float32, seconds=0.01)
    assert 1e9 < rates.flops < 1e14
    assert 1e8 < rates.bytes < 1e12


def test_memory_is_there() -> None:
    assert 1 << 26 < available_memory("cpu") < 1 << 50


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
    ],
)
def test_which_errors_say_that_memory_ran_out(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
