"""A small residual network: parameters with defaults can be set from the command line."""

from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, features: Tensor) -> Tensor:
        """``[B, width, H, W]`` to the same."""
        return (features + self.second(self.first(features))).relu()


class ResNet(nn.Module):
    """A convolution of stride 2, residual blocks, and the mean over the map."""

    def __init__(self, *, width: int = 32, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 5, stride=2, padding=2), nn.ReLU())
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.scores = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 1, H, W]`` to ``[B, 10]``."""
        return self.scores(self.blocks(self.stem(images)).mean((2, 3)))
