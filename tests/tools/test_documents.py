"""The documents say what is true: their Python runs, and their commands exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from capsbench.bench.planning import plan_run
from capsbench.bench.running import run_plan
from capsbench.cli import cli
from capsbench.files.generation import generate

pytestmark = pytest.mark.usefixtures("few_digits")

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
BLOCKS = BLOCK.findall(README)


@pytest.mark.parametrize("suite", ["mnist", "affine", "overlap", "crowding", "clutter", "throughput"])
def test_the_network_of_the_readme_runs_in_every_suite_but_reconstruction(suite: str, tmp_path: Path) -> None:
    (network,) = (block for block in BLOCKS if block.startswith("# mine.py"))
    (tmp_path / "mine.py").write_text(network)
    plan = plan_run(
        suite,
        models=[f"{tmp_path}/mine.py:Net"],
        preset="smoke",
        changes={"precisions": "fp32"} if suite == "throughput" else {"epochs": "1"},
        digits="embedded",
        device="cpu",
        out=tmp_path / "runs",
    )
    outcome = run_plan(plan)
    assert not outcome.failed and len(outcome.results) == len(plan.cells) == 1


def test_the_python_of_the_readme_runs() -> None:
    (script,) = (block for block in BLOCKS if block.startswith("import capsbench"))
    names: dict[str, object] = {}
    exec(compile(script, "README.md", "exec"), names)
    assert len(names["lazy"]) == 320 * 32  # type: ignore[arg-type]
    assert len(names["results"]) == 1  # type: ignore[arg-type]


def test_a_file_is_read_as_the_documents_say() -> None:
    (script,) = BLOCK.findall((ROOT / "docs" / "files.md").read_text())
    generate("multimnist", split="test", digits="embedded", layers=True)
    names: dict[str, Any] = {}
    exec(compile(script, "files.md", "exec"), names)
    assert names["images"].shape == (100, 36, 36)


def test_every_document_that_is_named_is_there() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for name in re.findall(r"\bdocs/[\w-]+\.(?:md|html)\b", path.read_text()):
            assert (ROOT / name).is_file(), f"{path.name} names {name}"


@pytest.mark.parametrize("document", ["README.md", "docs/routing.md"])
def test_the_routing_of_the_documents_runs(document: str) -> None:
    script = "\n".join(block for block in BLOCK.findall((ROOT / document).read_text()) if "route(" in block)
    names: dict[str, Any] = {}
    exec(compile(script, document, "exec"), names)
    v = names["route"](names["u"], names["weight"])
    assert v.shape == (32, 10, 16)
    if "DigitCapsules" in names:
        assert names["DigitCapsules"](1152, 10, 16, 8)(names["u"]).shape == v.shape


@pytest.mark.parametrize("line", sorted(set(re.findall(r"^\$ capsbench (.*)$", README, re.MULTILINE))))
def test_the_commands_of_the_readme_exist_with_their_options(line: str) -> None:
    words = shlex.split(line)
    command = cli.commands[words[0]]
    if isinstance(command, click.Group):
        command = command.commands[words[1]]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
