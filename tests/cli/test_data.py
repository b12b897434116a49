"""The commands on data: what they print where, how they end, and what they leave behind."""

import gzip
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import matplotlib.image
import numpy as np
import pytest

from capsbench.cli import main
from capsbench.data.idx import FILES
from capsbench.data.recipes import make_recipe
from capsbench.files.datafile import DataFile, open_dataset
from capsbench.files.generation import generate_file
from capsbench.spec import DataSpec

Capture = pytest.CaptureFixture[str]
PADDED = ["generate", "padded", "--split", "test", "--count", "100", "--set", "size=28"]
NOTE = "Note: made from the 5,000 embedded digits. Full MNIST: capsbench data fetch\n"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def tree() -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(Path().rglob("*"))}


def made(name: str = "padded", path: str = "x.h5", **options: Any) -> Path:
    defaults: dict[str, Any] = {"split": "test", "digits": "embedded", "count": 5000}
    return generate_file(make_recipe(name, **(defaults | options)), Path(path)).path


def flip(path: Path, key: str, offset: int = 0) -> None:
    place = DataFile(path).extents[key].offset + offset
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def complaint(capsys: Capture) -> str:
    """What a command that failed said: one or two lines on stderr, and nothing on stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: ") and len(err.splitlines()) <= 2 and "Traceback" not in err, err
    return err


def test_generate_makes_three_splits_and_tells_of_them(capsys: Capture) -> None:
    assert run("generate", "multimnist", "--out", "d") == 0
    out, err = capsys.readouterr()
    assert err == NOTE
    assert sorted(path.name for path in Path("d").iterdir()) == [
        f"multimnist-{split}.{ending}" for split in ("test", "train", "validation") for ending in ("h5", "json")
    ]
    for split, count in (("train", 3200), ("validation", 800), ("test", 1000)):
        file = open_dataset(f"d/multimnist-{split}.h5")
        (part,) = (part for part in out.split("\n\n") if part.startswith(f"d/multimnist-{split}.h5"))
        assert len(file) == count and f"{count:,}" in part and file.digest in part
        assert "images/s" in part and "MB" in part
        for kind in ("frames", "boxes", "ink"):
            assert f"overlap of {kind}" in part
        assert "45 kinds, 0 of one class" in part


def test_the_walk_of_the_readme_works(capsys: Capture) -> None:
    assert run("generate", "multimnist", "--out", "d") == 0
    assert run("verify", "d/multimnist-test.h5", "--sample", "500") == 0
    assert "500 random samples" in capsys.readouterr().out
    assert run("info", "d/multimnist-test.h5", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    (frames,) = (one for one in facts["measures"] if one["name"] == "overlap of frames (%)")
    assert 79.5 < frames["mean"] < 80.5
    assert facts["kinds of pairs"] == 45 and facts["pairs of one class"] == 0
    with h5py.File("d/multimnist-test.h5", "r") as file:
        assert file["images"].shape == (1000, 36, 36) and file["labels"].shape == (1000, 2)
        assert (file["labels"][:, 0] != file["labels"][:, 1]).all()


def test_generate_in_json_is_one_document_on_stdout(capsys: Capture) -> None:
    assert run("generate", "affnist", "--count", "30", "--out", "d", "--json") == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert [one["spec"]["split"] for one in facts] == ["train", "validation", "test"]
    assert [one["drawn"] for one in facts] == [30, 30, 30]
    assert facts[0]["digest"] == open_dataset("d/affnist-train.h5").digest
    assert err == NOTE


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "rotation=-45,45", "--seed", "7"], {"seed": 7, "rotation": [-45.0, 45.0]}),
        (["--set", "rotation=30", "--set", "scale=1"], {"rotation": [30.0, 30.0], "scale": [1.0, 1.0]}),
        (["--seed", str(2**64 - 1), "--layers"], {"seed": 2**64 - 1, "layers": True}),
        (["--digits", "embedded"], {}),
    ],
)
def test_what_is_asked_for_is_what_the_file_says(arguments: list[str], expected: dict[str, Any]) -> None:
    assert run("generate", "affnist", "--split", "test", "--count", "10", "--out", "deep/er/y.h5", *arguments) == 0
    spec = open_dataset("deep/er/y.h5").spec.to_dict()
    spec |= spec["parameters"]
    assert {key: spec[key] for key in expected} == expected


def test_the_note_on_the_digits_is_for_those_who_did_not_ask_for_them(capsys: Capture) -> None:
    assert run(*PADDED, "--digits", "embedded") == 0
    assert capsys.readouterr().err == ""


def test_a_second_run_verifies_and_leaves(capsys: Capture) -> None:
    assert run(*PADDED) == 0
    before = Path("padded-test.h5").stat().st_mtime_ns
    capsys.readouterr()
    assert run(*PADDED) == 0
    assert "was whole already, verified and left" in capsys.readouterr().out
    assert Path("padded-test.h5").stat().st_mtime_ns == before


def test_another_spec_is_refused_with_the_difference_and_force_makes_it(capsys: Capture) -> None:
    assert run(*PADDED) == 0
    before = tree()
    capsys.readouterr()
    assert run(*PADDED, "--seed", "1") == 2
    told = complaint(capsys)
    assert "seed: asked 1, found 0" in told and "--force" in told
    assert tree() == before
    assert run(*PADDED, "--seed", "1", "--force") == 0
    assert open_dataset("padded-test.h5").spec.seed == 1


@pytest.fixture(scope="module")
def stumbling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what the bad input below stumbles over."""
    folder = tmp_path_factory.mktemp("stumbling")
    (folder / "file").write_text("a text\n")
    for name in ("empty", "damaged", "cut", "folder.h5"):
        (folder / name).mkdir()
    for name in FILES:
        (folder / "damaged" / name).write_bytes(b"\0\0\x08\x03 this is no digit")
        (folder / "cut" / f"{name}.gz").write_bytes(gzip.compress(b"1" * 9999)[:20])
    whole = made("padded", str(folder / "whole.h5"), count=50, parameters={"size": 28, "shift": 2}).read_bytes()
    (folder / "truncated.h5").write_bytes(whole[:20_000])
    with h5py.File(folder / "foreign.h5", "w") as foreign:
        foreign["images"] = np.zeros((3, 28, 28), np.uint8)
    with h5py.File(folder / "newer.h5", "w") as newer:
        newer.attrs["format"] = np.bytes_("capsbench")
        newer.attrs["format_version"] = np.bytes_("2")
    return folder


