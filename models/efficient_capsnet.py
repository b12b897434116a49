"""Efficient-CapsNet: few capsules, each of the whole image, and self-attention for routing (Mazzia et al. 2021)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from capsbench.contracts import Output
from capsbench.errors import ParameterError
from capsbench.models.digit_capsules import DigitCapsules
from capsbench.models.layers import Window, check_images, shape_after
from capsbench.parameters import ImageSize, check_whole, check_wholes

KERNELS, STRIDES = (5, 3, 3, 3), (1, 1, 1, 2)  # of the convolutions


def exponential_squash(s: Tensor) -> Tensor:
    """Shrinks vectors to a length below 1 and keeps their direction: the squash of Mazzia et al. 2021.

    ``v = (1 - exp(-|s|)) s / |s|``. Near 0 it is ``s``, whereas the squash of Sabour et al. has no slope there.

    Args:
        s: ``[..., dimensions]`` float.

    Returns:
        The same shape.
    """
    length = torch.linalg.vector_norm(s, dim=-1, keepdim=True).clamp_min(torch.finfo(s.dtype).tiny)
    v: Tensor = s * (-torch.expm1(-length) / length)
    return v


def self_attention(votes: Tensor, bias: Tensor) -> Tensor:
    """Weighs the votes for each capsule by how well they agree, once and without iterations (Mazzia et al. 2021).

    ``a_ij = sum_k u_ij . u_kj / sqrt(d)`` for input capsules i, k and output capsule j; ``c_ij``, its softmax over j,
    and ``s_j = sum_i (c_ij + b_ij) u_ij``.

    Args:
        votes: ``u``, ``[B, classes, inputs, d]``.
        bias: ``b``, ``[classes, inputs]``, log priors that are learnt.

    Returns:
        ``s``, ``[B, classes, d]``, to be squashed.
    """
    # The sum of a vote's products with all votes is its product with their sum.
    agreement = (votes * votes.sum(2, keepdim=True)).sum(-1) / math.sqrt(votes.shape[-1])  # [B, classes, inputs]
    couplings = agreement.softmax(1) + bias
    return (couplings.unsqueeze(-1) * votes).sum(2)


class EfficientCapsNet(DigitCapsules):
    """Four convolutions, 16 capsules of 8 dimensions by a depthwise convolution, self-attention routing.

    V. Mazzia, F. Salvetti, M. Chiaberge, "Efficient-CapsNet: capsule network with self-attention routing", Scientific
    Reports 11, 2021, and the authors' code. Each convolution is followed by ReLU and batch norm. Each channel of the
    last features becomes one number by a kernel of the size of these features. 161,824 parameters at 28x28 without its
    decoder, as the authors count. Where they say nothing, this is torch's: batch norm's momentum and epsilon. The loss
    is CapsNet's: the authors' 0.392 times the mean over 784 pixels is 0.0005 times the sum.

    Args:
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes.
        pairs: Whether an image shows two digits; then each is reconstructed alone.
        channels_in: Channels of an image: 1 of grey images, 3 of colours.
        channels: Width of each of the four convolutions; the last is cut into capsules.
        capsule_dim: Width of a primary capsule.
        digit_dim: Width of a class's capsule.
        reconstruction: Whether there is a decoder, and its error in the loss.
        reconstruction_weight: Of the squared error summed over pixels.
        decoder: Width of each hidden layer of the decoder.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        # 58 k parameters of encoder and 465 k of decoder at 40x40, for minutes of training on a CPU.
        "small": {"channels": (16, 32, 32, 64), "decoder": (128, 256)},
    }

    def __init__(
        self,
        *,
        image_size: ImageSize = 28,
        classes: int = 10,
        pairs: bool = False,
        channels_in: int = 1,
        channels: Sequence[int] = (32, 64, 64, 128),
        capsule_dim: int = 8,
        digit_dim: int = 16,
        reconstruction: bool = True,
        reconstruction_weight: float = 0.0005,
        decoder: Sequence[int] = (512, 1024),
    ) -> None:
        super().__init__(image_size, classes, pairs, channels_in, reconstruction, reconstruction_weight)
        channels = check_wholes("channels", channels)
        self.capsule_dim = check_whole("capsule_dim", capsule_dim)
        if len(channels) != len(KERNELS) or channels[-1] % capsule_dim:
            raise ParameterError(
                f"channels must be {len(KERNELS)} numbers, the last a multiple of {capsule_dim=}, got {channels}."
            )
        types = channels[-1] // capsule_dim
        check_whole("digit_dim", digit_dim)
        windows = [Window(*one) for one in zip(KERNELS, STRIDES, strict=True)]
        height, width = shape_after(windows, self.image_shape)
        layers: list[nn.Module] = []
        for inputs, outputs, window in zip((self.channels_in, *channels[:-1]), channels, windows, strict=True):
            convolution = nn.Conv2d(inputs, outputs, window.kernel, window.stride)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, nn.ReLU(), nn.BatchNorm2d(outputs)]
        self.features = nn.Sequential(*layers)
        self.primary = nn.Conv2d(channels[-1], channels[-1], (height, width), groups=channels[-1])
        self.weight = nn.Parameter(torch.empty(classes, types, digit_dim, capsule_dim))
        deviation = math.sqrt(2 / (classes * types * capsule_dim))  # as the authors' framework counts what comes in
        nn.init.trunc_normal_(self.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        self.bias = nn.Parameter(torch.zeros(classes, types))
        self.add_decoder(digit_dim, decoder)

    def forward(self, images: Tensor) -> Output:
        """``[B, channels_in, H, W]`` in 0..1 to lengths ``[B, classes]`` and capsules ``[B, classes, digit_dim]``."""
        check_images(images, self.channels_in, self.image_shape)
        primary: Tensor = self.primary(self.features(images))  # [B, channels, 1, 1]
        capsules = primary.view(len(images), -1, self.capsule_dim)  # [B, types, capsule_dim]
        u = exponential_squash(capsules.to(self.bias.dtype))  # under autocast lengths and couplings stay in float32
        votes = torch.einsum("nid,jiod->njio", u, self.weight)
        return self.answer(exponential_squash(self_attention(votes.to(self.bias.dtype), self.bias)))
