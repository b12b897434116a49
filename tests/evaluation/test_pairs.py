"""Pairs: counts by hand, networks whose reconstructions are known beforehand, references made once more by a loop."""

import tracemalloc
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from capsbench.contracts import Output
from capsbench.data.digits import load_digits
from capsbench.data.streaming import Stream, stream
from capsbench.evaluation.accuracy import accuracy
from capsbench.evaluation.inference import predict
from capsbench.evaluation.pairs import (
    GIVEN,
    absent_digits,
    measure_reconstructions,
    pair_accuracies,
    predicted_digits,
    references,
)
from capsbench.evaluation.predictions import Predictions
from capsbench.evaluation.segmentation import segmentation
from capsbench.evaluation.subjects import NetworkSubject
from capsbench.results.answers import Answers

PAIRS = 60


def test_three_pairs_of_which_half_credit_would_make_two() -> None:
    # Labels (1, 2), (3, 4), (5, 6); the two highest scores are {1, 2}, {3, 9}, {0, 5}: one right, two half right.
    scores = np.zeros((3, 10), np.float32)
    for row, (high, higher) in enumerate([(2, 1), (3, 9), (0, 5)]):
        scores[row, [high, higher]] = 0.4, 0.9
    pairs = Predictions(
        scores, np.array([[1, 2], [3, 4], [5, 6]], np.uint8), np.array([[0, 7], [1, 8], [2, 9]], np.int32)
    )
    assert pairs.hits.tolist() == [[True, True], [True, False], [True, False]]
    assert pairs.correct.tolist() == [True, False, False]
    assert pairs.base.tolist() == [0, 1, 2]
    found = pair_accuracies(pairs)
    assert {name: (one.correct, one.total) for name, one in found.items()} == {
        "exact pair": (1, 3),
        "at least one": (3, 3),
        "per digit": (4, 6),
    }
    wilson = stats.binomtest(1, 3).proportion_ci(0.95, "wilson")  # pairs that share no digit are independent
    assert found["exact pair"].interval == pytest.approx((wilson.low, wilson.high))
    assert accuracy(pairs) == found["exact pair"]


def test_pairs_keep_who_found_both_and_who_found_one() -> None:
    scores = np.zeros((2, 10), np.float32)
    scores[0, [1, 2]] = scores[1, [3, 9]] = 1.0
    pairs = Predictions(scores, np.array([[1, 2], [3, 4]], np.uint8), np.array([[0, 7], [1, 8]], np.int32))
    kept = {name: one.to_dict() for name, one in pair_accuracies(pairs).items()}
    assert Answers.from_dict(kept["exact pair"]).correct.tolist() == [True, False]
    assert Answers.from_dict(kept["at least one"]).correct.tolist() == [True, True]
    assert "answers" not in kept["per digit"]  # two to an image


def pairs(count: int = PAIRS) -> Stream:
    return stream("multimnist", split="test", digits="embedded", count=count)


class Known(torch.nn.Module):
    """Looks pairs up, and each of their digits alone; what it draws of which is up to its kind."""

    def __init__(self, data: Stream) -> None:
        super().__init__()
        every = np.arange(len(data))
        batch, layers = data.batch(every), data.layers(every)
        self.pairs = {
            image.tobytes(): dict(zip(labels.tolist(), parts, strict=True))
            for image, labels, parts in zip(batch.images, batch.labels, layers, strict=True)
        }
        self.alone = {part.tobytes(): {label: part} for drawn in self.pairs.values() for label, part in drawn.items()}

    def forward(self, images: torch.Tensor) -> Output:
        rows = (images[:, 0] * 255).round().to(torch.uint8).numpy()
        keys = [np.ascontiguousarray(row).tobytes() for row in rows]
        shown = [self.pairs.get(key) or self.alone[key] for key in keys]
        scores = torch.zeros(len(images), 10)
        for n, digits in enumerate(shown):
            scores[n, list(digits)] = 0.75
        blank = np.zeros(rows.shape[1:])

        def reconstruct(classes: torch.Tensor) -> torch.Tensor:
            drawn = [self.draw(digits, int(asked), blank) for digits, asked in zip(shown, classes, strict=True)]
            return torch.from_numpy(np.stack(drawn)[:, None]).float()

        return Output(scores=scores, reconstruct=reconstruct)

    def draw(self, digits: dict[int, Any], asked: int, blank: Any) -> Any:
        """The digit that was asked for, if it is there."""
        return digits[asked] / 255 if asked in digits else blank