@pytest.fixture
def surroundings(stumbling: Path) -> None:
    """A copy of that folder to stand in."""
    shutil.copytree(stumbling, ".", dirs_exist_ok=True)


BAD: list[tuple[str, int, str]] = [
    ("generate multimnst", 2, "Did you mean 'multimnist'"),
    ("generate nothing", 2, "affnist, cluttered, crowded, multimnist, padded"),
    ("generate nothing.at:all", 2, "nothing"),
    ("generate no.py:Thing", 2, "is not a file"),
    ("generate padded --preset papr", 2, "Did you mean 'paper'"),
    ("generate padded --set szie=28", 2, "Did you mean 'size'"),
    ("generate padded --split tset", 2, "Did you mean 'test'"),
    ("generate padded --set size=nan", 2, "size must be a whole number, got nan"),
    ("generate padded --set size=28.5", 2, "a whole number"),
    ("generate padded --set size=1e9", 2, "size must be in 28..128, got 1000000000"),
    ("generate padded --set size=99999999999999999999", 2, "must be in 28..128"),
    ("generate padded --set size=29", 2, "must be even"),
    ("generate padded --set size=", 2, "size must be a whole number, got nothing."),
    ("generate padded --set size", 2, "--set takes key=value"),
    ("generate padded --set size=28 --set size=30", 2, "given twice"),
    ("generate affnist --set rotation=nan", 2, "rotation must be in -180..180, got nan"),
    ("generate affnist --set rotation=-inf,inf", 2, "must be in -180..180"),
    ("generate affnist --set rotation=-181,0", 2, "must be in -180..180"),
    ("generate affnist --set rotation=9,-9", 2, "ascending"),
    ("generate affnist --set rotation=1,2,3", 2, "takes 2 values"),
    ("generate multimnist --set reuse=maybe", 2, "true or false"),
    ("generate padded --count -5", 2, ", got -5."),
    ("generate padded --count 0", 2, ", got 0."),
    ("generate padded --count 99999999999999999999", 2, "count must be in"),
    ("generate padded --count nan", 2, "'nan' is not a valid integer"),
    ("generate padded --seed -1", 2, "0..2**64-1"),
    ("generate padded --seed 18446744073709551616", 2, "0..2**64-1"),
    ("generate padded --seed x", 2, "'x' is not a valid integer"),
    ("generate padded --count 1099511627776", 4, "is free"),
    ("generate padded --split test --out x.hdf5", 2, "name of a data file must end in .h5"),
    ("generate padded --out file", 4, "a file stands there"),
    ("generate padded --out file/below", 4, "its parent is a file"),
    ("generate padded --out file/below/x.h5 --split test", 4, "its parent is a file"),
    ("generate padded --out /proc/below", 4, "cannot be made"),
    ("generate padded --out /proc", 4, "could not be written"),
    ("generate padded --out /sys/kernel", 4, "could not be written"),
    ("generate padded --out x.h5", 2, "3 splits"),
    ("generate padded --out x.h5 --split test --split train", 2, "2 splits"),
    ("generate padded --out folder.h5 --split test", 4, "it is a folder"),
    ("generate padded --out folder.h5 --split test --force", 4, "it is a folder"),
    ("generate padded --out foreign.h5 --split test", 3, "--force"),
    ("generate padded --out newer.h5 --split test", 3, "Upgrade capsbench"),
    ("generate padded --out " + "x" * 300, 4, "name too long"),
    ("generate padded --digits empty", 3, "lacks train-images-idx3-ubyte"),
    ("generate padded --digits nowhere", 3, "There is no folder nowhere"),
    ("generate padded --digits file", 3, "file"),
    ("generate padded --digits damaged", 3, "it should have 47,040,016 bytes, found 21"),
    ("generate padded --digits cut", 3, "cannot be read"),
    ("generate padded --preset paper", 3, "capsbench data fetch"),
    ("generate padded --nonsense", 2, "--nonsense"),
    ("generate", 2, "DATASET"),
    ("nonsense", 2, "nonsense"),
    *((f"{command} missing.h5", 3, "There is no file missing.h5") for command in ("verify", "info", "preview")),
    *((f"{command} file", 3, "is not an HDF5 file") for command in ("verify", "info", "preview")),
    *((f"{command} empty", 3, "a folder or a device") for command in ("verify", "info", "preview")),
    *((f"{command} foreign.h5", 3, "was not made by capsbench") for command in ("verify", "info", "preview")),
    *((f"{command} newer.h5", 3, "format version 2") for command in ("verify", "info", "preview")),
    *((f"{command} truncated.h5", 3, "truncated.h5") for command in ("verify", "info", "preview")),
    ("verify missing.h5 --repair", 3, "There is no file missing.h5"),
    ("verify truncated.h5 --repair", 3, "truncated.h5"),
    ("verify whole.h5 --sample -1", 2, "--sample"),
    ("verify whole.h5 --sample x", 2, "'x' is not a valid integer"),
    ("preview whole.h5 --out file/x.png", 4, "a file stands there"),
    ("preview whole.h5 --out /proc/x.png", 4, "could not be written"),
    ("preview whole.h5 --out folder.h5", 4, "it is a folder"),
    ("preview whole.h5 --out whole.h5", 2, "overwrite"),
]


