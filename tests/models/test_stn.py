"""The spatial transformer: what it starts as, what a map does to an image, what it refuses."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from capsbench.errors import ParameterError
from capsbench.models.cnn_pool import PoolCNN
from capsbench.models.stn import IDENTITY, STN

SIZES: dict[str, Any] = {"image_size": 24, "channels": (3, 4), "hidden": (5,)}


def drawn(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def tiny(**parameters: Any) -> STN:
    torch.manual_seed(0)
    return STN(**{**SIZES, "looking": (2, 3), "deciding": 6, **parameters}).eval()


def mapped(model: STN, numbers: list[float], images: torch.Tensor) -> torch.Tensor:
    """What the transformer shows when its last layer says these numbers for each image."""
    with torch.no_grad():
        model.transformer.choose[-1].get_parameter("bias").copy_(torch.tensor(numbers))
        shown: torch.Tensor = model.transformer(images)
    return shown


@pytest.mark.parametrize("size", [24, (21, 30)])
def test_it_starts_as_the_identity(size: Any) -> None:
    model = tiny(image_size=size)
    images = drawn(3, 1, *model.image_shape)
    torch.testing.assert_close(model.transformer(images), images)
    torch.manual_seed(0)
    plain = PoolCNN(**SIZES | {"image_size": size}).eval()
    torch.testing.assert_close(model(images).scores, plain(images).scores)


def test_a_move_by_whole_pixels_is_that_of_the_image() -> None:
    images = drawn(2, 1, 24, 24)
    pixel = 2 / 24
    shown = mapped(tiny(), [1, 0, 3 * pixel, 0, 1, -2 * pixel], images)  # it looks 3 to the right and 2 up
    expected = torch.zeros_like(images)
    expected[..., 2:, :-3] = images[..., :-2, 3:]
    torch.testing.assert_close(shown, expected)


def test_any_map_is_that_of_scipy() -> None:
    images = drawn(1, 1, 24, 24)
    rows = np.array([[0.9, 0.3, 0.2], [-0.25, 1.1, -0.1]])  # of (x, y, 1), from -1 to 1 between the outer edges
    shown = mapped(tiny(), rows.ravel().tolist(), images)
    turned = rows[::-1, 1::-1]  # scipy's are of (row, column), in pixels from the first one's centre
    offset = (rows[::-1, 2] * 24 + 23) / 2 - turned @ [11.5, 11.5]
    expected = ndimage.affine_transform(images[0, 0].double().numpy(), turned, offset, order=1, mode="grid-constant")
    np.testing.assert_allclose(shown[0, 0].numpy(), expected, atol=1e-5)


def test_each_image_has_its_own_map_and_learns_it_from_the_scores() -> None:
    model, images = tiny(), drawn(2, 1, 24, 24)
    with torch.no_grad():
        model.transformer.choose[-1].get_parameter("weight").normal_(generator=torch.Generator().manual_seed(1))
    maps = model.transformer.choose(images) - torch.tensor(IDENTITY)
    assert (maps[0] - maps[1]).abs().max() > 1e-3
    model(images).scores.square().sum().backward()
    assert all(one.grad is not None and one.grad.any() for one in model.transformer.parameters())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"image_size": 15}, "image of 15x15 pixels is too small .* at least 16x16"),
        ({"looking": (4, 4, 4)}, "image of 24x24 pixels is too small .* at least 36x36"),
        ({"looking": ()}, "looking must be one or more"),
        ({"deciding": 0}, "deciding must be"),
    ],
)
def test_refusals(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        tiny(**parameters)
