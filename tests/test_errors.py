"""Errors in one line."""

import pytest

from capsbench.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("too wide\nby two"), "ValueError: too wide"),
        (NotImplementedError(), "NotImplementedError: no message"),
        (RuntimeError("\n"), "RuntimeError: "),
    ],
)
def test_first_line_names_the_class_and_never_fails(error: Exception, line: str) -> None:
    assert first_line(error) == line
