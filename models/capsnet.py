"""CapsNet: a convolution, primary capsules, routed digit capsules, a decoder (section 4)."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from capsbench.contracts import Output
from capsbench.models.digit_capsules import DigitCapsules
from capsbench.models.layers import Window, check_images, shape_after
from capsbench.models.routing import route, squash
from capsbench.models.routing.route import check_options
from capsbench.parameters import ImageSize, check_number, check_truth, check_whole, check_wholes

PRIMARY_STRIDE = 2
MORE = Window(kernel=3)
INITIAL_BIAS = 0.1  # the authors' code; keeps capsules of blank ground away from 0, where squash is flat
INITIAL_WEIGHT = 0.1  # standard deviation of the transformation matrices, as in the authors' code


class PrimaryCapsules(nn.Module):
    """The lowest capsules: a convolution whose channels are cut into groups of one capsule each.

    Args:
        channels: Width of what comes in.
        types: Number of capsules at each position.
        dimensions: Width of a capsule.
        kernel: Side of the kernel in pixels.
        scale: Factor on the convolution, before the bias.
    """

    def __init__(self, channels: int, types: int, dimensions: int, kernel: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.convolution = nn.Conv2d(channels, types * dimensions, kernel, PRIMARY_STRIDE, bias=False)
        self.bias = nn.Parameter(torch.full((types, dimensions, 1, 1), INITIAL_BIAS))
        with torch.no_grad():  # the scale sets how fast the weights learn, not where they start
            self.convolution.weight.div_(scale)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, channels, H, W]`` to capsules ``[B, types * h * w, dimensions]``, of length below 1.

        A capsule is the group of ``dimensions`` neighbouring channels at one position.
        """
        groups = self.convolution(features).unflatten(1, self.bias.shape[:2])  # [B, types, dimensions, h, w]
        biased = torch.add(self.bias, groups, alpha=self.scale)  # float32 under autocast, for the bias is
        return squash(biased.permute(0, 1, 3, 4, 2).flatten(1, 3))


