"""The command that packs: what it prints, how it ends, and what it leaves behind."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from capsbench.cli import main

Capture = pytest.CaptureFixture[str]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture
def plain(capsys: Capture) -> str:
    """The root digest of plain.h5, of 500 samples."""
    assert run("generate", "multimnist", "--split", "test", "--count", "500", "--out", "plain.h5", "--json") == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert facts["packed"] is False
    digest: str = facts["digest"]
    return digest


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_a_file_is_packed_and_unpacked_and_every_command_reads_both(plain: str, capsys: Capture) -> None:
    assert run("pack", "plain.h5", "packed.h5") == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"packed\.h5: 500 samples, 659\.2 kB to 1\d\d\.\d kB, \d+\.\d\d s\. Digest {plain}\n", out), (
        out
    )
    assert err == ""
    assert run("verify", "packed.h5", "--sample", "20", "--digits", "embedded") == 0
    told = capsys.readouterr().out
    assert f"packed.h5: 1 block of 500 samples right. Digest {plain}" in told
    assert "packed.h5: 20 random samples have the same bytes when generated again." in told
    assert run("info", "packed.h5") == 0
    assert re.search(r"samples     500, 1\d\d\.\d kB, packed\n", capsys.readouterr().out)
    assert run("preview", "packed.h5", "--out", "x.png") == 0
    assert run("pack", "packed.h5", "back.h5", "--undo") == 0
    assert Path("back.h5").read_bytes() == Path("plain.h5").read_bytes()
    capsys.readouterr()
    for arguments in (("plain.h5", "packed.h5"), ("packed.h5", "back.h5", "--undo")):
        assert run("pack", *arguments) == 0
        assert "was whole already, verified and left" in capsys.readouterr().out


def test_the_facts_of_a_packed_file_differ_in_its_name_and_size_alone(plain: str, capsys: Capture) -> None:
    assert run("pack", "plain.h5", "packed.h5") == 0
    facts = []
    for name in ("plain.h5", "packed.h5"):
        capsys.readouterr()
        assert run("info", name, "--json") == 0
        facts.append(json.loads(capsys.readouterr().out))
    assert {key for key in facts[0] if facts[0][key] != facts[1][key]} == {"file", "bytes", "packed"}
    assert facts[1]["packed"] is True and facts[1]["digest"] == plain


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("plain.h5", "plain.h5"), 2, "plain.h5 cannot be made from itself"),
        (("plain.h5", "new.h5", "--undo"), 2, "plain.h5 is not packed"),
        (("packed.h5", "new.h5"), 2, "packed.h5 is packed already"),
        (("plain.h5", "text.h5"), 3, "text.h5 is not an HDF5 file. Add --force to overwrite it"),
        (("plain.h5", "other.h5"), 2, "other.h5 exists, and is not the packed plain.h5. Add --force"),
        (("packed.h5", "other.h5", "--undo"), 2, "other.h5 is of another spec (count: asked 500, found 9)"),
        (("missing.h5", "new.h5"), 3, "There is no file missing.h5"),
        (("text.h5", "new.h5"), 3, "text.h5 is not an HDF5 file"),
        (("plain.h5", "folder.h5"), 4, "it is a folder"),
        (("packed.h5", "folder.h5", "--undo"), 4, "it is a folder"),
        (("plain.h5", "text.h5/new.h5"), 4, "text.h5 cannot be made: a file stands there"),
        (("plain.h5", "new.json"), 2, "The name of a data file must end in .h5, got new.json"),
        (("packed.h5", "new.json", "--undo"), 2, "The name of a data file must end in .h5, got new.json"),
        (("plain.h5", "."), 2, "The name of a data file must end in .h5, got ."),
        (("plain.h5", f"{'n' * 300}.h5"), 4, "File name too long"),
        (("plain.h5",), 2, "Missing argument 'OUT'"),
    ],
)
@pytest.mark.usefixtures("plain")
def test_what_makes_no_sense_ends_in_a_line_and_changes_nothing(
    arguments: tuple[str, ...], code: int, message: str, capsys: Capture
) -> None:
    assert run("pack", "plain.h5", "packed.h5") == 0
    assert run("generate", "multimnist", "--split", "test", "--count", "9", "--out", "other.h5") == 0
    Path("text.h5").write_text("a text\n")
    Path("folder.h5").mkdir()
    before = {name: Path(name).is_file() and Path(name).read_bytes() for name in names()}
    capsys.readouterr()
    assert run("pack", *arguments) == code
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.startswith("Error: ") and err.count("\n") <= 2
    assert {name: Path(name).is_file() and Path(name).read_bytes() for name in names()} == before


@pytest.mark.parametrize(
    "command", [["verify", "packed.h5", "--repair"], ["generate", "multimnist", "--split", "test", "--count", "500"]]
)
@pytest.mark.usefixtures("plain")
def test_a_command_that_would_write_into_a_packed_file_says_how_to_unpack_it(
    command: list[str], capsys: Capture
) -> None:
    assert run("pack", "plain.h5", "packed.h5") == 0
    content = Path("packed.h5").read_bytes()
    capsys.readouterr()
    assert run(*command, *(["--out", "packed.h5"] if command[0] == "generate" else [])) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "cannot be written in place. If it is undamaged, unpack it with: capsbench pack packed.h5 OUT --undo" in err
    assert Path("packed.h5").read_bytes() == content
    assert names() == ["packed.h5", "plain.h5", "plain.json"]


@pytest.mark.usefixtures("plain")
def test_a_full_disk_ends_with_4_and_no_crash(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        assert run("pack", "plain.h5", "packed.h5") == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"Error: packed\.h5 could not be written: No space left on device\. Only [0-9.]+ [kMGT]?B is free\. "
        r"Free some space and run the same command again\.",
        line,
    )
    assert names() == ["plain.h5", "plain.json"]


@pytest.mark.usefixtures("plain")
def test_a_limit_of_the_system_on_the_size_of_files_is_no_crash_either() -> None:
    script = (
        "import os, resource, sys\n"
        "from capsbench.cli import main\n"
        "for limit in sys.argv[1:]:\n"
        "    if not os.fork():\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), -1))\n"
        '        main(["pack", "plain.h5", "packed.h5"])\n'
        "    print(os.waitstatus_to_exitcode(os.wait()[1]), *sorted(os.listdir()), flush=True)\n"
    )
    command = [sys.executable, "-c", script, "0", "100", "5000", "50000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["4 plain.h5 plain.json"] * 4
    lines = done.stderr.splitlines()
    assert len(lines) == 4 and all("File too large" in line for line in lines), done.stderr


def test_the_example_of_the_help_stands_on_lines_of_its_own(capsys: Capture) -> None:
    assert run("pack", "--help") == 0
    out = capsys.readouterr().out
    assert "\n  Example:\n    capsbench pack multimnist-test.h5 multimnist-test-packed.h5\n" in out
    assert "--undo" in out and "\\b" not in out
