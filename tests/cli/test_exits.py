"""How a command ends: what it says on the way."""

import os
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import pytest

from capsbench.cli import main
from capsbench.cli.exits import exit_code


def test_a_warning_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert exit_code(lambda: warnings.warn("2 of 3 worker processes ended early.", stacklevel=1)) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "Warning: 2 of 3 worker processes ended early.\n")


@pytest.mark.parametrize(("typed", "meant"), [("--suit", "--suite"), ("--seed", "--seeds"), ("--modell", "--model")])
def test_a_mistyped_option_is_answered_by_the_nearest(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", typed, "affine"])
    said = capsys.readouterr().err
    assert said == f"Error: No such option '{typed}'. Did you mean '{meant}'?\nTry 'capsbench run --help'.\n"


@pytest.mark.parametrize("command", ["list", "list --json", "--help", "run --help"])
def test_a_reader_that_goes_away_is_no_failure(command: str) -> None:
    line = f"{sys.executable} -m capsbench {command} | true; echo ${{PIPESTATUS[0]}}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("report nowhere 2>/dev/full", 3, ""),
        ("report nowhere 2>&-", 3, ""),
        ("report nowhere <&- >&- 2>&-", 3, ""),
        ("list 2>/dev/full", 0, "data sets"),
        ("list 2>&-", 0, "data sets"),
        ("list --nothing 2>/dev/full", 2, ""),
        ("list >/dev/full", 4, "Error: The output could not be written: No space left on device.\n"),
    ],
)
def test_a_stderr_that_is_full_or_closed_changes_nothing(line: str, code: int, said: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = f"{sys.executable} -m capsbench {line}; echo $? >&3"
    done = subprocess.run(
        ["bash", "-c", f"exec 3>{tmp_path}/code; {command}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int((tmp_path / "code").read_text()) == code
    assert (done.stdout + done.stderr).startswith(said) and "Traceback" not in done.stderr


def test_a_pipe_of_messages_that_is_full_and_does_not_wait_changes_no_code() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 65536)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "capsbench", "report", "nowhere"]
    assert subprocess.run(command, env=environment, stderr=writer, check=False).returncode == 3
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("asked", "told"), [("bash_complete", "plain,report"), ("bash_source", "_capsbench_completion")]
)
def test_a_shell_that_asks_for_completions_gets_them_alone(asked: str, told: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "_CAPSBENCH_COMPLETE": asked}
    environment |= {"COMP_WORDS": "capsbench repo", "COMP_CWORD": "1"}
    code = "from capsbench.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "") and told in done.stdout


def test_code_that_ends_the_process_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: sys.exit(0)) == 1
    assert capsys.readouterr().err == "Error: The code of a network or a suite ended the process (SystemExit(0)).\n"


def test_what_a_terminal_cannot_show_is_replaced() -> None:
    code = "import sys; from capsbench.cli.exits import SHOWABLE; sys.stdout.reconfigure(errors=SHOWABLE)\n"
    code += "print('90.1 ± 0.2 ≥ x\\udcff')"
    for encoding, shown in (("iso8859-2", b"90.1 ? 0.2 ? x\xff\n"), ("utf-8", "90.1 ± 0.2 ≥ x".encode() + b"\xff\n")):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": encoding}
        assert subprocess.run([sys.executable, "-c", code], env=environment, stdout=-1, check=True).stdout == shown
