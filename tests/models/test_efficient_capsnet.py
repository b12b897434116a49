"""Efficient-CapsNet against its equations in float64, and what it refuses."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from capsbench.contracts import Batch
from capsbench.errors import ParameterError
from capsbench.models.efficient_capsnet import EfficientCapsNet, exponential_squash, self_attention


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def tiny(**parameters: Any) -> EfficientCapsNet:
    torch.manual_seed(0)
    fields: dict[str, Any] = {"image_size": 24, "channels": (3, 4, 4, 8), "capsule_dim": 4, "decoder": (5, 6)}
    return EfficientCapsNet(**fields | parameters)


def squash_by_hand(s: np.ndarray) -> np.ndarray:
    length = math.sqrt(sum(float(x) ** 2 for x in s))
    return (1 - math.exp(-length)) / length * s


def test_attention_is_that_of_the_equations() -> None:
    """In loops, for every image, class and pair of capsules."""
    votes, bias = drawn(2, 3, 4, 5).double(), 0.3 * drawn(3, 4).double()
    found = self_attention(votes, bias)
    u, b = votes.numpy(), bias.numpy()
    for n in range(2):
        agreement = np.array([[sum(u[n, j, i] @ u[n, j, k] for k in range(4)) for i in range(4)] for j in range(3)])
        powers = np.exp(agreement / math.sqrt(5))
        couplings = powers / powers.sum(0)  # over the classes j
        for j in range(3):
            s = sum(((couplings[j, i] + b[j, i]) * u[n, j, i] for i in range(4)), np.zeros(5))
            np.testing.assert_allclose(found[n, j].numpy(), s, rtol=1e-12)


def test_features_are_four_convolutions_each_with_relu_and_batch_norm() -> None:
    """By scipy's correlation, with kernels 5, 3, 3, 3 and strides 1, 1, 1, 2."""
    model = tiny(reconstruction=False).double().eval()
    norms = [layer for layer in model.features if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None
        torch.nn.init.normal_(norm.running_mean)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
        torch.nn.init.normal_(norm.weight)
    image = drawn(1, 1, 24, 24).double()
    x = image[0].numpy()
    convolutions = [layer for layer in model.features if isinstance(layer, torch.nn.Conv2d)]
    for convolution, norm, stride in zip(convolutions, norms, (1, 1, 1, 2), strict=True):
        weight, offset = (one.detach().numpy() for one in (convolution.weight, convolution.get_parameter("bias")))
        sums = [
            sum(correlate2d(x[i], one[i], "valid") for i in range(len(x))) + b
            for one, b in zip(weight, offset, strict=True)
        ]
        mean, variance, slope, shift = (
            getattr(norm, name).detach().numpy()[:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        rectified = np.maximum(np.array(sums)[:, ::stride, ::stride], 0)
        x = slope * (rectified - mean) / np.sqrt(variance + norm.eps) + shift
    with torch.no_grad():
        np.testing.assert_allclose(model.features(image)[0].numpy(), x, rtol=1e-10, atol=1e-12)


def test_the_whole_network_is_that_of_the_equations() -> None:
    model = tiny(reconstruction=False).double().eval()
    torch.nn.init.normal_(model.bias)
    images = drawn(2, 1, 24, 24).double()
    with torch.no_grad():
        features = model.features(images)
        poses = model(images).poses
        assert poses is not None
    kernel, offset = (one.detach().numpy() for one in (model.primary.weight, model.primary.get_parameter("bias")))
    weight = model.weight.detach()
    for n in range(2):
        channels = [float((features[n, c].numpy() * kernel[c, 0]).sum() + offset[c]) for c in range(8)]
        capsules = [squash_by_hand(np.array(channels[4 * i : 4 * i + 4])) for i in range(2)]
        votes = [[weight[j, i].numpy() @ capsules[i] for i in range(2)] for j in range(10)]
        s = self_attention(torch.tensor(np.array(votes))[None], model.bias.detach())[0]
        expected = np.array([squash_by_hand(one) for one in s.numpy()])
        np.testing.assert_allclose(poses[n].numpy(), expected, rtol=1e-11)


def test_squash_keeps_directions_and_has_slope_one_at_zero() -> None:
    s = drawn(4, 6).double()
    for one, expected in zip(exponential_squash(s), s, strict=True):
        np.testing.assert_allclose(one.numpy(), squash_by_hand(expected.numpy()), rtol=1e-14)
    zero = torch.zeros(3, requires_grad=True)
    (slope,) = torch.autograd.grad(exponential_squash(zero).sum(), zero)
    assert torch.equal(slope, torch.ones(3))
    assert exponential_squash(torch.full((3,), 1e15)).norm() == pytest.approx(1)


@pytest.mark.parametrize("pairs", [False, True])
def test_digits_are_reconstructed_one_by_one(pairs: bool) -> None:
    model = tiny(pairs=pairs)
    images = drawn(2, 1, 24, 24).sigmoid()
    labels = torch.tensor([[0, 1], [2, 3]]) if pairs else torch.tensor([0, 1])
    batch = Batch(images=images, labels=labels, layers=images.expand(-1, 2, -1, -1) if pairs else None)
    output = model(images)
    assert model.needs_layers is pairs
    assert output.reconstruct is not None and output.reconstruct(torch.tensor([0, 1])).shape == images.shape
    assert model.loss(output, batch).isfinite()


def test_a_network_without_a_decoder_starts_with_the_same_weights() -> None:
    with_decoder, without = tiny().state_dict(), tiny(reconstruction=False).state_dict()
    assert all(torch.equal(with_decoder[name], value) for name, value in without.items())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"channels": (4, 4, 8)}, "channels must be 4 numbers"),
        ({"channels": (4, 4, 4, 12)}, "the last a multiple of capsule_dim=8, got"),
        ({"image_size": 9}, "image of 9x9 pixels is too small"),
        ({"reconstruction_weight": -1}, "reconstruction_weight must be"),
    ],
)
def test_refusals(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        EfficientCapsNet(**parameters)