@pytest.mark.parametrize(("line", "code", "message"), BAD, ids=[line[:60] for line, _, _ in BAD])
@pytest.mark.usefixtures("surroundings")
def test_bad_input_ends_in_a_line_or_two_and_nothing_is_lost_or_left(
    line: str, code: int, message: str, capsys: Capture
) -> None:
    before = tree()
    assert run(*shlex.split(line)) == code
    assert message in complaint(capsys)
    assert tree() == before


def test_verify_tells_that_a_file_is_right(capsys: Capture) -> None:
    path = made()
    assert run("verify", "x.h5") == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1
    assert "all 2 blocks of 5,000 samples right" in out and DataFile(path).digest in out


def test_verify_names_the_block_and_repair_restores_it(capsys: Capture) -> None:
    path = made("multimnist")
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    for offset in random.integers(36 * 36 * 5000, size=5).tolist():
        flip(path, "images", offset)
        block = offset // (36 * 36 * 4096)
        assert run("verify", "x.h5") == 3
        told = complaint(capsys)
        assert f"damaged in block {block} " in told and "capsbench verify x.h5 --repair" in told
        assert run("verify", "x.h5", "--repair") == 0
        assert f"{4096 if block == 0 else 904:,} samples generated again" in capsys.readouterr().out
        assert path.read_bytes() == whole


