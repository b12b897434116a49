"""A residual network with global pooling: nothing after its convolutions is tied to a place of the image."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capsbench.contracts import Output, TensorBatch
from capsbench.models.layers import Window, check_images, shape_after
from capsbench.models.losses import binary_cross_entropy, cross_entropy, k_hot
from capsbench.parameters import ImageSize, check_choice, check_truth, check_whole, check_wholes, image_shape

POOLINGS = ("max", "average")
CONVOLUTION = Window(kernel=3, padding=1)
HALVING = Window(kernel=3, stride=2, padding=1)


class BlurPool(nn.Module):
    """Every second pixel of the blurred features, so that a move by one pixel changes little (Zhang 2019, section 3).

    The blur is the 3x3 product of (1/4, 1/2, 1/4) with itself; the borders are mirrored.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", torch.outer(row, row).expand(channels, 1, 3, 3).clone(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C, ceil(H / 2), ceil(W / 2)]``."""
        kernel = self.get_buffer("kernel")
        padded = F.pad(features, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(padded, kernel.to(features.dtype), stride=2, groups=len(kernel))


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, and what comes in added to what comes out (He et al. 2016, figure 2).

    Where channels or sides change, a 1x1 convolution fits what comes in. To halve the sides, the first convolution has
    stride 2; with `blur` it has stride 1 and `BlurPool` follows its ReLU, and another comes before the 1x1 convolution.
    """

    def __init__(self, inputs: int, outputs: int, *, halve: bool, blur: bool) -> None:
        super().__init__()
        blurred = [BlurPool(outputs)] if halve and blur else []
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, *(HALVING if halve and not blur else CONVOLUTION), bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            *blurred,
            nn.Conv2d(outputs, outputs, *CONVOLUTION, bias=False),
            nn.BatchNorm2d(outputs),
        )
        fitting: list[nn.Module] = []
        if halve and blur:
            fitting.append(BlurPool(inputs))
        if halve or inputs != outputs:
            stride = 2 if halve and not blur else 1
            fitting += [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
        self.shortcut = nn.Sequential(*fitting)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, inputs, H, W]`` to ``[B, outputs, H, W]``, or half of H and W, rounded up."""
        total: Tensor = self.residual(features) + self.shortcut(features)
        return total.relu()


class ResNetGAP(nn.Module):
    """Residual 3x3 convolutions with batch norm, global pooling, one linear layer; any image size.

    `cnn`, `cnn-pool` and `capsnet` have weights of their own for each place of the last features. This network has not:
    global pooling (Lin et al. 2014, "Network in Network", section 3.2) forgets where a feature is before the only
    linear layer. The residual blocks are those of He et al. 2016 ("Deep Residual Learning", section 3); sizes are ours.
    308,074 parameters, 77,858 in the preset ``small``, whose first stages are narrow: large images cost the most time.

    Softmax cross-entropy; sigmoid cross-entropy where an image shows two digits.

    Args:
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes.
        pairs: Whether an image shows two digits.
        channels_in: Channels of an image: 1 of grey images, 3 of colours.
        channels: Width of each stage; from the second on, a stage halves the sides of the image.
        blocks: Residual blocks in each stage.
        pooling: ``"max"`` takes the strongest value of a feature in the image, whatever the rest of the image shows;
            ``"average"`` also depends on the size of the image, and on how much of it the digit covers.
        blur: Whether features are blurred before their sides are halved (Zhang 2019, "Making Convolutional Networks
            Shift-Invariant Again").
    """

    channels_last = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},  # what stands beside the networks in the paper's sizes
        "small": {"channels": (8, 16, 32, 64)},
    }

    def __init__(
        self,
        *,
        image_size: ImageSize = 28,
        classes: int = 10,
        pairs: bool = False,
        channels_in: int = 1,
        channels: Sequence[int] = (32, 64, 128),
        blocks: int = 1,
        pooling: str = "max",
        blur: bool = False,
    ) -> None:
        super().__init__()
        channels = check_wholes("channels", channels)
        blocks = check_whole("blocks", blocks)
        self.classes = check_whole("classes", classes)
        self.pairs = check_truth("pairs", pairs)
        self.pooling = check_choice("pooling", pooling, POOLINGS)
        blur = check_truth("blur", blur)
        self.channels_in = check_whole("channels_in", channels_in)
        self.image_shape = image_shape(image_size)
        # A mirrored border needs two pixels.
        shape_after([*[HALVING] * (len(channels) - 1), *([Window(2)] if blur else [])], self.image_shape)
        first = channels[0]
        layers: list[nn.Module] = [nn.Conv2d(self.channels_in, first, *CONVOLUTION, bias=False)]
        layers += [nn.BatchNorm2d(first), nn.ReLU()]
        for stage, (inputs, outputs) in enumerate(pairwise((first, *channels))):
            for number in range(blocks):
                halve = stage > 0 and number == 0
                layers.append(Block(outputs if number else inputs, outputs, halve=halve, blur=blur))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels[-1], self.classes)

    def forward(self, images: Tensor) -> Output:
        """``[B, channels_in, H, W]`` in 0..1 to logits ``[B, classes]``."""
        check_images(images, self.channels_in, self.image_shape)
        features = self.features(images)
        pooled = features.amax((2, 3)) if self.pooling == "max" else features.mean((2, 3))
        return Output(scores=self.classifier(pooled))

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        """Softmax cross-entropy, with pairs sigmoid cross-entropy summed over classes; the mean over the batch."""
        targets = k_hot(batch.labels, self.classes)
        return (binary_cross_entropy if self.pairs else cross_entropy)(output.scores, targets)
