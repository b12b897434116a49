"""The throughput suite: its gate, what it times, and its table and charts with numbers worked by hand."""

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from capsbench.bench.planning import plan_run
from capsbench.bench.running import Outcome, run_plan
from capsbench.building import build
from capsbench.contracts import silent
from capsbench.errors import DataFileError, ParameterError, UnknownNameError
from capsbench.models.routing.reference import route_reference
from capsbench.models.routing.route import IMPLEMENTATIONS
from capsbench.report import groups
from capsbench.report.charts import Chart
from capsbench.report.pages import render
from capsbench.results.result import Result, load_result
from capsbench.suites import throughput_timing
from capsbench.suites.throughput import Throughput, ThroughputSettings
from capsbench.suites.throughput_timing import COMPILED
from capsbench.system import memory
from capsbench.system.timing import PROBE, Rates
from capsbench.training.profiling import Conditions, step_rows
from capsbench.training.rows import Row

RATES = Rates(flops=1e11, bytes=1e10)


def charts(results: Sequence[Result]) -> list[Chart]:
    """The suite's figures: charts, all of them."""
    made = groups.charts(results)
    found = [one for one in made if isinstance(one, Chart)]
    assert found == made
    return found


@pytest.fixture(autouse=True)
def known_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine's rates take a second to measure, and memory half of a run: `ran` and tests/system do."""

    def peak(run: Callable[[], object], device: str) -> int:
        run()
        return 1

    monkeypatch.setattr(throughput_timing, "machine_rates", lambda device, dtype: RATES)
    monkeypatch.setattr(memory, "peak", peak)


@pytest.fixture
def routing_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network that is timed only its routing is: its parts and its training steps take most of a run."""
    for others in ("part_rows", "step_rows"):
        monkeypatch.setattr(throughput_timing, others, lambda *arguments: iter([]))


def run(out: Path, *models: str, **changes: str) -> Outcome:
    """The preset smoke, and of it only as much as is needed."""
    stated = {"precisions": "fp32", "iterations": "3"} | changes
    return run_plan(plan_run("throughput", models=models, preset="smoke", device="cpu", changes=stated, out=out))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Result]]:
    """A whole run of a network with capsules and one without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throughput_timing, "machine_rates", lambda device, dtype: RATES)
        changes = {"precisions": "fp32,bf16", "iterations": "1,3", "cnn.preset": "small", "cnn.padding": "same"}
        outcome = run(tmp_path_factory.mktemp("ran"), "capsnet", "cnn", **changes)
    assert not outcome.failed
    for path, result in zip(outcome.paths, outcome.results, strict=True):
        assert load_result(path).metrics == result.metrics  # plain JSON
    yield {result.model: result for result in outcome.results}


PARTS_OF_CAPSNET = [
    *product(["routing"], ["forward"], [""], ["reference", "blocked"], [1, 3]),
    *product(["routing"], ["forward + backward"], ["exact", "detached"], ["reference", "blocked"], [1, 3]),
    *product(["convolution", "primary", "decoder"], ["forward + backward"], [""], [""], [0]),
    *product(["network"], ["forward", "training step"], [""], ["auto", "reference"], [0]),
]
PARTS_OF_CNN = [
    *product(["features", "classifier"], ["forward + backward"], [""], [""], [0]),
    *product(["network"], ["forward", "training step"], [""], [""], [0]),
]


@pytest.mark.parametrize(("model", "expected"), [("capsnet", PARTS_OF_CAPSNET), ("cnn", PARTS_OF_CNN)])
def test_everything_is_timed_once(ran: dict[str, Result], model: str, expected: list[tuple[Any, ...]]) -> None:
    rows = [Row(**row) for row in ran[model].metrics["rows"]]
    found = [(row.part, row.what, row.gradient, row.implementation, row.iterations, row.precision) for row in rows]
    assert sorted(found) == sorted((*one, precision) for one in expected for precision in ("fp32", "bf16"))
    for row in rows:
        assert row.image_size == 28 and row.batch == row.asked == 8
        assert 0 < row.seconds < 10 and row.peak_bytes > 0
        assert row.bytes_share > 0 and math.isfinite(row.bytes_share)
        assert row.flops_share > 0 and math.isfinite(row.flops_share)