class CapsNet(DigitCapsules):
    """The paper's capsule network: 256 features, 32 types of 8-D primary capsules, 16-D digit capsules.

    A 9x9 convolution with ReLU, primary capsules by a 9x9 convolution of stride 2, one digit capsule a class by
    routing, and a decoder that reconstructs the image from the capsule of one class. A capsule's length is its class's
    score. The loss is the margin loss plus the decoder's squared error. If an image shows two digits, one decoder
    reconstructs each of them from its own capsule, and both errors are added (section 6).

    With a digit bias the encoder has 6,804,384 parameters at 28x28 and 11,228,064 at 40x40, the decoder 1,411,344 and
    2,247,744.

    Convolutions and decoder start as torch starts them (at the paper's widths within a third of the authors' truncated
    normals, and at other widths in proportion), the transformation matrices from a truncated normal of 0.1.

    The preset ``"large"`` is for images larger than 28x28: it scales the primary convolution as the authors' released
    code does. Without that the network did not learn at 40x40 (docs/affine.md).

    The preset ``"released"`` has what the authors' released code has and the paper does not mention: primary capsules
    of convolution / 32, and a reconstruction error that weighs 20 times more against the margin loss.

    Args:
        image_size: Height and width in pixels; one number is a square.
        classes: Number of classes, and of digit capsules.
        pairs: Whether an image shows two digits, so that `loss` compares reconstructions with the batch's layers.
        channels_in: Channels of an image: 1 of grey images, 3 of colours.
        channels: Width of the first convolution.
        kernel: Side of both convolutions' kernels in pixels.
        conv_stride: Stride of the first convolution; 2 leaves a small network about a quarter of the capsules.
        more: Widths of further 3x3 convolutions with ReLU before the primary capsules. The paper has none; small
            networks need one to take two digits apart.
        types: Primary capsules at each position.
        capsule_dim: Dimensions of a primary capsule.
        digit_dim: Dimensions of a digit capsule.
        shared: Whether a type has one transformation matrix for each class at all positions, as the convolutional
            capsules of Hinton et al. 2018 ("Matrix capsules with EM routing") have. Then nothing after the convolutions
            is tied to a place. Of 4,608 matrices for each class at 40x40, 32 are left, and the encoder has 5,370,784
            parameters.
        primary_scale: Factor on the primary convolution before its bias. The authors' 1/32 comes from routing from one
            capsule to 32 types with equal couplings; weights start 1/primary_scale larger, so that only the pace of
            learning differs.
        digit_bias: Whether routing adds a trained bias to each digit capsule; the authors' code does, procedure 1 does
            not.
        iterations: Iterations of routing; the paper compares 1 and 3.
        leaky: Whether routing has an orphan category, as the authors' code has for CIFAR-10 (see `route`).
        gradient: Through routing: ``"exact"``, as in the authors' code, or ``"detached"``, cheaper (see `route`).
        implementation: Of routing (see `route`).
        reconstruction: Whether there is a decoder, and its error in the loss; Table 1 compares both.
        reconstruction_weight: Of the squared error summed over pixels; 0.0005 keeps it below the margin loss.
        decoder: Width of each hidden layer of the decoder.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        # On 36x36 and more, the first step of Adam at 1e-3 drives all capsules to length 1, and "paper" stays there.
        "large": {"primary_scale": 1 / 32},
        # The released code halves the margin loss and takes its mean over 10 classes, but not the reconstruction's.
        "released": {"primary_scale": 1 / 32, "reconstruction_weight": 20 * 0.0005},
        # 332 k parameters of encoder and 465 k of decoder at 40x40, for minutes of training on a CPU.
        "small": {"channels": 32, "conv_stride": 2, "types": 8, "gradient": "detached", "decoder": (128, 256)},
    }

    def __init__(
        self,
        *,
        image_size: ImageSize = 28,
        classes: int = 10,
        pairs: bool = False,
        channels_in: int = 1,
        channels: int = 256,
        kernel: int = 9,
        conv_stride: int = 1,
        more: Sequence[int] = (),
        types: int = 32,
        capsule_dim: int = 8,
        digit_dim: int = 16,
        shared: bool = False,
        primary_scale: float = 1.0,
        digit_bias: bool = True,
        iterations: int = 3,
        leaky: bool = False,
        gradient: str = "exact",
        implementation: str = "auto",
        reconstruction: bool = True,
        reconstruction_weight: float = 0.0005,
        decoder: Sequence[int] = (512, 1024),
    ) -> None:
        super().__init__(image_size, classes, pairs, channels_in, reconstruction, reconstruction_weight)
        check_options(iterations, gradient, implementation, leaky)
        check_number("primary_scale", primary_scale, 1e-6, math.inf)  # the weights are divided by it
        self.leaky = leaky  # which `capsbench.check` reads
        self.route = partial(
            route, iterations=iterations, gradient=gradient, leaky=leaky, implementation=implementation
        )

        first = Window(check_whole("kernel", kernel), check_whole("conv_stride", conv_stride))
        second = Window(kernel, PRIMARY_STRIDE)
        widths = (check_whole("channels", channels), *(check_wholes("more", more) if more else ()))
        height, width = shape_after([first, *[MORE] * len(more), second], self.image_shape)
        self.convolution = nn.Conv2d(self.channels_in, channels, first.kernel, first.stride)
        nn.init.constant_(self.convolution.get_parameter("bias"), INITIAL_BIAS)
        further = [(nn.Conv2d(*pair, MORE.kernel), nn.ReLU()) for pair in pairwise(widths)]
        self.more = nn.Sequential(*(layer for layers in further for layer in layers))
        self.primary = PrimaryCapsules(
            widths[-1],
            types=check_whole("types", types),
            dimensions=check_whole("capsule_dim", capsule_dim),
            kernel=second.kernel,
            scale=primary_scale,
        )
        self.positions = height * width if check_truth("shared", shared) else 1  # that share a matrix
        matrices = types * height * width // self.positions
        self.weight = nn.Parameter(torch.empty(matrices, classes, check_whole("digit_dim", digit_dim), capsule_dim))
        nn.init.trunc_normal_(self.weight, std=INITIAL_WEIGHT, a=-2 * INITIAL_WEIGHT, b=2 * INITIAL_WEIGHT)
        bias = torch.full((classes, digit_dim), INITIAL_BIAS)
        self.bias = nn.Parameter(bias) if check_truth("digit_bias", digit_bias) else None
        self.add_decoder(digit_dim, decoder)

    def forward(self, images: Tensor) -> Output:
        """``[B, channels_in, H, W]`` in 0..1 to lengths ``[B, classes]`` and capsules ``[B, classes, digit_dim]``."""
        check_images(images, self.channels_in, self.image_shape)
        features = torch.relu(self.convolution(images))
        # Of a type, the capsules of all positions are neighbours. Blocked routing copies the matrices in any case.
        weight = self.weight.repeat_interleave(self.positions, 0) if self.positions > 1 else self.weight
        poses = self.route(self.primary(self.more(features)), weight, bias=self.bias)
        return self.answer(poses)

    def routing(self, u: Tensor, weight: Tensor, iterations: int) -> Tensor:
        """Routes any capsules as this network routes its own, without the bias: `capsbench.check` checks it."""
        return self.route(u, weight, iterations=iterations)
