"""Fixtures of all tests: no run finds digits, caches or files of the person who started it."""

import os
import signal

# On a busy machine threads that spin while they wait make torch many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from pathlib import Path

import pytest
from hypothesis import settings

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started with Ctrl-C ignored

settings.register_profile("unhurried", deadline=None)  # that a machine is busy is no defect
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def own_world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home, so that `auto` finds the embedded digits, and an empty folder to stand in."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(home / "torch"))
    monkeypatch.delenv("CAPSBENCH_DIGITS", raising=False)
    folder: Path = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(folder)
