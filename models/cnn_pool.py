"""A convolutional network with max pooling and dropout, CapsNet's opponent on affNIST (section 5.2)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from torch import nn

from capsbench.models.layers import Classifier, Window
from capsbench.parameters import ImageSize, check_whole, check_wholes

CONVOLUTION = Window(kernel=5)
POOLING = Window(kernel=2, stride=2)


class PoolCNN(Classifier):
    """Convolutions of 512 and 256, each with max pooling, a hidden layer of 800 and dropout.

    The paper says "with MaxPooling and DropOut" and "a similar number of parameters", not how they are laid out. This
    layout is ours: that of the one network with max pooling in the authors' released code (5x5 convolutions without
    padding, each followed by ReLU and 2x2 max pooling, then one hidden layer), with dropout before the last layer, and
    a hidden layer of 800 instead of 1,024. That makes 13,334,378 parameters at 40x40, 1% fewer than CapsNet's
    13,475,808. Softmax cross-entropy.

    Args:
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes.
        channels_in: Channels of an image: 1 of grey images, 3 of colours.
        channels: Width of each convolution.
        hidden: Width of each hidden fully connected layer.
        dropout: Probability that a unit before the last layer is dropped in training.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        # 322 k parameters at 40x40, about as many as the small CapsNet's encoder.
        "small": {"channels": (16, 48), "hidden": (128,), "dropout": 0.25},
    }

    def __init__(
        self,
        *,
        image_size: ImageSize = 28,
        classes: int = 10,
        channels_in: int = 1,
        channels: Sequence[int] = (512, 256),
        hidden: Sequence[int] = (800,),
        dropout: float = 0.5,
    ) -> None:
        channels_in = check_whole("channels_in", channels_in)
        channels = check_wholes("channels", channels)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((channels_in, *channels)):
            # ReLU and max pooling commute; ReLU second has a quarter of the values to go through.
            layers += [nn.Conv2d(inputs, outputs, CONVOLUTION.kernel), nn.MaxPool2d(POOLING.kernel), nn.ReLU()]
        windows = [CONVOLUTION, POOLING] * len(channels)
        super().__init__(
            layers,
            windows,
            channels[-1],
            image_size=image_size,
            classes=classes,
            channels_in=channels_in,
            hidden=hidden,
            dropout=dropout,
        )
