"""Window arithmetic against torch's own, and the shapes that the networks refuse."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from capsbench.errors import ParameterError
from capsbench.models.layers import Window, check_images, fully_connected, shape_after

windows = st.builds(Window, kernel=st.integers(1, 9), stride=st.integers(1, 3), padding=st.integers(0, 4)).filter(
    lambda window: 2 * window.padding < window.kernel
)


@given(window=windows, size=st.integers(9, 40))
def test_window_counts_positions_as_torch_does(window: Window, size: int) -> None:
    convolution = nn.Conv1d(1, 1, window.kernel, window.stride, window.padding, device="meta")
    assert window.output(size) == convolution(torch.empty(1, 1, size, device="meta")).shape[-1]


@given(row=st.lists(windows, max_size=4))
def test_smallest_image_is_the_smallest_that_works(row: list[Window]) -> None:
    with pytest.raises(ParameterError) as caught:
        shape_after([*row, Window(kernel=50)], (1, 99999))  # never fits: the message tells the least
    least = int(str(caught.value).rsplit("x", 1)[1].rstrip("."))
    assert shape_after([*row, Window(kernel=50)], (least, least)) == (1, 1)
    with pytest.raises(ParameterError):
        shape_after([*row, Window(kernel=50)], (least, least - 1))


def test_image_that_is_too_small() -> None:
    with pytest.raises(ParameterError, match=r"image of 12x40 pixels is too small .* they need at least 13x13"):
        shape_after([Window(5)] * 3, (12, 40))


def test_fully_connected_is_linear_at_its_end() -> None:
    layers = fully_connected((4, 3, 2), dropout=0.5)
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert [type(layer) for layer in fully_connected((4, 2))] == [nn.Linear]


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 3, 28, 28), (2, 1, 28, 40)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match="built for images"):
        check_images(torch.empty(shape, device="meta"), 1, (28, 28))
