"""Digits whose labels say who wrote them, from a folder like QMNIST's to results: writers are what is resampled."""

import gzip
import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import capsbench
from capsbench import registry
from capsbench.bench.data import sampler_of
from capsbench.bench.planning import plan_run
from capsbench.cli import cli
from capsbench.contracts import INK_OVERLAP
from capsbench.errors import DataFileError
from capsbench.evaluation.predictions import Predictions
from capsbench.report.board import boards
from capsbench.report.comparison import compare_results
from capsbench.report.differences import difference_at
from capsbench.report.groups import tables
from capsbench.results.answers import Answers, packed_partners
from capsbench.results.result import Result, load_results
from capsbench.results.writers import key_of_writers, packed_writers
from capsbench.statistics import (
    digit_sums,
    pair_interval,
    paired_by_pair,
    paired_interval,
    paired_p,
    resampled_interval,
    share_interval,
    writers_interval,
)
from capsbench.suites.affine_reach import kept_reach, reach_points
from capsbench.suites.overlap import _by_overlap

TEST = 60
WRITERS = np.arange(TEST) * 7 % 12  # who wrote each test digit
NOTE = "intervals and tests over digits are over their 12 writers"
MNIST_TEST = ("checkpoints", "best", "test")


def written(folder: Path, *, named: bool) -> Path:
    """Digits of ten kinds, 240 to train and 60 to test with; with ``named`` their labels are like QMNIST's."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", 240), ("test", TEST)):
        labels = np.arange(count) % 10
        images = np.zeros((count, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[4 + label : 24, 6 : 12 + label] = random.integers(60, 256)
        facts = np.zeros((count, 8), ">i4")
        facts[:, 0], facts[:, 2] = labels, 2100 + (WRITERS if part == "test" else np.arange(count) // 8)
        files = {
            "images-idx3-ubyte": (8, images),
            **({"labels-idx2-int": (12, facts)} if named else {"labels-idx1-ubyte": (8, labels.astype(np.uint8))}),
        }
        for name, (kind, array) in files.items():
            header = bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / f"qmnist-{part}-{name}.gz").write_bytes(gzip.compress(header + array.tobytes(), 1))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("digits") / "named", named=True)


def judged(suite: str, place: Path, digits: Path, *labels: str) -> list[Result]:
    """Results of made scores: each network misses the digits of some writers more often than those of others."""
    given = {"digits": digits, "digits_as": "Written"}
    manifest = capsbench.tests(suite, out=place / suite, preset="smoke", **given)
    found = []
    for number, label in enumerate(labels):
        for entry in manifest.files:
            data = capsbench.open_dataset(place / suite / entry.file)
            labels_of = data.labels.reshape(len(data), -1)
            random = np.random.default_rng(number)
            hard = WRITERS[data.source.reshape(len(data), -1)[:, 0]] % (number + 3) == 0
            crowded = 0.3 * (entry.name in ("digits-at-14-px", "8-scraps"))
            missed = random.random(len(data)) < np.where(hard, 0.7, 0.1) + crowded
            answers = labels_of + (missed * random.integers(1, 10, len(data)))[:, None]
            scores = np.zeros((len(data), 10), np.float32)
            np.put_along_axis(scores, answers.astype(np.int64) % 10, 1, axis=1)
            np.savez(place / suite / f"{entry.name}.npz", scores=scores, digest=np.array(data.digest))
        found += capsbench.judge(suite, place / suite, label=label, out=place / "runs", **given)
    return found


def said(*words: str) -> str:
    """What a command prints."""
    found = CliRunner().invoke(cli, words)
    assert found.exit_code == 0, found.output
    return " ".join(found.output.split())


def at(result: Result, *place: str) -> Any:
    found: Any = result.metrics
    for key in place:
        found = found[key]
    return found


def right(point: Any) -> np.ndarray:
    return Answers.from_dict(point).correct


def compared(first: Result, second: Result) -> list[Any]:
    """The differences that ``compare --format json`` prints."""
    found = CliRunner().invoke(cli, ["compare", str(first.path), str(second.path), "--format", "json"])
    (pair,) = json.loads(found.stdout)["pairs"]
    differences: list[Any] = pair["differences"]
    return differences


@pytest.fixture(scope="module")
def plain_digits(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Result]]:
    place = tmp_path_factory.mktemp("mnist")
    return place / "runs", judged("mnist", place, folder, "one", "other")


def test_an_accuracy_and_a_paired_test_are_over_writers(plain_digits: tuple[Path, list[Result]]) -> None:
    results = plain_digits[1]
    one, other = (right(at(result, *MNIST_TEST)) for result in results)
    writers = WRITERS.astype(np.int32)
    assert tuple(at(results[0], *MNIST_TEST)["interval"]) == writers_interval(one, writers)
    assert writers_interval(one, writers) != share_interval(one, np.arange(TEST, dtype=np.int32))
    (found,) = compared(*results)
    assert (found["writers"], found["digits"], found["images"]) == (12, TEST, TEST)
    assert tuple(found["interval"]) == paired_interval(one, other, writers)
    assert found["p"] == paired_p(one, other, writers)


def test_tables_boards_pages_and_comparisons_say_so(plain_digits: tuple[Path, list[Result]], tmp_path: Path) -> None:
    runs, results = plain_digits
    assert NOTE in said("report", str(runs), "--html", str(tmp_path / "page.html"))
    assert NOTE in " ".join((tmp_path / "page.html").read_text().split())
    (board,) = boards(results)
    assert sum(NOTE in note for note in board.notes) == 1
    (paired,) = (note for note in board.notes if note.startswith("A difference to the best"))
    compared = said("compare", *(str(result.path) for result in results))
    assert NOTE in compared and "over resampled writers; p of the exact sign-flip test over them" in compared
    assert "over writers" in paired and "exact sign-flip test over them" in paired
    assert "McNemar" not in paired + compared


def test_nothing_is_said_of_writers_of_other_digits_than_the_run_s(plain_digits: tuple[Path, list[Result]]) -> None:
    result = plain_digits[1][0]
    other = replace(result, identity={**result.identity, "digits": {"Written, writers": "0" * 64}})
    assert not any("writers" in note for note in tables([other])[0].notes)


def test_results_that_name_different_writers_of_the_same_digits_are_not_compared(
    plain_digits: tuple[Path, list[Result]],
) -> None:
    one, other = plain_digits[1]
    turned = WRITERS[::-1].astype(np.int32)
    metrics = deepcopy(other.metrics)
    metrics["checkpoints"]["best"]["test"]["writers"] = key_of_writers(turned)
    theirs = replace(other, metrics=metrics, writers={key_of_writers(turned): packed_writers(turned)})
    with pytest.raises(
        DataFileError, match=r"one \(mnist, .*\) and other \(mnist, .*\) name different writers .*--digits"
    ):
        difference_at(one, theirs, MNIST_TEST)


def test_bins_of_overlap_with_few_writers_are_over_digits() -> None:
    source = np.arange(48, dtype=np.int32).reshape(24, 2)
    writers = np.arange(48) // np.where(np.arange(48) < 24, 8, 2)  # three wrote the first twelve pairs
    wrong = (np.arange(24) % 3 == 0).astype(np.float64)
    scores = np.eye(10, dtype=np.float32)[np.where(wrong, 3, 1)] + np.eye(10, dtype=np.float32)[2]
    answers = Predictions(scores, np.tile(np.array([1, 2], np.uint8), (24, 1)), source, writers.astype(np.int32))
    found = _by_overlap(answers, np.repeat([5.0, 50.0], 12))
    assert tuple(found["0-10"]["interval"]) == pair_interval(wrong[:12], source[:12])
    assert tuple(found["40-100"]["interval"]) == pair_interval(wrong[12:], writers[source[12:]])


def test_partners_that_have_no_writer_are_compared_by_digits(folder: Path, tmp_path: Path) -> None:
    one, other = judged("overlap", tmp_path, folder, "one", "other")
    place = ("checkpoints", "best", "exact pair")
    assert difference_at(one, other, place).writers == 12
    source = capsbench.open_dataset(next((tmp_path / "overlap").glob("*.h5"))).source.copy()
    source[0, 1] = TEST
    for result in (one, other):
        result.metrics["partners"] = packed_partners(source)
    found = difference_at(one, other, place)
    assert found.writers == 0
    assert (found.interval, found.p) == paired_by_pair(right(at(one, *place)), right(at(other, *place)), source)


@pytest.mark.parametrize(("suite", "role"), [("affine", "clean"), ("crowding", "alone"), ("clutter", "clean")])
def test_conditions_of_a_result_that_name_different_writers_are_refused(
    folder: Path, tmp_path: Path, suite: str, role: str
) -> None:
    (result,) = judged(suite, tmp_path, folder, "one")
    del result.metrics["checkpoints"]["best"][role]["writers"]
    named = rf"one \({suite}, preset smoke, digits Written, seed 0\), at best: "
    with pytest.raises(DataFileError, match=f"^{named}A result is damaged: it names different writers"):
        tables([result])


def test_the_same_digits_without_writers_are_another_protocol_and_cell(
    plain_digits: tuple[Path, list[Result]], tmp_path: Path
) -> None:
    ours = plain_digits[1][0]
    (theirs,) = judged("mnist", tmp_path, written(tmp_path / "plain", named=False), "one")
    assert theirs.data == ours.data
    assert theirs.cell != ours.cell and theirs.protocol != ours.protocol
    assert theirs.path is not None and "writers" not in theirs.path.read_text()
    assert right(at(theirs, *MNIST_TEST)).tolist() == right(at(ours, *MNIST_TEST)).tolist()
    assert NOTE not in said("report", str(tmp_path / "runs"))
    for one, other in ((ours, theirs), (theirs, ours)):
        assert "writers" not in compared(one, other)[0]


def test_weights_do_not_depend_on_writers(folder: Path, tmp_path: Path) -> None:
    plain = written(tmp_path / "plain", named=False)
    ours, theirs = (
        plan_run("mnist", models=["cnn"], preset="smoke", digits=f"Written={place}", device="cpu", out=tmp_path).cells[
            0
        ]
        for place in (folder, plain)
    )
    assert ours.training == theirs.training
    assert ours.id != theirs.id


def test_damaged_writers_end_in_one_error(plain_digits: tuple[Path, list[Result]], tmp_path: Path) -> None:
    for number, result in enumerate(plain_digits[1]):
        assert result.path is not None
        content = json.loads(result.path.read_text())
        (key,) = content["writers"]
        content["writers"][key]["shape"] = [4, TEST - 1]
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
    results = load_results(tmp_path)
    for make in (lambda: tables(results[:1]), lambda: boards(results[:1]), lambda: compare_results(*results)):
        with pytest.raises(DataFileError, match=r"(one|other) \(mnist, preset smoke.*damaged"):
            make()


def test_of_pairs_the_writers_of_both_digits_count(folder: Path, tmp_path: Path) -> None:
    results = judged("overlap", tmp_path, folder, "one", "other")
    data = capsbench.open_dataset(next((tmp_path / "overlap").glob("*.h5")), digits=f"Written={folder}")
    source, overlap = data.source, sampler_of(data).measures(data.batch(slice(None)))[INK_OVERLAP]
    place = ("checkpoints", "best", "exact pair")
    one, other = (right(at(result, *place)) for result in results)
    assert tuple(at(results[0], *place)["interval"]) == pair_interval(one.astype(float), WRITERS[source])
    bins = at(results[0], "checkpoints", "best", "by overlap")
    assert {one["pairs"] > 10 for one in bins.values()} == {True, False}
    for name, bin_of in bins.items():
        low, high = map(int, name.split("-"))
        inside = (overlap >= low) & ((overlap < high) | (high == 100))
        wrong, shown = 1.0 - right(at(results[0], *place))[inside], source[inside]
        if inside.any():
            few = len(np.unique(WRITERS[shown])) < 10
            assert tuple(bin_of["interval"]) == pair_interval(wrong, shown if few else WRITERS[shown])
    found = next(found for found in compared(*results) if tuple(found["place"]) == place)
    assert (tuple(found["interval"]), found["p"]) == paired_by_pair(one, other, WRITERS[source])
    assert "of pairs of digits, over the writers of both" in said("report", str(tmp_path / "runs"))


@pytest.mark.parametrize("suite", ["affine", "crowding", "clutter"])
def test_the_other_suites_resample_writers_too(folder: Path, tmp_path: Path, suite: str) -> None:
    (result,) = judged(suite, tmp_path, folder, "one")
    points = [point for point in each_point(result.metrics) if "answers" in point]
    assert points and {point["writers"] for point in points} == set(result.writers)
    for point in points:
        unit = WRITERS[np.arange(point["total"]) % TEST].astype(np.int32)
        assert tuple(point["interval"]) == writers_interval(right(point), unit)
    assert NOTE in said("report", str(tmp_path / "runs"))


@pytest.mark.parametrize("suite", ["crowding", "clutter"])
def test_critical_spacing_and_clutter_are_over_writers(folder: Path, tmp_path: Path, suite: str) -> None:
    (result,) = judged(suite, tmp_path, folder, "one")
    plain = replace(result, writers={}, metrics=deepcopy(result.metrics))
    for point in each_point(plain.metrics):
        point.pop("writers", None)
    measure = registry.load("suite", suite).headlines[0].measure
    ours, theirs = measure(result), measure(plain)
    assert ours.value == theirs.value and ours.interval != theirs.interval
    ours, theirs = (tables([one])[0].rows for one in (result, plain))
    assert ours != theirs  # by the critical one alone: the others have the intervals that the result keeps


@pytest.fixture(scope="module")
def affine(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    (result,) = judged("affine", tmp_path_factory.mktemp("affine"), folder, "one")
    return result


def reaching(result: Result, inside: Any) -> Any:
    """What `reach_points` finds where these digits alone are within reach; and right answers and digits there."""
    correct = right(at(result, "checkpoints", "best", "affine"))
    base = np.arange(len(correct)) % TEST
    near = inside(base)
    transform = np.zeros((len(base), 6), np.float32)
    transform[~near, 4] = 20
    (point,) = reach_points(
        [replace(result, metrics={**result.metrics, "within reach": kept_reach(transform)})], "best"
    )
    return point, correct[near], base[near]


def test_within_reach_writers_are_resampled(affine: Result) -> None:
    point, near, base = reaching(affine, lambda base: base % 5 > 0)
    assert tuple(point["within reach"]["interval"]) == writers_interval(near, WRITERS[base])
    clean = right(at(affine, "checkpoints", "best", "clean"))
    (right_ones, shown), (still, seen) = digit_sums(clean, WRITERS), digit_sums(near, WRITERS[base])
    gap = resampled_interval(np.stack([right_ones, -still]), np.stack([shown, seen]))
    assert tuple(point["gap within reach"]["interval"]) == gap


def test_within_reach_of_few_writers_digits_are_resampled(affine: Result) -> None:
    point, near, base = reaching(affine, lambda base: WRITERS[base] < 9)
    assert tuple(point["within reach"]["interval"]) == share_interval(near, base)
    clean = right(at(affine, "checkpoints", "best", "clean"))
    (right_ones, shown), still = digit_sums(clean, np.arange(TEST)), np.bincount(base, near, minlength=TEST)
    gap = resampled_interval(np.stack([right_ones, -still]), np.stack([shown, np.bincount(base, minlength=TEST)]))
    assert tuple(point["gap within reach"]["interval"]) == gap


def each_point(metrics: Any) -> list[Any]:
    if not isinstance(metrics, dict):
        return []
    return [metrics, *(point for one in metrics.values() for point in each_point(one))]


class Linear(torch.nn.Module):
    """The least that learns."""

    def __init__(self, *, image_size: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(image_size**2, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return cast("torch.Tensor", self.layers(images))


def test_a_network_that_is_trained_here_is_measured_over_writers(folder: Path, tmp_path: Path) -> None:
    (result,) = capsbench.run(
        "mnist", models=[Linear], preset="smoke", digits=folder, digits_as="Written", device="cpu", out=tmp_path
    )
    point = at(result, *MNIST_TEST)
    assert tuple(point["interval"]) == writers_interval(right(point), WRITERS.astype(np.int32))
    assert list(result.writers) == [point["writers"]] == [result.identity["digits"]["Written, writers"]]
    assert NOTE in said("report", str(tmp_path))
