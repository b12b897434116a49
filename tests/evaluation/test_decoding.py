"""What a network draws, by a decoder that writes its poses into pixels, and by CapsNet."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from capsbench.contracts import Output
from capsbench.data.streaming import Stream, stream
from capsbench.errors import ModelError
from capsbench.evaluation.decoding import STEPS, draw, move
from capsbench.models import build


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


@pytest.fixture(scope="module")
def digits() -> Stream:
    return stream("padded", split="validation", digits="embedded", size=28, shift=0, count=20)


def byte(value: float) -> int:
    return round(255 * value)


def test_each_sample_is_drawn_from_the_class_that_is_asked_for(digits: Stream) -> None:
    drawn = draw(Writer(), digits, np.array([4, 4, 0]), np.array([0, 7, 9]), "cpu")
    assert drawn.shape == (3, 28, 28) and drawn.dtype == np.uint8
    for image, label in zip(drawn, (0, 7, 9), strict=True):
        assert [int(value) for value in image[:4, 5]] == [byte(0.5 + (label + d) / 100) for d in range(3)] + [128]


def test_one_dimension_moves_at_a_time_by_the_papers_steps(digits: Stream) -> None:
    assert [round(step, 9) for step in STEPS] == [
        -0.25, -0.2, -0.15, -0.1, -0.05, 0, 0.05, 0.1, 0.15, 0.2, 0.25
    ]  # fmt: skip
    drawn = move(Writer(), digits, np.array([3, 5]), np.array([2, 8]), "cpu")
    assert drawn is not None and drawn.shape == (2, 3, 11, 28, 28)
    for image, label in zip(drawn, (2, 8), strict=True):
        for dimension in range(3):
            for number, step in enumerate(STEPS):
                moved = [0.5 + (label + d) / 100 + step * (d == dimension) for d in range(3)] + [0.5]
                shown = image[dimension, number, :4, 9]
                assert abs(shown - 255 * np.array(moved)).max() <= 0.5001, (label, dimension, step)
                assert image[dimension, number, 27, 0] == byte(0.09)  # the poses of other classes stay


@pytest.mark.parametrize(("dimensions", "shown"), [(1, 1), (16, 16), (24, 16)])
def test_of_a_long_pose_the_first_dimensions_are_moved(digits: Stream, dimensions: int, shown: int) -> None:
    drawn = move(Writer(dimensions), digits, np.array([0]), np.array([0]), "cpu")
    assert drawn is not None and drawn.shape[:3] == (1, shown, 11)


def test_capsnet_that_moves_nothing_draws_what_it_draws(digits: Stream) -> None:
    torch.manual_seed(0)
    model = build("capsnet", image_size=28, preset="small")
    model.train()
    samples, classes = np.array([1, 6]), np.array([5, 0])
    moved, drawn = move(model, digits, samples, classes, "cpu"), draw(model, digits, samples, classes, "cpu")
    assert moved is not None and moved.shape == (2, 16, 11, 28, 28)
    middle = moved[:, :, 5].astype(int) - drawn[:, None]
    assert abs(middle).max() <= 1  # products of other sizes may round elsewhere
    assert (moved[:, :, 0] != moved[:, :, 10]).any((2, 3)).all()


def test_a_network_without_decode_moves_nothing(digits: Stream) -> None:
    model = Writer()
    model.decode = None  # type: ignore[assignment]
    assert move(model, digits, np.array([0]), np.array([0]), "cpu") is None


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
def test_what_draws_no_image_is_told_so(digits: Stream, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        draw(Broken(**changes), digits, np.arange(2), np.arange(2), "cpu")


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (None, "got none"),
        (torch.zeros(1, 10), r"must be \[B, 10, D\], got \[1, 10\]"),
        (torch.zeros(1, 9, 3), r"got \[1, 9, 3\]"),
    ],
)
def test_decode_needs_a_pose_for_each_class(digits: Stream, poses: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        move(Broken(poses=poses), digits, np.array([0]), np.array([0]), "cpu")


def test_what_lies_past_black_and_white_is_black_and_white(digits: Stream) -> None:
    bright = Broken(reconstruct=lambda classes: torch.stack([torch.full((1, 28, 28), v) for v in (-0.1, 1.7)]))
    drawn = draw(bright, digits, np.arange(2), np.arange(2), "cpu")
    assert (drawn[0] == 0).all() and (drawn[1] == 255).all()
