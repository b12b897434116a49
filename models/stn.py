"""A spatial transformer before `cnn-pool`: a network that learns where to look (Jaderberg et al. 2015)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capsbench.contracts import Output
from capsbench.models.cnn_pool import CONVOLUTION, POOLING, PoolCNN
from capsbench.models.layers import check_images, shape_after
from capsbench.parameters import ImageSize, check_whole, check_wholes

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # the rows of an affine map that moves nothing


class SpatialTransformer(nn.Module):
    """Looks at an image, chooses an affine map, and shows the image under it (section 3).

    Two 5x5 convolutions with max pooling and two linear layers choose the map; they start with the identity.

    Convention:
        The map ``[2, 3]`` takes places ``(x, y, 1)`` of what goes out to places of what comes in, both from -1 to 1
        between the outer edges of the image, x right, y down. Bilinear between pixel centres, zero outside.

    Args:
        channels_in: Channels of an image.
        shape: Height and width of the images.
        channels: Width of each convolution.
        hidden: Width of the hidden layer.
    """

    def __init__(self, channels_in: int, shape: tuple[int, int], channels: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((channels_in, *channels)):
            layers += [nn.Conv2d(inputs, outputs, CONVOLUTION.kernel), nn.MaxPool2d(POOLING.kernel), nn.ReLU()]
        height, width = shape_after([CONVOLUTION, POOLING] * len(channels), shape)
        last = nn.Linear(hidden, len(IDENTITY))
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor(IDENTITY))
        self.choose = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * height * width, hidden), nn.ReLU())
        self.choose.append(last)

    def forward(self, images: Tensor) -> Tensor:
        """``[B, channels_in, H, W]`` to the same shape."""
        maps: Tensor = self.choose(images).to(images.dtype).view(-1, 2, 3)  # autocast would round places to its dtype
        with torch.autocast(images.device.type, enabled=False):
            places = F.affine_grid(maps, list(images.shape), align_corners=False)
            return F.grid_sample(images, places, align_corners=False)


class STN(PoolCNN):
    """`cnn-pool`, with an image that a spatial transformer has moved, turned and stretched before.

    M. Jaderberg, K. Simonyan, A. Zisserman, K. Kavukcuoglu, "Spatial Transformer Networks", 2015: an affine map for
    each image, chosen by a network that is trained with the rest, by the classes alone. Sizes are ours. 13,394,274
    parameters at 40x40, 59,896 more than `cnn-pool`; in the preset ``small`` 336,728, 14,590 more. It starts as
    `cnn-pool` does. Softmax cross-entropy.

    Args:
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes.
        channels_in: Channels of an image: 1 of grey images, 3 of colours.
        channels: Width of each convolution.
        hidden: Width of each hidden fully connected layer.
        dropout: Probability that a unit before the last layer is dropped in training.
        looking: Width of each convolution of the transformer.
        deciding: Width of its hidden layer.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "small": {**PoolCNN.presets["small"], "looking": (8, 8), "deciding": 32},
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
        looking: Sequence[int] = (20, 20),
        deciding: int = 50,
    ) -> None:
        sizes: Mapping[str, Any] = {"image_size": image_size, "classes": classes, "channels_in": channels_in}
        super().__init__(**sizes, channels=channels, hidden=hidden, dropout=dropout)
        looking = check_wholes("looking", looking)
        self.transformer = SpatialTransformer(
            self.channels_in, self.image_shape, looking, check_whole("deciding", deciding)
        )

    def forward(self, images: Tensor) -> Output:
        """``[B, channels_in, H, W]`` in 0..1 to logits ``[B, classes]``."""
        check_images(images, self.channels_in, self.image_shape)
        return super().forward(self.transformer(images))
