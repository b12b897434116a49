"""The paper's baseline for two overlapping digits, with a sigmoid for each class (section 6.2)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from capsbench.contracts import Output, TensorBatch
from capsbench.errors import ParameterError
from capsbench.models.layers import PADDINGS, Classifier, Window
from capsbench.models.losses import binary_cross_entropy, k_hot
from capsbench.parameters import ImageSize, check_choice, check_whole, check_wholes


class PairCNN(Classifier):
    """The MultiMNIST baseline: convolutions of 512 (9x9) and 256 (5x5) with max pooling, a hidden layer of 1,024.

    Each convolution is followed by ReLU and 2x2 max pooling; each class has its own sigmoid. The paper counts 24.56 M
    parameters and does not name the padding: same padding gives 24,563,978 at 36x36.

    Args:
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes.
        channels_in: Channels of an image: 1 of grey images, 3 of colours.
        channels: Width of each convolution.
        kernels: Side of each convolution's kernel in pixels; odd where the padding is ``"same"``.
        strides: Stride of each convolution in pixels; one number is for all.
        pooling: Side and stride of the max pooling after each convolution in pixels, 1 for none; one number is for all.
        padding: ``"same"`` (zeros, so that stride 1 keeps the size) or ``"valid"`` (none).
        hidden: Width of each hidden fully connected layer.
        dropout: Probability that a unit before the last layer is dropped in training. The paper names no dropout here.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        # 724 k parameters at 36x36; the stride leaves the second convolution a quarter of the work.
        "small": {
            "channels": (32, 64, 96), "kernels": (5, 3, 3), "strides": (2, 1, 1), "pooling": (1, 2, 1),
            "padding": "valid", "hidden": (256, 128), "dropout": 0.25,
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        image_size: ImageSize = 28,
        classes: int = 10,
        channels_in: int = 1,
        channels: Sequence[int] = (512, 256),
        kernels: Sequence[int] = (9, 5),
        strides: int | Sequence[int] = 1,
        pooling: int | Sequence[int] = 2,
        padding: str = "same",
        hidden: Sequence[int] = (1024,),
        dropout: float = 0.0,
    ) -> None:
        channels_in = check_whole("channels_in", channels_in)
        channels, kernels = check_wholes("channels", channels), check_wholes("kernels", kernels)
        strides, pooling = (
            check_wholes(name, (value,) * len(channels) if isinstance(value, int) else value)
            for name, value in (("strides", strides), ("pooling", pooling))
        )
        if not len(channels) == len(kernels) == len(strides) == len(pooling):
            raise ParameterError(
                "Each convolution needs channels, a kernel, a stride and a pooling, "
                f"got {channels=}, {kernels=}, {strides=} and {pooling=}."
            )
        same = check_choice("padding", padding, PADDINGS) == "same"
        if same and any(kernel % 2 == 0 for kernel in kernels):
            raise ParameterError(f"kernels must be odd with padding='same', got {kernels}.")

        layers: list[nn.Module] = []
        windows: list[Window] = []
        for (inputs, outputs), kernel, stride, side in zip(
            pairwise((channels_in, *channels)), kernels, strides, pooling, strict=True
        ):
            window = Window(kernel, stride, kernel // 2 if same else 0)
            windows += [window, Window(side, side)]
            layers.append(nn.Conv2d(inputs, outputs, *window))
            if side > 1:  # before ReLU, with which it commutes, so that fewer values go through ReLU
                layers.append(nn.MaxPool2d(side))
            layers.append(nn.ReLU())
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
        # With the channels innermost, convolutions and pooling take a fifth less time; flattening puts them back.
        self.features.to(memory_format=torch.channels_last)

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        """Sigmoid cross-entropy on the k-hot labels: the sum over classes, the mean over the batch."""
        return binary_cross_entropy(output.scores, k_hot(batch.labels, self.classes))
