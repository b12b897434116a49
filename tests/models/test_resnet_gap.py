"""The residual network with global pooling: where a digit lies, what blurring does, what it refuses."""

from typing import Any

import pytest
import torch

from capsbench.errors import ParameterError, UnknownNameError
from capsbench.models.resnet_gap import BlurPool, ResNetGAP


def drawn(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def tiny(**parameters: Any) -> ResNetGAP:
    torch.manual_seed(0)
    return ResNetGAP(**{"image_size": 24, "channels": (4, 6), **parameters}).eval()


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("blur", [False, True])
def test_where_a_digit_lies_does_not_matter(pooling: str, blur: bool) -> None:
    """Of two places that differ by as many pixels as the strides make, and far from the borders."""
    model = tiny(image_size=32, pooling=pooling, blur=blur)
    here, there = torch.zeros(2, 1, 1, 32, 32)
    digit = drawn(6, 6)
    here[..., 10:16, 10:16] = digit
    there[..., 14:20, 12:18] = digit
    torch.testing.assert_close(model(here).scores, model(there).scores)


def test_average_depends_on_the_size_of_the_image_and_max_does_not() -> None:
    model = tiny(image_size=28, channels=(4,))
    larger = tiny(image_size=40, channels=(4,))
    larger.load_state_dict(model.state_dict())
    small, large = torch.zeros(1, 1, 28, 28), torch.zeros(1, 1, 40, 40)
    small[..., 10:18, 10:18] = large[..., 16:24, 16:24] = drawn(8, 8)
    torch.testing.assert_close(model(small).scores, larger(large).scores)
    model.pooling = larger.pooling = "average"
    assert (model(small).scores - larger(large).scores).abs().max() > 1e-3


def test_blurring_keeps_what_is_flat_and_halves_the_sides() -> None:
    flat = torch.full((1, 2, 5, 8), 0.7)
    torch.testing.assert_close(BlurPool(2)(flat), torch.full((1, 2, 3, 4), 0.7))


def test_blurring_weighs_neighbours_by_hand() -> None:
    point = torch.zeros(1, 1, 5, 5)
    point[..., 2, 1] = 16.0
    # Kept are the rows and columns 0, 2 and 4; column 1 lies beside columns 0 and 2, and once more mirrored at 0.
    expected = torch.tensor([[0.0, 0, 0], [4, 2, 0], [0, 0, 0]])
    expected[1, 0] = 2 * 16 * 0.5 * 0.25  # itself and its mirror image
    expected[1, 1] = 16 * 0.5 * 0.25
    torch.testing.assert_close(BlurPool(1)(point)[0, 0], expected)


def test_a_move_by_one_pixel_changes_less_with_blurring() -> None:
    images = torch.zeros(8, 1, 32, 32)
    images[..., 8:20, 8:20] = drawn(8, 1, 12, 12)
    moved = images.roll(1, dims=3)
    changes = []
    for blur in (False, True):
        model = tiny(image_size=32, channels=(8, 16, 16), blur=blur, pooling="average")
        with torch.no_grad():
            before, after = (model.features(shown).mean((2, 3)) for shown in (images, moved))
        changes.append(float((before - after).norm() / before.norm()))
    assert changes[1] < 0.2 * changes[0]


def test_a_block_that_does_nothing_passes_on_what_it_gets() -> None:
    model = tiny(channels=(4,))
    block = model.features[3]
    torch.nn.init.zeros_(block.get_submodule("residual.4").get_parameter("weight"))
    features = drawn(2, 4, 6, 6)
    torch.testing.assert_close(block(features), features)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"channels": ()}, "channels must be one or more"),
        ({"blocks": 0}, "blocks must be"),
        ({"blur": 1}, "blur must be"),
        ({"image_size": 2, "channels": (2, 2, 2), "blur": True}, "image of 2x2 pixels is too small"),
    ],
)
def test_refusals(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        ResNetGAP(**parameters)


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"No pooling is called 'sum'. Known: average, max"):
        ResNetGAP(pooling="sum")
