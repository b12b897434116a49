"""The network with max pooling and dropout: its fields and what it refuses."""

from typing import Any

import pytest
import torch

from capsbench.errors import ParameterError
from capsbench.models.cnn_pool import PoolCNN


def test_pools_after_every_convolution() -> None:
    model = PoolCNN(image_size=40, channels=(3, 4), hidden=(5,))
    assert model.features(torch.zeros(1, 1, 40, 40)).shape == (1, 4 * 7 * 7)  # 40, 36, 18, 14, 7


def test_pooling_before_relu_is_relu_before_pooling() -> None:
    model = PoolCNN(image_size=12, channels=(3,), hidden=(5,))
    images = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0)) - 0.5
    convolution, pooling, relu, flatten = model.features
    assert torch.equal(model.features(images), flatten(pooling(relu(convolution(images)))))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"image_size": 15}, "image of 15x15 pixels is too small .* at least 16x16"),
        ({"channels": ()}, "channels must be one or more"),
        ({"dropout": -0.5}, "dropout must be .* got -0.5"),
    ],
)
def test_refusals(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        PoolCNN(**parameters)
