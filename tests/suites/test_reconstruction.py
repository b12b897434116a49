"""The reconstruction suite: its protocol, networks whose drawings are known beforehand, and its pictures by hand."""

import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capsbench.bench.planning import plan_run
from capsbench.bench.running import Outcome, run_plan
from capsbench.data.digits import load_digits
from capsbench.data.streaming import Stream, stream
from capsbench.errors import DataFileError, ParameterError
from capsbench.report.groups import charts, tables
from capsbench.report.pages import render
from capsbench.report.pictures import Picture, Tile, overlaid, shared_out
from capsbench.results.pixels import packed, unpacked
from capsbench.results.result import Result
from capsbench.suites.reconstruction import PAPER, Reconstruction, ReconstructionSettings

from .known_networks import KNOWN, at_medium, tiny_networks


def run(folder: Path, *models: str, **changes: str) -> Outcome:
    names = [name if name in ("capsnet", "cnn") else f"{KNOWN}:{name}" for name in models]
    options: dict[str, Any] = {"preset": "smoke", "digits": "embedded", "device": "cpu", "out": folder / "runs"}
    with tiny_networks():
        return run_plan(plan_run("reconstruction", models=names, changes=changes, **options))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    names = ("Oracle", "GreyGuess", "capsnet")
    outcome = run(tmp_path_factory.mktemp("reconstruction"), *names)
    assert not outcome.failed, outcome.failed
    return dict(zip(names, outcome.results, strict=True))


@pytest.fixture(scope="module")
def digits() -> Stream:
    return stream("padded", split="test", digits="embedded", size=28, shift=0)


@pytest.fixture(scope="module")
def pairs() -> Stream:
    return stream("multimnist", split="test", digits="embedded")


def pictures(*shown: Result) -> dict[str, Picture]:
    made = charts(shown)
    found = {one.name: one for one in made if isinstance(one, Picture)}
    assert len(found) == len(made)
    return found


def row(picture: Picture, number: int) -> list[Tile]:
    return [tile for tile in picture.rows[number] if tile]


def test_who_knows_the_answer_draws_it(results: dict[str, Result]) -> None:
    single, both = (results["Oracle"].metrics[part] for part in ("single", "pairs"))
    assert single["accuracy"]["share"] == 1 and single["accuracy"]["total"] == 1000
    assert single["reconstruction"]["mse"] == pytest.approx(0, abs=1e-12) and single["reconstruction"]["psnr"] == 100
    assert [both[name]["share"] for name in ("exact pair", "per digit", "at least one")] == [1, 1, 1]


def test_the_best_checkpoints_are_tested_and_draw_with_their_own_weights(tmp_path: Path) -> None:
    (result,) = run(tmp_path, "Passing").results
    single, both = (result.metrics[part] for part in ("single", "pairs"))
    for part in (single, both):
        looks = [(one["step"], one["accuracy"]) for one in part["history"]]
        assert looks == [(20, 1), (40, 0), (50, 0)] and part["epoch"] == 20 / 50
    assert single["accuracy"]["share"] == both["exact pair"]["share"] == 1
    assert single["reconstruction"]["mse"] == pytest.approx(0, abs=1e-12)
    for part in (single["shown"], both["shown"]):
        assert unpacked(part["drawn"]).any()


def test_who_guesses_is_right_by_chance(results: dict[str, Result]) -> None:
    single, both = (results["GreyGuess"].metrics[part] for part in ("single", "pairs"))
    for found, chance in ((single["accuracy"], 1 / 10), (both["exact pair"], 1 / 45)):
        assert abs(found["share"] - chance) < 4 * math.sqrt(chance * (1 - chance) / 1000)


def test_the_preset_medium_is_right_about_who_knows_and_who_guesses(tmp_path: Path) -> None:
    oracle, guess = at_medium("reconstruction", tmp_path, guess="GreyGuess")
    assert oracle["single"]["accuracy"]["share"] == 1 and guess["single"]["accuracy"]["share"] < 0.14
    assert oracle["pairs"]["exact pair"]["share"] == 1 and guess["pairs"]["exact pair"]["share"] < 0.05


def errors(images: Any, drawn: Any) -> tuple[float, float]:
    """Squared error of a pixel and PSNR, image by image in plain Python's floats."""
    found = [sum((float(a) / 255 - float(b)) ** 2 for a, b in zip(i.flat, d.flat, strict=True)) / 784
             for i, d in zip(images, drawn, strict=True)]  # fmt: skip
    return sum(found) / len(found), sum(10 * math.log10(1 / error) for error in found) / len(found)


