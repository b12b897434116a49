"""A plain network: images [B, 1, H, W] in 0..1 to ten scores, of any image size."""

from torch import nn


class Net(nn.Sequential):
    """Two convolutions and one layer over the whole map."""

    def __init__(self, width: int = 16) -> None:
        super().__init__(
            *(nn.Conv2d(1, width, 5, stride=2), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, stride=2), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32 * width, 10)),
        )
