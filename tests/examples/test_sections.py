"""The examples whose networks need not learn: a tenth of the digits is enough for them."""

from pathlib import Path

import pytest

from capsbench.results.result import load_results

from .sections import LEARNED, printed, run_section

OTHERS = (*LEARNED, "A plug-in")
"""Sections that test_examples.py runs, with all digits."""


@pytest.mark.usefixtures("undrawn", "guessed", "few_digits")
@pytest.mark.parametrize("title", [title for title, lines in printed().items() if lines and title not in OTHERS])
def test_the_commands_of_a_section_work(
    title: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_section(title, monkeypatch, capsys)
    if title == "A data set of your own":
        assert Path("speckled.png").exists()
    else:
        assert {one.origin for one in load_results("runs")} == {"trained"}
