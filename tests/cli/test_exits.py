"""How a command ends: what it says on the way."""

import warnings

import pytest

from capsbench.cli.exits import exit_code


def test_a_warning_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert exit_code(lambda: warnings.warn("2 of 3 worker processes ended early.", stacklevel=1)) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "Warning: 2 of 3 worker processes ended early.\n")
