"""Measures against what is known: sleeps, tensors of a stated size, the order of turns."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from capsbench.system import memory
from capsbench.system.timing import (
    GEMM_SIDE,
    MIN_ROUNDS,
    PROBE,
    REPEATS,
    SCRATCH_BYTES,
    Timed,
    contest,
    duration,
    fit,
    machine_rates,
    minima,
)


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


def test_rates_are_those_of_a_machine() -> None:
    rates = machine_rates("cpu", torch.float32, seconds=0.01)
    assert 1e9 < rates.flops < 1e14
    assert 1e8 < rates.bytes < 1e12


class Hungry:
    """Has memory for some images at most, and notes how many it was asked for."""

    def __init__(self, limit: int, *, early: bool = False) -> None:
        self.limit = limit
        self.early = early
        self.asked: list[int] = []

    def __call__(self, batch: int) -> Callable[[], object]:
        self.asked.append(batch)
        if self.early:
            self.refuse(batch)
        return partial(self.refuse, batch)

    def refuse(self, batch: int) -> None:
        if batch > self.limit:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(
    ("limit", "batch", "expected"),
    [(100, 100, 100), (99, 100, 50), (30, 100, 25), (7, 100, 6), (1, 100, 1), (0, 100, 0), (8, 8, 8), (3, 8, 2)],
)
def test_images_are_halved_until_they_fit(limit: int, batch: int, expected: int, early: bool) -> None:
    (timed,) = contest([Hungry(limit, early=early)], batch=batch, seconds=0, device="cpu")
    assert timed.batch == expected
    assert (timed.seconds > 0) is bool(expected)


def test_who_has_no_memory_for_one_image_does_not_stop_the_others() -> None:
    timed = contest([Hungry(99), Hungry(0), Hungry(5)], batch=16, seconds=0, device="cpu")
    assert [one.batch for one in timed] == [16, 0, 4]
    assert timed[1] == Timed(batch=0, seconds=0.0, peak_bytes=0)


def test_what_is_known_to_fit_is_not_tried_with_fewer_images_first() -> None:
    first, second = Hungry(99), Hungry(99)
    timed = contest([first, second], batch=64, seconds=0, device="cpu", tried={1: 32})
    assert [one.batch for one in timed] == [64, 32]
    assert (first.asked, second.asked) == ([PROBE, 64], [32])


@pytest.mark.parametrize("batch", [PROBE, PROBE + 1])
def test_other_errors_are_not_taken_for_a_lack_of_memory(batch: int) -> None:
    def broken() -> object:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        contest([lambda _: broken], batch=batch, seconds=0, device="cpu")


class Eater:
    """Takes 64 KiB for each image, and once 8 MiB that it keeps; notes how many images it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, batch: int) -> Callable[[], object]:
        self.asked.append(batch)
        kept: list[torch.Tensor] = []

        def run() -> object:
            if not kept:
                kept.append(torch.ones(2 << 20))
            return torch.ones(batch, 16 << 10).sum()

        return run


@pytest.mark.parametrize(
    ("kibibytes", "tried"),
    [
        (128 * 64 / 0.8 + 1000, [PROBE, 128]),
        (128 * 64 / 0.8 - 1000, [PROBE, 64]),
        (32 * 64 / 0.8 + 200, [PROBE, 32]),
        (1, [PROBE, PROBE]),  # that so many fit is known
    ],
)
def test_more_than_there_is_memory_for_is_not_even_tried(
    monkeypatch: pytest.MonkeyPatch, kibibytes: float, tried: list[int]
) -> None:
    monkeypatch.setattr(memory, "available", lambda device: kibibytes * 1024)
    eater = Eater()
    run, batch, peak = fit(eater, 128, "cpu")
    assert run is not None and eater.asked == tried and batch == tried[-1]
    assert 0 <= peak - batch * (64 << 10) < 1024  # what is kept does not count


class Recorder:
    """Records functions as a GPU would: what is recorded runs at once, without the nap that a call takes first."""

    def __init__(self, *, refused: str = "") -> None:
        self.repeated: list[str] = []
        self.refused = refused

    def __call__(self, run: Callable[[], object]) -> Callable[[], object]:
        name = run.keywords["name"]  # type: ignore[attr-defined]  # a partial
        if name == self.refused:
            raise RuntimeError("operation not permitted when stream is capturing")
        return partial(self.repeated.append, name)


