"""What training reports: JSON lines, TensorBoard's events, and lines for the person who waits."""

import importlib.util
import json
from pathlib import Path

import pytest

from capsbench.errors import StorageError, UsageError
from capsbench.training.logs import EpochLines, MetricsLog, check_tensorboard


def steps_in(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_rows_become_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    log = MetricsLog(path)
    log.begin(0)
    rows = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    for row in rows:
        log.add(row)
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows


def test_going_on_drops_later_lines_and_a_cut_one(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = MetricsLog(path)
    log.begin(0)
    for step in (10, 20, 30):
        log.add({"step": step})
    path.write_text(path.read_text() + '{"step": 5')
    again = MetricsLog(path)
    again.begin(20)
    again.add({"step": 25})
    assert steps_in(path) == [10, 20, 25]


def test_a_file_that_is_no_log_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\xff\x00 no JSON\n[1, 2]\n{}\n")
    log = MetricsLog(path)
    log.begin(3)
    log.add({"step": 4})
    assert steps_in(path) == [4]


def test_without_a_path_nothing_is_written(tmp_path: Path) -> None:
    log = MetricsLog()
    log.begin(0)
    log.add({"step": 1})
    log.close()


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be made"):
        MetricsLog(tmp_path / "file" / "log.jsonl").begin(0)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is an extra")
def test_tensorboard_reads_its_events_and_sees_each_step_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begin, steps in ((0, (10, 20, 30)), (20, (30, 40))):
        log = MetricsLog(None, tmp_path / "events")
        log.begin(begin)
        for step in steps:
            log.add({"step": step, "loss": step / 10, "accuracy": 0.5})
        log.close()
        log.close()
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss", "accuracy"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 1), (20, 2), (30, 3), (40, 4)]


def test_the_error_says_how_to_install_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'capsbench\[tensorboard\]'"):
        check_tensorboard()


def test_lines_state_the_rate_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 140.0, 141.0, 220.0, 260.0])
    monkeypatch.setattr("capsbench.training.logs.time.perf_counter", lambda: next(clock))
    lines: list[str] = []
    show = EpochLines(lines.append, steps=400, epochs=4, done=0)
    row = {"loss": 0.5, "accuracy": 0.91, "affine": 0.625}
    show({"step": 100, "epoch": 1.0, **row}, images=1000, seconds=20.0)
    show({"step": 110, "epoch": 1.1, **row}, images=1100, seconds=21.0)  # a second later: too soon for a line
    show({"step": 250, "epoch": 2.5, **row}, images=2500, seconds=50.0)
    show({"step": 400, "epoch": 4.0, **row}, images=4000, seconds=80.0)
    assert lines == [
        "epoch 1/4: loss 0.5000, validation 91.00%, affine 62.50%, 50 images/s, 2 min left",
        "epoch 2.5/4: loss 0.5000, validation 91.00%, affine 62.50%, 50 images/s, 72 s left",
        "epoch 4/4: loss 0.5000, validation 91.00%, affine 62.50%, 50 images/s",
    ]


def test_steps_of_an_earlier_run_do_not_shorten_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0])
    monkeypatch.setattr("capsbench.training.logs.time.perf_counter", lambda: next(clock))
    lines: list[str] = []
    row = {"step": 350, "epoch": 3.5, "loss": 0.5, "accuracy": 0.9}
    EpochLines(lines.append, steps=400, epochs=4, done=300)(row, images=3500, seconds=10.0)
    assert lines[0].endswith("10 s left")