def test_operations_are_the_references_whoever_computes(ran: dict[str, Result]) -> None:
    rows = [Row(**row) for row in ran["capsnet"].metrics["rows"] if row["precision"] == "fp32"]
    votes = 2 * 8 * 10 * 16 * 8  # of 8 capsules of 8 dimensions, for 10 of 16
    sums = votes / 8  # and each sum of votes, and each agreement
    expected = {
        ("", 1): votes + sums,
        ("", 3): votes + 5 * sums,  # three sums and two agreements
        ("detached", 1): 3 * votes + 2 * sums,  # the couplings are constant
        ("detached", 3): 3 * votes + 6 * sums,
        ("exact", 1): 3 * votes + 2 * sums,
        ("exact", 3): 3 * votes + (5 + 9) * sums,  # each of the five two gradients, but the first couplings none
    }
    elements = 8 * 8 + 10 * 16 + 8 * 10 * 16 * 8 / 8  # the matrices cross once for eight images
    for row in (row for row in rows if row.part == "routing"):
        each = row.seconds / row.batch
        assert row.flops_share * RATES.flops * each == pytest.approx(expected[row.gradient, row.iterations])
        assert row.bytes_share * RATES.bytes * each == pytest.approx(4 * elements * (3 if row.gradient else 1))


def test_a_result_says_how_near_to_the_truth_what_was_timed_is(ran: dict[str, Result]) -> None:
    found = ran["capsnet"].metrics
    assert set(found["equality"]) == {
        f"{name}, {gradient}, {precision}"
        for name, gradient, precision in product(["reference", "blocked"], ["exact", "detached"], ["fp32", "bf16"])
    }
    assert all(0 <= error <= 1 for error in found["equality"].values())
    assert found["threads"] == 1 and found["rates"]["bf16"] == asdict(RATES)
    assert ran["cnn"].metrics["equality"] == {}
    assert ran["cnn"].digits == "none" and ran["cnn"].data == {}
    assert found["parameters"] > 1e5


def test_one_table_shows_networks_with_capsules_and_without(ran: dict[str, Result]) -> None:
    (table,) = groups.tables(list(ran.values()))
    assert table.title.startswith("throughput, preset smoke") and table.title.endswith(", cpu, one seed: 0")
    assert "digits" not in table.title and ", ," not in table.title
    assert {(row[0].partition(" ")[0], row[1]) for row in table.rows} == {
        *(("capsnet", part) for part in ("routing", "convolution", "primary", "decoder", "network")),
        *(("cnn", part) for part in ("features", "classifier", "network")),
    }
    assert [chart.name for chart in charts(list(ran.values()))] == [
        "routing-28px-batch8-fp32",
        "routing-28px-batch8-bf16",
    ]


def wrong(u: Tensor, *arguments: Any) -> Tensor:
    return route_reference(u * 1.001, *arguments)


def test_who_is_wrong_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[Any] = []
    monkeypatch.setitem(IMPLEMENTATIONS, "blocked", wrong)
    monkeypatch.setattr(throughput_timing, "machine_rates", lambda *arguments: timed.append(arguments))
    monkeypatch.setattr("capsbench.training.profiling.contest", lambda *arguments, **options: timed.append(arguments))
    ((_, why),) = run(tmp_path).failed
    assert "'blocked', exact, fp32" in why and "times the allowed error" in why and "nothing was timed" in why
    assert not timed
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.usefixtures("routing_alone")
def test_a_wrong_gradient_is_seen_at_the_most_iterations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tired(
        u: Tensor, weight: Tensor, iterations: int, bias: Tensor | None, gradient: str, leaky: bool = False
    ) -> Tensor:
        return route_reference(u, weight, min(iterations, 3), bias, gradient if iterations < 3 else "detached", leaky)

    monkeypatch.setitem(IMPLEMENTATIONS, "blocked", tired)
    assert "exact" in run(tmp_path, iterations="1,3").failed[0][1]
    assert "exact" in run(tmp_path, iterations="5,1").failed[0][1]
    assert not run(tmp_path, iterations="2").failed