def test_errors_are_those_of_a_loop(results: dict[str, Result], digits: Stream) -> None:
    images, labels = digits.batch(np.arange(1000)).images, digits.labels
    mse, psnr = errors(images, np.full((1000, 28, 28), 0.2))
    found = results["GreyGuess"].metrics["single"]["reconstruction"]
    assert found["mse"] == pytest.approx(mse, rel=1e-5) and found["psnr"] == pytest.approx(psnr, rel=1e-5)

    train = load_digits("train", "embedded")
    means = [train.images[train.labels == label].astype(float).mean(0) / 255 for label in range(10)]
    mse, psnr = errors(images, [means[label] for label in labels])
    for result in results.values():
        assert result.metrics["single"]["class mean"] == {"mse": pytest.approx(mse), "psnr": pytest.approx(psnr)}


def test_nothing_is_trained_or_selected_on_test_digits(results: dict[str, Result]) -> None:
    for result in results.values():
        assert {role: one["spec"]["split"] for role, one in result.data.items()} == {
            "training": "train",
            "validation": "validation",
            "test": "test",
            "pair training": "train",
            "pair validation": "validation",
            "pair test": "test",
        }
        shifts = {role: one["spec"]["parameters"]["shift"] for role, one in result.data.items()}
        assert [shifts[role] for role in ("training", "validation", "test")] == [2, 0, 0]


def test_pairs_have_epochs_and_variants_of_their_own(tmp_path: Path) -> None:
    changes = {"epochs": "1", "pair_epochs": "2", "variants": "2"}
    (result,) = run(tmp_path, "GreyGuess", **changes).results
    counts = {role: one["spec"]["count"] for role, one in result.data.items()}
    assert (counts["training"], counts["test"]) == (3200, 1000)
    assert (counts["pair training"], counts["pair test"]) == (6400, 2000)
    steps = [[one["step"] for one in result.metrics[part]["history"]] for part in ("single", "pairs")]
    assert steps == [[20, 40, 50], [20, 40, 60, 80, 100]]
    with pytest.raises(ParameterError, match=r"pair_epochs must be .*, got 0"):
        ReconstructionSettings(epochs=1, pair_epochs=0)
    with pytest.raises(ParameterError, match=r"pair_decay_steps must be .*, got 0"):
        ReconstructionSettings(epochs=1, pair_epochs=1, pair_decay_steps=0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("cnn", r"this network has none: its forward must return .*Output\(scores=..., reconstruct=...\)"),
        ("Silent", "this network has none"),
        ("OnlySingles", "this network has none"),
        ("Misshapen", r"images of shape \[44, 1, 28, 27\]; \[44, 1, 28, 28\] is needed"),
    ],
)
def test_a_network_that_cannot_draw_fails_before_it_is_trained(tmp_path: Path, model: str, message: str) -> None:
    outcome = run(tmp_path, model)
    assert not outcome.results and len(outcome.failed) == 1
    assert re.search(message, outcome.failed[0][1]), outcome.failed[0][1]
    assert "traceback:" not in outcome.failed[0][1] and not (tmp_path / "runs" / "checkpoints").exists()


def test_a_decoder_that_was_left_out_is_missed_at_once(tmp_path: Path) -> None:
    outcome = run(tmp_path, "capsnet", **{"capsnet.reconstruction": "false"})
    assert "this network has none" in outcome.failed[0][1]


def test_right_digits_are_shown_with_what_is_drawn_of_them(results: dict[str, Result], digits: Stream) -> None:
    picture = pictures(results["Oracle"])["reconstruction-digits"]
    inputs, drawn = row(picture, 0), row(picture, 1)
    assert len(inputs) == len(drawn) == 8
    for above, below in zip(inputs, drawn, strict=True):
        sample, label = above.facts["test digit"], above.facts["label"]
        assert np.array_equal(above.image, digits.batch([sample]).images[0]) and digits.labels[sample] == label
        assert np.array_equal(below.image, above.image) and below.facts == above.facts
        assert (above.caption, above.mark) == (f"({label}, {label}, {label})", "right")
    samples = [tile.facts["test digit"] for tile in inputs]
    assert len(set(samples)) == 8 and samples != sorted(samples)
    assert "Of 1,000 test digits 1,000 were right" in picture.note and "Oracle" in picture.title


def test_wrong_digits_are_drawn_from_the_label_and_from_the_prediction(results: dict[str, Result]) -> None:
    tiles = row(pictures(results["GreyGuess"])["reconstruction-digits"], 0)
    assert Counter(tile.mark for tile in tiles) == {"right": 8, "wrong": 8}
    wrong = tiles[8:]
    for first, second in zip(wrong[::2], wrong[1::2], strict=True):
        label, prediction = first.facts["label"], first.facts["prediction"]
        assert first.mark == second.mark == "wrong" and label != prediction
        assert first.facts["test digit"] == second.facts["test digit"]
        assert [first.caption, second.caption] == [
            f"({label}, {prediction}, {label})", f"({label}, {prediction}, {prediction})"
        ]  # fmt: skip
    assert len({tile.facts["test digit"] for tile in wrong}) == 4


