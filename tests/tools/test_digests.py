"""The published root digests are found anew; those of full MNIST need it, for instance in $CAPSBENCH_DIGITS."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from capsbench.data.places import auto_source
from capsbench.files import published

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "digests.py"
PUBLISHED = published.digests()
FULL_MNIST = auto_source()


def found(digits: str, out: Path) -> Any:
    subprocess.run([sys.executable, TOOL, digits, out], check=True)
    return json.loads(out.read_text())


def test_digests_of_the_embedded_digits_are_those_published(tmp_path: Path) -> None:
    """Where this fails, samples have changed: give the generator a new version, then run the tool."""
    assert found("embedded", tmp_path / "digests.json") == {"embedded": PUBLISHED["embedded"]}


@pytest.mark.slow
@pytest.mark.skipif(FULL_MNIST is None, reason="full MNIST is not on this machine")
def test_digests_of_full_mnist_are_those_published(tmp_path: Path) -> None:
    assert found(str(FULL_MNIST), tmp_path / "digests.json") == {"mnist": PUBLISHED["mnist"]}


def test_tool_keeps_what_stands_there_of_other_digits(tmp_path: Path) -> None:
    out = tmp_path / "digests.json"
    out.write_text('{"mnist": {"a": "b"}, "embedded": {}}')
    assert found("embedded", out) == {"mnist": {"a": "b"}, "embedded": PUBLISHED["embedded"]}


def test_every_digest_stands_in_the_documents() -> None:
    page = (ROOT / "docs" / "files.md").read_text()
    for digits, digests in PUBLISHED.items():
        assert len(digests) == 36
        for name, digest in digests.items():
            title, split = name.split("/")
            assert f"| {digits} | {title} | `{split}` | `{digest}` |" in page
