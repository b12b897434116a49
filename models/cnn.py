"""The paper's baseline: three convolutions, two hidden layers, softmax (section 5, Table 1)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from torch import nn

from capsbench.errors import ParameterError
from capsbench.models.layers import PADDINGS, Classifier, Window
from capsbench.parameters import ImageSize, check_choice, check_whole, check_wholes

KERNEL = 5


class CNN(Classifier):
    """The baseline of Table 1: convolutions of 256, 256, 128 and fully connected layers of 328, 192.

    5x5 kernels, ReLU, dropout before the last layer, softmax cross-entropy. The paper counts 35.4 M parameters and does
    not name the padding: 35,445,522 is what valid padding gives at 40x40, and same padding at 28x28.

    Args:
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes.
        channels_in: Channels of an image: 1 of grey images, 3 of colours.
        channels: Width of each convolution.
        strides: Stride of each convolution, in pixels; larger ones make a small network fast.
        hidden: Width of each hidden fully connected layer.
        padding: ``"valid"`` (none) or ``"same"`` (zeros, so that stride 1 keeps the size).
        dropout: Probability that a unit before the last layer is dropped in training. The paper gives no rate; 0.5 is
            the usual one of its time.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        # 98 k parameters at 40x40; half the usual dropout, for there is less to drop.
        "small": {"channels": (32, 32, 32), "strides": (2, 2, 1), "hidden": (128, 64), "dropout": 0.25},
    }

    def __init__(
        self,
        *,
        image_size: ImageSize = 28,
        classes: int = 10,
        channels_in: int = 1,
        channels: Sequence[int] = (256, 256, 128),
        strides: Sequence[int] = (1, 1, 1),
        hidden: Sequence[int] = (328, 192),
        padding: str = "valid",
        dropout: float = 0.5,
    ) -> None:
        channels_in = check_whole("channels_in", channels_in)
        channels, strides = check_wholes("channels", channels), check_wholes("strides", strides)
        if len(channels) != len(strides):
            raise ParameterError(f"Each convolution needs channels and a stride, got {channels=} and {strides=}.")
        same = check_choice("padding", padding, PADDINGS) == "same"
        windows = [Window(KERNEL, stride, KERNEL // 2 if same else 0) for stride in strides]
        layers: list[nn.Module] = []
        for (inputs, outputs), window in zip(pairwise((channels_in, *channels)), windows, strict=True):
            layers += [nn.Conv2d(inputs, outputs, window.kernel, window.stride, window.padding), nn.ReLU()]
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
