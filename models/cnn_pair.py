"""The paper's baseline for two overlapping digits, with a sigmoid for each class (section 6.2)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from capsbench.contracts import Output, TensorBatch
from capsbench.errors import ParameterError
from capsbench.models.checks import ImageSize, image_shape, whole, wholes
from capsbench.models.layers import Window, check_images, fully_connected, shape_after
from capsbench.models.losses import binary_cross_entropy, k_hot

POOLING = Window(kernel=2, stride=2)


class PairCNN(nn.Module):
    """The MultiMNIST baseline: convolutions of 512 (9x9) and 256 (5x5) with max pooling, a hidden layer of 1,024.

    Each convolution is followed by ReLU and 2x2 max pooling; each class has its own sigmoid. The paper counts 24.56 M
    parameters and does not name the padding: same padding gives 24,563,978 at 36x36.

    Args:
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes.
        channels: Width of each convolution.
        kernels: Side of each convolution's kernel, odd, in pixels.
        hidden: Width of each hidden fully connected layer.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        # 361 k parameters at 36x36.
        "small": {"channels": (32, 32), "hidden": (128,)},
    }

    def __init__(
        self,
        *,
        image_size: ImageSize = 28,
        classes: int = 10,
        channels: Sequence[int] = (512, 256),
        kernels: Sequence[int] = (9, 5),
        hidden: Sequence[int] = (1024,),
    ) -> None:
        super().__init__()
        channels, kernels = wholes("channels", channels), wholes("kernels", kernels)
        if len(channels) != len(kernels):
            raise ParameterError(
                f"channels={channels} and kernels={kernels} were asked for; each convolution needs both."
            )
        if any(kernel % 2 == 0 for kernel in kernels):
            raise ParameterError(f"kernels={kernels} was asked for; same padding needs odd ones.")
        windows = [Window(kernel, padding=kernel // 2) for kernel in kernels]
        self.classes = whole("classes", classes)
        self.image_shape = image_shape(image_size)
        height, width = shape_after([w for window in windows for w in (window, POOLING)], self.image_shape)

        layers: list[nn.Module] = []
        for (inputs, outputs), window in zip(pairwise((1, *channels)), windows, strict=True):
            # ReLU and max pooling commute; ReLU second has a quarter of the values to go through.
            convolution = nn.Conv2d(inputs, outputs, window.kernel, padding=window.padding)
            layers += [convolution, nn.MaxPool2d(POOLING.kernel), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Flatten())
        sizes = (channels[-1] * height * width, *wholes("hidden", hidden), self.classes)
        self.classifier = fully_connected(sizes)

    def forward(self, images: Tensor) -> Output:
        """``[B, 1, H, W]`` in 0..1 to logits ``[B, classes]``; a sigmoid would not change their order."""
        check_images(images, self.image_shape)
        return Output(scores=self.classifier(self.features(images)))

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        """Sigmoid cross-entropy on the k-hot labels: the sum over classes, the mean over the batch."""
        return binary_cross_entropy(output.scores, k_hot(batch.labels, self.classes))
