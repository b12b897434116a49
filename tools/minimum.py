"""Prints the oldest versions that pyproject.toml allows, as constraints for pip: ``python tools/minimum.py``."""

import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def main() -> None:
    """Prints a line for each requirement of the project and its extras."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    for requirement in sum(project["optional-dependencies"].values(), project["dependencies"]):
        if ">=" in requirement:  # not the project's own extras
            print(requirement.replace(">=", "=="))


if __name__ == "__main__":
    main()
