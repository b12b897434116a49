"""A network's answers, its reconstructions, and what its decoder makes of poses that were moved."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from capsbench.building import build
from capsbench.contracts import Output
from capsbench.data.loading import to_tensors
from capsbench.data.samples import Samples
from capsbench.data.streaming import stream
from capsbench.errors import ModelError
from capsbench.evaluation.accuracy import accuracy
from capsbench.evaluation.inference import STEPS, move_poses, predict, reconstruct_bytes


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


@pytest.fixture
def digits() -> Samples:
    return stream("padded", split="test", digits="embedded", size=28, shift=0)


@pytest.fixture(scope="module")
def some() -> Samples:
    return stream("padded", split="validation", digits="embedded", size=28, shift=0, count=20)


def test_what_is_done_is_reported_after_each_batch(digits: Samples) -> None:
    done: list[tuple[int, int]] = []
    predict(Scripted(torch.zeros(1000, 10)), digits, report=lambda *counts: done.append(counts))
    assert done == [(number, 1000) for number in range(100, 1001, 100)]


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
    with pytest.raises(ModelError, match=r"scores of shape \[100, 10, 1\] for 100 images"):
        predict(Scripted(torch.rand(1000, 10, 1)), digits)
    with pytest.raises(ModelError, match=r"scores of shape \[100, 7\] for 100 images; \[100, 10\] is needed"):
        predict(Scripted(torch.rand(1000, 7)), digits)
    with pytest.raises(ModelError, match="not numbers"):
        predict(Scripted(torch.full((1000, 10), torch.nan)), digits)


class Convolved(torch.nn.Module):
    """Notes in which order the weights of its convolution are when it answers."""

    channels_last = True

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 4, 3)
        self.inner = torch.nn.Conv2d(4, 10, 3)
        self.last: list[bool] = []

    def forward(self, images: torch.Tensor) -> Output:
        self.last.append(self.inner.weight.is_contiguous(memory_format=torch.channels_last))
        return Output(scores=self.inner(self.convolution(images)).amax((2, 3)))


def test_convolutions_answer_in_their_fastest_order_which_is_put_back(some: Samples) -> None:
    model = Convolved()
    with torch.inference_mode():
        plain = model(torch.from_numpy(some.batch(np.arange(20)).images / np.float32(255))[:, None]).scores
    found = predict(model, some)
    assert model.last == [False, True] and model.inner.weight.is_contiguous()
    np.testing.assert_allclose(found.scores, plain.numpy(), rtol=1e-5, atol=1e-6)


class Keeping(torch.nn.Module):
    """Makes a grid for its first images, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(10))
        self.grid: torch.Tensor | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.grid is None:
            self.grid = torch.linspace(0, 1, 10)
        return images.mean((1, 2, 3))[:, None] + self.grid * self.weight


def test_what_a_network_keeps_from_a_test_can_be_trained_with(some: Samples) -> None:
    model = Keeping()
    predict(model, some)
    model(torch.ones(2, 1, 4, 4)).sum().backward()
    assert model.weight.grad is not None


class Answers(torch.nn.Module):
    """Gives what a function makes of the images."""

    def __init__(self, answer: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: torch.Tensor) -> Any:
        return self.answer(images.flatten(1)[:, :10])


def test_an_answer_without_scores_is_refused(digits: Samples) -> None:
    with pytest.raises(ModelError, match=r"returned a tuple; it must return scores \[B, 10\], or .*Output\(scores"):
        predict(Answers(lambda scores: (scores,)), digits)
    with pytest.raises(ModelError, match=r"scores must be a tensor \[B, 10\], got a list"):
        predict(Answers(lambda scores: Output(scores=scores.tolist())), digits)  # type: ignore[arg-type]


def test_a_tensor_alone_is_the_scores(digits: Samples) -> None:
    bare, whole = (
        predict(Answers(answer), digits) for answer in (lambda scores: scores, lambda scores: Output(scores))
    )
    assert np.array_equal(bare.scores, whole.scores)


class Tight(Scripted):
    """Has memory for so many images at once."""

    room = 10

    def forward(self, images: torch.Tensor) -> Output:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
        return super().forward(images)


