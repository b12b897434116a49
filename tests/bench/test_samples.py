"""Every answer as CSV: compared with the data sets and the networks' own scores."""

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from capsbench.bench.samples import save_samples
from capsbench.cli import cli
from capsbench.data.streaming import stream
from capsbench.errors import DataFileError
from capsbench.evaluation.accuracy import accuracy
from capsbench.evaluation.pairs import pair_accuracies
from capsbench.evaluation.predictions import Predictions
from capsbench.results.answers import mistakes_of, packed_partners
from capsbench.results.result import Result, load_results, save_result

RESULTS = Path(__file__).parents[2] / "results"


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def guesses(data: Any) -> Predictions:
    """Random scores for every sample of a data set."""
    batch = data.batch(np.arange(len(data)))
    scores = np.random.default_rng(0).random((len(data), 10)).astype(np.float32)
    return Predictions(scores, batch.labels, batch.source)


def with_metrics(suite: str, metrics: Mapping[str, Any], data: Any, role: str) -> Result:
    (result, *_) = load_results(RESULTS / suite)
    return replace(result, metrics=dict(metrics), data={role: {"spec": data.spec.to_dict(), "digest": "ab"}})


def test_single_digits_have_labels_answers_and_factors(tmp_path: Path) -> None:
    data = stream("affnist", split="test", count=1200, digits="embedded")
    answers = guesses(data)
    result = with_metrics("affine", {"checkpoints": {"best": {"affine": accuracy(answers).to_dict()}}}, data, "affine")
    assert save_samples([result], tmp_path / "s.csv") == 1200
    lines = read(tmp_path / "s.csv")
    batch = data.batch(np.arange(1200))
    assert [int(line["label"]) for line in lines] == batch.labels.tolist()
    assert [int(line["answer"]) for line in lines] == answers.highest(1)[:, 0].tolist()
    assert [line["right"] == "1" for line in lines] == answers.correct.tolist()
    assert [int(line["digits"]) for line in lines] == answers.source.tolist()
    assert batch.transform is not None
    names = ("rotation", "shear", "scale_y", "scale_x", "dy", "dx")
    assert np.allclose([[float(line[name]) for name in names] for line in lines], batch.transform)
    assert {(line["images"], line["digest"], line["dy_2"]) for line in lines} == {
        ("checkpoints, best, affine", "ab", "")
    }


def test_digits_of_each_result_are_found_whichever_were_named(tmp_path: Path) -> None:
    data = stream("padded", split="test", count=50, digits="embedded")
    result = with_metrics("mnist", {"checkpoints": {"best": {"test": accuracy(guesses(data)).to_dict()}}}, data, "test")
    (tmp_path / "others").mkdir()  # a folder where those of another result are
    said: list[str] = []
    save_samples([result], tmp_path / "s.csv", str(tmp_path / "others"), said.append)
    assert [int(line["label"]) for line in read(tmp_path / "s.csv")] == data.labels.tolist() and not said


@pytest.mark.parametrize("number", [1, 8])
def test_targets_among_scraps_have_their_place_and_the_number_of_scraps(number: int, tmp_path: Path) -> None:
    data = stream("cluttered", split="test", count=200, digits="embedded", scraps=number)
    answers = guesses(data)
    found = {"scraps": {str(number): accuracy(answers).to_dict()}}
    role = "8 scraps" if number == 8 else "1 scrap"
    result = with_metrics("crowding", {"checkpoints": {"best": found}}, data, role)
    assert save_samples([result], tmp_path / "s.csv") == 200
    lines = read(tmp_path / "s.csv")
    assert [[int(line["dy"]), int(line["dx"])] for line in lines] == np.asarray(data.shift).tolist()
    assert [int(line["label"]) for line in lines] == data.labels.tolist()
    assert {(line["scraps"], line["rotation"], line["dy_2"]) for line in lines} == {(str(number), "", "")}


def test_pairs_have_two_of_each(tmp_path: Path) -> None:
    data = stream("multimnist", split="test", count=300, digits="embedded")
    answers = guesses(data)
    found = {name: one.to_dict() for name, one in pair_accuracies(answers).items()}
    metrics = {"checkpoints": {"best": found}, "partners": packed_partners(answers.source)}
    save_samples([with_metrics("overlap", metrics, data, "test")], tmp_path / "s.csv")
    lines = read(tmp_path / "s.csv")
    assert len(lines) == 300
    for line, labels, source, named, right in zip(
        lines, answers.labels, answers.source, answers.highest(2), answers.correct, strict=True
    ):
        assert line["label"].split() == list(map(str, labels)) and line["digits"].split() == list(map(str, source))
        assert sorted(line["answer"].split()) == sorted(map(str, named)) and line["right"] == str(int(right))
    shifts = [[int(line[name]) for name in ("dy", "dx", "dy_2", "dx_2")] for line in lines]
    moved = data.batch(np.arange(300)).shift
    assert moved is not None and shifts == moved.reshape(300, 4).tolist()


def test_results_of_earlier_editions_lack_wrong_answers_alone(tmp_path: Path) -> None:
    save_result(load_results(RESULTS / "mnist")[0], tmp_path / "runs" / "one.json")
    run = CliRunner().invoke(cli, ["report", str(tmp_path / "runs"), "--samples", str(tmp_path / "s.csv")])
    assert run.exit_code == 0, run.output
    lines = read(tmp_path / "s.csv")
    assert {line["answer"] == "" for line in lines if line["right"] == "0"} == {True}
    assert all(line["answer"] == line["label"] != "" for line in lines if line["right"] == "1")


def test_without_the_digits_there_are_answers_all_the_same(tmp_path: Path) -> None:
    told: list[str] = []
    result = load_results(RESULTS / "affine" / "h200")[0]
    few = {"checkpoints": {"best": {"clean": result.metrics["checkpoints"]["best"]["clean"]}}}
    save_samples([replace(result, metrics=few)], tmp_path / "s.csv", say=told.append)
    assert len(told) == 1 and "digits" in told[0]
    first = read(tmp_path / "s.csv")[0]
    assert first["right"] == "1" and first["label"] == "" and first["index"] == "0"


@pytest.mark.parametrize("spec", [[], 7, None, "x", {"count": "10,000"}], ids=str)
def test_a_spec_that_is_damaged_is_none(spec: Any, tmp_path: Path) -> None:
    result = load_results(RESULTS / "affine" / "h200")[0]
    few = {"checkpoints": {"best": {"clean": result.metrics["checkpoints"]["best"]["clean"]}}}
    told: list[str] = []
    save_samples([replace(result, metrics=few, data={"clean": {"spec": spec}})], tmp_path / "s.csv", say=told.append)
    assert {line["label"] for line in read(tmp_path / "s.csv")} == {""}


@pytest.mark.parametrize("text", ["1", "x" * 4, 7, "1²"])
def test_damaged_mistakes_are_refused(text: Any) -> None:
    data = stream("padded", split="test", count=20, digits="embedded")
    point = accuracy(guesses(data)).to_dict()
    found = mistakes_of(point)
    assert found is not None and len(found) == 20 - point["correct"]
    with pytest.raises(DataFileError, match="not what they were"):
        mistakes_of({**point, "mistakes": text})


def test_nothing_is_written_where_no_result_keeps_answers(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="keeps its answers"):
        save_samples([replace(load_results(RESULTS / "mnist")[0], metrics={})], tmp_path / "s.csv")
    assert not list(tmp_path.iterdir())
