"""What `capsbench list` shows of an entry; what ships is read from its source, without importing it."""

import pytest

from capsbench import registry
from capsbench.cli.listing import first_line, read_class
from capsbench.parameters import defaults

SHIPPED = [(family, name, place) for family in registry.FAMILIES for name, place in registry.catalog(family).items()]


@pytest.mark.parametrize(("family", "name", "place"), SHIPPED, ids=lambda value: value.replace(" ", "-"))
def test_what_is_read_is_what_importing_finds(family: str, name: str, place: str) -> None:
    thing = registry.load(family, name)
    summary, presets, parameters = read_class(place)
    assert summary == first_line(thing.__doc__) != ""
    assert presets == sorted(thing.presets) != []
    assert parameters == defaults(thing)


def test_the_summary_is_the_first_line_of_the_docstring() -> None:
    assert first_line("Where it is from. And more.\n\nNot this.") == "Where it is from. And more"
    assert first_line(None) == ""
