"""What the commands load: torch only where a network runs, matplotlib only where a chart is drawn."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

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


def loaded(arguments: list[str], folder: Path, heavy: Sequence[str] = HEAVY) -> str:
    """The last line on stderr: which of some modules a command loaded."""
    program = PROGRAM.format(heavy=heavy)
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1]


ONE_AFTER_ANOTHER = """
import json, sys
from capsbench.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as stop:
        found = [name for name in {heavy} if name in sys.modules]
        print(arguments[0], stop.code or 0, *found, file=sys.stderr)
"""


def test_commands_without_a_network_or_a_chart_start_at_once(tmp_path: Path) -> None:
    # In one process: what the first of them loads, none needs. The list of what ships needs not even numpy.
    (path,) = generate("padded", out=tmp_path / "data", split="test", count=10, digits="embedded")
    commands = [
        ["--help"],
        ["list"],
        ["list", "--models", "torchvision"],
        ["generate", "multimnist", "--split", "test", "--count", "10", "--digits", "embedded"],
        ["verify", str(path), "--sample", "5"],
        ["info", str(path)],
        ["data", "status"],
        ["compare", *map(str, sorted((RESULTS / "overlap").rglob("*.json"))[1:3])],
    ]
    program = ONE_AFTER_ANOTHER.format(heavy=("numpy", *HEAVY))
    command = [sys.executable, "-c", program, json.dumps(commands)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.split()[0] in {one[0] for one in commands}]
    assert lines[:2] == ["--help 0", "list 0"]
    assert lines[2] in ("list 0", "list 0 numpy")
    assert lines[3:] == [f"{one[0]} 0 numpy" for one in commands[3:]]


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
