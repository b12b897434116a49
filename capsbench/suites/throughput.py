"""How fast networks are: routing alone, each part of a network, and the whole training step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from capsbench.bench.cells import Preset
from capsbench.parameters import check_choice, check_number, construct
from capsbench.report.charts import Chart
from capsbench.report.groups import by_network
from capsbench.report.headlines import Headline, Measured
from capsbench.report.tables import Table
from capsbench.results.result import Result
from capsbench.training.config import PRECISIONS
from capsbench.training.rows import Row

if TYPE_CHECKING:
    from capsbench.bench.bench import Bench

USUAL_ITERATIONS = 3  # the paper's; the table shows it, the chart the others


@dataclass(frozen=True, kw_only=True)
class ThroughputSettings:
    """What is timed, and for how long.

    Attributes:
        image_sizes: Sides of the images in pixels.
        batches: Images at a time; halved where memory does not suffice, and the table says so.
        precisions: ``fp32``, ``bf16``, or both.
        iterations: Of routing alone; parts and steps have the network's own.
        compiled: Whether torch.compile of the reference takes part, at the paper's three iterations.
        seconds: For each comparison; every contestant has three turns in any case.
        threads: Of torch on the CPU; 0 leaves as many as it has. One is the steadier measure: several wait for the
            slowest of them, after every operation.
    """

    image_sizes: tuple[int, ...] = (28,)
    batches: tuple[int, ...] = (32, 128)
    precisions: tuple[str, ...] = PRECISIONS
    iterations: tuple[int, ...] = (1, 3, 5)
    compiled: bool = True
    seconds: float = 1.0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("image_sizes", "batches", "iterations"):
            values = getattr(self, name)
            check_number(f"number of {name}", len(values), 1, 1000)
            for value in values:
                check_number(name, value, 1, 1_000_000)
        for precision in self.precisions:
            check_choice("precision", precision, PRECISIONS)
        check_number("seconds", self.seconds, 0, 3600)
        check_number("threads", self.threads, 0, 4096)


def _fastest(cell: Result, what: str) -> Measured | None:
    """Images a second of the whole network: of all sizes of batches and precisions, the fastest."""
    timed = [row for row in _measured(cell) if (row.part, row.what) == ("network", what) and row.batch]
    return Measured(max(row.batch / row.seconds for row in timed)) if timed else None


class Throughput:
    """How fast networks are: routing alone, each part of a network, and the whole training step.

    First every implementation of routing is compared with float64; one that is less accurate than allowed ends the cell
    before anything is timed. Implementations take turns, and the shortest times count.
    """

    version: ClassVar[int] = 1
    needs_digits: ClassVar[bool] = False
    models: ClassVar[Sequence[str]] = ("capsnet",)
    image_size: ClassVar[int] = 28
    presets: ClassVar[Mapping[str, Preset]] = {
        "smoke": Preset(
            ThroughputSettings(batches=(8,), iterations=(1, 3), compiled=False, seconds=0.0),
            {"capsnet": {"preset": "small"}, "cnn": {"preset": "small", "padding": "same"}},
        ),
        "small": Preset(ThroughputSettings(), {}),
        "paper": Preset(
            ThroughputSettings(
                image_sizes=(28, 36, 40, 64, 96, 128),
                batches=(32, 128, 1024),
                iterations=(1, 2, 3, 4, 5),
                threads=0,
            ),
            {},
        ),
    }

    headlines: ClassVar[Sequence[Headline]] = tuple(
        Headline(name=what, unit="images/s", measure=partial(_fastest, what=what), decimals=0)
        for what in ("training step", "forward")
    )

    def run(self, bench: "Bench") -> dict[str, Any]:
        """Times the cell's model; the metrics of the cell."""
        from capsbench.suites.throughput_timing import measure  # which loads torch

        return measure(bench, self.image_size)

    def table(self, results: Sequence[Result]) -> Table:
        """What was timed at the paper's number of iterations, beside the reference."""
        rows, notes = [], []
        for model, cells in by_network(results).items():
            for cell in cells:
                measured = _measured(cell)
                rows += [_line(model, row, measured) for row in measured if row.iterations in (0, USUAL_ITERATIONS)]
                notes += _notes(cell)
        return Table(
            headers=[
                "network", "part", "what", "gradient", "implementation", "px", "batch", "precision",
                "ms", "images/s", "x reference", "peak MB", "% of GEMM", "% of copy",
            ],
            rows=rows,
            notes=list(dict.fromkeys(notes)),
            folded=["network", "px", "ms", "x reference", "peak MB", "% of GEMM", "% of copy"],
        )  # fmt: skip

    def charts(self, results: Sequence[Result]) -> list[Chart]:
        """Routing against its iterations, for each size that was timed; of several sizes also against their side."""
        charts = []
        for result in results:
            rows = [row for row in _measured(result) if row.part == "routing" and row.what != "forward" and row.batch]
            by_side = [chart for some in _by(rows, "asked", "precision") for chart in _against_side(result, some)]
            if not by_side or len({row.iterations for row in rows}) > 1:  # else each line would be one point
                charts += [_against_iterations(result, some) for some in _by(rows, "image_size", "asked", "precision")]
            charts += by_side
        return charts


