"""The baseline of Table 1: its fields and what it refuses."""

from typing import Any

import pytest
import torch
from torch import nn

from capsbench.errors import CapsbenchError, ParameterError, UnknownNameError
from capsbench.models.cnn import CNN


def test_layers_in_order() -> None:
    model = CNN(image_size=40, channels=(4, 3), strides=(2, 1), hidden=(6, 5), dropout=0.25)
    features = [type(layer) for layer in model.features]
    assert features == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, nn.Flatten]
    classifier = [type(layer) for layer in model.classifier]
    assert classifier == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]


@pytest.mark.parametrize(("strides", "side"), [((1, 1), 13), ((2, 1), 7), ((2, 3), 3)])
def test_same_padding_divides_the_size_by_the_strides(strides: tuple[int, int], side: int) -> None:
    model = CNN(image_size=13, channels=(2, 3), strides=strides, hidden=(4,), padding="same")
    assert model.features(torch.zeros(1, 1, 13, 13)).shape == (1, 3 * side * side)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"image_size": 12}, ParameterError, "image of 12x12 pixels is too small .* at least 13x13"),
        ({"channels": (8, 8)}, ParameterError, r"got channels=\(8, 8\) and strides=\(1, 1, 1\)"),
        ({"channels": (8, 0, 8)}, ParameterError, "channels must be .* got 0"),
        ({"hidden": 2.5}, ParameterError, "hidden must be .* got 2.5"),
        ({"classes": 0}, ParameterError, "classes must be .* got 0"),
        ({"dropout": 1.5}, ParameterError, "dropout must be .* got 1.5"),
        ({"padding": "smae"}, UnknownNameError, "No padding is called 'smae'. Did you mean 'same'?"),
    ],
)
def test_refusals(parameters: dict[str, Any], error: type[CapsbenchError], message: str) -> None:
    with pytest.raises(error, match=message):
        CNN(**parameters)
