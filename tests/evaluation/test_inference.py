"""A model's answers and what they are worth."""

import numpy as np
import pytest
import torch

from capsbench.contracts import Output
from capsbench.data.loading import Samples
from capsbench.data.streaming import stream
from capsbench.errors import ModelError
from capsbench.evaluation.inference import (
    Predictions,
    accuracy,
    gap,
    is_out_of_memory,
    pair_accuracies,
    predict,
    unpaired_gap,
)
from capsbench.results.answers import Answers


class Scripted(torch.nn.Module):
    """Gives the scores it was told to, in the order in which images come."""

    def __init__(self, scores: torch.Tensor) -> None:
        super().__init__()
        self.scores = scores
        self.seen = 0
        self.modes: list[bool] = []

    def forward(self, images: torch.Tensor) -> Output:
        self.modes.append(self.training)
        self.seen += len(images)
        return Output(scores=self.scores[self.seen - len(images) : self.seen])


def predictions(answers: list[int], labels: list[int], source: list[int]) -> Predictions:
    return Predictions(np.eye(10, dtype=np.float32)[answers], np.array(labels, np.uint8), np.array(source, np.int32))


@pytest.fixture
def digits() -> Samples:
    return stream("padded", split="test", digits="embedded", size=28, shift=0)


def test_a_model_that_knows_the_answer_is_always_right(digits: Samples) -> None:
    labels = digits.batch(np.arange(len(digits))).labels
    model = Scripted(torch.eye(10)[torch.from_numpy(labels.astype(np.int64))])
    found = accuracy(predict(model, digits))
    assert (found.correct, found.total) == (1000, 1000)
    assert found.interval == pytest.approx((0.025 ** (1 / 1000), 1))  # Clopper and Pearson's, where nothing went wrong


def test_a_model_that_guesses_is_right_one_time_in_ten(digits: Samples) -> None:
    model = Scripted(torch.rand(len(digits), 10, generator=torch.Generator().manual_seed(0)))
    found = accuracy(predict(model, digits))
    low, high = found.interval
    assert low < 0.1 < high and high - low < 0.05


def test_predict_evaluates_and_puts_the_mode_back(digits: Samples) -> None:
    model = Scripted(torch.rand(1000, 10))
    predict(model.train(), digits)
    assert model.modes and not any(model.modes)
    assert model.training


def test_scores_of_a_wrong_shape_or_not_numbers_are_refused(digits: Samples) -> None:
    with pytest.raises(ModelError, match=r"scores of shape \[250, 10, 1\] for 250 images"):
        predict(Scripted(torch.rand(1000, 10, 1)), digits)
    with pytest.raises(ModelError, match=r"scores of shape \[250, 7\] for 250 images; \[250, 10\] is needed"):
        predict(Scripted(torch.rand(1000, 7)), digits)
    with pytest.raises(ModelError, match="not numbers"):
        predict(Scripted(torch.full((1000, 10), torch.nan)), digits)


def test_a_model_that_forgets_its_output_is_told_so(digits: Samples) -> None:
    with pytest.raises(ModelError, match=r"returned a Tensor; it must return .*Output\(scores"):
        predict(torch.nn.Flatten(), digits)


def test_the_gap_is_clean_minus_transformed() -> None:
    clean = predictions([1, 2, 3, 4], [1, 2, 3, 5], [0, 1, 2, 3])  # 3 of 4
    turned = predictions([1, 0, 0, 4], [1, 2, 3, 5], [0, 1, 2, 3])  # 1 of 4
    found = gap(clean, turned)
    assert found["share"] == 0.5
    low, high = found["interval"]
    assert 0 <= low <= 0.5 <= high <= 1


def test_a_gap_between_other_digits_is_not_paired() -> None:
    # All 20 right against 10 of 20: Newcombe's square-and-add of two exact intervals, not a bootstrap of differences.
    clean = predictions([1] * 20, [1] * 20, list(range(20)))
    half = predictions([1] * 10 + [2] * 10, [1] * 20, list(range(5, 25)))
    for found in (gap(clean, half), unpaired_gap(clean, half)):
        assert found["share"] == 0.5
        (ours_low, ours_high), (low, high) = accuracy(clean).interval, accuracy(half).interval
        expected = (0.5 - np.hypot(high - 0.5, 1 - ours_low), 0.5 + np.hypot(ours_high - 1, 0.5 - low))
        assert found["interval"] == pytest.approx(expected)
    paired = gap(clean, predictions([1] * 10 + [2] * 10, [1] * 20, list(range(20))))
    assert paired["interval"] != found["interval"]


def test_a_tie_goes_to_the_lower_class() -> None:
    tied = Predictions(np.zeros((2, 10), np.float32), np.array([0, 9], np.uint8), np.array([0, 1], np.int32))
    assert tied.correct.tolist() == [True, False]


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
    assert accuracy(pairs) == found["exact pair"]


def test_ties_go_to_the_lower_class() -> None:
    flat = Predictions(np.zeros((2, 10), np.float32), np.array([[0, 1], [0, 2]], np.uint8), np.zeros((2, 2), np.int32))
    assert flat.correct.tolist() == [True, False]


def test_an_accuracy_keeps_who_was_right_where_samples_are_in_order() -> None:
    kept = accuracy(predictions([1, 2, 3, 4], [1, 2, 3, 5], [0, 1, 0, 1])).to_dict()  # the last is wrong
    assert (kept["digits"], kept["answers"]) == (2, "4A==")  # 0b1110_0000
    assert Answers.from_dict(kept).correct.tolist() == [True, True, True, False]
    for source in ([1, 0, 1, 0], [0, 0, 1, 1]):
        assert set(accuracy(predictions([1] * 4, [1] * 4, source)).to_dict()) == {
            "share", "correct", "total", "interval"
        }  # fmt: skip


def test_pairs_keep_who_found_both_and_who_found_one() -> None:
    scores = np.zeros((2, 10), np.float32)
    scores[0, [1, 2]] = scores[1, [3, 9]] = 1.0
    pairs = Predictions(scores, np.array([[1, 2], [3, 4]], np.uint8), np.array([[0, 7], [1, 8]], np.int32))
    kept = {name: one.to_dict() for name, one in pair_accuracies(pairs).items()}
    assert Answers.from_dict(kept["exact pair"]).correct.tolist() == [True, False]
    assert Answers.from_dict(kept["at least one"]).correct.tolist() == [True, True]
    assert "answers" not in kept["per digit"]  # two to an image


class Tight(Scripted):
    """Has memory for so many images at once."""

    room = 10

    def forward(self, images: torch.Tensor) -> Output:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
        return super().forward(images)


def test_where_memory_runs_out_fewer_images_are_looked_at_at_a_time(digits: Samples) -> None:
    labels = digits.batch(np.arange(len(digits))).labels
    scores = torch.randn(len(labels), 10, generator=torch.Generator().manual_seed(0))
    plain, tight = predict(Scripted(scores), digits), predict(Tight(scores), digits)
    assert np.array_equal(plain.scores, tight.scores) and np.array_equal(plain.labels, tight.labels)


def test_a_single_image_that_does_not_fit_is_an_error_with_a_way_out(digits: Samples) -> None:
    model = Tight(torch.zeros(len(digits), 10))
    model.room = 0
    with pytest.raises(ModelError, match=r"single image. Try a smaller network. \(CUDA out of memory"):
        predict(model, digits)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("any words"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_a_lack_of_memory_is_known_by_its_kind_or_its_words(error: RuntimeError, is_one: bool) -> None:
    assert is_out_of_memory(error) is is_one