@pytest.mark.parametrize("command", ["info", "preview"])
def test_of_a_damaged_file_nothing_is_told_but_how_to_mend_it(command: str, capsys: Capture) -> None:
    flip(made(), "labels", 4999)
    before = tree()
    assert run(command, "x.h5") == 3
    assert "block 1 (samples 4096..4999)" in complaint(capsys)
    assert tree() == before


def test_repair_without_the_digits_changes_nothing(capsys: Capture) -> None:
    flip(made(), "images")
    Path("empty").mkdir()
    before = tree()
    assert run("verify", "x.h5", "--repair", "--digits", "empty") == 3
    assert "--digits embedded" in complaint(capsys)
    assert tree() == before


@pytest.mark.parametrize("name", ["padded", "affnist", "multimnist"])
def test_of_a_damaged_header_the_command_that_makes_the_file_anew_is_told(name: str, capsys: Capture) -> None:
    path = made(name, "my data/x y.h5", count=300, seed=5, layers=name == "multimnist")
    whole = path.read_bytes()
    for place in (8, 100, 700, 1500):
        damaged = bytearray(whole)
        for offset in range(place, place + 40):
            damaged[offset] ^= 0xFF
        path.write_bytes(damaged)
        assert run("verify", str(path)) == 3
        told = complaint(capsys)
        (command,) = re.findall(r"capsbench generate .*", told)
        assert run(*shlex.split(command)[1:]) == 0
        assert path.read_bytes() == whole
        capsys.readouterr()


def test_data_forged_with_their_digests_are_found_by_drawing_samples_anew(capsys: Capture) -> None:
    from hashlib import sha256

    path = made(count=500)
    places = DataFile(path).extents
    content = bytearray(path.read_bytes())
    start = places["images"].offset
    for sample in range(0, 500, 25):  # one in 25; of 500 drawn, all are found
        content[start + sample * 1600 + 800] ^= 0xFF
    path.write_bytes(content)
    digest = sha256(b"".join(array.tobytes() for array in DataFile(path).block(0).values())).digest()
    root = sha256(DataFile(path).spec.to_json().encode() + digest).digest()
    content[places["digests"].offset : places["digests"].offset + 32] = digest
    content[places["root"].offset : places["root"].offset + 32] = root
    path.write_bytes(content)
    assert run("verify", "x.h5") == 0
    capsys.readouterr()
    assert run("verify", "x.h5", "--sample", "500") == 3
    err = capsys.readouterr().err
    assert "20 of 500 samples differ from their spec" in err and len(err.splitlines()) <= 2


def test_sample_without_the_digits_is_an_error_after_the_digests_were_right(capsys: Capture) -> None:
    made()
    Path("empty").mkdir()
    assert run("verify", "x.h5", "--sample", "5", "--digits", "empty") == 3
    out, err = capsys.readouterr()
    assert "all 2 blocks of 5,000 samples right" in out and "--digits embedded" in err


def test_sample_passes_on_a_file_that_is_right(capsys: Capture) -> None:
    made("affnist")
    assert run("verify", "x.h5", "--sample", "500") == 0
    assert "500 random samples have the same bytes" in capsys.readouterr().out
    assert run("verify", "x.h5", "--sample", "999999") == 0
    assert "5,000 random samples have the same bytes" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["padded", "affnist", "multimnist"])
def test_info_tells_what_a_file_holds(name: str, capsys: Capture) -> None:
    path = made(name, count=200)
    assert run("info", "x.h5") == 0
    out, err = capsys.readouterr()
    file = open_dataset(path)
    assert err == ""
    for word in (name, "test", "seed 0", "200", "embedded", file.digest):
        assert word in out
    assert run("info", "x.h5", "--json") == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert err == ""
    assert DataSpec.from_json(json.dumps(facts["spec"])) == file.spec
    assert facts["samples"] == 200 and facts["bytes"] == path.stat().st_size and facts["digest"] == file.digest
    assert facts["measures"] and not facts.get("not measured")
    assert sum(facts["classes"]) == file.labels.size


