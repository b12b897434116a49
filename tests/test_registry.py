"""From a name to the object: what ships, what a plug-in brings, what lies in a user's own file."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capsbench import registry
from capsbench.data.streaming import stream
from capsbench.errors import UnknownNameError, UsageError

PLUGIN = Path(__file__).with_name("plugin")

MODULE = '''
"""A user's own file."""

WHO = "{who}"


class Own:
    """Where it is from. And more."""

    who = WHO
'''


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Installs the plug-in of tests/plugin, as pip would: a module and its .dist-info on the path."""
    monkeypatch.syspath_prepend(PLUGIN)
    yield
    sys.modules.pop("blank_digits", None)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(MODULE.format(who="first"))
    return path


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_every_name_of_the_catalog_loads(family: str) -> None:
    shipped = registry.catalog(family)
    assert shipped
    for name in shipped:
        assert registry.load(family, name).__doc__, f"{name} has no docstring"


def test_what_ships_is_a_table_of_strings() -> None:
    assert registry.catalog("data set")["affnist"] == "capsbench.generators.affnist:AffNIST"


def test_a_file_from_elsewhere_names_what_this_process_was_told_of(tmp_path: Path, monkeypatch: Any) -> None:
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "stated.py").write_text(MODULE.format(who=folder) + "\n\nclass Other(Own):\n    pass\n")
    monkeypatch.chdir(tmp_path / "ours")
    with pytest.raises(
        UsageError, match=r"name it yourself: --suite stated\.py:Own, in Python suites=\['stated\.py:Own'\]"
    ):
        registry.load_stated("suite", "stated.py:Own")
    registry.load_named("stated.py:Own")
    monkeypatch.chdir(tmp_path / "theirs")
    for stated in ("stated.py:Own", "anywhere/stated.py:Own", f"{tmp_path}/theirs/stated.py:Own", "C:\\stated.py:Own"):
        assert registry.load_stated("suite", stated).who == "ours"  # whatever lies there now
    for other in ("stated.py:Other", "another.py:Own", "stated.py", "stated:Own", ":Own", "\0.py:Own"):
        with pytest.raises(UsageError):
            registry.load_stated("suite", other)
    with pytest.raises(UsageError, match="name it yourself"):
        registry.load_stated("model", f"{tmp_path}/theirs/stated.py")
    registry.load_named([f"{tmp_path}/theirs/stated.py:Own"])
    assert registry.load_stated("suite", "stated.py:Own").who == "theirs"  # as it stands here, beside us
    assert registry.load_stated("suite", f"{tmp_path}/ours/stated.py:Own").who == "ours"
    with pytest.raises(UsageError, match=r"may be any of .*ours/stated\.py:Own, .*theirs/stated\.py:Own"):
        registry.load_stated("suite", "anywhere/stated.py:Own")


def test_a_module_is_stated_by_its_whole_name(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "stated_module.py").write_text(MODULE.format(who="module"))
    monkeypatch.syspath_prepend(tmp_path)
    registry.load_named(["stated_module:Own"])
    assert registry.load_stated("suite", "stated_module:Own").who == "module"
    with pytest.raises(UsageError, match="name it yourself"):
        registry.load_stated("suite", "elsewhere/stated_module:Own")


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(("family", "name"), [("data set", "blank"), ("model", "constant"), ("suite", "nothing")])
def test_plugin_is_known_by_its_name(family: str, name: str) -> None:
    assert name in registry.catalog(family)
    assert registry.load(family, name).__module__ == "blank_digits"


@pytest.mark.usefixtures("plugin")
def test_what_ships_wins_over_a_plugin_of_the_same_name() -> None:
    assert registry.load("data set", "padded").__module__ == "capsbench.generators.padded"


@pytest.mark.usefixtures("plugin")
def test_plugin_makes_a_data_set_like_any_other() -> None:
    data = stream("blank", split="test", preset="white", digits="embedded")
    assert len(data) == 2000
    assert (data.spec.generator, data.spec.version, data.spec.parameters) == ("blank", 3, {"grey": 255})
    assert (data.batch(np.arange(5)).images == 255).all()


@pytest.mark.usefixtures("plugin")
def test_plugins_names_are_among_the_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"No data set is called 'blnk'\. Did you mean 'blank'\?"):
        registry.load("data set", "blnk")


def test_plugin_is_unknown_where_it_is_not_installed() -> None:
    with pytest.raises(UnknownNameError):
        registry.load("data set", "blank")


def test_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        registry.load("data set", "afnist")
    assert str(caught.value) == "No data set is called 'afnist'. Did you mean 'affnist'?"
    assert caught.value.exit_code == 2


def test_name_that_is_near_nothing_is_told_all() -> None:
    with pytest.raises(UnknownNameError, match=r"Known: affnist, cluttered, crowded, multimnist, padded\."):
        registry.load("data set", "zzz")


def test_module_and_attribute_is_loaded_from_the_path() -> None:
    assert registry.load("data set", "fractions:Fraction").__name__ == "Fraction"


def test_missing_module_is_named() -> None:
    with pytest.raises(UsageError, match=r"'no_such\.module' cannot be imported: there is no module 'no_such'"):
        registry.load("model", "no_such.module:Net")


def test_module_that_lacks_one_of_its_own_imports_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"'needs_more' cannot be imported: .* 'not_installed_anywhere'"):
        registry.load("model", "needs_more:Net")


def test_missing_attribute_is_told_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"is called 'Fractoin'\. Did you mean 'Fraction'\?"):
        registry.load("data set", "fractions:Fractoin")


def test_what_a_file_has_is_told_without_what_it_imports(tmp_path: Path) -> None:
    path = tmp_path / "nets.py"
    path.write_text("import math\nfrom fractions import Fraction\nSIZE = 3\nclass One: pass\ndef two(): pass\n")
    with pytest.raises(UnknownNameError, match=r"No model in .*nets\.py is called 'Net'\. Known: One, two\.$"):
        registry.load("model", f"{path}:Net")
    path.write_text("import math\nfrom fractions import Fraction\n")
    with pytest.raises(UnknownNameError, match=r"Known: Fraction\.$"):
        registry.load("model", f"{path}:Net")


def test_attribute_of_a_file_is_loaded(own: Path) -> None:
    kind = registry.load("model", f"{own}:Own")
    assert kind.who == "first"
    assert registry.load("model", f"{own}:Own") is kind


def test_relative_file_is_loaded_from_the_working_folder(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.parent)
    assert registry.load("model", "own.py:Own") is registry.load("model", f"{own}:Own")


def test_files_of_one_name_in_two_folders_are_two_modules(own: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "own.py"
    other.parent.mkdir()
    other.write_text(MODULE.format(who="second"))
    assert [registry.load("model", f"{path}:Own").who for path in (own, other)] == ["first", "second"]


def test_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.py"
    with pytest.raises(UsageError, match=r"absent\.py' cannot be imported: .*absent\.py is not a file\."):
        registry.load("model", f"{path}:Own")


@pytest.mark.parametrize(
    ("code", "example"),
    [
        ("class Mine: pass\ndef other(): pass\nclass _Own: pass\nown = _Own()", r", such as mine\.py:Mine"),
        ("import os\nfrom pathlib import Path", ""),
    ],
)
def test_a_file_without_its_suite_is_refused_with_the_name_to_give(tmp_path: Path, code: str, example: str) -> None:
    (tmp_path / "mine.py").write_text(code)
    with (
        contextlib.chdir(tmp_path),
        pytest.raises(UsageError, match=rf"file\.py:attribute{example}, got 'mine\.py'"),
    ):
        registry.load("suite", "mine.py")


def test_file_that_fails_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("Own = 1\nraise RuntimeError('not yet')\n")
    with pytest.raises(UsageError, match="cannot be imported: RuntimeError: not yet"):
        registry.load("model", f"{path}:Own")
    path.write_text("Own = 2  # mended: another size, so that no cached bytecode passes for it\n")
    assert registry.load("model", f"{path}:Own") == 2


@pytest.mark.parametrize("code", ["1 / 0", "def", "import nowhere", "raise SystemExit(3)", "\udcff"])
def test_code_that_cannot_be_imported_is_a_usage_error(tmp_path: Path, code: str) -> None:
    path = tmp_path / "broken.py"
    path.write_bytes(code.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match="cannot be imported"):
        registry.load("model", f"{path}:Own")


@pytest.mark.parametrize("name", [":Own", ":", ".relative:Own", "own.py", "os.path"])
def test_name_that_says_no_place_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError):
        registry.load("model", name)
