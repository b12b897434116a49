"""A network whose features turn with the image: convolutions over places and quarter turns (Cohen & Welling 2016)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capsbench.contracts import Output, TensorBatch
from capsbench.models.layers import check_images
from capsbench.models.losses import binary_cross_entropy, cross_entropy, k_hot
from capsbench.models.resnet_gap import POOLINGS
from capsbench.parameters import ImageSize, check_choice, check_truth, check_whole, check_wholes, image_shape

TURNS = 4  # of 90 degrees: the rotations of the group p4
KERNEL = 3


class GroupConvolution(nn.Module):
    """A 3x3 convolution over places and quarter turns, with one filter in all four orientations (section 6).

    Turn r of its output has the filter turned r times; from turns to turns, the filter's own turns move on by r, too.

    Convention:
        Features are ``[B, C, turns, H, W]``. If what comes in turns by 90 degrees counter-clockwise on the screen,
        `torch.rot90` over (H, W), what comes out turns alike, and its turn r is then turn r + 1.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out, of four turns each.
        turns: Of what comes in: 4, or 1 of an image.
    """

    def __init__(self, inputs: int, outputs: int, *, turns: int = TURNS) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, turns, KERNEL, KERNEL))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """``[B, inputs, turns, H, W]`` to ``[B, outputs, 4, H, W]``."""
        turned = [self.weight.roll(r, 2).rot90(r, (3, 4)) for r in range(TURNS)]
        filters = torch.stack(turned, 1).flatten(0, 1).flatten(1, 2)  # [outputs * 4, inputs * turns, 3, 3]
        maps = F.conv2d(features.flatten(1, 2), filters, padding=KERNEL // 2)
        return maps.view(len(maps), -1, TURNS, *maps.shape[2:])


def halve(features: Tensor) -> Tensor:
    """``[B, C, turns, H, W]`` to half of H and W, rounded up, by maxima of windows that lie alike from all four sides.

    An even side is cut into pairs; an odd one has windows of three around every second pixel.
    """
    kernel = [2 + side % 2 for side in features.shape[-2:]]
    halves = F.max_pool2d(features.flatten(1, 2), kernel, 2, [side - 2 for side in kernel])
    return halves.view(*features.shape[:3], *halves.shape[2:])


class GCNN(nn.Module):
    """Group convolutions over the group p4, batch norm, global pooling over places and turns, one linear layer.

    T. S. Cohen, M. Welling, "Group Equivariant Convolutional Networks", 2016. Where the image turns by 90 degrees, the
    features turn, and the scores stay. The sides are halved so that this holds at every size. The number of layers and
    the sizes are ours, for about as many parameters as `resnet-gap`: 286,938, and 73,758 in the preset ``small``.

    Softmax cross-entropy; sigmoid cross-entropy where an image shows two digits.

    Args:
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes.
        pairs: Whether an image shows two digits.
        channels_in: Channels of an image: 1 of grey images, 3 of colours.
        channels: Width of each stage of two convolutions; from the second on, a stage halves the sides of the image.
        pooling: Of places and turns: ``"max"`` or ``"average"`` (see `resnet-gap`).
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},  # what stands beside the networks in the paper's sizes
        "small": {"channels": (4, 8, 16, 32)},
    }

    def __init__(
        self,
        *,
        image_size: ImageSize = 28,
        classes: int = 10,
        pairs: bool = False,
        channels_in: int = 1,
        channels: Sequence[int] = (16, 32, 64),
        pooling: str = "max",
    ) -> None:
        super().__init__()
        channels = check_wholes("channels", channels)
        self.classes = check_whole("classes", classes)
        self.pairs = check_truth("pairs", pairs)
        self.pooling = check_choice("pooling", pooling, POOLINGS)
        self.channels_in = check_whole("channels_in", channels_in)
        self.image_shape = image_shape(image_size)
        self.stages = nn.ModuleList()
        for inputs, outputs in pairwise((self.channels_in, *channels)):
            first = GroupConvolution(inputs, outputs, turns=TURNS if self.stages else 1)
            second = GroupConvolution(outputs, outputs)
            # One mean and deviation for a channel's four turns, or they would not be alike any more.
            stage = [first, nn.BatchNorm3d(outputs), nn.ReLU(), second, nn.BatchNorm3d(outputs), nn.ReLU()]
            self.stages.append(nn.Sequential(*stage))
        self.classifier = nn.Linear(channels[-1], self.classes)

    def features(self, images: Tensor) -> Tensor:
        """``[B, channels_in, H, W]`` to the last features ``[B, C, 4, h, w]``, which turn with the image."""
        features = images.unsqueeze(2)
        for number, stage in enumerate(self.stages):
            features = stage(halve(features) if number else features)
        return features

    def forward(self, images: Tensor) -> Output:
        """``[B, channels_in, H, W]`` in 0..1 to logits ``[B, classes]``."""
        check_images(images, self.channels_in, self.image_shape)
        features = self.features(images)
        pooled = features.amax((2, 3, 4)) if self.pooling == "max" else features.mean((2, 3, 4))
        return Output(scores=self.classifier(pooled))

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        """Softmax cross-entropy, with pairs sigmoid cross-entropy summed over classes; the mean over the batch."""
        targets = k_hot(batch.labels, self.classes)
        return (binary_cross_entropy if self.pairs else cross_entropy)(output.scores, targets)
