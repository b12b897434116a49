"""The oldest versions: one of each requirement that pyproject.toml states."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_requirement_has_an_oldest_version() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools" / "minimum.py"], check=True, capture_output=True, text=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = sum(project["optional-dependencies"].values(), project["dependencies"])
    others = [one for one in required if not one.startswith("capsbench[")]
    assert done.stdout.splitlines() == [one.replace(">=", "==") for one in others]
    assert all(one.count("==") == 1 for one in done.stdout.splitlines())
