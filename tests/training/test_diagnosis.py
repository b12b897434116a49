"""Why a loss is no number: the function whose gradient is none, where it is called, or the parameter."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from capsbench.contracts import Batch, Output, TensorBatch
from capsbench.training.diagnosis import broken_gradient
from capsbench.training.step import autocast


class Net(nn.Module):
    """A network of one weight, with a function between its images and its loss."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 10))
        self.function = function

    def forward(self, images: Tensor) -> Output:
        return Output(scores=self.function(images.flatten(1) @ self.weight))

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        return output.scores.sum()


def blank() -> TensorBatch:
    return Batch(images=torch.zeros(2, 1, 2, 2), labels=torch.zeros(2, dtype=torch.long))


def grey() -> TensorBatch:
    return Batch(images=torch.ones(2, 1, 2, 2), labels=torch.zeros(2, dtype=torch.long))


class Endless(torch.autograd.Function):
    """Has an infinite gradient."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient / 0


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: x, None),
        (lambda x: x.norm(dim=-1), None),
        (lambda x: x.square().sum(-1).sqrt(), r"the gradient of pow in test_diagnosis\.py, line \d+,"),
        (lambda x: (x * x).sum(-1) ** 0.5, r"the gradient of mul in test_diagnosis\.py, line \d+,"),
        (Endless.apply, "the gradient of weight"),
        (lambda x: x / 0, None),  # the loss is no number either
    ],
)
def test_the_first_gradient_that_is_no_number_is_named(function: Callable[[Tensor], Tensor], found: str | None) -> None:
    named = broken_gradient(Net(function), [grey(), blank(), grey()], autocast("cpu", "fp32"))
    assert named is None if found is None else named is not None and re.fullmatch(found, named)