def test_where_memory_runs_out_batches_become_smaller(digits: Samples) -> None:
    labels = digits.batch(np.arange(len(digits))).labels
    scores = torch.randn(len(labels), 10, generator=torch.Generator().manual_seed(0))
    plain, tight = predict(Scripted(scores), digits), predict(Tight(scores), digits)
    assert np.array_equal(plain.scores, tight.scores) and np.array_equal(plain.labels, tight.labels)


class Counting(Scripted):
    """Notes how many images it is shown at a time, and answers from a wider output than its scores."""

    def __init__(self, scores: torch.Tensor) -> None:
        super().__init__(torch.cat([scores, scores], 1))
        self.sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> Output:
        self.sizes.append(len(images))
        return Output(scores=super().forward(images).scores[:, :10])


def test_a_gpu_is_shown_many_images_at_a_time_and_waited_for_once(
    digits: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = torch.randn(len(digits), 10, generator=torch.Generator().manual_seed(0))
    fetched: list[torch.Size] = []

    def fetch(tensor: torch.Tensor) -> torch.Tensor:
        fetched.append(tensor.shape)
        return tensor

    monkeypatch.setattr(torch.Tensor, "cpu", fetch)
    monkeypatch.setattr("capsbench.evaluation.inference.GPU_BATCH", 400)
    monkeypatch.setattr(
        "capsbench.evaluation.inference.to_tensors", lambda batch, layers, device: to_tensors(batch, layers, "cpu")
    )
    on_cpu, on_gpu = Counting(scores), Counting(scores)
    expected, found = predict(on_cpu, digits), predict(on_gpu, digits, device="cuda")
    assert on_cpu.sizes == [100] * 10 and on_gpu.sizes == [400, 400, 200]
    assert fetched == [(1000, 10)] * 2
    assert np.array_equal(found.scores, expected.scores) and np.array_equal(found.scores, scores.numpy())
    assert np.array_equal(found.labels, expected.labels) and np.array_equal(found.source, expected.source)


def test_a_single_image_that_does_not_fit_is_an_error_with_a_way_out(digits: Samples) -> None:
    model = Tight(torch.zeros(len(digits), 10))
    model.room = 0
    with pytest.raises(ModelError, match=r"a single image. Try .* \(OutOfMemoryError: CUDA out of memory"):
        predict(model, digits)


class Writer(nn.Module):
    """The pose of class c is (c, c + 1, ...) / 100, and its dimension d is drawn in row d, on a ground of a half.

    Row 27 has the first dimension of class 9, whatever is asked for.
    """

    def __init__(self, dimensions: int = 3) -> None:
        super().__init__()
        self.dimensions = dimensions

    def forward(self, images: Tensor) -> Output:
        assert not self.training
        numbers = torch.arange(10)[:, None] + torch.arange(self.dimensions)
        poses = (numbers / 100).expand(len(images), -1, -1)
        return Output(scores=torch.zeros(len(images), 10), poses=poses, reconstruct=partial(self.decode, poses))

    def decode(self, poses: Tensor, classes: Tensor) -> Tensor:
        shown = poses[torch.arange(len(poses)), classes]
        drawn = torch.full((len(poses), 1, 28, 28), 0.5)
        drawn[:, 0, : self.dimensions] += shown[:, :, None]
        drawn[:, 0, 27] = poses[:, 9, :1]
        return drawn


def byte(value: float) -> int:
    return round(255 * value)


def test_each_sample_is_reconstructed_from_its_class(some: Samples) -> None:
    drawn = reconstruct_bytes(Writer(), some, np.array([4, 4, 0]), np.array([0, 7, 9]), "cpu")
    assert drawn.shape == (3, 28, 28) and drawn.dtype == np.uint8
    for image, label in zip(drawn, (0, 7, 9), strict=True):
        assert [int(value) for value in image[:4, 5]] == [byte(0.5 + (label + d) / 100) for d in range(3)] + [128]


def test_one_dimension_moves_at_a_time_by_the_papers_steps(some: Samples) -> None:
    assert [round(step, 9) for step in STEPS] == [
        -0.25, -0.2, -0.15, -0.1, -0.05, 0, 0.05, 0.1, 0.15, 0.2, 0.25
    ]  # fmt: skip
    drawn = move_poses(Writer(), some, np.array([3, 5]), np.array([2, 8]), "cpu")
    assert drawn is not None and drawn.shape == (2, 3, 11, 28, 28)
    for image, label in zip(drawn, (2, 8), strict=True):
        for dimension in range(3):
            for number, step in enumerate(STEPS):
                moved = [0.5 + (label + d) / 100 + step * (d == dimension) for d in range(3)] + [0.5]
                shown = image[dimension, number, :4, 9]
                assert abs(shown - 255 * np.array(moved)).max() <= 0.5001, (label, dimension, step)
                assert image[dimension, number, 27, 0] == byte(0.09)  # the poses of other classes stay


@pytest.mark.parametrize(("dimensions", "shown"), [(1, 1), (16, 16), (24, 16)])
def test_of_a_long_pose_the_first_dimensions_are_moved(some: Samples, dimensions: int, shown: int) -> None:
    drawn = move_poses(Writer(dimensions), some, np.array([0]), np.array([0]), "cpu")
    assert drawn is not None and drawn.shape[:3] == (1, shown, 11)


def test_capsnet_whose_poses_do_not_move_reconstructs_as_before(some: Samples) -> None:
    torch.manual_seed(0)
    model = build("capsnet", image_size=28, preset="small")
    model.train()
    samples, classes = np.array([1, 6]), np.array([5, 0])
    moved = move_poses(model, some, samples, classes, "cpu")
    unmoved = reconstruct_bytes(model, some, samples, classes, "cpu")
    assert moved is not None and moved.shape == (2, 16, 11, 28, 28)
    middle = moved[:, :, 5].astype(int) - unmoved[:, None]
    assert abs(middle).max() <= 1  # products of other sizes may round elsewhere
    assert (moved[:, :, 0] != moved[:, :, 10]).any((2, 3)).all()


def test_a_network_without_decode_moves_nothing(some: Samples) -> None:
    model = Writer()
    model.decode = None  # type: ignore[assignment]
    assert move_poses(model, some, np.array([0]), np.array([0]), "cpu") is None


class Broken(Writer):
    """Does something else than it should."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.changes = changes

    def forward(self, images: Tensor) -> Output:
        return Output(**(vars(super().forward(images)) | self.changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reconstruct": None}, r"this network has none: its forward must return .*reconstruct="),
        ({"reconstruct": lambda classes: torch.zeros(2, 28, 28)}, r"\[2, 28, 28\]; \[2, 1, 28, 28\] is needed"),
        ({"reconstruct": lambda classes: torch.zeros(1, 1, 28, 28)}, r"\[1, 1, 28, 28\]; \[2, 1, 28, 28\] is needed"),
        ({"reconstruct": lambda classes: torch.full((2, 1, 28, 28), torch.nan)}, "not numbers"),
        ({"scores": torch.zeros(2, 9)}, r"scores of shape \[2, 9\]"),
    ],
)
def test_reconstruction_that_is_no_image_is_refused(some: Samples, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        reconstruct_bytes(Broken(**changes), some, np.arange(2), np.arange(2), "cpu")


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (None, "got none"),
        (torch.zeros(1, 10), r"must be \[B, 10, D\], got \[1, 10\]"),
        (torch.zeros(1, 9, 3), r"got \[1, 9, 3\]"),
    ],
)
def test_decode_needs_a_pose_for_each_class(some: Samples, poses: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        move_poses(Broken(poses=poses), some, np.array([0]), np.array([0]), "cpu")


def test_what_lies_past_black_and_white_is_black_and_white(some: Samples) -> None:
    bright = Broken(reconstruct=lambda classes: torch.stack([torch.full((1, 28, 28), v) for v in (-0.1, 1.7)]))
    drawn = reconstruct_bytes(bright, some, np.arange(2), np.arange(2), "cpu")
    assert (drawn[0] == 0).all() and (drawn[1] == 255).all()