def test_each_dimension_of_two_digits_is_moved(results: dict[str, Result], digits: Stream) -> None:
    picture = pictures(results["Oracle"])["reconstruction-dimensions"]
    assert picture.row_titles == ["0", "1", "2"]
    labels = results["Oracle"].metrics["single"]["moved"]["labels"]
    assert len(set(labels)) == 2
    steps = [f"{step / 100:+.2f}" for step in range(-25, 30, 5)]
    for titles, label in ((picture.column_titles[:11], labels[0]), (picture.column_titles[12:], labels[1])):
        assert list(titles) == [*steps[:5], f"digit {label}\n0", *steps[6:]]
    for number, tiles in enumerate(picture.rows):
        assert len(tiles) == 23 and tiles[11] is None
        for tile, label in zip([*tiles[:11], *tiles[12:]], [labels[0]] * 11 + [labels[1]] * 11, strict=True):
            assert tile is not None and digits.labels[tile.facts["test digit"]] == label == tile.facts["label"]
            assert tile.facts["dimension"] == number
            moved = [0.5 + tile.facts["moved by"] * (d == number) for d in range(3)]
            assert abs(tile.image[7, :3] - 255 * np.array(moved)).max() <= 0.5001


def test_who_has_no_decode_is_told_so_and_moves_nothing(results: dict[str, Result]) -> None:
    assert set(pictures(results["GreyGuess"])) == {"reconstruction-digits", "reconstruction-pairs"}
    notes = render([results["GreyGuess"]]).splitlines()
    assert any("known_networks.py:GreyGuess: no decode" in line for line in notes)
    assert "no decode" not in render([results["Oracle"], results["capsnet"]])


def test_right_pairs_are_taken_apart_and_what_is_absent_is_not_drawn(results: dict[str, Result], pairs: Stream) -> None:
    picture = pictures(results["Oracle"])["reconstruction-pairs"]
    inputs, drawn, shares = (row(picture, number) for number in range(3))
    assert [tile.mark for tile in inputs] == ["right"] * 4 + [""] * 2
    for number, (above, middle, below) in enumerate(zip(inputs, drawn, shares, strict=True)):
        sample = above.facts["test pair"]
        first, second = pairs.batch([sample]).labels[0].tolist()
        layers = pairs.layers([sample])[0].copy()
        absent = above.facts["second drawn from"]
        if number >= 4:
            assert absent not in (first, second)
            layers[1] = 0
        asked = (first, second if number < 4 else absent)
        sign = "" if number < 4 else "* "
        assert above.caption == f"{sign}R: {asked[0]}, {asked[1]}\nL: {first}, {second}"
        assert np.array_equal(above.image, pairs.batch([sample]).images[0])
        assert np.array_equal(middle.image, overlaid(layers))
        assert np.array_equal(below.image, shared_out(above.image, layers))
    assert "Of 1,000 test pairs 1,000 were right" in picture.note


def test_wrong_pairs_are_drawn_from_the_labels_and_from_the_prediction(
    results: dict[str, Result], pairs: Stream
) -> None:
    tiles = [tile for tile in row(pictures(results["GreyGuess"])["reconstruction-pairs"], 0) if tile.mark == "wrong"]
    assert len(tiles) == 4 and len({tile.facts["test pair"] for tile in tiles}) == 2
    for first, second in zip(tiles[::2], tiles[1::2], strict=True):
        a, b = pairs.batch([first.facts["test pair"]]).labels[0].tolist()
        assert first.caption == f"R: {a}, {b}\nL: {a}, {b}"
        c, d = second.facts["first drawn from"], second.facts["second drawn from"]
        assert second.caption == f"P R: {c}, {d}\nL: {a}, {b}"
        assert {a, b} != {c, d} and (not {a, b} & {c, d} or a == c or b == d)


def test_a_digit_that_was_found_keeps_its_colour(tmp_path: Path) -> None:
    outcome = run(tmp_path, "Slip")
    tiles = row(pictures(*outcome.results)["reconstruction-pairs"], 0)
    assert [tile.mark for tile in tiles] == ["wrong"] * 4  # none was right
    for tile in tiles[1::2]:
        found = [tile.facts[f"{place} {what}"] for what in ("label", "drawn from") for place in ("first", "second")]
        assert found[1] == found[3] and found[0] != found[2], found  # although it was named first


