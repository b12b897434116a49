"""The losses against values worked by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from capsbench.errors import ParameterError
from capsbench.models.losses import binary_cross_entropy, cross_entropy, k_hot, margin_loss, reconstruction_loss


def test_k_hot_marks_every_digit_of_an_image() -> None:
    assert k_hot(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert k_hot(torch.tensor([[2, 0], [1, 2]]), 3).tolist() == [[1, 0, 1], [0, 1, 1]]
    assert k_hot(torch.tensor([[1, 1]]), 3).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("labels", [torch.zeros(2, dtype=torch.uint8), torch.zeros((), dtype=torch.int64)])
def test_k_hot_refuses_other_labels(labels: torch.Tensor) -> None:
    with pytest.raises(ParameterError, match=r"labels must be int64 \[B\] or \[B, k\], got"):
        k_hot(labels, 10)


def test_margin_loss_by_hand() -> None:
    lengths = torch.tensor([[0.6, 0.3, 0.05], [0.95, 0.1, 0.0]], dtype=torch.float64)
    targets = k_hot(torch.tensor([0, 0]), 3)
    # First image: (0.9 - 0.6)^2 + 0.5 (0.3 - 0.1)^2 + 0 = 0.09 + 0.02; the second is past every margin.
    assert margin_loss(lengths, targets).item() == pytest.approx(0.11 / 2, rel=1e-12)


def test_margin_loss_of_a_pair_by_hand() -> None:
    lengths = torch.tensor([[0.6, 0.8, 0.3]], dtype=torch.float64)
    # (0.9 - 0.6)^2 + (0.9 - 0.8)^2 + 0.5 (0.3 - 0.1)^2
    assert margin_loss(lengths, k_hot(torch.tensor([[0, 1]]), 3)).item() == pytest.approx(0.12, rel=1e-12)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.integers(0, 2))
def test_margin_loss_is_zero_exactly_within_the_margins(lengths: list[float], label: int) -> None:
    row = torch.tensor([lengths], dtype=torch.float64)
    within = all(length >= 0.9 if k == label else length <= 0.1 for k, length in enumerate(lengths))
    loss = margin_loss(row, k_hot(torch.tensor([label]), 3)).item()
    assert loss == 0 if within else loss >= 0


def test_reconstruction_loss_sums_over_pixels_and_averages_over_images() -> None:
    drawn, target = torch.zeros(2, 1, 3, 3), torch.zeros(2, 1, 3, 3)
    drawn[0] = 0.5  # nine pixels of 0.25
    assert reconstruction_loss(drawn, target).item() == pytest.approx(9 * 0.25 / 2)


def test_reconstruction_loss_does_not_broadcast() -> None:
    with pytest.raises(ParameterError, match=r"\[2, 1, 3, 3\] and their targets \[2, 2, 3, 3\] differ"):
        reconstruction_loss(torch.zeros(2, 1, 3, 3), torch.zeros(2, 2, 3, 3))


def test_cross_entropy_is_torchs_for_one_label() -> None:
    logits, labels = torch.randn(5, 10, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    torch.testing.assert_close(cross_entropy(logits, k_hot(labels, 10)), F.cross_entropy(logits, labels))


def test_cross_entropy_of_a_pair_shares_the_target() -> None:
    logits = torch.tensor([[math.log(2), math.log(1), math.log(1)]])  # probabilities 1/2, 1/4, 1/4
    loss = cross_entropy(logits, k_hot(torch.tensor([[0, 1]]), 3))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_binary_cross_entropy_sums_over_classes() -> None:
    logits = torch.tensor([[0.0, 0.0, math.log(3)], [0.0, 0.0, 0.0]])  # probabilities 1/2, 1/2, 3/4; 1/2 three times
    loss = binary_cross_entropy(logits, k_hot(torch.tensor([[0, 1], [1, 2]]), 3))
    assert loss.item() == pytest.approx((2 * math.log(2) + math.log(4) + 3 * math.log(2)) / 2)


@pytest.mark.parametrize("loss", [cross_entropy, binary_cross_entropy, reconstruction_loss])
def test_half_precision_is_summed_in_float32(loss: object) -> None:
    assert callable(loss)
    values = torch.rand(4, 10, generator=torch.Generator().manual_seed(0)).bfloat16()
    targets = k_hot(torch.arange(4), 10)
    assert loss(values, targets) == loss(values.float(), targets)
