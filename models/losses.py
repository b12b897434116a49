"""The losses of the paper's networks as pure functions: sums over classes and pixels, means over the batch."""

import torch
from torch import Tensor
from torch.nn import functional as F

from capsbench.errors import ParameterError


def k_hot(labels: Tensor, classes: int) -> Tensor:
    """Labels as rows with a 1 at each digit that the image shows.

    Args:
        labels: ``[B]`` or ``[B, k]`` int64, 0 <= label < classes.
        classes: Number of classes.

    Returns:
        ``[B, classes]`` float32, 0 or 1.
    """
    if labels.dtype != torch.int64 or labels.dim() not in (1, 2):
        raise ParameterError(f"labels must be int64 [B] or [B, k], got {labels.dtype} {list(labels.shape)}.")
    rows = labels.reshape(len(labels), -1)  # [B, k]
    return torch.zeros(len(rows), classes, device=labels.device).scatter_(1, rows, 1.0)


def margin_loss(
    lengths: Tensor, targets: Tensor, *, present: float = 0.9, absent: float = 0.1, down_weighting: float = 0.5
) -> Tensor:
    """Margin loss for digit existence (section 3, equation 4).

    ``L_k = T_k max(0, m+ - |v_k|)^2 + lambda (1 - T_k) max(0, |v_k| - m-)^2``, summed over the classes k.

    Args:
        lengths: ``[B, classes]``, the capsules' lengths ``|v_k|`` in 0..1.
        targets: ``[B, classes]``, ``T_k`` of `k_hot`.
        present: ``m+``: a digit that is there costs nothing from this length on.
        absent: ``m-``: one that is not there costs nothing up to this length.
        down_weighting: ``lambda``; keeps the many absent digits from shrinking all capsules early in training.

    Returns:
        A scalar, the mean over the batch.
    """
    missed = targets * (present - lengths).relu().square()
    imagined = (1 - targets) * (lengths - absent).relu().square()
    return (missed + down_weighting * imagined).sum(dim=1).mean()


def reconstruction_loss(reconstructions: Tensor, targets: Tensor) -> Tensor:
    """Squared error of reconstructed images, summed over pixels (section 4.1).

    Args:
        reconstructions: ``[B, C, H, W]`` in 0..1.
        targets: The same shape and range.

    Returns:
        A scalar, the mean over the batch.
    """
    if reconstructions.shape != targets.shape:
        raise ParameterError(
            f"Reconstructions {list(reconstructions.shape)} and their targets {list(targets.shape)} differ in shape."
        )
    return (_precise(reconstructions) - targets).square().flatten(1).sum(dim=1).mean()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Softmax cross-entropy (section 5); where an image shows several digits, each has the same share of the target.

    Args:
        logits: ``[B, classes]``.
        targets: ``[B, classes]``, `k_hot`.

    Returns:
        A scalar, the mean over the batch.
    """
    share = targets / targets.sum(dim=1, keepdim=True)
    return -(share * _precise(logits).log_softmax(dim=1)).sum(dim=1).mean()


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Sigmoid cross-entropy of each class alone, summed over the classes (section 6.2, the baseline).

    Args:
        logits: ``[B, classes]``.
        targets: ``[B, classes]``, `k_hot`.

    Returns:
        A scalar, the mean over the batch.
    """
    precise = _precise(logits)
    terms = F.binary_cross_entropy_with_logits(precise, targets.to(precise.dtype), reduction="none")
    return terms.sum(dim=1).mean()


def _precise(values: Tensor) -> Tensor:
    """The values in float32 at least: sums of many small terms lose too much in the half precision of autocast."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
