"""The baseline for two overlapping digits: its fields, its loss and what it refuses."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from capsbench.contracts import Batch, Output
from capsbench.errors import UsageError
from capsbench.models.cnn_pair import PairCNN


def test_only_pooling_shrinks_the_image() -> None:
    model = PairCNN(image_size=36, channels=(3, 4), hidden=(5,))
    assert model.features(torch.zeros(1, 1, 36, 36)).shape == (1, 4 * 9 * 9)


def test_a_convolution_without_pooling_shrinks_by_its_stride_alone() -> None:
    parameters: Any = {"channels": (3, 4, 5), "kernels": (5, 3, 3), "strides": (2, 1, 1), "pooling": (1, 2, 1)}
    same = PairCNN(image_size=36, **parameters)
    assert same.features(torch.zeros(1, 1, 36, 36)).shape == (1, 5 * 9 * 9)  # 36, 18, 18, 9, 9
    valid = PairCNN(image_size=36, **parameters, padding="valid")
    assert valid.features(torch.zeros(1, 1, 36, 36)).shape == (1, 5 * 5 * 5)  # 36, 16, 14, 7, 5


def test_one_number_is_for_all_convolutions() -> None:
    alone = PairCNN(image_size=36, channels=(3, 4), strides=2, pooling=1)
    spelled_out = PairCNN(image_size=36, channels=(3, 4), strides=(2, 2), pooling=(1, 1))
    assert str(alone) == str(spelled_out)
    assert alone.features(torch.zeros(1, 1, 36, 36)).shape == (1, 4 * 9 * 9)


def test_the_network_is_convolution_relu_pooling_then_layers() -> None:
    model = PairCNN(image_size=(12, 16), channels=(3, 4), kernels=(5, 3), hidden=(6,)).double()
    images = torch.rand(2, 1, 12, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, second, hidden, last = [
        module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]  # in their order
    features = images
    for convolution, padding in ((first, 2), (second, 1)):
        activations = F.conv2d(features, convolution.weight, convolution.bias, padding=padding).relu()
        features = F.max_pool2d(activations, 2)
    scores = last(hidden(features.reshape(2, 4 * 3 * 4)).relu())
    torch.testing.assert_close(model(images).scores, scores)


def test_dropout_is_before_the_last_layer_and_off_by_default() -> None:
    dropping = PairCNN(image_size=8, channels=(2,), kernels=(3,), hidden=(4, 5), dropout=0.5)
    assert [type(layer) for layer in dropping.classifier][-2:] == [nn.Dropout, nn.Linear]
    assert not any(
        isinstance(module, nn.Dropout) for module in PairCNN(image_size=8, channels=(2,), kernels=(3,)).modules()
    )


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
        ({"kernels": (9,)}, r"got channels=\(512, 256\), kernels=\(9,\), "),
        ({"strides": (1, 1, 1)}, r"needs .* strides=\(1, 1, 1\) and pooling=\(2, 2\)"),
        ({"pooling": (2,)}, r"pooling=\(2,\)"),
        ({"pooling": (2, 0)}, "pooling must be a whole number of at least 1, got 0"),
        ({"strides": True}, "strides must be a whole number of at least 1, got True"),
        ({"padding": "full"}, "No padding is called 'full'"),
        ({"dropout": 1.5}, "dropout must be .* got 1.5"),
        ({"kernels": (9, 4)}, r"kernels must be odd with padding='same', got \(9, 4\)"),
    ],
)
def test_refusals(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PairCNN(**parameters)


def test_an_even_kernel_needs_valid_padding() -> None:
    model = PairCNN(image_size=20, channels=(2, 3), kernels=(9, 4), padding="valid")
    assert model.features(torch.zeros(1, 1, 20, 20)).shape == (1, 3 * 1 * 1)  # 20, 12, 6, 3, 1
