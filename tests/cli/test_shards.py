"""Shards and workers on the command line, and files that are known by their digest."""

import json
from pathlib import Path
from typing import Any

import pytest

from capsbench.cli import main
from capsbench.errors import CapsbenchError
from capsbench.files.datafile import open_dataset
from capsbench.files.generation import generate as generate_from_python

Capture = pytest.CaptureFixture[str]

GENERATE = ["generate", "padded", "--split", "test", "--digits", "embedded", "--set", "size=28", "--set", "shift=2"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert isinstance(stop.value.code, int)
    return stop.value.code


def names(folder: str = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_shards_are_made_told_of_and_merged(capsys: Capture) -> None:
    assert run(*GENERATE, "--count", "5000", "--out", "whole.h5") == 0
    for index in range(3):
        assert run(*GENERATE, "--count", "5000", "--shard", f"{index}/3", "--out", "shards") == 0
    assert "samples     1,667 (3,333 to 4,999 of 5,000, shard 2/3), " in capsys.readouterr().out
    assert names("shards") == sorted(
        f"padded-test-{index}of3.{ending}" for index in range(3) for ending in ("h5", "json")
    )
    assert run("verify", "shards/padded-test-1of3.h5", "--sample", "50") == 0
    assert run("info", "shards/padded-test-1of3.h5", "--json") == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["shard"] == [1666, 3333]
    assert run("preview", "shards/padded-test-1of3.h5") == 0
    assert run("merge", "x.h5", *(f"shards/padded-test-{index}of3.h5" for index in (2, 0, 1))) == 0
    assert "5,000 merged" in capsys.readouterr().out
    assert Path("x.h5").read_bytes() == Path("whole.h5").read_bytes()
    assert run("merge", "x.h5", *(f"shards/padded-test-{index}of3.h5" for index in (2, 0, 1)), "--json") == 0
    assert json.loads(capsys.readouterr().out)["written"] == 0


def test_a_shard_that_is_missing_is_named_in_one_line(capsys: Capture) -> None:
    for index in (0, 2):
        run(*GENERATE, "--count", "100", "--shard", f"{index}/3", "--out", "shards")
    capsys.readouterr()
    assert run("merge", "x.h5", "shards/padded-test-0of3.h5", "shards/padded-test-2of3.h5") == 3
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "Error: Missing from the 2 files given: shard 1/3 (samples 33 to 65) of padded/test." in err
    assert names() == ["shards"]


def test_the_header_of_a_shard_can_be_made_anew(capsys: Capture) -> None:
    run(*GENERATE, "--count", "100", "--shard", "1/3", "--out", "shards")
    path = Path("shards/padded-test-1of3.h5")
    before = path.read_bytes()
    path.write_bytes(b"broken" + before[6:])
    capsys.readouterr()
    assert run("verify", str(path)) == 3
    command = capsys.readouterr().err.partition("Generate it again with: ")[2]
    assert "--shard 1/3" in command and run(*command.split()[1:]) == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("shard", ["3/3", "1", "1/", "-1/3", "a/b", "0/0", "1/2/3", ""])
def test_a_shard_that_is_none_is_refused(shard: str, capsys: Capture) -> None:
    assert run(*GENERATE, "--shard", shard) == 2
    assert capsys.readouterr().err.startswith(
        f"Error: shard must be I/N with I from 0 to N-1, such as 0/4, got {shard!r}"
    )
    assert names() == []


def test_more_shards_than_samples_are_refused_before_a_file_is_begun(capsys: Capture) -> None:
    assert run("generate", "padded", "--digits", "embedded", "--shard", "0/900") == 2
    assert "as many shards as samples, 800, got 900" in capsys.readouterr().err
    assert names() == []


def test_workers_make_the_same_file(capsys: Capture) -> None:
    assert run(*GENERATE, "--count", "9000", "--out", "one.h5") == 0
    assert run(*GENERATE, "--count", "9000", "--out", "two.h5", "--workers", "2") == 0
    assert Path("one.h5").read_bytes() == Path("two.h5").read_bytes()
    assert run(*GENERATE, "--workers", "0") == 2
    assert "workers" in capsys.readouterr().err


def test_workers_and_shards_from_python() -> None:
    options: dict[str, Any] = {"split": "test", "digits": "embedded", "count": 5000, "size": 28}
    (path,) = generate_from_python("padded", out="x", workers=2, shard="1/2", **options)
    assert path == Path("x/padded-test-1of2.h5") and open_dataset(path).span == range(2500, 5000)
    with pytest.raises(CapsbenchError, match="must be I/N"):
        generate_from_python("padded", shard="2/2", **options)


def test_a_published_set_is_known_and_another_is_not(capsys: Capture) -> None:
    run("generate", "multimnist", "--split", "test", "--digits", "embedded")
    assert "  known as    multimnist/test of the embedded digits, seed 0\n" in capsys.readouterr().out
    assert run("verify", "multimnist-test.h5") == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        "multimnist-test.h5: this is multimnist/test of the embedded digits, seed 0."
    )
    run("generate", "multimnist", "--split", "test", "--digits", "embedded", "--seed", "1", "--out", "other.h5")
    run("verify", "other.h5")
    assert "this is" not in capsys.readouterr().out
