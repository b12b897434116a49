"""Networks made for ImageNet, fitted to small images and their channels: the first convolution, the stem, the size."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from capsbench.errors import UsageError

FACTORS = (1, 2, 4)
"""By how much images may be enlarged."""

COLOURS = 3
POOLS = ("AdaptiveAvgPool", "AdaptiveMaxPool", "AdaptivePool")  # in the names of torch's and timm's classes


@dataclass(frozen=True)
class Enlarge:
    """A hook before forward that enlarges the images, bilinear, so that the network and its weights stay as they are.

    Attributes:
        factor: By how much.
    """

    factor: int

    def __call__(self, module: nn.Module, given: tuple[Tensor, ...]) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C, factor H, factor W]``."""
        return F.interpolate(given[0], scale_factor=float(self.factor), mode="bilinear", align_corners=False)


class ShapesAlone(TorchFunctionMode):
    """Inside it, layers have shapes and no numbers, as on the device ``meta``; a constructor can compute all the same.

    Layers make their weights with these functions. On ``meta`` the widths of torchvision's RegNets cannot be computed.
    What fills weights in is left out: torch takes milliseconds for a weight to find that its shape stays.
    """

    MADE_BY = (torch.empty, torch.zeros, torch.ones)
    FILLED_BY = ("uniform_", "normal_", "fill_", "zero_", "clamp_", "erfinv_")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls a function of torch."""
        named = dict(kwargs or {})
        if func in self.MADE_BY:
            named["device"] = "meta"
        elif getattr(func, "__name__", "") in self.FILLED_BY:
            weight = args[0] if args else named["tensor"]  # of a method, of a function in torch.nn.init
            if weight.is_meta:
                return weight
        return func(*args, **named)


def convolution_like(old: nn.Conv2d, channels_in: int, **changes: Any) -> nn.Conv2d:
    """A convolution like another one, with its own input channels and fresh weights.

    Args:
        old: The other one.
        channels_in: Channels of what comes in.
        **changes: What is different, such as ``stride=1``.
    """
    stated = {name: getattr(old, name) for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
    return nn.Conv2d(channels_in, old.out_channels, **(stated | changes), bias=old.bias is not None)


def first_convolution(model: nn.Module, channels_in: int) -> None:
    """Replaces the first convolution of three colours by one of another number of channels.

    Raises:
        UsageError: There is none.
    """
    for name, part in model.named_modules():
        if isinstance(part, nn.Conv2d) and part.in_channels == COLOURS:
            model.set_submodule(name, convolution_like(part, channels_in))
            return
    raise UsageError(f"No convolution of three colours was found in {type(model).__name__}.")


def small_stem(name: str, model: nn.Module, channels_in: int, stem: str | None) -> list[str]:
    """Gives a residual network the stem that suits small images: a first convolution of stride 1, and no pooling.

    Without it 28x28 pixels are 7x7 places before the first block. A first convolution of 7x7 becomes one of 3x3.

    Args:
        name: What messages call the network.
        model: The network.
        channels_in: Channels of the images.
        stem: ``"small"``, ``"imagenet"``, or None for small where there is such a stem.

    Returns:
        What was changed, in words.

    Raises:
        UsageError: A stem was chosen, and there is none.
    """
    first: Any = getattr(model, "conv1", None)
    if isinstance(first, nn.Sequential):  # three convolutions of 3x3, as in resnet18d
        first = first[0]
    pool = getattr(model, "maxpool", None)
    if not (isinstance(first, nn.Conv2d) and first.stride == (2, 2) and isinstance(pool, nn.Module)):
        if stem is not None:
            raise UsageError(f"{name} has no stem of a residual network to choose. Leave stem out.")
        return []
    if stem == "imagenet":
        return ["the stem of ImageNet"]
    if first is model.conv1:
        model.conv1 = convolution_like(first, channels_in, kernel_size=3, stride=1, padding=1)
    else:
        first.stride = (1, 1)
    model.maxpool = nn.Identity()
    return ["a stem for small images (3x3, stride 1, no pooling; --set stem=imagenet undoes it)"]


def last_map(model: nn.Module, shape: tuple[int, int], channels_in: int = 1) -> tuple[int, int] | None:
    """Height and width of the map that a network pools in the end; of shapes alone, without numbers.

    Args:
        model: The network.
        shape: Height and width of the images.
        channels_in: Their channels.

    Returns:
        None where it has no maps.

    Raises:
        Exception: Whatever the network raises on such images.
    """
    pooled: list[tuple[int, int]] = []
    maps: list[tuple[int, int]] = []

    def before_pool(module: nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor) and given[0].dim() == 4:
            last = "NHWC" in str(getattr(module, "input_fmt", ""))
            pooled.append(_sides(given[0], channels_last=last))

    def after_map(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        if isinstance(made, Tensor) and made.dim() == 4:
            maps.append(_sides(made))

    hooks = []
    for part in model.modules():
        if any(name in type(part).__name__ for name in POOLS):
            hooks.append(part.register_forward_pre_hook(before_pool))
        elif isinstance(part, nn.Conv2d | nn.BatchNorm2d):
            hooks.append(part.register_forward_hook(after_map))
    was_training = model.training
    images = torch.zeros(2, channels_in, *shape, device="meta")
    try:
        with torch.no_grad():
            torch.func.functional_call(model.eval(), dict(_on_meta(model)), (images,))
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    found = pooled or maps
    return found[-1] if found else None


def _on_meta(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, one in chain(model.named_parameters(), model.named_buffers()):
        yield name, one.to("meta")


def _sides(made: Tensor, *, channels_last: bool = False) -> tuple[int, int]:
    return (made.shape[1], made.shape[2]) if channels_last else (made.shape[2], made.shape[3])
