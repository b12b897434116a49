"""What stands beside a file: written, read, and turned into the command that makes the file anew."""

import json
import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from capsbench.cli import main
from capsbench.data.recipes import Recipe
from capsbench.errors import SpecMismatchError
from capsbench.files.generation import generate_file
from capsbench.files.sidecar import read_sidecar, remake_command

from .small_files import names, recipe


@pytest.mark.parametrize("content", ["my own notes", '{"spec": {"mine": 1}}', "[]"])
def test_a_users_own_file_where_the_sidecar_goes_is_not_lost(content: str) -> None:
    Path("x.json").write_text(content)
    with pytest.raises(SpecMismatchError, match=r"x\.json is not the sidecar of x\.h5.*--force"):
        generate_file(recipe(), Path("x.h5"))
    assert Path("x.json").read_text() == content
    assert names() == ["x.json"]
    generate_file(recipe(), Path("x.h5"), force=True)
    assert json.loads(Path("x.json").read_text())["spec"] == recipe().spec.to_dict()


def test_what_is_not_reproducible_stands_in_the_sidecar() -> None:
    one = recipe("multimnist")
    generate_file(one, Path("x.h5"))
    content = json.loads(Path("x.json").read_text())
    assert content["spec"] == one.spec.to_dict()
    assert {"date", "host", "capsbench", "python", "numpy", "h5py", "hdf5"} <= set(content)
    assert content["digits"] == "embedded"
    raw = Path("x.h5").read_bytes()
    for key in ("date", "host"):
        assert content[key].encode() not in raw


@pytest.mark.parametrize("damage", ["missing", "of another spec", "of a shard"])
def test_a_sidecar_that_does_not_tell_of_the_file_is_written_anew(damage: str) -> None:
    generate_file(recipe(seed=1), Path("y.h5"))
    generate_file(recipe(), Path("x.h5"))
    good = json.loads(Path("x.json").read_text())
    if damage == "missing":
        Path("x.json").unlink()
    elif damage == "of another spec":
        shutil.copy("y.json", "x.json")
    else:
        Path("x.json").write_text(json.dumps(good | {"shard": [0, 50]}))
    assert generate_file(recipe(), Path("x.h5")).written == 0
    found = json.loads(Path("x.json").read_text())
    assert found["spec"] == good["spec"] and "shard" not in found


@pytest.mark.parametrize("content", ["my own notes", '{"my": "notes"}', "[1]", "[" * 100_000, "x" * 100_000])
def test_what_is_no_sidecar_beside_a_whole_file_is_left(content: str) -> None:
    generate_file(recipe(), Path("x.h5"))
    Path("x.json").write_text(content)
    assert generate_file(recipe(), Path("x.h5")).written == 0
    assert Path("x.json").read_text() == content


def test_a_pipe_where_the_sidecar_goes_is_not_waited_for() -> None:
    os.mkfifo("x.json")
    assert read_sidecar(Path("x.h5")) is None
    with pytest.raises(SpecMismatchError, match="is not the sidecar"):
        generate_file(recipe(), Path("x.h5"))


@pytest.mark.parametrize("shard", [[0, 10**30], [5, 5], [-1, 5], [0, 101], [0], "ab", [0.0, 5.0], None, {"a": 1}])
def test_a_sidecar_of_no_shard_tells_nothing(shard: object) -> None:
    Path("x.json").write_text(json.dumps({"spec": recipe().spec.to_dict(), "shard": shard}))
    assert read_sidecar(Path("x.h5")) is None and remake_command(Path("x.h5")) is None


def test_a_sidecar_does_not_speak_to_the_terminal() -> None:
    spec = recipe().spec.to_dict() | {"generator": "padded\x1b[2J\x07"}
    Path("x.json").write_text(json.dumps({"spec": spec}))
    assert remake_command(Path("x.h5")) is None


@pytest.mark.parametrize(
    "one",
    [
        recipe(),
        recipe("affnist", parameters={"rotation": "-45,45", "scale": 1}, seed=2**64 - 1),
        recipe("multimnist", preset="release", layers=True, split="validation", count=7),
    ],
    ids=["padded", "affnist", "multimnist"],
)
def test_the_command_of_the_sidecar_makes_the_file_anew(one: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("a folder/it's $HOME.h5")
    whole = generate_file(one, path).path.read_bytes()
    path.write_bytes(b"broken")
    command = remake_command(path)
    assert command is not None
    words = shlex.split(command)
    assert words[0] == "capsbench"
    with pytest.raises(SystemExit) as stop:
        main(words[1:])
    assert stop.value.code == 0
    assert path.read_bytes() == whole


def test_the_command_takes_the_digits_that_the_file_was_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    generate_file(recipe(), Path("x.h5"))
    for digits in ("auto", "my digits"):
        assert "--digits embedded" in str(remake_command(Path("x.h5"), digits=digits))
    full = replace(recipe().spec, digits="c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b")
    Path("x.json").write_text(json.dumps({"spec": full.to_dict()}))
    assert "--digits" not in str(remake_command(Path("x.h5")))
    assert "--digits 'my digits' " in str(remake_command(Path("x.h5"), digits="my digits"))


def test_parameters_that_are_not_set_are_written_as_they_are_read() -> None:
    spec = replace(recipe().spec, parameters={"a": None, "b": True, "c": [1.5, None]})
    Path("x.json").write_text(json.dumps({"spec": spec.to_dict()}))
    assert "--set a=none --set b=true --set c=1.5,none " in str(remake_command(Path("x.h5")))


@pytest.mark.parametrize("content", [None, "", "{}", '{"spec": 1}', '{"spec": {"generator": 1}}', "[" * 100_000, "\0"])
def test_without_a_sound_sidecar_there_is_no_command(content: str | None) -> None:
    if content is not None:
        Path("x.json").write_text(content)
    assert remake_command(Path("x.h5")) is None


def test_a_sidecar_cannot_smuggle_a_command() -> None:
    spec = replace(recipe().spec, generator="padded; touch smuggled #", parameters={"a$(touch b)": "`touch c`"})
    Path("x.json").write_text(json.dumps({"spec": spec.to_dict()}))
    command = remake_command(Path("x.h5"))
    assert command is not None and "padded; touch smuggled #" in shlex.split(command)
    assert "--set" in shlex.split(command) and "a$(touch b)=`touch c`" in shlex.split(command)


@pytest.mark.parametrize(
    ("digits", "words"), [("unknown", "--split validation --out"), ("c2607999153c", "FILE.mat --out")]
)
def test_an_imported_file_is_to_be_imported_again(digits: str, words: str) -> None:
    spec = replace(recipe().spec, generator="imported-affnist", split="validation", digits=digits)
    Path("x.json").write_text(json.dumps({"spec": spec.to_dict()}))
    command = remake_command(Path("x.h5"))
    assert command is not None and command.startswith("capsbench import affnist FILE.mat ") and words in command


def test_a_shard_is_to_be_made_again_as_the_shard_that_it_was() -> None:
    Path("x.json").write_text(json.dumps({"spec": recipe().spec.to_dict(), "shard": [33, 66]}))
    assert " --shard 1/3 " in str(remake_command(Path("x.h5")))
    Path("x.json").write_text(json.dumps({"spec": recipe().spec.to_dict(), "shard": [1, 99]}))
    assert remake_command(Path("x.h5")) is None