def test_info_without_the_digits_tells_the_rest(capsys: Capture) -> None:
    made("multimnist", count=200)
    Path("empty").mkdir()
    assert run("info", "x.h5", "--digits", "empty") == 0
    out, _ = capsys.readouterr()
    assert "not measured" in out and "45 kinds" in out


def test_info_tells_how_much_ink_is_cut(capsys: Capture) -> None:
    made("affnist", count=200, parameters={"scale": "2,3"})
    assert run("info", "x.h5", "--json") == 0
    measures = {one["name"]: one for one in json.loads(capsys.readouterr().out)["measures"]}
    assert measures["ink is cut"]["mean"] > 0.5


@pytest.mark.parametrize("name", ["padded", "affnist", "multimnist"])
def test_preview_draws_a_picture(name: str, capsys: Capture) -> None:
    made(name, count=60)
    assert run("preview", "x.h5") == 0
    out, err = capsys.readouterr()
    assert out == "x.png: 48 samples.\n" and err == ""
    image = matplotlib.image.imread("x.png")
    assert image.shape[0] > 300 and 0.05 < (image[..., :3] > 0.5).mean() < 0.95


def test_preview_goes_where_it_is_sent(capsys: Capture) -> None:
    made(count=2)
    assert run("preview", "x.h5", "--out", "deep/er/y.png") == 0
    assert capsys.readouterr().out == "deep/er/y.png: 2 samples.\n"
    assert Path("deep/er/y.png").is_file() and not Path("x.png").exists()


