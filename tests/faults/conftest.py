"""How a campaign is run: in a process of its own, which may fork, and with a line in the end that tells what it did."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CAMPAIGN = "campaign"  # the property of a test's report that holds a line, for reports come from every process

TESTS = Path(__file__).resolve().parent.parent
START = f"""
import sys
sys.path.append({str(TESTS)!r})
from faults.{{module}} import {{entry}} as run
run(*sys.argv[1:])
"""
LONGEST = 900  # seconds


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Keeps a line for the end of the run."""
    return lambda line: request.node.user_properties.append((CAMPAIGN, line))


FAULTS = {
    "kills": ("A generation is killed at any moment", "kills"),
    "kills:every_call": ("A generation is killed before a system call", "killed calls"),
    "failures": ("A system call of a generation fails", "failed calls"),
    "failures:limits": ("The system limits the size of files", "limits"),
    "failures:disks": ("A disk is too small or read-only", "disks"),
    "hostile": ("A data file is made to do harm", "hostile files"),
    "mutation": ("A file of data, of digits or of MATLAB is mutated", "mutated files"),
}
"""What each campaign tries, and which of its counts says how often."""


@pytest.fixture
def campaign(
    request: pytest.FixtureRequest, tell: Callable[[str], None], survived: Callable[[str, int], None]
) -> Callable[..., dict[str, Any]]:
    """Runs ``main`` of a module of this folder, or what its name says after a colon, with the seed and arguments.

    It prints one JSON object, of what it counted, which is returned; where it fails, its last lines name the seed and
    the case.
    """
    if sys.platform != "linux":
        pytest.skip("campaigns ask Linux who lives, how large a process is, and who opens a file")
    seed = request.config.getoption("--campaign-seed")

    def run(module: str, *arguments: object) -> dict[str, Any]:
        start = START.format(module=module.partition(":")[0], entry=module.partition(":")[2] or "main")
        done = subprocess.run(
            [sys.executable, "-c", start, str(seed), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        assert done.returncode == 0, f"{module} {arguments}, seed {seed}:\n{done.stderr[-6000:]}"
        counts: dict[str, Any] = json.loads(done.stdout)
        words = ", ".join(f"{number} {what}" for what, number in counts.items())
        tell(f"{module} {' '.join(map(str, arguments))} (seed {seed}): {words}")
        fault, key = FAULTS[module]
        survived(fault, counts[key])
        return counts

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tells what each campaign did."""
    passed = terminalreporter.stats.get("passed", [])
    if lines := [line for report in passed for name, line in report.user_properties if name == CAMPAIGN]:
        terminalreporter.section("fault campaigns")
        for line in lines:
            terminalreporter.line(line)
    place = terminalreporter.config.getoption("--campaign-table")
    if place and not (terminalreporter.stats.get("failed") or terminalreporter.stats.get("error")):
        tries: Counter[str] = Counter()
        for report in passed:
            for name, value in report.user_properties:
                if name == "fault":
                    tries[value[0]] += value[1]
        # Each test compares every outcome: one that is lost, wrong or a crash fails it, and there is no table.
        rows = [{"fault": fault, "tries": n, "lost": 0, "wrong": 0, "crashed": 0} for fault, n in sorted(tries.items())]
        whole = {"campaign": terminalreporter.config.getoption("--campaign"), "faults": rows}
        Path(place).write_text(json.dumps(whole, indent=2) + "\n")
