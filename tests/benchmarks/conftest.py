"""One thread for every contestant, and ratios of minima from alternating runs, printed when the benchmarks have run."""

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import h5py
import numpy
import pytest
import torch
from tabulate import tabulate

ROUNDS = 15  # of each contestant, in turns; the minimum of so many is steady to a few percent

RATIOS = pytest.StashKey[list[tuple[str, str, float, float | None]]]()

Alternate = Callable[..., dict[str, float]]
"""Contestants, with ``gates`` and ``work``, to the minimum of each; see `alternate`."""


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
def alternate(benchmark: Any, request: pytest.FixtureRequest) -> Alternate:
    """Runs contestants in turns and gives the minimum of each in seconds; the first is ours and is held to the others.

    A contestant is handed the number of its round, so that no two rounds see the same samples. The rounds of ours are
    pytest-benchmark's, and the others run between them. Where benchmarks are disabled each runs once.

    ``gates`` says how many times as fast as another contestant ours must be at least; it is asserted where benchmarks
    are enabled. ``work`` says how much a contestant does in a round where they do not do the same; its minimum is that
    of one piece of work. ``tidy`` clears up after each, which is nobody's time;
    ``rounds`` is for what takes seconds.
    """

    def run(
        contestants: Mapping[str, Callable[[int], object]],
        *,
        gates: Mapping[str, float] | None = None,
        work: Mapping[str, int] | None = None,
        tidy: Callable[[], None] = lambda: None,
        rounds: int = ROUNDS,
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

        benchmark.pedantic(timed, args=(ours,), setup=others_first, rounds=rounds, warmup_rounds=1)
        if benchmark.enabled:
            found = request.config.stash.setdefault(RATIOS, [])
            ratios = {name: minima[name] / minima[ours] for name in others}
            benchmark.extra_info["ours"] = ours
            benchmark.extra_info["times as fast"] = {name: round(ratio, 2) for name, ratio in ratios.items()}
            benchmark.extra_info["at least"] = dict(asked)
            found += [(f"{benchmark.group}: {ours}", name, ratio, asked.get(name)) for name, ratio in ratios.items()]
            slow = {name: round(ratio, 2) for name, ratio in ratios.items() if ratio < asked.get(name, 0)}
            assert not slow, f"{benchmark.group} is to be {dict(asked)} times as fast; it is {slow}"
        return minima

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the ratios of all benchmarks that ran."""
    rows = config.stash.get(RATIOS, [])
    if rows:
        terminalreporter.section("ratios of minima of alternating runs")
        terminalreporter.write_line(tabulate(rows, ("ours", "against", "times as fast", "at least"), floatfmt=".2f"))


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