@pytest.mark.usefixtures("routing_alone")
def test_torchs_threads_are_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def watched(*arguments: Any) -> Tensor:
        seen.append(torch.get_num_threads())
        return route_reference(*arguments)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setitem(IMPLEMENTATIONS, "blocked", watched)
        (result,) = run(tmp_path).results
        assert set(seen) == {1} and result.metrics["threads"] == 1 and torch.get_num_threads() == 2
        monkeypatch.setitem(IMPLEMENTATIONS, "blocked", wrong)
        assert run(tmp_path, seconds="0.001").failed and torch.get_num_threads() == 2
        monkeypatch.setitem(IMPLEMENTATIONS, "blocked", watched)
        seen.clear()
        (result,) = run(tmp_path, threads="0").results
        assert set(seen) == {2} and result.metrics["threads"] == 2
    finally:
        torch.set_num_threads(before)


def test_who_has_not_memory_enough_is_shown_with_fewer_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(limit: int) -> Callable[..., Tensor]:
        def routing(u: Tensor, weight: Tensor, iterations: int, bias: Tensor | None, *options: Any) -> Tensor:
            if bias is None and len(u) > limit:  # networks have one
                raise RuntimeError("can't allocate memory")
            return route_reference(u, weight, iterations, bias, *options)

        return routing

    monkeypatch.setitem(IMPLEMENTATIONS, "reference", hungry(8))
    monkeypatch.setitem(IMPLEMENTATIONS, "blocked", hungry(0))
    (result,) = run(tmp_path, batches="16").results
    rows = [Row(**row) for row in result.metrics["rows"] if row["part"] == "routing"]
    assert {(row.implementation, row.asked, row.batch) for row in rows} == {("reference", 16, 8), ("blocked", 16, 0)}
    (table,) = groups.tables([result])
    shown = {tuple(row[4:9:2]) for row in table.rows if row[1] == "routing" and row[4] == "blocked"}
    assert shown == {("blocked", "0 of 16", "out of memory")}
    assert {row[6] for row in table.rows if row[1:5:3] == ["routing", "reference"]} == {"8 of 16"}
    assert {row[6] for row in table.rows if row[1] != "routing"} == {16}
    assert {name for chart in charts([result]) for name in chart.series} == {"reference, exact", "reference, detached"}


@pytest.mark.usefixtures("routing_alone")
def test_the_compiled_reference_takes_part_at_the_papers_iterations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Callable[..., Any]] = []

    def compile_nothing(function: Callable[..., Any], *, dynamic: bool) -> Callable[..., Any]:
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    (result,) = run(tmp_path, compiled="true", iterations="1,3").results
    found = [Row(**row) for row in result.metrics["rows"] if row["implementation"] == COMPILED]
    assert [(row.iterations, row.gradient) for row in found] == [(3, ""), (3, "exact"), (3, "detached")]
    assert compiled == [route_reference]


@pytest.mark.usefixtures("routing_alone")
def test_the_reference_is_compiled_three_times_for_one_number_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[int, str, bool]] = set()

    def compile_by_shape(function: Callable[..., Any], *, dynamic: bool) -> Callable[..., Any]:
        def compiled(u: Tensor, weight: Tensor, iterations: int, bias: None, gradient: str, *rest: Any) -> Any:
            seen.add((len(u), gradient, torch.is_grad_enabled()))  # each would be compiled
            return function(u, weight, iterations, bias, gradient, *rest)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_by_shape)
    (result,) = run(tmp_path, compiled="true", batches=str(2 * PROBE)).results
    assert COMPILED in {row["implementation"] for row in result.metrics["rows"]}
    assert seen == {(2 * PROBE, "exact", False), (2 * PROBE, "exact", True), (2 * PROBE, "detached", True)}


