"""One thread for every contestant, minima of alternating rounds, and one table of all ratios when they have run."""

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy
import pytest
import torch
from tabulate import tabulate

ROUNDS = 15  # of each contestant, in turns; the minimum of so many is steady to a few percent
FEWEST = 3  # beside the first, where a round takes seconds: what disturbs a machine is shorter than that
ENOUGH = 7.0  # seconds of rounds


@dataclass(frozen=True)
class Comparison:
    """One line of the table that the benchmarks end with.

    Attributes:
        what: What both did.
        ours: The name of ours.
        against: The name of the other.
        measure: What the ratio is of: ``"time"``, ``"memory"`` or ``"bytes"``; less is better.
        ratio: How many times as much the other takes.
        gate: The least ratio that is accepted; None accepts any.
    """

    what: str
    ours: str
    against: str
    measure: str
    ratio: float
    gate: float | None

    @property
    def holds(self) -> bool:
        """Whether the gate is reached."""
        return self.gate is None or self.ratio >= self.gate


COMPARED = pytest.StashKey[list[Comparison]]()
HEADERS = ("what", "ours", "against", "measure", "ratio", "gate", "holds")

Alternate = Callable[..., dict[str, float]]
"""Contestants, with ``gates`` and ``work``, to the minimum of each; see `alternate`."""

Compare = Callable[..., None]
"""``compare(ours, against, ratio, gate, measure="time")``; see `compare`."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch and OpenCV use one thread, for the others have but one."""
    cv2 = importlib.import_module("cv2") if importlib.util.find_spec("cv2") else None
    before = torch.get_num_threads(), cv2.getNumThreads() if cv2 else 0
    torch.set_num_threads(1)
    if cv2:
        cv2.setNumThreads(1)
    yield
    torch.set_num_threads(before[0])
    if cv2:
        cv2.setNumThreads(before[1])


@pytest.fixture
def compare(benchmark: Any, request: pytest.FixtureRequest) -> Compare:
    """Where benchmarks are enabled, notes a ratio for the table in the end; a gate that it misses fails the test."""

    def note(ours: str, against: str, ratio: float, gate: float | None = None, *, measure: str = "time") -> None:
        if benchmark.enabled:
            found = Comparison(benchmark.group, ours, against, measure, ratio, gate)
            for stash in (request.config.stash, request.node.stash):
                stash.setdefault(COMPARED, []).append(found)

    return note


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test fails for its gates when it has noted every ratio."""
    yield
    missed = [one for one in item.stash.get(COMPARED, []) if not one.holds]
    if missed:
        pytest.fail("\n".join(f"{one.against}: {one.measure} {one.ratio:.2f}, gate {one.gate}" for one in missed))


@pytest.fixture
def alternate(benchmark: Any, compare: Compare) -> Alternate:
    """Runs contestants in turns and gives the minimum of each in seconds; the first is ours and is compared with all.

    A contestant is handed the number of its round, so that no two rounds see the same samples. The rounds of ours are
    pytest-benchmark's, and the others run between them. Where benchmarks are disabled each runs once.

    ``gates`` says how many times as fast as another contestant ours must be at least. ``work`` says how much a
    contestant does in a round where they do not do the same; its minimum is that of one piece of work. ``tidy`` clears
    up after each, which is nobody's time. There are `ROUNDS` rounds, or as many as `ENOUGH` seconds have room for.
    """

    def run(
        contestants: Mapping[str, Callable[[int], object]],
        *,
        gates: Mapping[str, float] | None = None,
        work: Mapping[str, int] | None = None,
        tidy: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        asked, pieces = gates or {}, work or {}
        ours, *others = contestants
        minima = dict.fromkeys(contestants, float("inf"))
        turn = -1

        def timed(name: str) -> None:
            begun = time.perf_counter()
            contestants[name](turn)
            minima[name] = min(minima[name], (time.perf_counter() - begun) / pieces.get(name, 1))

        def others_first() -> None:
            nonlocal turn
            turn += 1
            tidy()
            for name in others:
                timed(name)
                tidy()

        rounds = ROUNDS
        if benchmark.enabled:
            for _ in range(2):  # the first warms up and compiles, the second says how long a round takes
                begun = time.perf_counter()
                others_first()
                timed(ours)
                seconds = time.perf_counter() - begun
                rounds = min(ROUNDS, max(FEWEST, int(ENOUGH / seconds)))
                if seconds > ENOUGH:  # a round more would say the same
                    break
        benchmark.pedantic(timed, args=(ours,), setup=others_first, rounds=rounds)
        ratios = {name: minima[name] / minima[ours] for name in others}
        for name, ratio in ratios.items():
            compare(ours, name, ratio, asked.get(name))
        if benchmark.enabled:
            benchmark.extra_info["ours"] = ours
            benchmark.extra_info["times as fast"] = {name: round(ratio, 2) for name, ratio in ratios.items()}
            benchmark.extra_info["at least"] = dict(asked)
        return minima

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints a line for each comparison."""
    found = config.stash.get(COMPARED, [])
    if found:
        terminalreporter.section("ours against others: how many times as much they take, minima of alternating rounds")
        rows = [
            (one.what, one.ours, one.against, one.measure, one.ratio, one.gate,
             "" if one.gate is None else "yes" if one.holds else "NO")
            for one in found
        ]  # fmt: skip
        terminalreporter.write_line(tabulate(rows, HEADERS, floatfmt=".2f"))
        terminalreporter.write_line(f"{sum(one.holds for one in found)} of {len(found)} hold.")


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    """Of a file that is kept (``--benchmark-json``) leaves what documents show, and on what it was measured."""
    machine = output_json["machine_info"]
    kept = {
        "date": output_json["datetime"],
        "cpu": machine["cpu"].get("brand_raw"),
        "cores": machine["cpu"].get("count"),
        "python": machine["python_version"],
        "numpy": numpy.__version__,
        "h5py": h5py.__version__,
        "torch": torch.__version__,
        "benchmarks": [
            {"group": one["group"], "name": one["name"], **one["extra_info"], "seconds": one["stats"]["min"]}
            for one in output_json["benchmarks"]
        ],
    }
    output_json.clear()
    output_json.update(kept)
