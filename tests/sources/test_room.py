"""A user's file and what it imports: as python itself would find it, and never another file's."""

import importlib
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capsbench import registry

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, content: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    return written


def load(path: Path | str, attribute: str = "answer") -> Any:
    return registry.load("model", f"{path}:{attribute}")


FORMS = {
    "beside": ("from sides import VALUE\nanswer = VALUE", "sides.py"),
    "a package beside": ("from kit.sides import VALUE\nanswer = VALUE", "kit/sides.py"),
    "relative": ("from .sides import VALUE\nanswer = VALUE", "sides.py"),
    "by importlib": ("import importlib\nanswer = importlib.import_module('sides').VALUE", "sides.py"),
    "later": ("def answer():\n    from sides import VALUE\n    return VALUE", "sides.py"),
}


@pytest.mark.parametrize("form", FORMS)
def test_two_files_import_what_lies_beside_each(form: str, write: Write) -> None:
    code, beside = FORMS[form]
    for folder, value in (("a", 1), ("b", 2)):
        write(f"{folder}/mine.py", code)
        write(f"{folder}/{beside}", f"VALUE = {value}")
    found = []
    for folder in "abab":
        path = write(f"{folder}/mine.py", code)
        with registry.room("model", f"{path}:answer") or pytest.fail("no room"):
            answer = load(path)
            found.append(answer() if callable(answer) else answer)
    assert found == [1, 2, 1, 2]


def test_a_module_is_found_in_the_working_folder(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("kit_here/net.py", "from kit_here.sides import VALUE\nanswer = VALUE")
    path = write("kit_here/sides.py", "VALUE = 5")
    monkeypatch.chdir(path.parents[1])
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in ("", str(path.parents[1]))])
    assert load("kit_here.net") == 5
    assert load(path.parent / "net.py") == 5


def test_the_users_own_module_of_the_same_name_is_left_alone(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a/sides.py", "VALUE = 1")
    monkeypatch.syspath_prepend(write("own/sides.py", "VALUE = 3").parent)
    path = list(sys.path)
    own = importlib.import_module("sides")
    assert load(write("a/mine.py", "from sides import VALUE\nanswer = VALUE")) == 1
    assert sys.modules["sides"] is own and sys.path == path
    del sys.modules["sides"]


def test_an_edit_beside_the_file_is_read_even_where_its_time_and_size_stay(write: Write) -> None:
    path = write("mine.py", "from sides import VALUE\nanswer = VALUE")
    found = []
    for value in (1, 2, 3):
        sides = write("sides.py", f"VALUE = {value}")
        os.utime(sides, (1e9, 1e9))
        found.append(load(path))
    assert found == [1, 2, 3]


def test_a_path_that_the_file_adds_holds_for_later_imports(write: Write) -> None:
    write("far/away/sides.py", "VALUE = 9")
    path = write(
        "mine.py",
        "import sys\nfrom pathlib import Path\nsys.path.insert(0, str(Path(__file__).parent / 'far' / 'away'))\n"
        "def answer():\n    import sides\n    return sides.VALUE",
    )
    before = list(sys.path)
    answer = load(path)
    assert sys.path == before
    with registry.room("model", f"{path}:answer") or pytest.fail("no room"):
        assert answer() == 9


def test_a_class_from_beside_can_be_pickled(write: Write) -> None:
    write("sides_of_pickle.py", "class Kind:\n    pass")
    kind = load(write("mine.py", "from sides_of_pickle import Kind as answer"))
    assert type(pickle.loads(pickle.dumps(kind()))) is kind


def test_what_was_identified_is_what_runs_whatever_is_edited_since(write: Write) -> None:
    path = write("mine.py", "def answer():\n    from sides import VALUE\n    return VALUE")
    sides = write("sides.py", "VALUE = 1")
    found = registry.identify("model", f"{path}:answer")
    sides.write_text("VALUE = 22")
    with registry.as_identified(found.hash):
        assert load(path)() == 1
    assert registry.identify("model", f"{path}:answer").hash != found.hash


@pytest.mark.parametrize("name", ["os.path", "fractions", "torch.nn.functional", "capsbench.errors"])
def test_what_is_no_users_stays_imported(name: str, write: Write) -> None:
    before = importlib.import_module(name)
    registry.load("model", f"{name}:__name__")
    load(write("mine.py", "answer = 1"))
    assert sys.modules[name] is before