@pytest.mark.usefixtures("routing_alone")
def test_what_torch_cannot_compile_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        raise NotImplementedError

    monkeypatch.setattr(torch, "compile", lambda function, dynamic: broken)
    lines: list[str] = []
    changes = {"precisions": "fp32", "iterations": "3", "compiled": "true"}
    plan = plan_run("throughput", preset="smoke", device="cpu", changes=changes, out=tmp_path)
    (result,) = run_plan(plan, lines.append).results
    assert COMPILED not in {row["implementation"] for row in result.metrics["rows"]}
    assert [line for line in lines if line.endswith("torch.compile is not measured: NotImplementedError: no message")]


@pytest.mark.usefixtures("routing_alone")
def test_the_gate_is_the_bound_of_the_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput_timing, "worst_error", lambda *arguments, **options: 1.9)
    assert "1.9 times the allowed error" in run(tmp_path).failed[0][1]
    monkeypatch.setattr(throughput_timing, "largest_error", lambda device: 2.0)  # as on a GPU
    assert not run(tmp_path).failed


OWN = """
from capsbench.models.capsnet import CapsNet

class Own(CapsNet):
    def __init__(self, *, image_size):
        super().__init__(image_size=image_size, channels=4, types=2, conv_stride=2, decoder=(4, 4))
"""


def test_capsules_that_leave_no_choice_of_routing_are_timed_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    outcome = run(tmp_path, f"{tmp_path}/own.py:Own", image_sizes="28,32")
    assert not outcome.failed
    rows = [Row(**row) for row in outcome.results[0].metrics["rows"]]
    assert {row.implementation for row in rows if row.part == "network"} == {""}
    assert {row.implementation for row in rows if row.part == "routing"} == {"reference", "blocked"}
    assert {row.image_size for row in rows if row.part == "network"} == {28, 32}


# Numbers by hand.


def row(implementation: str = "reference", **changes: Any) -> dict[str, Any]:
    stated: dict[str, Any] = {
        "part": "routing",
        "what": "forward + backward",
        "implementation": implementation,
        "gradient": "exact",
        "iterations": 3,
        "image_size": 28,
        "asked": 128,
        "batch": 128,
        "precision": "fp32",
        "seconds": 0.064,
        "peak_bytes": 12_345_678,
        "flops_share": 0.1234,
        "bytes_share": 0.05,
    }
    return asdict(Row(**(stated | changes)))


def result(*rows: Any, seed: int = 0, device: str = "cpu", **changes: Any) -> Result:
    stated: dict[str, Any] = {
        "suite": "throughput",
        "version": 1,
        "preset": "small",
        "model": "capsnet",
        "label": "capsnet",
        "source": "",
        "seed": seed,
        "cell": "0123456789ab",
        "settings": {},
        "parameters": {},
        "digits": "none",
        "data": {},
        "metrics": {
            "parameters": 1,
            "threads": 1,
            "rates": {"fp32": {"flops": 76.4e9, "bytes": 23.4e9}, "bf16": {"flops": 1234.5e9, "bytes": 21e9}},
            "equality": {},
            "rows": list(rows),
        },
        "seconds": 1.0,
        "environment": {"device": device, "processor": "A chip", "torch": "2.11.0"},
        "date": "2026-01-01T00:00:00+00:00",
    }
    return Result(**(stated | changes))


def lines(*results: Result) -> list[list[Any]]:
    (table,) = groups.tables(results)
    return [list(one) for one in table.rows]


def test_a_line_by_hand() -> None:
    (line,) = lines(result(row()))
    place = ["capsnet", "routing", "forward + backward", "exact", "reference", 28, 128, "fp32"]
    assert line == [*place, "64.00", 2000, "1.00", "12.3", "12.3", "5.0"]


def test_each_is_held_against_the_reference_an_image() -> None:
    rows = [
        row(seconds=0.064, batch=64),  # 1 ms an image
        row("blocked", seconds=0.032),  # 0.25
        row("fused", seconds=0.256),  # 2
        row("blocked", gradient="detached", seconds=0.032),  # beside no reference of its kind
        row(part="primary", implementation="", gradient="", iterations=0),
    ]
    found = lines(result(*rows))
    assert [line[10] for line in found] == ["1.00", "4.00", "0.50", "", ""]
    assert [line[6] for line in found] == ["64 of 128", 128, 128, 128, 128]
    assert [line[9] for line in found] == [1000, 4000, 500, 4000, 2000]


