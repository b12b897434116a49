"""Options from variables and from a file, quiet commands, and output without colours."""

import json
from pathlib import Path

import pytest

from capsbench.cli import cli, main

Capture = pytest.CaptureFixture[str]
MAKE = ["generate", "padded", "--split", "test", "--digits", "embedded", "--json"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def count(capsys: Capture, *arguments: str) -> int:
    """How many samples a command makes."""
    assert run(*arguments) == 0
    (made,) = json.loads(capsys.readouterr().out)
    return int(made["samples"])


def test_the_command_line_comes_before_a_variable_before_the_file(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("c.toml").write_text('[generate]\ncount = 3\nout = "from-file"\n')
    assert count(capsys, *MAKE, "--config", "c.toml") == 3 and Path("from-file/padded-test.h5").exists()
    monkeypatch.setenv("CAPSBENCH_GENERATE_COUNT", "4")
    assert count(capsys, *MAKE, "--config", "c.toml", "--force") == 4
    assert count(capsys, *MAKE, "--config", "c.toml", "--force", "--count", "5") == 5
    monkeypatch.setenv("CAPSBENCH_GENERATE_CONFIG", "c.toml")
    monkeypatch.delenv("CAPSBENCH_GENERATE_COUNT")
    assert count(capsys, *MAKE, "--force") == 3


def test_lists_tables_and_flags_of_a_file_are_what_the_command_line_takes(capsys: Capture) -> None:
    Path("c.toml").write_text(
        '[generate]\nsplit = ["test"]\ndigits = "embedded"\njson = true\ncount = 2\n'
        "set = {rotation = [-45, 45], shear = 0}\n"
    )
    assert run("generate", "affnist", "--config", "c.toml") == 0
    capsys.readouterr()
    assert run("info", "affnist-test.h5", "--json") == 0
    assert json.loads(capsys.readouterr().out)["spec"]["parameters"]["rotation"] == [-45.0, 45.0]
    Path("run.toml").write_text('[run]\nsuite = "mnist"\npreset = "smoke"\nmodel = ["cnn"]\nseeds = [0, 1]\n')
    assert run("run", "--config", "run.toml", "--dry-run", "--json", "--digits", "embedded") == 0
    assert len(json.loads(capsys.readouterr().out)) == 2


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ("[generate]\ncuont = 3", 2, "capsbench generate has no option 'cuont'. Known: count,"),
        ("count = 3", 2, "has no table [generate]"),
        ("[generate\n", 2, "is not TOML"),
        ("[generate]\nforce = 1", 2, "force must be true or false, got 1"),
        ("[generate]\ncount = 'many'", 2, "'many' is not a valid integer"),
        (b"\xff\xfe", 2, "is not TOML"),
        (None, 3, "cannot be read"),
    ],
)
def test_a_file_that_makes_no_sense_gets_a_line(
    content: str | bytes | None, code: int, message: str, capsys: Capture
) -> None:
    if content is not None:
        Path("c.toml").write_bytes(content.encode() if isinstance(content, str) else content)
    assert run(*MAKE, "--config", "c.toml") == code
    out, err = capsys.readouterr()
    assert message in err and not out and "Traceback" not in err and not list(Path.cwd().glob("*.h5"))


def test_every_option_has_a_variable_called_after_its_command(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("CAPSBENCH_DATA_STATUS_JSON", "1")
    assert run("data", "status") == 0
    assert isinstance(json.loads(capsys.readouterr().out), list | dict)
    monkeypatch.setenv("CAPSBENCH_RUN_SUITE", "no-such-suite")
    assert run("run") == 2 and "no-such-suite" in capsys.readouterr().err


def test_a_quiet_command_prints_results_and_errors_only(capsys: Capture) -> None:
    make = ["generate", "padded", "--split", "test", "--count", "5", "--quiet"]
    assert run(*make) == 0
    out, err = capsys.readouterr()
    assert "padded-test.h5" in out and err == ""
    assert run("generate", "padded", "--split", "tset", "-q") == 2
    assert "tset" in capsys.readouterr().err


def test_nothing_is_coloured_where_the_user_wants_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    from capsbench.cli.progress import progress

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = {}
    for wanted in ("", "1"):
        monkeypatch.setenv("NO_COLOR", wanted)
        monkeypatch.setenv("TERM", "xterm-256color")
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress("work") as report:
            report(1, 2)
        shown[wanted] = terminal.getvalue()
    colours = "\x1b[3"
    assert colours in shown[""] and colours not in shown["1"] and "work" in shown["1"]


def test_every_command_takes_a_file_and_can_be_quiet() -> None:
    for name, command in cli.commands.items():
        members = getattr(command, "commands", {name: command}).values()
        for one in members:
            assert {"config", "quiet"} <= {param.name for param in one.params}, name