class Overwhelmed(Known):
    """Draws a digit that it is shown alone, nothing of a pair, and a line of seven pixels for what is not there."""

    def draw(self, digits: dict[int, Any], asked: int, blank: Any) -> Any:
        if asked in digits:
            return digits[asked] / 255 if len(digits) == 1 else blank
        line = blank.copy()
        line[0, :7], line[1, :9] = 0.5, 0.49
        return line


class Speechless(Known):
    def forward(self, images: torch.Tensor) -> Output:
        return Output(scores=super().forward(images).scores)


def drawn_by(model: torch.nn.Module, data: Stream) -> Any:
    return partial(NetworkSubject(model, {"pairs": lambda: data}).draw, "pairs")


def measured(kind: type[Known], *, found: Any = None) -> dict[str, Any]:
    """What is measured of a network; with ``found`` ``[PAIRS, 2]``, as if it had found those digits alone."""
    data = pairs()
    model = kind(data)
    answers = predict(model, data)
    if found is not None:
        labels, rows = answers.labels, np.arange(PAIRS)
        for n in rows:
            wrong = [label for label in range(10) if label not in labels[n]]
            named = [*labels[n][found[n]], *wrong][:2]
            answers.scores[n] = np.isin(np.arange(10), named)
        assert np.array_equal(answers.hits, found)
    return measure_reconstructions(drawn_by(model, data), data, answers)


def test_who_knows_the_layers_draws_as_well_as_they_are() -> None:
    data, rows = pairs(), np.arange(PAIRS)
    layers = data.layers(rows)
    truth = segmentation(layers / 255, layers, data.batch(rows).images).to_dict()
    found = measured(Known)
    assert set(found["segmentation"]) == set(GIVEN)
    for given in GIVEN:
        assert found["segmentation"][given] == pytest.approx(truth, abs=1e-5), given


def test_what_is_not_there_is_compared_with_what_is() -> None:
    data = pairs()
    layers = data.layers(np.arange(PAIRS))
    absent = measured(Known)["absent"]
    ink = np.mean([(layer >= 127.5).sum() for layer in layers.reshape(-1, *layers.shape[2:])])
    assert absent["pixels of ink"] == {"present": pytest.approx(ink), "absent": 0, "auc": 1}
    assert absent["any ink"] == {"present": 1, "absent": 0, "auc": 1}
    assert absent["score"] == {"present": 0.75, "absent": 0, "auc": 1}


def test_the_auc_counts_every_comparison() -> None:
    data = pairs()
    model = Known(data)
    answers = predict(model, data)
    answers.scores[:, :] = np.random.default_rng(1).integers(0, 5, answers.scores.shape) / 4  # many ties
    answers.scores[np.arange(PAIRS), answers.labels[:, 0]] += 0.5
    absent = [float(answers.scores[n, label]) for n, label in enumerate(absent_digits(answers.labels))]
    present = [float(answers.scores[n, label]) for n in range(PAIRS) for label in answers.labels[n]]
    won = sum((one > other) + (one == other) / 2 for one in present for other in absent)
    found = measure_reconstructions(drawn_by(model, data), data, answers)["absent"]["score"]
    assert found["auc"] == pytest.approx(won / (len(present) * len(absent))) and 0.6 < found["auc"] < 0.9
    assert (found["present"], found["absent"]) == pytest.approx((np.mean(present), np.mean(absent)))


def test_a_layer_alone_is_shown_without_the_other() -> None:
    # Nothing of a pair: every pixel is a tie. All of a digit alone: what the true layers are worth.
    truth = measured(Known)["segmentation"]["true labels"]
    found = measured(Overwhelmed)
    assert found["segmentation"]["each layer alone"] == pytest.approx(truth)
    for given in ("true labels", "found labels"):
        assert found["segmentation"][given]["owner"] == 0.5
    assert found["absent"]["pixels of ink"] == {"present": 0, "absent": 7, "auc": 0}  # 0.49 of white is no ink
    assert found["absent"]["any ink"] == {"present": 0, "absent": 1, "auc": 0}


def some_found() -> Any:
    """``[PAIRS, 2]``: one digit, the other, both or neither."""
    return np.random.default_rng(2).random((PAIRS, 2)) < 0.6


def test_a_digit_that_was_not_found_scores_nothing_by_the_found_labels() -> None:
    data, rows = pairs(), np.arange(PAIRS)
    layers, images, hits = data.layers(rows), data.batch(rows).images, some_found()
    found = measured(Known, found=hits)["segmentation"]
    expected = segmentation(np.where(hits[:, :, None, None], layers, 0) / 255, layers, images, hits)
    assert found["found labels"] == pytest.approx(expected.to_dict(), abs=1e-5)
    assert found["found labels"]["owner"] < 0.7 < found["true labels"]["owner"]


