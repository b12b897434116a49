"""A run of the suite throughput that is stopped goes on after what it has timed."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from capsbench.bench.planning import plan_run
from capsbench.bench.running import Outcome, run_plan
from capsbench.errors import StorageError
from capsbench.suites import throughput_timing
from capsbench.suites.throughput_kept import Condition, KeptRows
from capsbench.system.timing import Rates
from capsbench.training.profiling import Conditions
from capsbench.training.rows import Row

RATES = {"fp32": Rates(flops=1e11, bytes=1e10)}
FACTS = {"device": "cpu", "threads": 1}
FIRST, SECOND = Condition(28, 8, "fp32"), Condition(28, 16, "fp32")


def row(condition: Condition, seconds: float) -> Row:
    size, batch, precision = condition
    return Row(
        part="network", what="forward", image_size=size, asked=batch, batch=batch, precision=precision, seconds=seconds,
        peak_bytes=1, flops_share=0.5, bytes_share=0.25,
    )  # fmt: skip


def opened(path: Path, facts: Mapping[str, Any] = FACTS, rates: Callable[[], Any] = lambda: RATES) -> KeptRows:
    return KeptRows(path, facts, rates)


def test_what_was_kept_is_there_again_with_the_rates_of_the_first_run(tmp_path: Path) -> None:
    kept = opened(tmp_path / "new" / "cell.jsonl")
    assert kept.of(FIRST) is None
    kept.add(FIRST, [row(FIRST, 0.1), row(FIRST, 0.2)])
    again = opened(tmp_path / "new" / "cell.jsonl", rates=lambda: pytest.fail("measured again"))
    assert again.rates == RATES and again.of(SECOND) is None
    assert again.of(FIRST) == [row(FIRST, 0.1), row(FIRST, 0.2)]
    again.add(SECOND, [row(SECOND, 0.3)])
    assert opened(tmp_path / "new" / "cell.jsonl").of(SECOND) == [row(SECOND, 0.3)]


def test_a_line_that_a_kill_has_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "cell.jsonl"
    kept = opened(path)
    kept.add(FIRST, [row(FIRST, 0.1)])
    one = path.read_bytes()
    kept.add(SECOND, [row(SECOND, 0.2)])
    both = path.read_bytes()
    for end in range(len(one), len(both), 20):
        path.write_bytes(both[:end])
        again = opened(path)
        assert (again.of(FIRST), again.of(SECOND)) == ([row(FIRST, 0.1)], None)
        assert path.read_bytes() == one


@pytest.mark.parametrize(
    "content",
    [b"", b"words\n", b"[]\n", b'{"facts": {}}\n', b"[" * 100_000 + b"\n", b'{"rates": 1}\n', None],
    ids=["empty", "words", "a list", "no rates", "deep", "no facts", "a row of other fields"],
)
def test_what_is_damaged_is_begun_again(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "cell.jsonl"
    opened(path).add(FIRST, [row(FIRST, 0.1)])
    path.write_bytes(path.read_bytes().replace(b'"part"', b'"port"') if content is None else content)
    kept = opened(path)
    assert kept.of(FIRST) is None and kept.rates == RATES
    kept.add(FIRST, [row(FIRST, 0.2)])
    assert opened(path).of(FIRST) == [row(FIRST, 0.2)]


def test_elsewhere_and_before_a_time_nothing_counts(tmp_path: Path) -> None:
    path = tmp_path / "cell.jsonl"
    opened(path).add(FIRST, [row(FIRST, 0.1)])
    assert KeptRows(path, FACTS, lambda: RATES, since=path.stat().st_mtime - 1).of(FIRST)
    assert KeptRows(path, FACTS, lambda: RATES, since=path.stat().st_mtime + 1).of(FIRST) is None
    opened(path).add(FIRST, [row(FIRST, 0.1)])
    assert opened(path, {**FACTS, "device": "Some GPU"}).of(FIRST) is None


def test_a_file_that_cannot_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "cell.jsonl").mkdir()
    with pytest.raises(StorageError, match=r"cell\.jsonl could not be written"):
        opened(tmp_path / "cell.jsonl")


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[Condition]:
    """The conditions that were timed, in order; nothing is, and no network is: each has one row."""
    found: list[Condition] = []

    def rows(networks: object, conditions: Conditions) -> Iterator[Row]:
        found.append(Condition(conditions.image_size, conditions.asked, conditions.precision))
        if len(found) == 2:
            raise KeyboardInterrupt
        yield row(found[-1], len(found))

    monkeypatch.setattr(throughput_timing, "machine_rates", lambda device, dtype: RATES["fp32"])
    monkeypatch.setattr(throughput_timing, "part_rows", lambda *arguments: iter([]))
    monkeypatch.setattr(throughput_timing, "step_rows", rows)
    return found


def run(out: Path, **options: Any) -> Outcome:
    changes = {"batches": "8,16,24", "precisions": "fp32", "cnn.preset": "small", "cnn.padding": "same"}
    return run_plan(
        plan_run("throughput", models=["cnn"], preset="smoke", device="cpu", changes=changes, out=out, **options)
    )


def test_a_run_that_was_stopped_goes_on_and_one_by_force_begins_again(timed: list[Condition], tmp_path: Path) -> None:
    conditions = [Condition(28, batch, "fp32") for batch in (8, 16, 24)]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert timed == conditions[:2]
    (result,) = run(tmp_path).results
    assert timed[2:] == conditions[1:]  # the one that was cut from its beginning on
    assert [found["asked"] for found in result.metrics["rows"]] == [8, 16, 24]
    assert [found["seconds"] for found in result.metrics["rows"]] == [1, 3, 4]
    (result,) = run(tmp_path, force=True).results
    assert timed[4:] == conditions
    lines = [json.loads(line) for path in tmp_path.rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert [line["condition"][1] for line in lines[1:]] == [8, 16, 24]