def nap(batch: int, *, name: str) -> Callable[[], object]:
    return partial(lambda name: time.sleep(0.01), name=name)


def test_what_is_recorded_is_timed_without_the_call_and_beside_it() -> None:
    recorder = Recorder()
    contestants = [partial(nap, name="one"), partial(nap, name="other")]
    for timed in contest(contestants, batch=4, seconds=0, device="cpu", capture=recorder):
        assert 0 < timed.seconds < 0.001 and timed.eager_seconds >= 0.01 and timed.batch == 4
    turn = ["one"] * REPEATS + ["other"] * REPEATS
    assert recorder.repeated == turn * (1 + MIN_ROUNDS)


def test_what_cannot_be_recorded_is_timed_by_its_calls() -> None:
    contestants: list[Any] = [partial(nap, name="one"), partial(nap, name="other"), Hungry(0)]
    one, other, none = contest(contestants, batch=4, seconds=0, device="cpu", capture=Recorder(refused="one"))
    assert one.seconds >= 0.01 and one.eager_seconds == 0
    assert other.seconds < 0.001 and other.eager_seconds >= 0.01
    assert none == Timed(batch=0, seconds=0.0, peak_bytes=0)


def test_nothing_to_time_takes_no_time() -> None:
    begun = time.perf_counter()
    assert minima({}, seconds=60, device="cpu") == {}
    assert time.perf_counter() - begun < 1


def test_rates_of_float32_are_measured_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[bool] = []
    mm = torch.mm

    def watched(*operands: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        allowed.append(torch.backends.cudnn.allow_tf32)
        return mm(*operands, out=out)

    monkeypatch.setattr(torch, "mm", watched)
    monkeypatch.setitem(GEMM_SIDE, "cpu", 8)
    monkeypatch.setitem(SCRATCH_BYTES, "cpu", 64)
    for dtype, expected in ((torch.float32, False), (torch.bfloat16, True)):
        allowed.clear()
        machine_rates("cpu", dtype, seconds=0)
        assert set(allowed) == {expected}


@pytest.mark.parametrize(("seconds", "sides"), [(1.0, [256, 512, 1024]), (0.0, [256]), (1e9, [256, 512, 1024, 2048])])
def test_matrices_grow_only_while_a_slow_machine_has_time_for_their_products(
    seconds: float, sides: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one product of sides of 256 takes 5 ms, and after each doubling eight times as long: 40, 320, 2,560 ms."""
    asked: list[int] = []

    def slow(runs: dict[str, "partial[torch.Tensor]"], *, seconds: float, device: str) -> dict[str, float]:
        (name,) = runs
        if name == "gemm":
            asked.append(len(runs[name].args[0]))
            return {name: 0.005 * (asked[-1] / 256) ** 3}
        return {name: 1.0}

    monkeypatch.setattr("capsbench.system.timing.minima", slow)
    monkeypatch.setitem(SCRATCH_BYTES, "cpu", 64)
    rates = machine_rates("cpu", torch.bfloat16, seconds=seconds)
    assert asked == sides
    assert rates.flops == pytest.approx(2 * 256**3 / 0.005)


def test_few_images_are_tried_at_once() -> None:
    eater = Eater()
    assert fit(eater, PROBE, "cpu")[1] == PROBE
    assert eater.asked == [PROBE]


def test_contestants_take_turns_with_what_was_made_ready() -> None:
    turns: list[tuple[str, int]] = []

    def prepare(name: str, batch: int) -> Callable[[], object]:
        def run() -> None:
            turns.append((name, batch))
            time.sleep({"short": 0.002, "long": 0.05}[name])

        return run

    short, long = contest([partial(prepare, "short"), partial(prepare, "long")], batch=4, seconds=0, device="cpu")
    assert turns[-2 * MIN_ROUNDS :] == [("short", 4), ("long", 4)] * MIN_ROUNDS
    assert 0.002 <= short.seconds < 0.05 <= long.seconds
    assert short.batch == long.batch == 4


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5300, "88 min"), (5400, "1 h 30 min")]
)
def test_durations_are_one_or_two_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text
