"""A command that is interrupted, and two commands on one file."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capsbench.cli import main
from capsbench.files.datafile import DataFile, open_dataset


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


DRIVER = """
import sys, time
from capsbench.files import generation as generation
from capsbench.cli import main

real = generation.stored_arrays
def slow(*arguments):
    time.sleep(0.3)
    return real(*arguments)
generation.stored_arrays = slow
main(sys.argv[1:])
"""


def start_command(*arguments: str) -> subprocess.Popen[str]:
    """A slow run of a command, caught in the middle of its work."""
    Path("driver.py").write_text(DRIVER)
    process = subprocess.Popen(
        [sys.executable, "driver.py", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    give_up = time.monotonic() + 60
    while not list(Path("d").glob("*.partial")):
        assert process.poll() is None and time.monotonic() < give_up
        time.sleep(0.01)
    return process


COMMAND = ["generate", "padded", "--split", "test", "--count", "20000", "--set", "size=28", "--out", "d"]


@pytest.mark.parametrize("blocks", [0, 1])
def test_an_interrupted_command_ends_with_130_and_how_to_go_on(blocks: int, capsys: pytest.CaptureFixture[str]) -> None:
    process = start_command(*COMMAND)
    while DataFile(Path("d/padded-test.h5.partial")).digests.any(1).sum() < blocks:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    (line,) = err.split("\n")[1:-1]  # after an empty one, past the terminal's ^C
    assert line == "Interrupted. Finished work is kept: run the same command again to continue."
    assert names("d") == ["padded-test.h5.partial"]
    with pytest.raises(SystemExit) as stop:
        main(COMMAND)
    assert stop.value.code == 0
    assert names("d") == ["padded-test.h5", "padded-test.json"]
    if blocks:
        assert "were there" in capsys.readouterr().out
    open_dataset("d/padded-test.h5")


def test_of_two_commands_on_one_file_the_second_ends_at_once_and_the_first_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = start_command(*COMMAND)
    before = time.monotonic()
    for extra in ([], ["--force"]):
        with pytest.raises(SystemExit) as stop:
            main([*COMMAND, *extra])
        assert stop.value.code == 4
        out, err = capsys.readouterr()
        assert out == "" and "Another run is writing d/padded-test.h5" in err and err.count("\n") <= 2
    assert process.poll() is None and time.monotonic() - before < 10
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert names("d") == ["padded-test.h5", "padded-test.json"]
    open_dataset("d/padded-test.h5")
