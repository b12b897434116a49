"""What `capsbench list` says of an entry."""

from capsbench.cli.listing import summary


def test_the_summary_is_the_first_line_of_the_docstring() -> None:
    told = type("Told", (), {"__doc__": "Where it is from. And more.\n\nNot this."})
    assert summary(told) == "Where it is from. And more"


def test_the_summary_of_what_has_no_docstring_is_empty() -> None:
    assert summary(type("Silent", (), {"__doc__": None})) == ""
