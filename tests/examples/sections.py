"""The commands that docs/examples.md prints, section by section."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from capsbench.cli import main

ROOT = Path(__file__).resolve().parents[2]
SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
LEARNED = {"Scores of another framework": "scores", "A network that was trained elsewhere": "weights"}
"""Sections whose network must learn, from all digits, and the origin of their results."""

CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def printed() -> dict[str, list[str]]:
    """The commands of each section of the page."""
    _, *parts = SECTION.split((ROOT / "docs" / "examples.md").read_text())
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    return {
        title: [line.removeprefix("$ ") for block in CONSOLE.findall(text) for line in block.splitlines()]
        for title, text in sections.items()
    }


def run_line(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a command in this process, on the CPU."""
    program, *arguments = shlex.split(line)
    if program == "python":
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.setattr(sys, "path", ["examples", *sys.path])  # as Python finds what lies beside a script
        runpy.run_path(arguments[0], run_name="__main__")
        sys.modules.pop("plain_cnn", None)
        return
    assert program == "capsbench"
    device = ["--device", "cpu"] if arguments[0] == "run" else []
    with pytest.raises(SystemExit) as stop:
        main([*arguments, *device])
    assert stop.value.code == 0, line


def run_section(title: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for line in printed()[title]:
        run_line(line, monkeypatch)
    assert "Warning" not in capsys.readouterr().err
