"""What a network draws of some samples, as bytes: from their classes, and from poses that were moved."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from capsbench.contracts import CLASSES, IndexArray, Output, UInt8Array
from capsbench.data.loading import Samples, to_tensors
from capsbench.errors import ModelError
from capsbench.evaluation.inference import checked_output

STEPS = tuple(step / 20 for step in range(-5, 6))
"""By how much a dimension of a pose is moved: -0.25..0.25 by 0.05 (Sabour et al. 2017, Figure 4)."""

DIMENSIONS = 16  # of a pose that are moved at most: all of the paper's


@torch.inference_mode()
def draw(model: nn.Module, data: Samples, samples: IndexArray, classes: IndexArray, device: str) -> UInt8Array:
    """What a network draws of some samples ``[n]``, of the classes ``[n]``: ``[n, H, W]``; it stays in evaluation mode.

    Raises:
        ModelError: It draws nothing, or nothing that is an image.
    """
    reconstruct = _output(model, data, samples, device).reconstruct
    assert reconstruct is not None
    return _pixels(reconstruct(torch.from_numpy(classes).to(device)), len(samples), data)


@torch.inference_mode()
def move(model: nn.Module, data: Samples, samples: IndexArray, classes: IndexArray, device: str) -> UInt8Array | None:
    """What a network's ``decode`` draws of some samples ``[n]``, each time one dimension of a pose moved by a step.

    Args:
        model: The network; `capsbench.contracts.Model` says what ``decode`` is.
        data: Of single digits.
        samples: Which of them.
        classes: ``[n]``, whose pose is moved, and drawn.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        ``[n, dimensions, steps, H, W]``, the first 16 dimensions at most; None where there is no ``decode``.

    Raises:
        ModelError: Poses or images are not what ``decode`` promises.
    """
    decode: Any = getattr(model, "decode", None)
    if not callable(decode):
        return None
    poses = _output(model, data, samples, device).poses
    if poses is None or poses.dim() != 3 or poses.shape[1] != CLASSES:
        found = "none" if poses is None else str(list(poses.shape))
        raise ModelError(f"The model offers decode; its poses must be [B, {CLASSES}, D], got {found}.")
    steps = torch.tensor(STEPS, device=device, dtype=poses.dtype)
    dimensions = min(DIMENSIONS, poses.shape[2])
    offsets = torch.eye(poses.shape[2], device=device, dtype=poses.dtype)[:dimensions, None] * steps[:, None]
    drawn = []
    for pose, label in zip(poses, classes.tolist(), strict=True):
        moved = pose.repeat(dimensions * len(STEPS), 1, 1)  # [dimensions * steps, classes, D]
        moved[:, label] += offsets.flatten(0, 1)
        labels = torch.full((len(moved),), label, device=device)
        images = _pixels(decode(moved, labels), len(moved), data)
        drawn.append(images.reshape(dimensions, len(STEPS), *images.shape[1:]))
    return np.stack(drawn)


def _output(model: nn.Module, data: Samples, samples: IndexArray, device: str) -> Output:
    model.eval()
    output = checked_output(model(to_tensors(data.batch(samples), None, device).images), len(samples))
    if output.reconstruct is None:
        raise ModelError(
            "Reconstructions were asked for, but this network has none: its forward must return "
            "capsbench.contracts.Output(scores=..., reconstruct=...)."
        )
    return output


def _pixels(drawn: Tensor, number: int, data: Samples) -> UInt8Array:
    """Images ``[n, 1, H, W]`` 0..1, of the size of the data's, as bytes ``[n, H, W]``."""
    wanted = [number, 1, *data.batch(np.arange(1)).images.shape[1:]]
    if list(drawn.shape) != wanted:
        raise ModelError(f"The model drew images of shape {list(drawn.shape)}; {wanted} is needed.")
    if not drawn.isfinite().all():
        raise ModelError("The model drew pixels that are not numbers.")
    pixels: UInt8Array = (255 * drawn[:, 0].float().clamp(0, 1)).round().byte().cpu().numpy()
    return pixels
