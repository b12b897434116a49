"""The published root digests are found anew; those of full MNIST need it, for instance in $CAPSBENCH_DIGITS."""

import json
import sys
from pathlib import Path
from typing import Any

import digests
import pytest

from capsbench.data.places import auto_source
from capsbench.files import published

ROOT = Path(__file__).parents[2]
PUBLISHED = published.digests()
FULL_MNIST = auto_source()


def found(source: str, out: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["digests.py", source, str(out)])
        digests.main()
    return json.loads(out.read_text())


def test_digests_of_the_embedded_digits_are_those_published(tmp_path: Path) -> None:
    """Where this fails, samples have changed: give the generator a new version, then run the tool."""
    assert found("embedded", tmp_path / "digests.json") == {"embedded": PUBLISHED["embedded"]}


@pytest.mark.slow
@pytest.mark.skipif(FULL_MNIST is None, reason="full MNIST is not on this machine")
def test_digests_of_full_mnist_are_those_published(tmp_path: Path) -> None:
    assert found(str(FULL_MNIST), tmp_path / "digests.json") == {"mnist": PUBLISHED["mnist"]}


def test_tool_keeps_what_stands_there_of_other_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "digests.json"
    out.write_text('{"mnist": {"a": "b"}, "embedded": {"c": "d"}}')
    monkeypatch.setattr(digests, "root_digests", lambda source: {source: "e"})
    assert found("embedded", out) == {"mnist": {"a": "b"}, "embedded": {"embedded": "e"}}
    assert found("a folder", out) == {"mnist": {"a folder": "e"}, "embedded": {"embedded": "e"}}


def test_every_digest_stands_in_the_documents() -> None:
    page = (ROOT / "docs" / "files.md").read_text()
    for source, found_before in PUBLISHED.items():
        assert len(found_before) == 36
        for name, digest in found_before.items():
            title, split = name.split("/")
            assert f"| {source} | {title} | `{split}` | `{digest}` |" in page
