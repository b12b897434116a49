"""Generation against failing calls and full disks: exit code 4 and why, no final file, and the next run completes."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from capsbench.cli import main
from capsbench.data.recipes import make_recipe
from capsbench.errors import StorageError
from capsbench.files.generation import generate_file

Campaign = Callable[..., dict[str, Any]]
Scale = Callable[[float, float], float]

COMMAND = ["generate", "padded", "--split", "test", "--count", "10000", "--digits", "embedded", "--out", "disk"]


def can_mount() -> bool:
    """Whether this account may mount a small disk to fill."""
    folder = Path("/tmp") / f"capsbench-disk-{os.getpid()}"
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "capsbench", str(folder)]
    try:
        folder.mkdir()
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
    except OSError:
        return False
    finally:
        folder.rmdir()
    return True


MOUNTS = can_mount()


def test_a_run_whose_nth_call_fails_ends_in_one_line_and_the_next_completes(campaign: Campaign, scale: Scale) -> None:
    counts = campaign("failures", scale(0.02, 1))
    assert counts["failed calls"] >= scale(4, 250)
    assert counts.get("of these with blocks to keep", 0) >= scale(1, 100)
    assert counts["exit code 4"] + counts.get("harmless", 0) == counts["failed calls"]


def test_a_limit_on_the_size_of_files_is_told_wherever_it_lies(campaign: Campaign, scale: Scale) -> None:
    counts = campaign("failures:limits", scale(8, 1))
    assert counts["limits"] >= scale(3, 17)


@pytest.mark.skipif(not MOUNTS, reason="this account may not mount a small disk")
def test_real_disks_of_any_size_and_read_only_ones(campaign: Campaign, scale: Scale) -> None:
    counts = campaign("failures:disks", scale(0.1, 1))
    assert counts["disks"] >= scale(3, 90)
    assert counts["disks without names"] >= 3
    assert counts.get("resumed", 0) >= scale(0, 20)


def full(handle: int, offset: int, size: int) -> None:
    raise OSError(28, os.strerror(28))


def test_a_disk_that_is_full_when_space_is_reserved_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", full)
    recipe = make_recipe("padded", split="test", digits="embedded", count=10_000, parameters={"size": 28, "shift": 2})
    with pytest.raises(StorageError, match=r"No space left on device\. It needs 8\.0 MB; only"):
        generate_file(recipe, Path("x.h5"))
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("told", [True, False], ids=["the system tells", "the system does not tell"])
def test_a_disk_too_small_is_told_where_none_can_be_mounted(
    told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000 if told else 10**12))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(SystemExit) as stop:
        main(COMMAND)
    assert stop.value.code == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: disk/padded-test.h5 ") and re.search(r"needs 16\.[12] MB; only ", line)
    assert list(Path("disk").iterdir()) == []


@pytest.mark.skipif(not MOUNTS, reason="this account may not mount a small disk")
def test_a_command_of_its_own_on_a_full_disk_ends_with_one_line() -> None:
    Path("disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "capsbench", "disk"], check=True)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "capsbench", *COMMAND], capture_output=True, text=True, check=False
        )
        assert done.returncode == 4
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        wanted = r"needs 16\.[12] MB; only 1\.0 MB is free\. Free some space, or choose another place\."
        assert re.fullmatch(r"Error: disk/padded-test\.h5 " + wanted, line)
        small = [*COMMAND, "--count", "100", "--set", "size=28"]  # what does fit is made
        done = subprocess.run([sys.executable, "-m", "capsbench", *small], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", "disk"], check=True)
