"""The paper's baseline: three convolutions, two hidden layers, softmax (section 5, Table 1)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from capsbench.contracts import Output, TensorBatch
from capsbench.errors import ParameterError, UnknownNameError
from capsbench.models.checks import ImageSize, image_shape, whole, wholes
from capsbench.models.layers import Window, check_images, fully_connected, shape_after
from capsbench.models.losses import cross_entropy, k_hot
from capsbench.parameters import check_number

KERNEL = 5
PADDINGS = ("valid", "same")


class CNN(nn.Module):
    """The baseline of Table 1: convolutions of 256, 256, 128 and fully connected layers of 328, 192.

    5x5 kernels, ReLU, dropout before the last layer, softmax cross-entropy. The paper counts 35.4 M parameters and does
    not name the padding: 35,445,522 is what valid padding gives at 40x40, and same padding at 28x28.

    Args:
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes.
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
        channels: Sequence[int] = (256, 256, 128),
        strides: Sequence[int] = (1, 1, 1),
        hidden: Sequence[int] = (328, 192),
        padding: str = "valid",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        channels, strides = wholes("channels", channels), wholes("strides", strides)
        if len(channels) != len(strides):
            raise ParameterError(
                f"channels={channels} and strides={strides} were asked for; each convolution needs both."
            )
        if padding not in PADDINGS:
            raise UnknownNameError("padding", padding, PADDINGS)
        windows = [Window(KERNEL, stride, KERNEL // 2 if padding == "same" else 0) for stride in strides]
        check_number("dropout", dropout, 0, 1)
        self.classes = whole("classes", classes)
        self.image_shape = image_shape(image_size)
        height, width = shape_after(windows, self.image_shape)

        layers: list[nn.Module] = []
        for (inputs, outputs), window in zip(pairwise((1, *channels)), windows, strict=True):
            layers += [nn.Conv2d(inputs, outputs, window.kernel, window.stride, window.padding), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Flatten())
        sizes = (channels[-1] * height * width, *wholes("hidden", hidden), self.classes)
        self.classifier = fully_connected(sizes, dropout)

    def forward(self, images: Tensor) -> Output:
        """``[B, 1, H, W]`` in 0..1 to logits ``[B, classes]``."""
        check_images(images, self.image_shape)
        return Output(scores=self.classifier(self.features(images)))

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        """Softmax cross-entropy, the mean over the batch."""
        return cross_entropy(output.scores, k_hot(batch.labels, self.classes))
