"""Digits that are not MNIST's, from a folder to a result: named in every output, and without the paper's values."""

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import capsbench
from capsbench.cli import cli
from capsbench.errors import SpecMismatchError
from capsbench.report.figures import Figure
from capsbench.results.result import Result, load_results, save_result

NAME = "Test wear"
SHOWN = f"{NAME!r} (a user's digits, not MNIST)"
PAPERS = ("99.23", "79 %", "66 %", "The paper,", "paper's values and ours")
"""What outputs beside MNIST's digits say of the paper's figures."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images like Fashion-MNIST's: dense shapes of ten kinds that fill the frame, 240 to train and 60 to test with."""
    place = tmp_path_factory.mktemp("wear")
    random = np.random.default_rng(0)
    for part, count in (("train", 240), ("t10k", 60)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = np.zeros((count, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 + label : 26, 4 : 14 + label] = random.integers(60, 256)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (place / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes(), 1))
    return place


def said(*words: str) -> str:
    """What a command prints."""
    found = CliRunner().invoke(cli, words)
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of results of suite affine, and what the command printed."""
    out = tmp_path_factory.mktemp("runs")
    named = ["--digits", str(folder), "--digits-as", NAME]
    words = ["run", "--suite", "affine", "--preset", "smoke", "--model", "resnet-gap", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "png", lambda figure: b"")  # drawing them would take most of the time
        return out, said(*words, *named, "--out", str(out))


@pytest.fixture(scope="module")
def result(run: tuple[Path, str]) -> Result:
    (found,) = load_results(run[0])
    return found


def test_the_command_prints_the_name(run: tuple[Path, str]) -> None:
    first, *_ = run[1].splitlines()
    assert first == f"affine, preset smoke, {SHOWN}, cpu, one seed: 0"
    assert f"Board: affine, preset smoke, {SHOWN}; protocol" in " ".join(run[1].split())
    assert not [words for words in PAPERS if words in run[1]]


def test_the_result_says_which_digits_they_are(result: Result, folder: Path) -> None:
    assert result.digits == NAME
    test = capsbench.stream("padded", split="test", digits=folder, digits_as=NAME).spec.digits
    assert result.identity["digits"][f"{NAME}, test"] == test
    assert {used["spec"]["digits_name"] for used in result.data.values()} == {NAME}


def test_every_chart_and_its_csv_name_them(run: tuple[Path, str], result: Result) -> None:
    from capsbench.report.groups import charts

    made = charts([result])
    assert len(made) > 3
    for chart in made:
        assert SHOWN in chart.note
        (path,) = (run[0] / "affine").glob(f"charts-*/{chart.stem}.csv")
        rows = list(csv.reader(path.read_text().splitlines()))
        assert rows[0][-1] == "digits"
        assert {row[-1] for row in rows[1:]} == {NAME}
        assert "paper" not in chart.note + str(rows)


@pytest.mark.parametrize("style", ["simple", "github", "latex_booktabs", "csv", "json"])
@pytest.mark.parametrize("wide", [[], ["--wide"]])
def test_every_format_of_a_report_names_them(run: tuple[Path, str], style: str, wide: list[str]) -> None:
    text = said("report", str(run[0]), "--format", style, *wide)
    assert NAME in text
    assert not [words for words in PAPERS if words in text]


def test_pages_name_them_and_have_no_values_of_the_paper(run: tuple[Path, str], tmp_path: Path) -> None:
    pages = {option: tmp_path / f"page.{ending}" for option, ending in PAGES.items()}
    said("report", str(run[0]), *(word for option, path in pages.items() for word in (option, str(path))))
    for path in pages.values():
        text = path.read_text()
        assert NAME in text, path
        assert not [words for words in PAPERS if words in text], path
    assert [board["digits"] for board in json.loads(pages["--json"].read_text())["boards"]] == [NAME]
    assert "--digits DIR --digits-as" in pages["--html"].read_text()


PAGES = {"--html": "html", "--json": "json", "--samples": "csv"}


def test_beside_results_of_mnist_they_stand_in_groups_of_their_own(result: Result, tmp_path: Path) -> None:
    same_name = {**result.identity, "digits": dict.fromkeys(result.identity["digits"], "0" * 64)}
    every: list[dict[str, Any]] = [{}, {"digits": "embedded", "identity": {}}, {"identity": same_name}]
    for number, changes in enumerate(every):
        save_result(Result(**{**vars(result), **changes, "cell": f"{number:012}"}), tmp_path / f"{number}.json")
    titles = [line for line in said("report", str(tmp_path), "--wide").splitlines() if line.startswith("affine, ")]
    assert sorted(title.partition(", cpu")[0].removeprefix("affine, preset smoke, ") for title in titles) == [
        SHOWN,
        SHOWN,
        "embedded digits of MNIST (3,200 train, 800 select, 1,000 test)",
    ]
    assert len({one.protocol for one in load_results(tmp_path)}) == 3


def test_a_comparison_names_them(result: Result, tmp_path: Path) -> None:
    paths = [tmp_path / name / "one.json" for name in "ab"]
    for path, label in zip(paths, ("one", "two"), strict=True):
        path.parent.mkdir()
        save_result(Result(**{**vars(result), "label": label}), path)
    for style in ("simple", "csv", "json"):
        assert NAME in said("compare", str(paths[0]), str(paths[1]), "--format", style), style


def test_files_name_them(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = ["--digits", str(folder), "--digits-as", NAME]
    said("generate", "padded", "--split", "test", *named, "--out", str(tmp_path))
    path = tmp_path / "padded-test.h5"
    assert f"digits      {SHOWN}" in said("info", str(path))
    facts = json.loads(said("info", str(path), "--json"))
    assert (facts["digits"], facts["spec"]["digits_name"], facts["known as"]) == (NAME, NAME, None)
    assert json.loads(path.with_suffix(".json").read_text())["digits"] == NAME
    assert "3 random samples have the same bytes" in said("verify", str(path), "--sample", "3", "--digits", str(folder))
    said("card", str(path))
    for ending in ("card.md", "croissant.json"):
        text = (tmp_path / f"padded-test.{ending}").read_text()
        assert NAME in text
        assert "of MNIST" not in text and "creativecommons" not in text and "LeCun" not in text
    said("preview", str(path))
    drawn = (tmp_path / "padded-test.png").read_bytes()
    # Without its name the picture would be another.
    monkeypatch.setattr("capsbench.files.preview.told_digits", lambda name: "")
    said("preview", str(path))
    assert drawn != (tmp_path / "padded-test.png").read_bytes()


def test_a_file_of_their_name_and_other_digits_is_refused(folder: Path, tmp_path: Path) -> None:
    capsbench.generate("padded", split="test", out=tmp_path, digits=folder, digits_as=NAME)
    with pytest.raises(SpecMismatchError, match=f"digits: asked Others .*, found {NAME}"):
        capsbench.generate("padded", split="test", out=tmp_path, digits=folder, digits_as="Others")


def test_scores_are_judged_on_them(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "tests"
    manifest = capsbench.tests("mnist", out=out, preset="smoke", digits=folder, digits_as=NAME)
    assert json.loads((out / "manifest.json").read_text())["digits"] == NAME
    for entry in manifest.files:
        data = capsbench.open_dataset(out / entry.file)
        assert data.spec.digits_name == NAME
        scores = np.eye(10, dtype=np.float32)[data.labels]
        np.savez(out / f"{entry.name}.npz", scores=scores, digest=np.array(data.digest))
    results: Sequence[Result] = capsbench.judge(
        "mnist", out, label="mine", digits=folder, digits_as=NAME, out=tmp_path / "runs"
    )
    assert [one.digits for one in results] == [NAME]
    assert SHOWN in said("report", str(tmp_path / "runs"))


def test_the_command_that_measures_again_finds_the_same_cell(run: tuple[Path, str], folder: Path) -> None:
    words = ["run", "--suite", "affine", "--preset", "smoke", "--model", "resnet-gap"]
    text = said(*words, "--device", "cpu", "--digits", f"{NAME}={folder}", "--out", str(run[0]), "--dry-run", "--json")
    assert list(json.loads(text.partition("\n}")[0] + "}").values()) == ["finished"]
