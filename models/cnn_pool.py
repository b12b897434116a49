"""A convolutional network with max pooling and dropout, CapsNet's opponent on affNIST (section 5.2)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from capsbench.contracts import Output, TensorBatch
from capsbench.models.checks import ImageSize, image_shape, whole, wholes
from capsbench.models.layers import Window, check_images, fully_connected, shape_after
from capsbench.models.losses import cross_entropy, k_hot
from capsbench.parameters import check_number

CONVOLUTION = Window(kernel=5)
POOLING = Window(kernel=2, stride=2)


class PoolCNN(nn.Module):
    """Convolutions of 512 and 256, each with max pooling, a hidden layer of 800 and dropout.

    The paper says "with MaxPooling and DropOut" and no more. This layout is ours: that of the one network with max
    pooling in the authors' released code (5x5 convolutions without padding, each followed by ReLU and 2x2 max pooling,
    then one hidden layer), with dropout before the last layer, and a hidden layer of 800 instead of 1,024. That makes
    13,334,378 parameters at 40x40, 1% fewer than CapsNet's 13,475,808. Softmax cross-entropy.

    Args:
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes.
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
        channels: Sequence[int] = (512, 256),
        hidden: Sequence[int] = (800,),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        channels = wholes("channels", channels)
        check_number("dropout", dropout, 0, 1)
        self.classes = whole("classes", classes)
        self.image_shape = image_shape(image_size)
        height, width = shape_after([CONVOLUTION, POOLING] * len(channels), self.image_shape)

        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((1, *channels)):
            # ReLU and max pooling commute; ReLU second has a quarter of the values to go through.
            layers += [nn.Conv2d(inputs, outputs, CONVOLUTION.kernel), nn.MaxPool2d(POOLING.kernel), nn.ReLU()]
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