@pytest.mark.parametrize(
    "change",
    [
        {"part": "network"},
        {"what": "forward"},
        {"gradient": "detached"},
        {"image_size": 40},
        {"asked": 32},
        {"precision": "bf16"},
        {"batch": 0},
    ],
)
def test_only_a_reference_of_the_same_is_a_reference(change: dict[str, Any]) -> None:
    assert lines(result(row(**change), row("blocked")))[-1][10] == ""


def test_each_run_is_held_against_its_own_reference() -> None:
    first = result(row(seconds=1.0), row("blocked", seconds=0.5))
    second = result(row(seconds=3.0), row("blocked", seconds=0.5), seed=1)
    assert [line[10] for line in lines(first, second)] == ["1.00", "2.00", "1.00", "6.00"]


def test_what_did_not_fit_is_said_to_be_out_of_memory() -> None:
    lost = row(batch=0, seconds=0.0, peak_bytes=0, flops_share=0.0, bytes_share=0.0)
    line, beside = lines(result(lost, row("blocked")))
    assert line[6:] == ["0 of 128", "fp32", "out of memory", "", "", "", "", ""]
    assert beside[10] == "" and len(line) == len(beside)
    assert "out of memory" in render([result(lost)])


def test_the_table_shows_the_papers_iterations_and_the_charts_all() -> None:
    rows = [row(iterations=iterations) for iterations in (1, 3, 5)]
    rows.append(row(part="decoder", implementation="", gradient="", iterations=0))
    made = result(*rows)
    assert [line[1] for line in lines(made)] == ["routing", "decoder"]
    (chart,) = charts([made])
    assert list(chart.series) == ["reference, exact"]
    assert [x for x, _ in chart.series["reference, exact"]] == [1, 3, 5]


def test_notes_name_the_machine_and_what_it_reaches() -> None:
    (table,) = groups.tables([result(row()), result(row(), seed=1)])
    assert table.title == "throughput, preset small, cpu, seeds 0, 1"
    assert table.notes[0] == (
        "A chip, 1 thread, torch 2.11.0. Speed of large products of matrices and of large copies: "
        "fp32 76 GFLOP/s, copy 23 GB/s; bf16 1,234 GFLOP/s, copy 21 GB/s."
    )
    assert len(set(table.notes)) == len(table.notes) == 4
    made = result(row(), device="A card")
    made.metrics["threads"] = 16
    (table,) = groups.tables([made])
    assert table.notes[0].startswith("A card, torch 2.11.0. ")
    made.environment["device"] = "cpu"
    (table,) = groups.tables([made])
    assert table.notes[0].startswith("A chip, 16 threads, torch")


def test_a_time_of_a_graph_stands_beside_that_of_calls() -> None:
    table = render([result(row(seconds=0.0002, eager_seconds=0.0005), row("blocked", seconds=0.0001))])
    assert "0.20 (eager 0.50)" in table and "0.10 " in table


def test_routing_alone_is_timed_in_a_graph_where_there_are_graphs() -> None:
    asked: list[Any] = []

    class Watched(Conditions):
        def rows(self, *prepared: Any, **options: Any) -> Iterator[Row]:
            asked.append((options["part"], options.get("recorded", False)))
            return iter([])

    conditions = Watched(28, 2, "fp32", "cpu", 0.0, Rates(1.0, 1.0))
    model = build("capsnet", image_size=28, channels=4, types=1, conv_stride=2)
    assert not list(throughput_timing._routing_rows(model, conditions, [1], False, silent))
    assert asked == [("routing", True)] * 3
    assert not list(step_rows({"": model}, conditions))
    assert asked[3:] == [("network", False)] * 2  # a training step is a graph already


