"""What the networks have in common: window arithmetic, fully connected layers, a classifier of images."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from capsbench.contracts import Output, TensorBatch
from capsbench.errors import ParameterError
from capsbench.models.losses import cross_entropy, k_hot
from capsbench.parameters import ImageSize, check_number, check_whole, check_wholes, image_shape

PADDINGS = ("valid", "same")


class Window(NamedTuple):
    """A convolution or a pooling along one side of the image, in pixels; ``padding`` counts zeros on each end."""

    kernel: int
    stride: int = 1
    padding: int = 0

    def output(self, size: int) -> int:
        """How many positions the window has on a side of ``size`` pixels."""
        return (size + 2 * self.padding - self.kernel) // self.stride + 1

    def least(self, positions: int) -> int:
        """The shortest side with so many positions."""
        return max(1, (positions - 1) * self.stride + self.kernel - 2 * self.padding)


def shape_after(windows: Sequence[Window], shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width that a ``(height, width)`` image has after all windows.

    Raises:
        ParameterError: Nothing is left of the image; the message names the smallest one that works.
    """
    least = 1
    for window in reversed(windows):
        least = window.least(least)
    if min(shape) < least:
        raise ParameterError(
            f"An image of {shape[0]}x{shape[1]} pixels is too small for these convolutions: "
            f"they need at least {least}x{least}."
        )
    height, width = shape
    for window in windows:
        height, width = window.output(height), window.output(width)
    return height, width


def fully_connected(sizes: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers from ``sizes[0]`` to ``sizes[-1]`` with ReLU between them, and dropout before the last one.

    Args:
        sizes: Width of the input, of each hidden layer, of the output.
        dropout: Probability that a unit of the last hidden layer is dropped in training; 0 leaves the layer out.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    del layers[-1]  # the output is linear
    if dropout > 0:
        layers.insert(-1, nn.Dropout(dropout))
    return nn.Sequential(*layers)


def check_images(images: Tensor, channels_in: int, shape: tuple[int, int]) -> None:
    """Refuses images that are not the ``[B, channels_in, height, width]`` that the network was built for."""
    if images.dim() != 4 or images.shape[1:] != (channels_in, *shape):
        raise ParameterError(
            f"The network was built for images [B, {channels_in}, {shape[0]}, {shape[1]}], got {list(images.shape)}."
        )


class Classifier(nn.Module):
    """Convolutions, then fully connected layers with dropout before the last one; softmax cross-entropy.

    Args:
        layers: The convolutions, their activations and poolings.
        windows: Of all convolutions and poolings, in order.
        channels: Width of the last convolution.
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes.
        channels_in: Channels of an image: 1 of grey images, 3 of colours.
        hidden: Width of each hidden fully connected layer.
        dropout: Probability that a unit before the last layer is dropped in training.
    """

    channels_last = True

    def __init__(
        self,
        layers: Sequence[nn.Module],
        windows: Sequence[Window],
        channels: int,
        *,
        image_size: ImageSize,
        classes: int,
        channels_in: int,
        hidden: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        check_number("dropout", dropout, 0, 1)
        self.classes = check_whole("classes", classes)
        self.channels_in = channels_in
        self.image_shape = image_shape(image_size)
        height, width = shape_after(windows, self.image_shape)
        self.features = nn.Sequential(*layers, nn.Flatten())
        sizes = (channels * height * width, *check_wholes("hidden", hidden), self.classes)
        self.classifier = fully_connected(sizes, dropout)

    def forward(self, images: Tensor) -> Output:
        """``[B, channels_in, H, W]`` in 0..1 to logits ``[B, classes]``."""
        check_images(images, self.channels_in, self.image_shape)
        return Output(scores=self.classifier(self.features(images)))

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        """Softmax cross-entropy, the mean over the batch."""
        return cross_entropy(output.scores, k_hot(batch.labels, self.classes))
