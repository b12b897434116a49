"""Which digits a text means, and how a user's are named."""

from pathlib import Path
from typing import Any

import pytest

from capsbench.data.naming import Source, named_digits, source_of
from capsbench.errors import ParameterError, UsageError


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("auto", Source("auto")),
        ("embedded", Source("embedded")),
        ("fashion", Source("fashion")),
        ("qmnist", Source("qmnist")),
        ("some/folder", Source("mnist", Path("some/folder"))),
        ("./fashion", Source("mnist", Path("fashion"))),
        ("runs/lr=0.1", Source("mnist", Path("runs/lr=0.1"))),
        ("/a=b", Source("mnist", Path("/a=b"))),
        ("Mine=some/folder", Source("Mine", Path("some/folder"))),
        ("My digits, 2=x", Source("mnist", Path("My digits, 2=x"))),
        ("Größe 2.0=a=b", Source("Größe 2.0", Path("a=b"))),
        ("MNIST=folder", Source("mnist", Path("folder"))),
        ("K-MNIST=folder", Source("kmnist", Path("folder"))),
    ],
)
def test_what_a_text_means(text: str, source: Source) -> None:
    assert source_of(text) == source


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert source_of("mine=~/digits").path == tmp_path / "digits"


@pytest.mark.parametrize(
    ("digits", "name", "text"),
    [
        ("auto", None, "auto"),
        ("folder", None, "folder"),
        ("folder", "Mine", "Mine=folder"),
        ("folder", "Fashion", "fashion=folder"),  # a known set, which is checked as such
        ("folder", "mnist", "mnist=folder"),
        ("Mine=folder", "Mine", "Mine=folder"),
        (Path("/some/folder"), "Mine", "Mine=/some/folder"),
    ],
)
def test_name_and_folder_in_one_text(digits: Any, name: str | None, text: str) -> None:
    assert named_digits(digits, name) == text


def test_a_path_is_no_word_and_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("fashion", "a=b"):
        assert source_of(named_digits(Path(name))) == Source("mnist", tmp_path / name)


@pytest.mark.parametrize("digits", ["auto", "embedded", "kmnist", "Yours=folder"])
def test_digits_that_have_a_name_get_no_other(digits: str) -> None:
    with pytest.raises(ParameterError, match="--digits-as names the digits of a folder"):
        named_digits(digits, "Mine")


@pytest.mark.parametrize("name", ["", " ", "a/b", "a=b", "a,b", "a\nb", "x" * 41, "<b>", "$x", "-x", 3, "x "])
def test_what_is_no_name(name: Any) -> None:
    with pytest.raises(ParameterError, match="Digits are named by 1 to 40"):
        named_digits("folder", name)


@pytest.mark.parametrize("name", ["auto", "Embedded", "none", "full MNIST", "unknown"])
def test_names_that_mean_others(name: str) -> None:
    with pytest.raises(ParameterError, match="it means others"):
        named_digits("folder", name)


@pytest.mark.parametrize("digits", [None, 3, ["a"]])
def test_what_is_no_text(digits: Any) -> None:
    with pytest.raises(ParameterError, match="digits must be auto, embedded, fashion, kmnist, qmnist or a folder"):
        named_digits(digits)


def test_name_without_a_folder() -> None:
    with pytest.raises(UsageError, match="name no folder; write NAME=DIR"):
        source_of("Mine=")
