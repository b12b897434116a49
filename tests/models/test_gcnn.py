"""The network over quarter turns: what turns with the image and what stays, group convolutions by hand, refusals."""

from typing import Any

import pytest
import torch

from capsbench.errors import ParameterError, UnknownNameError
from capsbench.models.gcnn import GCNN, GroupConvolution, halve


def drawn(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def tiny(**parameters: Any) -> GCNN:
    torch.manual_seed(0)
    return GCNN(**{"image_size": 22, "channels": (3, 4, 5), **parameters})


@pytest.mark.parametrize("size", [22, 25, 28])  # their halves: 11 and 6, 13 and 7, 14 and 7
@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_quarter_turn_of_the_image_turns_the_features_and_leaves_the_scores(
    size: int, pooling: str, turns: int
) -> None:
    model = tiny(image_size=size, pooling=pooling)
    images = drawn(4, 1, size, size)
    model(images)  # in training, so that batch norm has moved from where it starts
    model.eval()
    turned = images.rot90(turns, (2, 3))
    with torch.no_grad():
        expected = model.features(images).rot90(turns, (3, 4)).roll(turns, 2)
        assert (model.features(turned) - expected).abs().max() <= 1e-5
        assert (model(turned).scores - model(images).scores).abs().max() <= 1e-5
        assert (model.features(turned) - model.features(images)).abs().max() > 0.01


def test_scores_stay_in_training_too() -> None:
    model, images = tiny(), drawn(4, 1, 22, 22)
    assert (model(images.rot90(1, (2, 3))).scores - model(images).scores).abs().max() <= 1e-5


def test_an_image_that_is_not_square_may_turn() -> None:
    model, turned = (tiny(image_size=size).eval() for size in ((22, 31), (31, 22)))
    images = drawn(2, 1, 22, 31)
    assert (turned(images.rot90(1, (2, 3))).scores - model(images).scores).abs().max() <= 1e-5


def test_a_mirror_image_has_other_scores() -> None:
    model, images = tiny().eval(), drawn(4, 1, 22, 22)
    assert (model(images.flip(3)).scores - model(images).scores).abs().max() > 1e-3


def test_convolutions_sum_over_places_and_turns() -> None:
    """The sum of the group's definition in loops: [f * w](r, x) is the sum over s and y of f(s, y) w(r^-1 (s, y-x))."""
    torch.manual_seed(0)
    convolution = GroupConvolution(2, 3).double()
    features = drawn(1, 2, 4, 5, 5).double()
    weight = convolution.weight.detach()
    back = {0: lambda y, x: (y, x), 1: lambda y, x: (x, -y), 2: lambda y, x: (-y, -x), 3: lambda y, x: (-x, y)}
    with torch.no_grad():
        found = convolution(features)
    for r in range(4):
        expected = torch.zeros(3, dtype=torch.float64)
        for s in range(4):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    row, column = back[r](dy, dx)
                    filters = weight[:, :, (s - r) % 4, 1 + row, 1 + column]
                    expected += filters @ features[0, :, s, 2 + dy, 2 + dx]
        torch.testing.assert_close(found[0, :, r, 2, 2], expected)


def test_sides_are_halved_alike_from_both_ends() -> None:
    even, odd = torch.tensor([1.0, 5, 2, 3]), torch.tensor([1.0, 5, 2, 3, 9])
    assert halve(even.expand(1, 1, 1, 4, 4))[0, 0, 0, 0].tolist() == [5, 3]
    assert halve(odd.expand(1, 1, 1, 5, 5))[0, 0, 0, 0].tolist() == [5, 5, 9]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"channels": ()}, "channels must be one or more"),
        ({"pairs": 1}, "pairs must be True or False, got 1"),
        ({"classes": 0}, "classes must be"),
    ],
)
def test_refusals(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        GCNN(**parameters)


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"No pooling is called 'sum'. Known: average, max"):
        GCNN(pooling="sum")