def test_the_first_seed_of_each_model_is_shown(results: dict[str, Result]) -> None:
    late = replace(results["Oracle"], label="alpha", seed=3)
    early = replace(results["GreyGuess"], label="alpha", seed=1)
    second = replace(results["Oracle"], label="beta", seed=5)
    titles = [chart.title for chart in charts([late, early, second])]
    assert ["alpha" in title for title in titles] == [True, True, False, False, False]
    assert ["beta" in title for title in titles] == [False, False, True, True, True]
    shown = pictures(late, early, second)
    assert shown["reconstruction-digits"].note.splitlines()[0].endswith("Seed 1.")
    assert shown["reconstruction-dimensions"].note.splitlines()[0].endswith("Seed 5.")
    assert set(shown) == {f"reconstruction-{name}" for name in ("digits", "pairs", "digits-2", "dimensions", "pairs-2")}
    assert np.array_equal(row(shown["reconstruction-digits"], 1)[0].image, np.full((28, 28), 51))  # seed 1 is grey


def test_the_table_has_both_networks_and_the_mean_images(results: dict[str, Result]) -> None:
    (table,) = tables([results["capsnet"], results["GreyGuess"]])
    assert [line[0].rpartition(":")[2] for line in table.rows] == ["capsnet", "GreyGuess", "(mean image of the class)"]
    single, both = (results["capsnet"].metrics[part] for part in ("single", "pairs"))
    capsnet, _, means = table.rows
    assert capsnet[1:3] == [1, single["parameters"]] and capsnet[6] == both["parameters"] > single["parameters"]
    assert capsnet[3].startswith(f"{100 * single['accuracy']['share']:.1f} (")
    assert capsnet[4:6] == [f"{single['reconstruction']['mse']:.4f}", f"{single['reconstruction']['psnr']:.1f}"]
    assert capsnet[7].startswith(f"{100 * both['exact pair']['share']:.1f} (")
    assert means[4:6] == [f"{single['class mean']['mse']:.4f}", f"{single['class mean']['psnr']:.1f}"]
    assert PAPER in table.notes


def test_networks_that_ship_are_shown_whole(results: dict[str, Result], tmp_path: Path) -> None:
    single = results["capsnet"].metrics["single"]
    assert single["accuracy"]["share"] > 0.5  # it learns, even in seconds
    assert unpacked(single["moved"]["drawn"]).shape == (2, 16, 11, 28, 28)
    for chart in charts([results["capsnet"]]):
        png, lines = chart.save(tmp_path)
        assert png.stat().st_size > 20_000 and len(lines.read_text().splitlines()) > 20


def damaged(result: Result, part: str, key: str, **changes: Any) -> Result:
    metrics = {**result.metrics, part: {**result.metrics[part], key: {**result.metrics[part][key], **changes}}}
    return replace(result, metrics=metrics)


@pytest.mark.parametrize(
    ("part", "key", "changes"),
    [
        ("single", "shown", {"labels": [1]}),
        ("single", "shown", {"images": {"shape": [8, 28, 28], "zlib": "AAAA"}}),
        ("single", "shown", {"images": packed(np.zeros((8, 28), np.uint8))}),
        ("single", "shown", {"drawn": packed(np.zeros((7, 28, 28), np.uint8))}),
        ("single", "moved", {"steps": [0.1]}),
        ("single", "moved", {"steps": ["a"] * 11}),
        ("single", "moved", {"drawn": packed(np.zeros((28, 28), np.uint8))}),
        ("single", "moved", {"drawn": packed(np.zeros((0, 3, 11, 28, 28), np.uint8))}),
        ("pairs", "shown", {"kinds": None}),
        ("pairs", "shown", {"labels": [[1]] * 6}),
        ("pairs", "shown", {"drawn": packed(np.zeros((6, 3, 36, 36), np.uint8))}),
        ("pairs", "shown", {"drawn": packed(np.zeros((6, 2, 35, 36), np.uint8))}),
        ("pairs", "exact pair", {"correct": None}),
    ],
)
def test_pictures_of_a_damaged_result_are_refused(
    results: dict[str, Result], part: str, key: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(DataFileError):
        charts([damaged(results["Oracle"], part, key, **changes)])


def test_presets_state_the_papers_sizes() -> None:
    paper = Reconstruction.presets["paper"]
    settings = paper.settings
    assert paper.models == {"capsnet": {"preset": "large"}}
    assert (settings.batch_size, settings.learning_rate, settings.schedule) == (128, 1e-3, "exponential")
    assert (settings.decay_steps, settings.pair_decay_steps) == (2000, 20_000)
