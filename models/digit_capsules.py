"""A capsule for each class: its length is the class's score, and a decoder draws the digit from it (section 4)."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from capsbench.contracts import Output, TensorBatch
from capsbench.errors import ParameterError
from capsbench.models.layers import fully_connected
from capsbench.models.losses import k_hot, margin_loss, reconstruction_loss
from capsbench.parameters import ImageSize, check_number, check_truth, check_whole, check_wholes, image_shape


class DigitCapsules(nn.Module):
    """What networks with a capsule for each class share; a network's ``forward`` ends in `answer`.

    Args:
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes.
        pairs: Whether an image shows two digits; then each is reconstructed alone, and both are grey.
        channels_in: Channels of an image: 1 of grey images, 3 of colours.
        reconstruction: Whether there is a decoder, and its error in the loss.
        reconstruction_weight: Of the squared error summed over pixels.
    """

    channels_last = True
    decoder: nn.Sequential | None

    def __init__(
        self,
        image_size: ImageSize,
        classes: int,
        pairs: bool,
        channels_in: int,
        reconstruction: bool,
        reconstruction_weight: float,
    ) -> None:
        super().__init__()
        check_number("reconstruction_weight", reconstruction_weight, 0, math.inf)
        self.image_shape = image_shape(image_size)
        self.classes = check_whole("classes", classes)
        self.pairs = check_truth("pairs", pairs)
        self.channels_in = check_whole("channels_in", channels_in)
        if self.pairs and self.channels_in > 1:
            raise ParameterError(f"Pairs of digits are grey, so that channels_in must be 1, got {self.channels_in}.")
        self.needs_layers = check_truth("reconstruction", reconstruction) and self.pairs
        self.reconstruction = reconstruction
        self.reconstruction_weight = reconstruction_weight

    def add_decoder(self, digit_dim: int, hidden: Sequence[int]) -> None:
        """Makes the decoder, if there is one; last, so that a network without it starts with the same weights."""
        pixels = self.channels_in * self.image_shape[0] * self.image_shape[1]
        sizes = (self.classes * digit_dim, *check_wholes("decoder", hidden), pixels)
        self.decoder = fully_connected(sizes).append(nn.Sigmoid()) if self.reconstruction else None

    def answer(self, poses: Tensor) -> Output:
        """The output that goes with capsules ``[B, classes, digit_dim]``: their lengths are the scores."""
        reconstruct = None if self.decoder is None else partial(self.decode, poses)
        return Output(scores=torch.linalg.vector_norm(poses, dim=-1), poses=poses, reconstruct=reconstruct)

    def decode(self, poses: Tensor, classes: Tensor) -> Tensor:
        """Reconstructs each image from the capsule of one class; the others are masked by zeros (section 4.1).

        Args:
            poses: ``[B, classes, digit_dim]``.
            classes: ``[B]`` int64.

        Returns:
            ``[B, channels_in, H, W]`` in 0..1.
        """
        if self.decoder is None:
            raise ParameterError(f"This {type(self).__name__} has no decoder: it was built with reconstruction=False.")
        masked = poses * k_hot(classes, self.classes).unsqueeze(-1)
        image: Tensor = self.decoder(masked.flatten(1))
        return image.view(-1, self.channels_in, *self.image_shape)

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        """Margin loss, and with a decoder the weighted error of reconstructing each digit by its true label."""
        margin = margin_loss(output.scores, k_hot(batch.labels, self.classes))
        if output.reconstruct is None:
            return margin
        targets = batch.layers if self.pairs else batch.images  # [B, k channels_in, H, W]
        labels = batch.labels.reshape(len(batch.labels), -1)  # [B, k]
        if targets is None or targets.shape[:2] != (len(labels), self.channels_in * labels.shape[1]):
            found = "no layers" if targets is None else f"images to reconstruct {list(targets.shape)}"
            raise ParameterError(
                f"{type(self).__name__} with pairs={self.pairs} reconstructs one image a label, "
                f"got labels {list(batch.labels.shape)} and {found}."
            )
        errors = [
            reconstruction_loss(output.reconstruct(label), target)
            for label, target in zip(labels.unbind(1), targets.chunk(labels.shape[1], 1), strict=True)
        ]
        return margin + self.reconstruction_weight * torch.stack(errors).sum()