def test_preview_is_in_grey_where_the_digits_are_not_here(capsys: Capture) -> None:
    made("multimnist", count=60)
    Path("empty").mkdir()
    assert run("preview", "x.h5", "--digits", "empty") == 0
    image = matplotlib.image.imread("x.png")[..., :3]
    assert (image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all()


def test_list_names_everything_with_a_line_each(capsys: Capture) -> None:
    assert run("list") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for name in ("padded", "affnist", "multimnist", "cnn", "cnn-pool", "cnn-pair", "capsnet", "affine"):
        (line,) = (line for line in out.splitlines() if line.split()[:1] == [name])
        assert len(line.split()) > 3, line
    assert run("list", "--json") == 0
    entries = json.loads(capsys.readouterr().out)
    assert {one["name"]: one["presets"] for one in entries["data set"]} == {
        "affnist": ["paper"],
        "cluttered": ["clean", "paper"],
        "crowded": ["alone", "paper"],
        "multimnist": ["paper", "release"],
        "padded": ["centered", "paper"],
    }
    assert " rotation=-20.0,20.0 shear=-0.2,0.2 scale=0.8,1.2 size=40\n" in out
    assert " shift=4 margin=4 reuse=false\n" in out
    (capsnet,) = (one["parameters"] for one in entries["model"] if one["name"] == "capsnet")
    assert capsnet["iterations"] == 3 and "image_size" not in capsnet


def test_data_status_tells_what_is_here(capsys: Capture) -> None:
    assert run("data", "status") == 0
    out, err = capsys.readouterr()
    assert err == "" and "embedded" in out and "complete" in out and "absent" in out
    assert run("data", "status", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    states = {row["name"]: row["state"] for row in rows}
    assert states.pop("embedded") == "complete" and set(states.values()) == {"absent"}
    assert {"cache", "fashion", "kmnist", "qmnist", "cifar10"} <= set(states)


def test_data_status_tells_of_damaged_digits(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("damaged").mkdir()
    for name in FILES:
        Path("damaged", name).write_bytes(b"x")
    monkeypatch.setenv("CAPSBENCH_DIGITS", "damaged")
    assert run("data", "status", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "damaged"
    assert run("generate", "padded") == 3
    assert "should have" in complaint(capsys)


def test_a_run_without_a_terminal_prints_results_on_stdout_and_nothing_else() -> None:
    command = [sys.executable, "-m", "capsbench", *PADDED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert done.stdout.startswith("padded-test.h5: padded") and done.stderr == NOTE
    assert "\x1b" not in done.stdout


def in_a_process(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}  # what most terminals have
    command = [sys.executable, "-m", "capsbench", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, check=False, timeout=60, env=environment, **options)


def test_a_file_whose_name_is_no_unicode_can_be_used() -> None:
    path = made("padded", os.fsdecode(b"\xff.h5"), count=50)
    done = in_a_process("verify", path, stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.startswith(b"\xff.") and done.stderr == b""


@pytest.mark.parametrize("command", ["verify", "info", "preview"])
def test_a_name_that_is_no_unicode_is_printed(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made("padded", os.fsdecode(b"\xff.h5"), count=50)
    said, complained = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(stream, "utf-8", "strict", write_through=True) for stream in (said, complained))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert run(command, str(path)) == 0
    assert said.getvalue().startswith(b"\xff.") and complained.getvalue() == b""


def test_an_output_that_cannot_be_written_is_a_storage_error() -> None:
    path = made("padded", count=50)
    with Path("/dev/full").open("wb") as full:
        done = in_a_process("info", path, stdout=full)
    assert done.returncode == 4
    assert done.stderr == b"Error: The output could not be written: No space left on device.\n"


def test_a_reader_who_goes_away_is_no_error_worth_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = in_a_process("list", stdout=writing)
    os.close(writing)
    assert done.returncode in (0, 1) and done.stderr == b""


def test_a_group_alone_tells_what_there_is(capsys: Capture) -> None:
    for command, word in (((), "generate"), (("data",), "fetch")):
        assert run(*command) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("Usage: ") and word in err


@pytest.mark.parametrize(
    "command", ["generate", "verify", "info", "preview", "list", "data", "data fetch", "data status"]
)
def test_the_examples_of_the_help_stand_on_lines_of_their_own(command: str, capsys: Capture) -> None:
    assert run(*command.split(), "--help") == 0
    out = capsys.readouterr().out
    assert re.search(rf"\n  Example:\n    capsbench {command}( .*)?\n", out), out
    assert "\\b" not in out and "\b" not in out


def test_cifar10_is_fetched_by_its_name_and_others_are_refused(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(report: Callable[[str], None]) -> Path:
        report("a step")
        return Path("there")

    monkeypatch.setattr("capsbench.data.cifar10_fetching.fetch_cifar10", fetched)
    assert run("data", "fetch", "cifar10") == 0
    assert capsys.readouterr() == ("there: CIFAR-10, six files with the right MD5.\n", "a step\n")
    assert run("data", "fetch", "cifar") == 2
    assert "No set of images is called 'cifar'. Did you mean 'cifar10'?" in complaint(capsys)


def test_a_set_is_fetched_by_its_name(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(name: str, report: Callable[[str], None]) -> Path:
        report(f"a step of {name}")
        return Path("there")

    monkeypatch.setattr("capsbench.data.set_fetching.fetch_set", fetched)
    assert run("data", "fetch", "kmnist") == 0
    assert capsys.readouterr() == ("there: KMNIST, four files with the right MD5.\n", "a step of kmnist\n")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--digits", "fashion"], 3, "Fashion-MNIST is not here; `capsbench data fetch fashion` fetches it."),
        (
            ["--digits-as", "Mine"],
            2,
            "--digits-as names the digits of a folder: --digits DIR. Those of auto have a name.",
        ),
        (["--digits", "fashion", "--digits-as", "Mine"], 2, "Those of fashion have a name."),
        (["--digits", "nowhere", "--digits-as", "Mine"], 3, "There is no folder nowhere with the digits 'Mine'."),
        (["--digits", "nowhere", "--digits-as", "a/b"], 2, "Digits are named by 1 to 40 letters"),
        (["--digits", "nowhere", "--digits-as", "embedded"], 2, "it means others"),
        (["--digits", "Mine="], 2, "name no folder"),
    ],
)
def test_other_digits_that_are_not_there(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], code: int, said: str
) -> None:
    for variable in ("CAPSBENCH_DIGITS", "TORCH_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run("generate", "padded", *options) == code
    assert said in complaint(capsys)
    assert list(tmp_path.iterdir()) == []
