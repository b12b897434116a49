"""The commands `run` and `report`, and what every command owes its user."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest

from capsbench.bench.planning import plan_run
from capsbench.cli import cli, main
from capsbench.cli.bench import _beginning, _is_estimated
from capsbench.system.timing import Rates

GUESS = f"{Path(__file__).parents[1]}/suites/known_networks.py:Guess"  # done in a second


def run_cli(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{prefix}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")


@pytest.mark.parametrize(("name", "command"), list(commands(cli)))
def test_every_command_has_help_an_example_and_its_place_in_the_documents(name: str, command: click.Command) -> None:
    assert command.help
    shown = command.get_help(click.Context(command, info_name=f"capsbench {name}"))
    assert "Example:\n    capsbench" in shown and "\\b" not in shown
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert f"## capsbench {name}" in page


@pytest.mark.usefixtures("undrawn", "guessed")
def test_run_prints_the_table_and_where_the_results_lie(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--suite", "affine", "--preset", "smoke", "--model", GUESS, "--out", "runs"]
    assert run_cli(*arguments) == 0
    out, err = capsys.readouterr()
    assert "embedded digits of MNIST (3,200 train" in out and GUESS in out and "gap" in out
    path = Path(out.rpartition("result: ")[2].splitlines()[0])
    assert json.loads(path.read_text())["model"] == GUESS
    assert err.splitlines()[1] == f"affine, preset smoke: {GUESS}; seeds: 0. 1 cell, 1 to do, on cpu."
    assert "epoch 1/1" in err and "embedded digits" in err and "epoch" not in out.splitlines()[0]
    assert f"{GUESS}: about " in err  # a network that does not ship can be of any size, so that smoke may take long

    assert run_cli(*arguments) == 0
    again, err = capsys.readouterr()
    assert again == out and "finished before" in err

    assert run_cli("report", "runs", "--format", "github") == 0
    assert GUESS.replace("_", r"\_") in capsys.readouterr().out

    assert run_cli(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["metrics"]["checkpoints"]["last"]

    assert run_cli(*arguments, "--dry-run", "--seeds", "0,1") == 0
    out, err = capsys.readouterr()
    states = [line.rpartition(": ")[2] for line in out.splitlines()[:2]]
    assert states == [f"finished ({GUESS}, seed 0)", f"train and measure ({GUESS}, seed 1)"]
    title, *parts = out.splitlines()[2:]
    content = hashlib.sha256((Path(GUESS.partition(":")[0])).read_bytes()).hexdigest()
    assert title == f"{GUESS}: the model is made of" and parts == [f"  known_networks.py  {content[:16]}"]
    assert f"{GUESS}: about " in err and " a cell on this device (cpu)\n" in err and "This is an estimate" in err


@pytest.mark.usefixtures("undrawn", "guessed")
def test_a_run_begins_with_the_time_that_it_may_take(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--suite", "mnist", "--model", GUESS, "--preset", "small", "--set", "epochs=1"]
    assert run_cli(*arguments, "--digits", "embedded") == 0
    lines = capsys.readouterr().err.splitlines()
    number = next(number for number, line in enumerate(lines) if line.startswith(f"{GUESS}: about "))
    assert lines[number].endswith(" a cell on this device (cpu)") and "in all. This is an estimate" in lines[number + 1]
    assert any("epoch 1/1" in line for line in lines[number + 2 :])


@pytest.mark.parametrize(
    ("model", "preset", "estimated"),
    [("cnn", "smoke", False), (GUESS, "smoke", True), ("cnn", "small", True)],
)
def test_what_is_over_at_once_is_not_estimated(model: str, preset: str, estimated: bool) -> None:
    plan = plan_run("mnist", models=[model], preset=preset, digits="embedded", device="cpu")
    assert _is_estimated(plan) == estimated


def test_run_draws_charts_and_report_draws_them_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = Rates(flops=1e11, bytes=1e10)
    monkeypatch.setattr("capsbench.suites.throughput_timing.machine_rates", lambda device, dtype: rates)
    arguments = ["run", "--suite", "throughput", "--preset", "smoke", "--device", "cpu", "--out", "runs"]
    arguments += ["--set", "iterations=3", "--set", "precisions=fp32", "--set", "capsnet.types=2"]
    assert run_cli(*arguments) == 0
    out, err = capsys.readouterr()
    assert "training step" in out and "digits" not in out + err
    lines = out.splitlines()
    result, chart = lines[lines.index(next(one for one in lines if one.startswith("result: "))) :][:2]
    assert "Board: throughput" in out.partition(chart)[2]
    folder = Path(chart.removeprefix("chart: ")).parent
    assert folder.parent == Path("runs/throughput") and re.fullmatch("charts-smoke-cpu-[0-9a-f]{6}", folder.name)
    name = "routing-28px-batch8-fp32"
    assert chart == f"chart: {folder / name}.png"
    assert json.loads(Path(result.removeprefix("result: ")).read_text())["digits"] == "none"
    assert [path.stem for path in folder.glob("*.png")] == [name]
    header, *rows = (folder / f"{name}.csv").read_text().splitlines()
    assert header == "series,routing iterations,milliseconds" and len(rows) == 4

    assert run_cli(*arguments) == 0
    again, err = capsys.readouterr()
    assert again == out and "finished before" in err

    assert run_cli("report", "runs", "--charts", "new/pictures") == 0
    assert capsys.readouterr().out.startswith("throughput, preset smoke")
    drawn = {path.name: path.read_bytes() for path in Path("new/pictures").iterdir()}
    assert drawn == {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".png", ".csv")}

    assert run_cli(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["metrics"]["rows"]

    assert run_cli("report", "runs") == 0
    assert len(list(Path().rglob("*.png"))) == 2  # report without --charts draws none
    Path("taken").write_text("")
    assert run_cli("report", "runs", "--charts", "taken") == 4
    assert "a file stands there" in capsys.readouterr().err


def test_failed_cells_end_in_exit_code_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.py").write_text("def net():\n    raise RuntimeError('no')\n")
    assert run_cli("run", "--suite", "affine", "--preset", "smoke", "--model", f"{tmp_path}/bad.py:net") == 5
    err = capsys.readouterr().err
    assert "1 of 1 cells failed" in err and "RuntimeError: no" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "--suite", "afine"], 2, "Did you mean 'affine'"),
        (["run", "--suite", "affine", "--preset", "smok"], 2, "Did you mean 'smoke'"),
        (["run", "--suite", "affine", "--model", "capsnett"], 2, "Did you mean 'capsnet'"),
        (["run", "--suite", "affine", "--model", "nowhere.at.all:Net"], 2, "no module 'nowhere'"),
        (["run", "--suite", "affine", "--set", "epochs"], 2, "key=value"),
        (["run", "--suite", "affine", "--set", "epochs=0"], 2, "epochs must be in 1..1,000,000, got 0"),
        (["run", "--suite", "affine", "--set", "target=nan"], 2, "target must be in 0..1, got nan"),
        (["run", "--suite", "os:path"], 2, "is not a suite: it lacks"),
        (["run", "--suite", "affine", "--set", "capsnet.iteration=1"], 2, "Did you mean 'iterations'"),
        (
            ["run", "--suite", "affine", "--seeds", "zero"],
            2,
            "--seeds must be whole numbers with commas between, such as 0,1,2, got zero",
        ),
        (["run", "--suite", "affine", "--seeds", ""], 2, "such as 0,1,2, got nothing"),
        (["run", "--suite", "affine", "--digits", "nowhere"], 3, "nowhere"),
        (["run", "--suite", "affine", "--preset", "smoke", "--out", "/proc/nothing/here"], 4, "cannot be made"),
        (["run", "--suite", "affine", "--preset", "smoke", "--jobs", "0"], 2, "jobs must be in 1..1,024, got 0"),
        (["run", "--suite", "affine", "--shard", "2/2"], 2, "shard must be I/N"),
        (["run", "--suite", "affine", "--shard", ""], 2, "shard must be I/N"),
        (["run", "--suite", "affine", "--cell", "none"], 2, "No cell of this run has the id none"),
        (["run", "--suite", "affine", "--dry-run", "--jobs", "0"], 2, "jobs must be"),
        (["run", "--suite", "affine", "--dry-run", "--timeout", "-1"], 2, "timeout must be"),
        (["run", "--suite", "affine", "--dry-run", "--collect"], 2, "--collect is for"),
        (["run"], 2, "--suite"),
        (["runn"], 2, "runn"),
        (["report", "nowhere"], 3, "no folder"),
        (["report", ".", "--format", "xml"], 2, "No format"),
    ],
)
def test_bad_input_gets_a_line_and_its_exit_code(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(*arguments) == code
    out, err = capsys.readouterr()
    assert message in err and "Traceback" not in err and not out
    lines = [line for line in err.splitlines() if line.startswith(("Error", "Note", "Usage", "Try")) or line]
    assert len(lines) <= 4


def test_a_shard_without_cells_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--suite", "affine", "--preset", "smoke", "--shard", "7/8"]
    for extra in ([], ["--dry-run"]):
        assert run_cli(*arguments, *extra) == 0
        out, err = capsys.readouterr()
        assert out.strip() == "" and err == "There are no cells in shard 7/8.\n"
    assert run_cli(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, capsbench.cli\ntry:\n    capsbench.cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
    code += "heavy = {'torch', 'numpy', 'scipy', 'h5py', 'matplotlib'} & set(sys.modules)\nassert not heavy, heavy"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_python_m_capsbench_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "capsbench", "--version"], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("capsbench, version ")


def test_a_run_says_where_the_paper_takes_days() -> None:
    plan = plan_run("mnist", models=["cnn"], preset="smoke", digits="embedded", device="cpu")
    assert len(list(_beginning(plan))) == 1
    paper = replace(plan, cells=[replace(cell, preset="paper (epochs=30)", digits="mnist") for cell in plan.cells])
    told = list(_beginning(paper))
    assert "1 cell, 1 to do, on cpu" in told[0] and "takes days" in told[1] and "--dry-run" in told[1]
    assert len(list(_beginning(replace(paper, cells=[replace(cell, device="cuda") for cell in paper.cells])))) == 1
