"""The network: one layer over the pixels."""

from torch import nn


class OneLayer(nn.Sequential):
    """One layer over the pixels."""

    def __init__(self, image_size: int = 28) -> None:
        super().__init__(nn.Flatten(), nn.Linear(image_size * image_size, 10))
