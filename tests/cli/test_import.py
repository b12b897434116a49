"""The command `import affnist`, and every other command on the file that it makes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

import capsbench
from capsbench.cli import main
from capsbench.data.recipes import make_recipe
from capsbench.files.datafile import open_dataset
from capsbench.report.groups import tables

from ..importing.reading import in_this_process

Capture = pytest.CaptureFixture[str]

GUESS = f"{Path(__file__).parents[1]}/suites/known_networks.py:Guess"


@pytest.fixture(autouse=True)
def no_child(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads in this process, but where a test is marked to be about the child that does: half a second each."""
    if not request.node.get_closest_marker("child"):
        monkeypatch.setattr("capsbench.importing.affnist.in_child", in_this_process)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def write_mat(path: str = "x.mat", count: int = 1000, seed: int = 1) -> None:
    """Writes samples of ours, of the embedded test digits, as a file of affNIST has them."""
    sampler = make_recipe("affnist", split="test", digits="embedded", seed=seed, count=count).sampler
    batch = sampler.batch(np.arange(count))
    assert batch.transform is not None
    fields = {
        "image": batch.images.reshape(count, 1600).T,
        "label_one_of_n": (np.arange(10)[:, None] == batch.labels).astype(float),
        "label_int": batch.labels[None],
        "human_readable_transform": batch.transform.T.astype(float),
    }
    savemat(path, {"affNISTdata": fields}, do_compression=False)


def imported(capsys: Capture, **options: Any) -> str:
    write_mat(**options)
    assert run("import", "affnist", "x.mat", "--out", "x.h5") == 0
    return capsys.readouterr().out


@pytest.mark.child
def test_import_tells_what_it_made(capsys: Capture) -> None:
    write_mat()
    assert run("import", "affnist", "x.mat", "--out", "x.h5") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "x.h5: imported-affnist (version 1), test, seed 0" in out and "1,000 imported" in out
    assert "digits      embedded (c26079991" in out and open_dataset("x.h5").digest in out
    assert run("import", "affnist", "x.mat", "--out", "x.h5") == 0
    assert "was whole already" in capsys.readouterr().out
    assert run("import", "affnist", "x.mat", "--out", "x.h5", "--force", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["drawn"], facts["spec"]["split"], facts["digest"]) == (1000, "test", open_dataset("x.h5").digest)


@pytest.mark.parametrize(("split", "said"), [((), "is the default"), (("--split", "train"), "--split says")])
def test_a_note_says_that_labels_tell_nothing(split: tuple[str, ...], said: str, capsys: Capture) -> None:
    write_mat(count=999)
    assert run("import", "affnist", "x.mat", "--out", "x.h5", *split) == 0
    out, err = capsys.readouterr()
    assert err.startswith("Note: the labels match no split") and said in err and err.count("\n") == 1
    assert f", {split[1] if split else 'test'}, seed 0" in out and "digits      unknown\n" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["x.mat"], 2, "Missing option '--out'"),
        (["x.mat", "--out", "x"], 2, "must end in .h5"),
        (["x.mat", "--out", "x.h5", "--split", "train"], 2, "Leave --split out"),
        (["x.mat", "--out", "x.h5", "--split", "none"], 2, "No split is called 'none'"),
        (["y.mat", "--out", "x.h5"], 3, "There is no file y.mat."),
        (["words.mat", "--out", "x.h5"], 3, "it is not of MATLAB 5"),
        (["x.mat", "--out", "other.h5"], 2, "other.h5 is of another spec (generator: asked imported-affnist, found pa"),
        (["x.mat", "--out", "words.mat/x.h5"], 4, "a file stands there"),
    ],
)
def test_import_ends_in_a_line_and_a_code(arguments: list[str], code: int, message: str, capsys: Capture) -> None:
    write_mat()
    Path("words.mat").write_text("words")
    assert (
        run("generate", "padded", "--split", "test", "--count", "5", "--out", "other.h5", "--digits", "embedded") == 0
    )
    capsys.readouterr()
    assert run("import", "affnist", *arguments) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("Error: ") and len(err.splitlines()) <= 2
    assert message in err
    assert not Path("x.h5").exists()


def test_info_holds_it_against_ours(capsys: Capture) -> None:
    imported(capsys)
    assert run("info", "x.h5", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["measures"] == [] and "not measured" not in facts
    assert len(facts["calibration"]["comparisons"]) == 11
    assert facts["calibration"]["redrawing"] == pytest.approx(
        {"samples": 300, "ours": 0, "nearest": 0, "reading": "ours", "centred": 25}, abs=10
    )
    assert run("info", "x.h5") == 0
    out = capsys.readouterr().out
    assert "our affnist, seed 0, digits embedded" in out and "translation, horizontal" in out and "ink: to the" in out
    assert "by our convention: 0.00 grey levels off" in out


def test_info_says_why_a_file_that_only_claims_to_be_imported_is_not_measured(capsys: Capture) -> None:
    imported(capsys)
    content = Path("x.h5").read_bytes()
    assert run("info", "x.h5", "--digits", "nowhere") == 0
    out = capsys.readouterr().out
    assert "measures    not measured: " in out and "There is no folder nowhere" in out
    assert Path("x.h5").read_bytes() == content


def test_verify_and_preview_take_it(capsys: Capture) -> None:
    imported(capsys)
    assert run("verify", "x.h5") == 0
    assert "1 block of 1,000 samples right" in capsys.readouterr().out
    for option in (["--sample", "3"], ["--repair"]):
        assert run("verify", "x.h5", *option) == 3
        err = capsys.readouterr().err
        assert "again: capsbench import affnist FILE.mat" in err and len(err.splitlines()) == 2
        assert open_dataset("x.h5").spec.parameters["mat"] in err
    assert run("preview", "x.h5") == 0
    assert Path("x.png").stat().st_size > 5000


def test_the_affine_suite_tests_on_one_of_unknown_digits(capsys: Capture) -> None:
    imported(capsys, count=700)
    changes = {"test": "x.h5", "rotation": "0", "shear": "0", "scale": "1"}
    (result,) = capsbench.run("affine", models=[GUESS], preset="smoke", changes=changes, digits="embedded", out="runs")
    (note,) = (line for line in tables([result])[0].notes if line.startswith("File: "))
    assert "700 samples of imported-affnist/test" in note
    assert "of unknown digits: intervals take each image for one of its own" in note
    measured = result.metrics["checkpoints"]["last"]
    assert measured["file"]["total"] == 700 and 0.05 < measured["file"]["share"] < 0.15
    low, high = measured["file"]["interval"]
    assert 0.02 < high - low < 0.06  # of some hundred images; all of one digit would have the whole range
    assert measured["file gap"]["share"] == pytest.approx(measured["clean"]["share"] - measured["file"]["share"])
