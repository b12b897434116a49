"""A capsule network: routing by agreement, lengths as scores, and a decoder; for one digit or two, of any image size.

Replace `routing` by your own; `capsbench check` compares it with the paper's.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from capsbench.contracts import Output, TensorBatch


def length(capsules: Tensor) -> Tensor:
    """Of the last axis; its gradient is finite at 0, too."""
    return (capsules.square().sum(dim=-1) + 1e-12).sqrt()


def squash(capsules: Tensor) -> Tensor:
    """Lengths in 0..1, the directions as they are (equation 1 of the paper)."""
    long = length(capsules).unsqueeze(-1)
    return capsules * long / (1 + long.square())


def routing(u: Tensor, weight: Tensor, iterations: int) -> Tensor:
    """From input capsules [B, I, D] and matrices [I, J, O, D] to output capsules [B, J, O]."""
    votes = torch.einsum("ijod,bid->bijo", weight, u)
    logits = torch.zeros_like(votes[..., 0])
    for _ in range(iterations):
        couplings = logits.softmax(dim=2)  # over the output capsules
        v = squash((couplings.unsqueeze(-1) * votes).sum(dim=1))
        logits = logits + (votes * v.unsqueeze(1)).sum(dim=-1)
    return v


class Capsules(nn.Module):
    """Two convolutions, capsules of 8 dimensions, and ten of 16."""

    needs_layers = True  # each digit alone, for the error of its reconstruction
    margin_loss = True  # capsbench check compares it with the paper's, with reconstructions that have no error
    routing = staticmethod(routing)

    def __init__(self, *, image_size: int | tuple[int, int], types: int = 4, iterations: int = 3) -> None:
        super().__init__()
        self.sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        self.features = nn.Sequential(nn.Conv2d(1, 32, 9, 2), nn.ReLU(), nn.Conv2d(32, 8 * types, 5, 2))
        inputs = self.features(torch.zeros(1, 1, *self.sides)).numel() // 8
        self.weight = nn.Parameter(0.1 * torch.randn(inputs, 10, 16, 8))
        pixels = self.sides[0] * self.sides[1]
        self.decoder = nn.Sequential(nn.Linear(160, 256), nn.ReLU(), nn.Linear(256, pixels), nn.Sigmoid())
        self.iterations = iterations

    def forward(self, images: Tensor) -> Output:
        """Scores [B, 10] of images [B, 1, H, W], and how to draw each digit."""
        groups = self.features(images).unflatten(1, (-1, 8))  # [B, types, 8, h, w]
        u = squash(groups.movedim(2, -1).flatten(1, 3))  # [B, I, 8]
        v = self.routing(u, self.weight, self.iterations)
        return Output(scores=length(v), poses=v, reconstruct=partial(self.decode, v))

    def decode(self, poses: Tensor, classes: Tensor) -> Tensor:
        """An image [B, 1, H, W] from the capsule of one class each, as if the others were 0."""
        masked = poses * one_hot(classes, 10).unsqueeze(-1)
        image: Tensor = self.decoder(masked.flatten(1))
        return image.unflatten(1, (1, *self.sides))

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        """The margin loss, and a little of the error of each digit's reconstruction."""
        labels = batch.labels.reshape(len(batch.labels), -1)  # [B, 1], of pairs [B, 2]
        there = one_hot(labels, 10).sum(dim=1)
        missed, imagined = (0.9 - output.scores).relu().square(), (output.scores - 0.1).relu().square()
        loss = (there * missed + 0.5 * (1 - there) * imagined).sum(dim=1).mean()
        for digit, layer in zip(labels.unbind(1), batch.layers.unbind(1), strict=True):
            error = (output.reconstruct(digit)[:, 0] - layer).square().flatten(1)
            loss = loss + 0.0005 * error.sum(dim=1).mean()
        return loss
