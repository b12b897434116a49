"""How a command ends: what it says on the way."""

import os
import subprocess
import sys
import warnings

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


def test_what_a_terminal_cannot_show_is_replaced() -> None:
    code = "import sys; from capsbench.cli.exits import SHOWABLE; sys.stdout.reconfigure(errors=SHOWABLE)\n"
    code += "print('90.1 ± 0.2 ≥ x\\udcff')"
    for encoding, shown in (("iso8859-2", b"90.1 ? 0.2 ? x\xff\n"), ("utf-8", "90.1 ± 0.2 ≥ x".encode() + b"\xff\n")):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": encoding}
        assert subprocess.run([sys.executable, "-c", code], env=environment, stdout=-1, check=True).stdout == shown
