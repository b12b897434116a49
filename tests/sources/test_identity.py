"""What a user's network is made of: whatever changes what it computes changes its identity, and nothing else does."""

import py_compile
import shutil
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from capsbench import registry
from capsbench.errors import UsageError
from capsbench.sources.identity import Identity, identity_of_code

FILES = {
    "nets/mine.py": "import first\nfrom kit import inner\ndef Net():\n    import late\n",
    "nets/first.py": "import second\n",
    "nets/second.py": "import importlib\nthird = importlib.import_module('third')\n",
    "nets/third.py": "from pathlib import Path\nlimits = (Path(__file__).parent / 'limits.txt').read_text()\n",
    "nets/limits.txt": "[1]",
    "nets/late.py": "import later\n",
    "nets/later.py": "",
    "nets/kit/__init__.py": "",
    "nets/kit/inner.py": "from .deep import leaf\nfrom . import *\n",
    "nets/kit/deep/__init__.py": "from .. import outer\n",
    "nets/kit/deep/leaf.py": "",
    "nets/kit/outer.py": "",
    "nets/bystander.py": "",
}
NAMED = sorted(name.removeprefix("nets/") for name in FILES if name != "nets/bystander.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path / "nets"


def identity(name: Any, **options: Any) -> Identity:
    return registry.identify("model", str(name), **options)


def test_every_file_at_any_depth_is_named(folder: Path) -> None:
    assert sorted(identity(f"{folder}/mine.py:Net").parts) == NAMED


@pytest.mark.parametrize("name", NAMED)
def test_an_edit_of_any_of_them_makes_another(folder: Path, name: str) -> None:
    before = identity(f"{folder}/mine.py:Net")
    (folder / name).write_text((folder / name).read_text() + " ")
    after = identity(f"{folder}/mine.py:Net")
    assert after.hash != before.hash and {key for key in after.parts if after.parts[key] != before.parts[key]} == {name}


def test_an_edit_of_a_bystander_does_not(folder: Path) -> None:
    before = identity(f"{folder}/mine.py:Net")
    (folder / "bystander.py").write_text("edited = 1")
    assert identity(f"{folder}/mine.py:Net") == before


def test_the_place_and_its_spelling_do_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(f"{folder}/mine.py:Net")
    monkeypatch.chdir(folder)
    assert identity("mine.py:Net") == identity("./mine.py:Net") == identity("../nets/mine.py:Net") == before
    monkeypatch.chdir(folder.rename(folder.parent / "moved"))
    assert identity("mine.py:Net") == before


def test_a_module_on_the_path_is_named_by_its_own_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere" / "lib").mkdir(parents=True)
    (tmp_path / "elsewhere" / "lib" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    (folder / "mine.py").write_text("import lib\ndef Net(): pass\n")
    assert sorted(identity(f"{folder}/mine.py:Net").parts) == ["lib/__init__.py", "mine.py"]


def test_what_its_construction_reads_is_part_of_it(folder: Path) -> None:
    weights = folder / "start.pt"
    weights.write_bytes(b"one")
    found = identity(f"{folder}/mine.py:Net", trial=weights.read_bytes)
    assert "start.pt" in found.parts
    assert identity(f"{folder}/mine.py:Net", parameters={"more": [str(weights)]}).hash == found.hash
    with registry.as_identified(found.hash):
        weights.write_bytes(b"another")
    with (
        pytest.raises(UsageError, match=r"start\.pt was changed since the run began"),
        registry.as_identified(found.hash),
    ):
        pass


def test_what_a_construction_imports_depends_on_no_other(folder: Path) -> None:
    (folder / "mine.py").write_text("import importlib\ndef Net(name):\n    importlib.import_module(name)\n")
    make = registry.load("model", f"{folder}/mine.py:Net")
    for name in ("later", "bystander", "later"):
        found = identity(f"{folder}/mine.py:Net", trial=lambda name=name: make(name))
        assert sorted(found.parts) == sorted(["mine.py", f"{name}.py"])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("functools.partial(dict, width=4)", "functools.partial(dict, width=32)"),
        ("functools.partial(dict, a=[1])", "functools.partial(dict, a=[2])"),
        ("functools.partial(functools.partial(dict, 1), 2)", "functools.partial(functools.partial(dict, 2), 2)"),
    ],
)
def test_arguments_of_a_partial_are_part_of_it_wherever_they_come_from(
    first: str, second: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.py").write_text("import functools, os\nNet = eval(os.environ['NET'])\n")
    found: list[Identity] = []
    for text in (first, second):
        monkeypatch.setenv("NET", text)
        path = folder / f"{len(text)}{len(found)}" / "mine.py"  # a room of its own, as in a process of its own
        path.parent.mkdir()
        path.write_bytes((folder / "mine.py").read_bytes())
        found.append(identity(f"{path}:Net"))
    assert found[0].hash != found[1].hash


def test_what_ships_has_no_parts() -> None:
    assert identity("capsnet").hash == identity("capsbench.models.cnn:CNN").hash == ""


def test_a_shipped_class_behind_a_users_name_is_his(folder: Path) -> None:
    hashes = set()
    for place in ("cnn import CNN", "capsnet import CapsNet"):
        (folder / "mine.py").write_text(f"from capsbench.models.{place} as Net\n")
        hashes.add(identity(f"{folder}/mine.py:Net").hash)
    assert len(hashes) == 2 and "" not in hashes


def test_an_installed_package_is_one_part_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "plugged_nets"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from plugged_nets.sides import Net\n")
    (package / "sides.py").write_text("class Net: pass\n")
    monkeypatch.syspath_prepend(package.parent)
    installed = cache(packages_distributions)  # reads for a second what nothing here changes
    monkeypatch.setattr("capsbench.sources.identity.packages_distributions", installed)
    before = identity("plugged_nets:Net")
    assert len(before.parts) == 1 and next(iter(before.parts)).startswith("plugged_nets")
    (package / "sides.py").write_text("class Net: more = 1\n")
    assert identity("plugged_nets:Net").hash != before.hash
    for name in ("plugged_nets", "plugged_nets.sides"):
        del sys.modules[name]


def defined(code: str) -> Callable[..., Any]:
    """A class as a notebook defines it: without a file."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(code, space)
    return space["Net"]  # type: ignore[no-any-return]


def test_a_class_without_a_file_is_identified_by_its_code() -> None:
    code = "class Net:\n    def forward(self, x): return x + 1\n"
    assert identity_of_code("Net", defined(code)) == identity_of_code("Net", defined("\n\n# moved\n" + code))
    assert list(identity_of_code("Net", defined(code)).parts) == ["code of Net"]


def test_a_file_that_is_loaded_past_the_import_system_is_named_whether_or_not_it_has_bytecode(folder: Path) -> None:
    (folder / "mine.py").write_text(
        "import importlib.util as u\nfrom pathlib import Path\n"
        "spec = u.spec_from_file_location('x', Path(__file__).parent / 'later.py')\n"
        "spec.loader.exec_module(u.module_from_spec(spec))\ndef Net(): pass\n"
    )
    py_compile.compile(str(folder / "later.py"))
    with_bytecode = identity(f"{folder}/mine.py:Net")
    shutil.rmtree(folder / "__pycache__")
    (folder / "mine.py").write_text((folder / "mine.py").read_text() + " ")
    without = identity(f"{folder}/mine.py:Net")
    assert with_bytecode.parts.keys() == without.parts.keys() == {"mine.py", "later.py"}