def test_a_chart_for_each_place_with_milliseconds_for_all_images_asked_for() -> None:
    rows = [
        row(iterations=1, seconds=0.01),
        row(iterations=3, seconds=0.02, batch=32),  # four turns of it are what was asked for
        row("blocked", iterations=1, seconds=0.005),
        row("blocked", iterations=1, seconds=0.004, gradient="detached"),
        row("blocked", iterations=3, batch=0, seconds=0.0),
        row(what="forward", gradient="", seconds=9.0),
        row(part="network", gradient="", iterations=0, what="training step", seconds=9.0),
        row(image_size=40, asked=32, batch=32, precision="bf16", seconds=0.5),
    ]
    first, second = charts([result(*rows)])
    assert first.name == "routing-28px-batch128-fp32" and second.name == "routing-40px-batch32-bf16"
    rounded = [
        {name: [(x, round(float(y), 6)) for x, y in points] for name, points in chart.series.items()}
        for chart in (first, second)
    ]
    assert rounded == [
        {"reference, exact": [(1, 10), (3, 80)], "blocked, exact": [(1, 5)], "blocked, detached": [(1, 4)]},
        {"reference, exact": [(3, 500)]},
    ]
    assert first.title == "Routing of capsnet, forward and backward, 28x28, 128 images, fp32"
    assert (first.x_label, first.y_label, first.log) == ("routing iterations", "milliseconds", True)
    assert first.note.splitlines()[0] == "A chip, 1 thread, torch 2.11.0"


def test_time_and_memory_are_drawn_against_the_side_of_the_images() -> None:
    rows = [
        row(image_size=28, seconds=0.01, peak_bytes=2_000_000),
        row(image_size=64, seconds=0.08, peak_bytes=32_000_000),
        row(image_size=128, seconds=0.2, peak_bytes=64_000_000, batch=64),  # in two turns
        row("blocked", image_size=28, seconds=0.005, peak_bytes=1_000_000),
        row("blocked", image_size=64, seconds=0.02, peak_bytes=8_000_000),
        row(image_size=28, what="forward", gradient="", seconds=9.0),
        row(image_size=64, part="network", gradient="", iterations=0, what="training step", seconds=9.0),
    ]
    time, space = charts([result(*rows)])
    assert (time.name, space.name) == ("routing-time-by-side-batch128-fp32", "routing-memory-by-side-batch128-fp32")
    assert (time.x_label, time.y_label) == ("side of the images (pixels)", "milliseconds")
    assert time.title == "Routing of capsnet, forward and backward, 3 iterations, 128 images, fp32"
    assert time.series == {"reference, exact": [(28, 10), (64, 80), (128, 400)], "blocked, exact": [(28, 5), (64, 20)]}
    assert space.y_label == "peak memory (MB)"
    assert space.series == {"reference, exact": [(28, 2), (64, 32)], "blocked, exact": [(28, 1), (64, 8)]}


def test_of_several_sizes_and_iterations_both_are_drawn() -> None:
    made = charts([result(*(row(image_size=size, iterations=number) for size in (28, 40) for number in (1, 3)))])
    assert [chart.name for chart in made] == [
        "routing-28px-batch128-fp32",
        "routing-40px-batch128-fp32",
        "routing-time-by-side-batch128-fp32",
        "routing-memory-by-side-batch128-fp32",
    ]


def test_weights_that_do_not_fit_are_refused_before_anything_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[Any] = []
    monkeypatch.setattr("capsbench.training.profiling.contest", lambda *arguments, **options: timed.append(arguments))
    ((_, why),) = run(tmp_path, image_sizes="28,20000").failed
    assert "capsnet at 20000x20000 has " in why and " free. Nothing was timed." in why and not timed
    found = re.search(r"has ([\d,]+) parameters\. To time 2 of it takes about ([\d.]+) TB ", why)
    assert found and int(found[1].replace(",", "")) * 4 * 4 * 2 / 1e12 == pytest.approx(float(found[2]), rel=0.1)


def test_the_orphan_category_of_a_network_is_timed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[bool] = set()

    def watched(*arguments: Any) -> Tensor:
        seen.add(arguments[5])
        return route_reference(*arguments)

    monkeypatch.setitem(IMPLEMENTATIONS, "blocked", watched)
    monkeypatch.setitem(IMPLEMENTATIONS, "reference", watched)
    assert not run(tmp_path, **{"capsnet.leaky": "true"}).failed
    assert seen == {True}