def _by(rows: Sequence[Row], *names: str) -> list[list[Row]]:
    """The rows in groups that are alike in these fields."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(getattr(row, name) for name in names), []).append(row)
    return list(found.values())


def _series(rows: Sequence[Row], x: str, y: Callable[[Row], float]) -> dict[str, list[tuple[float | str, float]]]:
    series: dict[str, list[tuple[float | str, float]]] = {}
    for row in rows:
        series.setdefault(f"{row.implementation}, {row.gradient}", []).append((getattr(row, x), y(row)))
    return series


def _milliseconds(row: Row) -> float:
    """For all images of the batch; where they did not fit, in several turns."""
    return 1e3 * row.seconds * row.asked / row.batch


def _against_iterations(result: Result, rows: Sequence[Row]) -> Chart:
    first = rows[0]
    size, batch, precision = first.image_size, first.asked, first.precision
    return Chart(
        name=f"routing-{size}px-batch{batch}-{precision}",
        title=f"Routing of {result.label}, forward and backward, {size}x{size}, {batch} images, {precision}",
        x_label="routing iterations",
        y_label="milliseconds",
        series=_series(rows, "iterations", _milliseconds),
        log=True,
        note=_machine(result),
    )


def _against_side(result: Result, rows: Sequence[Row]) -> list[Chart]:
    """Time and memory at the paper's iterations, where images of several sizes were timed."""
    usual = [row for row in rows if row.iterations == USUAL_ITERATIONS]
    if len({row.image_size for row in usual}) < 2:
        return []
    first = usual[0]
    place = f"{USUAL_ITERATIONS} iterations, {first.asked} images, {first.precision}"
    whole = [row for row in usual if row.batch == row.asked]  # the memory of fewer images would be of another thing
    told = (
        ("time", "milliseconds", _series(usual, "image_size", _milliseconds)),
        ("memory", "peak memory (MB)", _series(whole, "image_size", lambda row: row.peak_bytes / 1e6)),
    )
    return [
        Chart(
            name=f"routing-{what}-by-side-batch{first.asked}-{first.precision}",
            title=f"Routing of {result.label}, forward and backward, {place}",
            x_label="side of the images (pixels)",
            y_label=unit,
            series=series,
            log=True,
            note=_machine(result),
        )
        for what, unit, series in told
    ]


def _measured(cell: Result) -> list[Row]:
    """What was timed; a value of a wrong type is refused."""
    return [construct(Row, row, owner="a row") for row in cell.metrics["rows"]]


def _line(model: str, row: Row, measured: Sequence[Row]) -> list[Any]:
    """A row of the table."""
    line = [model, row.part, row.what, row.gradient, row.implementation, row.image_size]
    if not row.batch:
        return [*line, f"0 of {row.asked}", row.precision, "out of memory", "", "", "", "", ""]
    each = row.seconds / row.batch
    beside = [one for one in measured if one.implementation == "reference" and one.batch and _same(one, row)]
    ratio = f"{beside[0].seconds / beside[0].batch / each:.2f}" if beside else ""
    return [
        *line,
        row.batch if row.batch == row.asked else f"{row.batch} of {row.asked}",
        row.precision,
        f"{1e3 * row.seconds:.2f}" + (f" (eager {1e3 * row.eager_seconds:.2f})" if row.eager_seconds else ""),
        round(1 / each),
        ratio,
        f"{row.peak_bytes / 1e6:.1f}",
        f"{100 * row.flops_share:.1f}",
        f"{100 * row.bytes_share:.1f}",
    ]


def _same(one: Row, other: Row) -> bool:
    """Whether two rows differ in the implementation at most."""
    names = ("part", "what", "gradient", "iterations", "image_size", "asked", "precision")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _machine(result: Result) -> str:
    device = result.environment["device"]
    if device == "cpu":
        threads = result.metrics["threads"]
        device = f"{result.environment['processor']}, {threads} thread{'s' * (threads > 1)}"
    return f"{device}, torch {result.environment['torch']}"


def _notes(cell: Result) -> list[str]:
    rates = [
        f"{precision} {rate['flops'] / 1e9:,.0f} GFLOP/s, copy {rate['bytes'] / 1e9:,.0f} GB/s"
        for precision, rate in cell.metrics["rates"].items()
    ]
    return [
        f"{_machine(cell)}. Speed of large products of matrices and of large copies: {'; '.join(rates)}.",
        f"Routing alone had {USUAL_ITERATIONS} iterations; the result and its charts have the others.",
        "Shares are of the operations that the reference needs, and of the bytes that must be moved once.",
    ]
