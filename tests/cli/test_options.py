"""Options and paths on the command line: homes, empty paths, folders for files, and options for values."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from capsbench.cli import cli, main
from capsbench.cli.options import Command

Capture = pytest.CaptureFixture[str]

GENERATE = ["generate", "padded", "--split", "test", "--digits", "embedded", "--count", "5"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def commands(group: click.Group = cli) -> list[click.Command]:
    found = []
    for one in group.commands.values():
        found += commands(one) if isinstance(one, click.Group) else [one]
    return found


def test_every_command_refuses_an_option_for_a_value() -> None:
    assert all(isinstance(one, Command) for one in commands())


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--suite", "mnist", "--out", "--dry-run"],
        ["run", "--suite", "--out", "x"],
        ["generate", "padded", "--split", "--out", "x"],
        ["report", "runs", "--markdown", "--html", "x.html"],
        ["import", "affnist", "x.mat", "--out", "--force"],
    ],
)
def test_an_option_is_no_value_of_another(arguments: list[str], capsys: Capture) -> None:
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and "needs a value, got the option --" in err and len(err.splitlines()) == 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "way_out"),
    [
        (["run", "affine"], "'affine' belongs to no option. Did you mean --suite affine?"),
        (["tests", "affine", "--out", "x"], "'affine' belongs to no option. Did you mean --suite affine?"),
        (["run", "capsnet"], "Missing option '--suite'"),
        (["run", "--model", "cnn"], "Missing option '--suite'"),
        (["judge", "scores", "--label", "net"], "Missing option '--suite'"),
    ],
)
def test_a_name_without_its_option_is_understood(arguments: list[str], way_out: str, capsys: Capture) -> None:
    assert run(*arguments) == 2
    assert way_out in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--out", "./--dry-run"], ["--out=--dry-run"]])
def test_a_value_that_looks_like_an_option_can_be_given(option: list[str], capsys: Capture) -> None:
    assert run(*GENERATE, *option) == 0
    assert Path("./--dry-run/padded-test.h5").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["preview", ""], ["verify", ""], ["info", ""], ["pack", "", "x.h5"], ["pack", "x.h5", ""], 
        ["merge", "", "x.h5"], ["merge", "x.h5", ""], ["import", "affnist", "", "--out", "x.h5"], ["report", ""],
        ["report", "r", "--html", ""],
        ["report", "r", "--markdown", ""], ["report", "r", "--charts", ""], ["compare", "", "r"], ["compare", "r", ""],
        ["generate", "padded", "--out", ""], ["generate", "padded", "--digits", ""], ["preview", "x.h5", "--out", ""],
        ["run", "--suite", "affine", "--out", ""], ["run", "--suite", "affine", "--digits", ""],
    ],
)  # fmt: skip
def test_an_empty_path_is_refused_in_every_command(arguments: list[str], capsys: Capture) -> None:
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and "is empty. Name a file or a folder" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["preview", "/"], 3), (["verify", "/"], 3), (["info", "/"], 3), (["pack", "x.h5", "/"], 2),
        (["preview", "x.h5", "--out", "/"], 4), (["merge", "/", "x.h5"], 2),
        (["import", "affnist", "/", "--out", "y.h5"], 3), (["report", "x.h5", "--html", "/"], 4),
        (["report", "x.h5", "--markdown", "."], 4), (["compare", "loop.py", "x.h5"], 3),
        (["check", "~nobodyhere/x.py:Net"], 2), (["check", "loop.py:Net"], 2), (["generate", "loop.py:Net"], 2),
        (["verify", "loop.py"], 3), (["verify", "~nobodyhere/x.h5"], 2),
    ],
)  # fmt: skip
def test_what_cannot_be_a_file_ends_in_a_line(arguments: list[str], code: int, capsys: Capture) -> None:
    assert run(*GENERATE, "--out", "x.h5") == 0
    Path("loop.py").symlink_to("loop.py")
    capsys.readouterr()
    assert run(*arguments) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("Error: ") and len(err.splitlines()) <= 2


def test_a_home_is_found(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(*GENERATE, "--out=~/x") == 0 and (tmp_path / "x" / "padded-test.h5").exists()
    assert run(*GENERATE[:4], "--digits=~/m") == 3
    assert f"{tmp_path}/m" in capsys.readouterr().err


def test_more_folders_than_calls_may_nest_are_made_and_more_than_a_path_may_have_are_refused(capsys: Capture) -> None:
    limit = sys.getrecursionlimit()
    try:
        assert run(*GENERATE) == 0  # imports what nests deeper
        sys.setrecursionlimit(400)
        assert run(*GENERATE, "--out", "/".join("d" * 450)) == 0
        assert run(*GENERATE, "--out", "/".join(["d" * 250] * 17)) == 4
        assert "File name too long" in capsys.readouterr().err
    finally:
        sys.setrecursionlimit(limit)
        subprocess.run("rm -rf d*", shell=True, check=True)  # pytest cannot remove so many
