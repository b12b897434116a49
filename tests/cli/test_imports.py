"""What the commands load: torch only where a network runs, matplotlib only where a chart is drawn."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from capsbench.files.generation import generate
from capsbench.judging.tests import tests as write_tests

RESULTS = Path(__file__).resolve().parents[2] / "results"

HEAVY = ("torch", "matplotlib", "scipy.stats")
PROGRAM = """
import sys
from capsbench.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    print([name for name in {heavy} if name in sys.modules], file=sys.stderr)
    raise
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    (path,) = generate("padded", out=tmp_path_factory.mktemp("data"), split="test", count=10, digits="embedded")
    return str(path)


def loaded(arguments: list[str], folder: Path, heavy: Sequence[str] = HEAVY) -> str:
    """The last line on stderr: which of some modules a command loaded."""
    program = PROGRAM.format(heavy=heavy)
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list", "--models", "torchvision"],
        ["generate", "multimnist", "--split", "test", "--count", "10", "--digits", "embedded"],
        ["verify", "FILE", "--sample", "5"],
        ["info", "FILE"],
        ["data", "status"],
        ["compare", *map(str, sorted((RESULTS / "overlap").rglob("*.json"))[1:3])],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_without_a_network_or_a_chart_starts_at_once(arguments: list[str], file: str, tmp_path: Path) -> None:
    assert loaded([file if one == "FILE" else one for one in arguments], tmp_path) == "[]"


def test_the_list_needs_not_even_numpy(tmp_path: Path) -> None:
    assert loaded(["list"], tmp_path, ("numpy", *HEAVY)) == "[]"


def a_result_of(suite: str, folder: Path) -> str:
    """A folder with one of the committed results of a suite: more need no other modules."""
    path = min((RESULTS / suite).rglob("*.json"), key=lambda path: path.stat().st_size)
    shutil.copytree(path.parent, folder / suite, ignore=lambda _, names: {*names} - {path.name})
    return str(folder / suite)


def test_results_are_reported_without_what_reads_and_makes_data(tmp_path: Path) -> None:
    folders = [a_result_of(suite, tmp_path) for suite in ("throughput", "mnist", "overlap")]
    found = loaded(["report", *folders, "--markdown", "page.md"], tmp_path, ("h5py", "capsbench.data.digits", *HEAVY))
    assert found == "[]"


def test_charts_load_matplotlib(tmp_path: Path) -> None:
    assert loaded(["report", a_result_of("mnist", tmp_path), "--charts", "."], tmp_path) == "['matplotlib']"


def test_scores_are_judged_without_torch(tmp_path: Path) -> None:
    (entry,) = write_tests("mnist", out=tmp_path / "made", preset="smoke", digits="embedded").files
    np.savez(tmp_path / "made" / "test.npz", scores=np.eye(10)[np.arange(entry.count) % 10], digest=entry.digest)
    found = loaded(["judge", "--suite", "mnist", "made", "--label", "elsewhere", "--json"], tmp_path)
    assert "torch" not in found and "matplotlib" not in found
