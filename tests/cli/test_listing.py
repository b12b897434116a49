"""What `capsbench list` shows of an entry; what ships is read from its source, without importing it."""

import json
from pathlib import Path

import pytest

from capsbench import registry
from capsbench.cli import main
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


POINTS = """
[capsbench.models]
unwritten = no_such_module_of_anyone:Net
stopping = plugin_that_stops:Net
wordless = plugin_of_oddities:Wordless
numbers = plugin_of_oddities:NUMBER
oddly = plugin_of_oddities:OddPresets
absent = plugin_of_oddities:Absent
placeless = plugin_of_oddities
good = plugin_of_oddities:Good

[capsbench.suites]
broken = plugin_that_stops:Suite

[capsbench.generators]
misnamed = capsbench.nothing_of_ours:Digits
"""

ODDITIES = '''
NUMBER = 3

class Wordless:
    __doc__ = 7

class OddPresets:
    """Odd."""
    presets = 5

class Good:
    """A network that works."""
    presets = {"tiny": {}}
    def __init__(self, *, width=4, where=object(), image_size=28): ...
'''


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installs a distribution of which most fails, as pip would."""
    facts = tmp_path / "oddities-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: oddities\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(POINTS)
    (tmp_path / "plugin_of_oddities.py").write_text(ODDITIES)
    (tmp_path / "plugin_that_stops.py").write_text("raise SystemExit('not today')\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("broken")
def test_plugins_that_fail_are_named_with_the_reason_and_hide_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["list", "--json"])
    entries = {one["name"]: one for family in json.loads(capsys.readouterr().out).values() for one in family}
    assert stop.value.code == 0
    expected = {
        "unwritten": "there is no module 'no_such_module_of_anyone'",
        "stopping": "SystemExit: not today",
        "broken": "'plugin_that_stops' cannot be imported",
        "wordless": "plugin_of_oddities:Wordless: AttributeError",
        "numbers": "plugin_of_oddities:NUMBER: TypeError",
        "oddly": "plugin_of_oddities:OddPresets: TypeError",
        "absent": "is called 'Absent'",
        "placeless": "package.module:attribute",
        "misnamed": "there is no module 'capsbench.nothing_of_ours'",
    }
    for name, reason in expected.items():
        assert entries[name]["summary"].startswith("cannot be loaded: ") and reason in entries[name]["summary"], name
    assert entries["good"]["summary"] == "A network that works" and entries["good"]["presets"] == ["tiny"]
    assert entries["good"]["parameters"]["width"] == 4 and "image_size" not in entries["good"]["parameters"]
    assert {"affnist", "capsnet", "affine"} <= entries.keys()

    with pytest.raises(SystemExit) as stop:
        main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert stop.value.code == 0 and "  good           A network that works  [presets: tiny]" in lines
    assert sum("cannot be loaded" in line for line in lines) == len(expected)