def test_who_draws_nothing_has_nothing() -> None:
    assert measured(Speechless) == {"segmentation": {}, "absent": {}}


def test_without_drawings_of_layers_alone_the_rest_is_as_with_them() -> None:
    data = pairs()
    model = Known(data)
    drawn, answers = drawn_by(model, data), predict(model, data)
    with_them = measure_reconstructions(drawn, data, answers)
    without = measure_reconstructions(
        lambda rows, classes, layer=None: None if layer is not None else drawn(rows, classes), data, answers
    )
    del with_them["segmentation"]["each layer alone"]
    assert without == with_them


def test_parts_are_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load_digits("train", "embedded")
    means = digits.class_means()
    at_once = measured(Known, found=some_found()), references(pairs(), means)
    monkeypatch.setattr("capsbench.evaluation.pairs.PART", 7)
    drawn, without = measured(Known, found=some_found()), references(pairs(), means)
    for found, expected in ((drawn["segmentation"], at_once[0]["segmentation"]), (without, at_once[1])):
        for name in expected:
            assert found[name] == pytest.approx(expected[name])
    assert drawn["absent"] == at_once[0]["absent"]


def test_memory_does_not_grow_with_the_number_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Grey(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> Output:
            return Output(scores=torch.zeros(len(images), 10), reconstruct=lambda classes: torch.zeros_like(images))

    monkeypatch.setattr("capsbench.evaluation.pairs.PART", 100)
    peaks = []
    for count in (200, 1000):
        data, model = pairs(count), Grey()
        answers = predict(model, data)
        tracemalloc.start()
        measure_reconstructions(drawn_by(model, data), data, answers)
        references(data, np.zeros((10, 28, 28)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]  # the drawings of 800 pairs more are 12 MB


def test_an_absent_digit_is_any_of_the_eight() -> None:
    labels = np.array([(a, b) for a in range(10) for b in range(10) if a != b] * 80, np.uint8)
    absent = absent_digits(labels)
    assert not (absent[:, None] == labels).any()
    for pair in ((0, 1), (9, 4), (2, 9)):
        # 80 draws of 8 digits: each 10 times, give or take 3.
        counts = np.bincount(absent[(labels == pair).all(1)], minlength=10)
        assert set(np.flatnonzero(counts)) == set(range(10)) - set(pair) and counts.max() < 10 + 4 * 3


def test_references_are_as_a_loop_draws_them() -> None:
    data, digits, rows = pairs(), load_digits("train", "embedded"), np.arange(PAIRS)
    batch, layers = data.batch(rows), data.layers(rows)
    means = np.zeros((10, 28, 28))
    for label in range(10):
        means[label] = digits.images[digits.labels == label].mean(0) / 255
    assert batch.shift is not None
    centred, at_places = np.zeros((2, PAIRS, 2, 36, 36))
    for n in range(PAIRS):
        for k in range(2):
            dy, dx = map(int, batch.shift[n, k])
            for y in range(28):
                for x in range(28):
                    value = means[batch.labels[n, k], y, x]
                    centred[n, k, 4 + y, 4 + x] = value
                    at_places[n, k, 4 + dy + y, 4 + dx + x] = value
    expected = {
        "the image for both": np.stack([batch.images / 255, batch.images / 255], 1),
        "class means, centred": centred,
        "class means, at the true places": at_places,
        "the true layers": layers / 255,
    }
    found = references(data, means)
    assert list(found) == list(expected)
    for name, drawn in expected.items():
        assert found[name] == pytest.approx(segmentation(drawn, layers, batch.images).to_dict()), name
    assert found["the image for both"]["owner"] == 0.5 and found["the true layers"]["owner"] == 1


@pytest.mark.parametrize(
    ("best", "second", "answered"),
    [(3, 5, [3, 5]), (5, 3, [3, 5]), (3, 7, [3, 7]), (7, 3, [3, 7]), (5, 0, [0, 5]), (0, 5, [0, 5]), (1, 2, [1, 2])],
)
def test_what_was_found_stands_at_the_place_of_its_label(best: int, second: int, answered: list[int]) -> None:
    scores = np.zeros((1, 10), np.float32)
    scores[0, [best, second]] = 2, 1
    found = predicted_digits(Predictions(scores, np.array([[3, 5]], np.uint8), np.array([[0, 1]], np.int32)))
    assert found.tolist() == [answered]