@pytest.mark.usefixtures("undrawn")
def test_no_chart_is_written_over_another(tmp_path: Path) -> None:
    results = [
        result(row(seconds=1.0)),
        result(row(seconds=2.0), seed=1),
        result(row(seconds=3.0), label="capsnet (types=8)"),
        result(row(seconds=4.0), device="A card"),
    ]
    made = charts(results)
    names = [f"routing-28px-batch128-fp32-small-{rest}" for rest in ("cpu", "cpu-2", "cpu-3", "a-card")]
    assert [chart.name for chart in made] == names
    for chart in made:
        chart.save(tmp_path)
    shown = [(tmp_path / f"{name}.csv").read_text().splitlines()[1].rpartition(",")[2] for name in names]
    assert [float(number) for number in shown] == [1000, 2000, 3000, 4000]


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in row().items() if name != key}


@pytest.mark.parametrize(
    "damaged",
    [
        without("part"),
        without("seconds"),
        row() | {"extra": 1},
        row() | {"seconds": "fast"},
        row() | {"seconds": None},
        row() | {"batch": 1.5},
        row() | {"image_size": "../../somewhere"},
        row() | {"iterations": [3]},
        3,
        "text",
    ],
)
def test_a_damaged_result_is_refused(damaged: Any) -> None:
    for tell in (groups.tables, charts):
        with pytest.raises(DataFileError, match="'throughput' cannot read a result"):
            tell([result(row(), damaged)])


@pytest.mark.parametrize("key", ["rows", "rates", "threads"])
def test_a_result_without_what_its_suite_wrote_is_refused(key: str) -> None:
    made = result(row())
    del made.metrics[key]
    with pytest.raises(DataFileError, match="cannot read a result"):
        groups.tables([made])


@pytest.mark.parametrize("seconds", [0.0, math.nan, 5e-324])
def test_a_time_that_no_clock_shows_is_refused(seconds: float) -> None:
    with pytest.raises(DataFileError, match="cannot read a result"):
        groups.tables([result(row(seconds=seconds))])


def test_a_result_in_which_nothing_was_timed_has_an_empty_table() -> None:
    assert "routing" not in render([result()]).splitlines()[2] and not charts([result()])
    assert json.loads(render([result()], "json"))[0]["metrics"]["rows"] == []


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batches": "0"}, ParameterError, "batches must be .* got 0"),
        ({"batches": "32,many"}, ParameterError, "batches must be .* got many"),
        ({"image_sizes": "-28"}, ParameterError, "image_sizes must be .* got -28"),
        ({"iterations": "3,0"}, ParameterError, "iterations must be .* got 0"),
        ({"precisions": "fp16"}, UnknownNameError, "precision.*fp16"),
        ({"seconds": "-1"}, ParameterError, "seconds must be .* got -1"),
        ({"seconds": "nan"}, ParameterError, "seconds must be .* got nan"),
        ({"threads": "-1"}, ParameterError, "threads must be .* got -1"),
        ({"compiled": "perhaps"}, ParameterError, "compiled must be .* got perhaps"),
        ({"batch": "32"}, UnknownNameError, "Did you mean 'batches'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plan_run("throughput", preset="smoke", device="cpu", changes=changes)


def test_the_presets_state_the_whole_protocol() -> None:
    assert set(Throughput.presets) == {"smoke", "small", "paper"}
    settings: dict[str, ThroughputSettings] = {name: preset.settings for name, preset in Throughput.presets.items()}
    assert settings["small"].batches == (32, 128) and settings["small"].threads == 1
    assert settings["paper"].image_sizes == (28, 36, 40, 64, 96, 128) and settings["paper"].batches[-1] == 1024
    assert all(3 in one.iterations and one.precisions == ("fp32", "bf16") for one in settings.values())
    assert not settings["smoke"].compiled and settings["small"].compiled
    assert Throughput.presets["small"].models == {}  # the paper's sizes: speed is not told of small networks
