"""Paths as users write them: homes are found, and what is no path is refused in a line."""

from pathlib import Path

import pytest

import capsbench
from capsbench.data.places import auto_source, cache_folder, places
from capsbench.errors import CapsbenchError, DigitsError, UsageError
from capsbench.paths import resolved, user_path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("text", "path"), [("~", ""), ("~/x/y.h5", "x/y.h5"), ("~/", "")])
def test_a_home_is_found(text: str, path: str, home: Path) -> None:
    assert user_path(text) == user_path(Path(text)) == home / path
    assert user_path(user_path(f"./{text}")) == Path.cwd() / text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--out is empty"),
        (" ", "--out is empty"),
        ("a\0b", "--out holds a null character"),
        ("~nobodyhere/x", "--out is ~nobodyhere/x, but there is no home folder ~nobodyhere"),
    ],
)
def test_what_is_no_path_is_refused_in_a_line(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as told:
        user_path(text, "--out")
    assert len(str(told.value).splitlines()) == 1


def test_links_that_lead_in_a_circle_are_refused() -> None:
    Path("a.py").symlink_to("b.py")
    Path("b.py").symlink_to("a.py")
    with pytest.raises(UsageError, match=r"the links of a\.py lead in a circle"):
        resolved("a.py")


def test_a_home_is_found_wherever_python_takes_a_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (made,) = capsbench.generate("padded", split="test", digits="embedded", count=5, out="~/data")
    assert made == home / "data" / "padded-test.h5"
    assert len(capsbench.open_dataset("~/data/padded-test.h5")) == 5
    with pytest.raises(DigitsError, match=f"{home}/m"):
        capsbench.stream("padded", digits="~/m")
    with pytest.raises(CapsbenchError, match=f"There is no folder {home}/runs"):
        capsbench.load_results("~/runs")
    for variable in ("CAPSBENCH_DIGITS", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, f"~/{variable}")
    assert all("~" not in str(folder) for _, folder in places())
    assert cache_folder() == home / "XDG_CACHE_HOME" / "capsbench" / "mnist"
    monkeypatch.setenv("CAPSBENCH_DIGITS", "~nobodyhere/m")
    with pytest.raises(DigitsError, match="CAPSBENCH_DIGITS is set: There is no folder ~nobodyhere/m"):
        auto_source()
