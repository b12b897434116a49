"""Convolutions in their fastest order: with channels last in memory where a device computes those faster."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

CHANNELS_LAST = {"cuda": "bf16", "cpu": "fp32"}
"""The precision in which a device's convolutions keep channels last: on an H200 capsnet's steps are 9 to 13 % faster
so; on a core of an EPYC those of the small cnn-pool and resnet-gap take 0.7 of the time, capsnet's 0.8 to 0.95, and
answers of cnn-pool, stn and resnet-gap less than half."""


@contextmanager
def fast_training(model: nn.Module, *, precision: str, device: str) -> Iterator[None]:
    """The order of `fast_order`; on a GPU, cuDNN tries its algorithms for each size, and its setting is put back."""
    benchmark = torch.backends.cudnn.benchmark
    if device == "cuda":
        torch.backends.cudnn.benchmark = True
    try:
        with fast_order(model, precision=precision, device=device):
            yield
    finally:
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def fast_order(model: nn.Module, *, precision: str, device: str) -> Iterator[None]:
    """The weights of convolutions get their fastest order, which is put back after; values and shapes stay.

    Only in a network that says ``channels_last = True``: what a convolution gives then has this order, too, and
    ``x.view(len(x), -1)``, as many networks have it, is an error.
    """
    ordered: list[nn.Module] = []
    if getattr(model, "channels_last", False) is True and precision == CHANNELS_LAST.get(device):
        convolutions = [one for one in model.modules() if isinstance(one, nn.Conv2d | nn.ConvTranspose2d)]
        if device != "cpu" or not any(map(_crashes, convolutions)):
            # A class made of one of these may give its weights another shape, for which their order must stay.
            plain = [one for one in convolutions if type(one) in (nn.Conv2d, nn.ConvTranspose2d)]
            # A stride of 1 between channels: the network has this order itself.
            ordered = [one for one in plain if one.weight.stride(1) != 1]
    try:
        _order(ordered, torch.channels_last)
        yield
    finally:
        _order(ordered, torch.contiguous_format)


def _order(convolutions: Sequence[nn.Module], order: torch.memory_format) -> None:
    with torch.inference_mode(False):  # weights made in that mode could not be trained after
        for one in convolutions:
            one.to(memory_format=order)


def _crashes(convolution: nn.Module) -> bool:
    """Whether oneDNN may end the process in the backward pass of a convolution, once its images have the fast order.

    Seen with torch 2.14 on AVX2: of a strided 1x1 convolution with 2 to 7 channels the gradient is written beyond its
    memory, whatever the order of its own weights. A vector holds 8 numbers there, and 16 where there is AVX-512.
    """
    lanes = 16 if "AVX512" in torch.backends.cpu.get_cpu_capability() else 8
    return (
        isinstance(convolution, nn.Conv2d)
        and convolution.kernel_size == (1, 1)
        and max(convolution.stride) > 1
        and 1 < convolution.in_channels < lanes
    )
