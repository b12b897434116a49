"""The baseline for two overlapping digits: its fields, its loss and what it refuses."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from capsbench.contracts import Batch, Output
from capsbench.errors import ParameterError
from capsbench.models.cnn_pair import PairCNN


def test_only_pooling_shrinks_the_image() -> None:
    model = PairCNN(image_size=36, channels=(3, 4), hidden=(5,))
    assert model.features(torch.zeros(1, 1, 36, 36)).shape == (1, 4 * 9 * 9)


def test_loss_sums_over_classes_and_averages_over_images() -> None:
    model = PairCNN(image_size=8, channels=(2,), kernels=(3,), hidden=(4,))
    scores = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    batch = Batch(images=torch.zeros(3, 1, 8, 8), labels=torch.tensor([[0, 1], [5, 9], [3, 2]]))
    targets = torch.zeros(3, 10)
    for row, pair in enumerate(batch.labels.tolist()):
        targets[row, pair] = 1
    expected = F.binary_cross_entropy(scores.sigmoid(), targets, reduction="sum") / 3
    torch.testing.assert_close(model.loss(Output(scores=scores), batch), expected)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"image_size": 3}, "image of 3x3 pixels is too small .* at least 4x4"),
        ({"kernels": (9,)}, r"channels=\(512, 256\) and kernels=\(9,\) were asked for"),
        ({"kernels": (9, 4)}, r"kernels=\(9, 4\) was asked for; same padding needs odd ones"),
    ],
)
def test_refusals(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        PairCNN(**parameters)
