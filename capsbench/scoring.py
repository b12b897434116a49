"""The loss of a network that has none of its own; what its scores are (logits, probabilities) is found out once."""

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from capsbench.contracts import Output, TensorBatch, checked_output
from capsbench.errors import CapsbenchError, UsageError, first_line

if TYPE_CHECKING:  # torch takes seconds to import, and `capsbench list` needs only the names
    from torch import Tensor, nn

IMAGES = 2  # of a trial: one could be taken for a batch without its axis
BRIGHT = 1000.0  # times white: logits of such images are large
TOLERANCE = 1e-3  # of sums of ten probabilities: bfloat16 rounds each by 4e-3 of itself
ELSEWHERE = re.compile("cuda|triton|gpu|driver|not implemented for|must be on the same device", re.IGNORECASE)
"""Errors of a network that runs on a GPU alone: they say nothing about shapes."""

REMARKS = {
    ("softmax", False): "the network's scores are probabilities; its loss is the cross-entropy of their logarithms.",
    ("softmax", True): (
        "the network's scores are probabilities with a sum of 1, which suits one digit; for two, its loss is the "
        "cross-entropy against both labels in equal parts. Logits would get a sigmoid for each class."
    ),
    ("log-softmax", True): (
        "the network's scores are log-probabilities, which suit one digit; for two, its loss is the cross-entropy "
        "against both labels in equal parts. Logits would get a sigmoid for each class."
    ),
    ("sigmoid", False): (
        "the network's scores are sigmoids; its loss is their binary cross-entropy. Logits would get cross-entropy."
    ),
    ("sigmoid", True): "the network's scores are sigmoids; its loss is their binary cross-entropy.",
    ("in 0..1", False): "the network's scores lie in 0..1; they are taken for logits. If they are not, return logits.",
    ("in 0..1", True): "the network's scores lie in 0..1; they are taken for logits. If they are not, return logits.",
}
"""What is said of scores of a kind, for one digit and for two; nothing where the loss is exact as it is."""


@dataclass(frozen=True)
class ScoreLoss:
    """The cross-entropy of scores: of one digit softmax, of two a sigmoid for each class; the mean over the batch.

    Attributes:
        kind: What the scores are: ``"logits"``, or the function that they come from, ``"softmax"``,
            ``"log-softmax"`` or ``"sigmoid"``. Sums are over the classes.
    """

    kind: str = "logits"

    def __call__(self, output: Output, batch: TensorBatch) -> "Tensor":
        """The loss of scores ``[B, 10]`` against labels ``[B]`` or ``[B, 2]``: a float32 scalar."""
        import torch
        from torch.nn import functional as F

        scores = output.scores.to(torch.promote_types(output.scores.dtype, torch.float32))
        labels = batch.labels.reshape(len(batch.labels), -1)
        if self.kind == "sigmoid":
            scores = scores.logit(eps=torch.finfo(torch.float32).eps)
        if self.kind == "sigmoid" or (self.kind == "logits" and labels.shape[1] > 1):
            targets = torch.zeros_like(scores).scatter(1, labels, 1.0)
            return F.binary_cross_entropy_with_logits(scores, targets, reduction="none").sum(dim=1).mean()
        if self.kind == "softmax":
            scores = scores.clamp(min=torch.finfo(torch.float32).tiny).log()
        return -scores.log_softmax(dim=1).gather(1, labels).mean()


def fit_loss(name: str, model: "nn.Module", *, shape: tuple[int, int, int], classes: int, pairs: bool) -> None:
    """Gives a network that has no loss a `ScoreLoss` for its scores, which a trial on two images shows.

    Args:
        name: What messages call the network.
        model: The network; its mode is put back after. A remark on its scores is added to its ``remarks``.
        shape: Of an image: channels, height and width in pixels.
        classes: Number of classes.
        pairs: Whether an image shows two digits.

    Raises:
        UsageError: It fails on images of this size, or its scores are not ``[B, classes]``.
        Exception: On the device ``meta``, whatever it raises there.
    """
    scores = _trial(name, model, shape, classes)
    kind = "logits" if scores is None else kind_of(scores)
    if kind == "in 0..1":  # by chance, or of any images
        with suppress(UsageError):  # it checks that images are in 0..1
            brighter = _trial(name, model, shape, classes, brightness=BRIGHT)
            kind = kind if brighter is not None and ((brighter >= 0) & (brighter <= 1)).all() else "logits"
    attributes: dict[str, Any] = vars(model)
    attributes["loss"] = ScoreLoss(kind if kind != "in 0..1" else "logits")
    if (kind, pairs) in REMARKS:
        attributes["remarks"] = (*remarks_of(model), REMARKS[kind, pairs])


def kind_of(scores: "Tensor") -> str:
    """What scores ``[B, 10]`` seem to be; ``"in 0..1"`` may be logits or probabilities.

    A softmax shows in its sums. A sigmoid shows in the last operation alone: logits may lie in 0..1 by chance.
    """
    if scores.is_meta or not scores.isfinite().all():
        return "logits"
    values = scores.detach().float()
    positive = bool((values >= 0).all() and (values <= 1).all())
    if positive and bool(((values.sum(dim=1) - 1).abs() < TOLERANCE).all()):
        return "softmax"
    if bool((values <= 0).all()) and bool((values.logsumexp(dim=1).abs() < TOLERANCE).all()):
        return "log-softmax"
    if positive and "Sigmoid" in type(scores.grad_fn).__name__:
        return "sigmoid"
    return "in 0..1" if positive and values.min() < values.max() else "logits"  # a last layer may begin with zeros


def remarks_of(model: "nn.Module") -> Sequence[str]:
    """What a network has to say in tables: its attribute ``remarks``, a tuple of sentences; by default nothing."""
    found: Any = getattr(model, "remarks", ())
    return [one for one in found if isinstance(one, str)] if isinstance(found, tuple | list) else []


def trial_images(model: "nn.Module", shape: tuple[int, int, int]) -> "Tensor":
    """Two images ``[2, C, H, W]`` in 0..1 on the network's device, without a draw from any generator."""
    import torch

    parameter = next(model.parameters(), None)
    device = torch.empty(0).device if parameter is None else parameter.device
    pixels = torch.arange(IMAGES * math.prod(shape), device=device, dtype=torch.float32).remainder(7) / 7
    return pixels.reshape(IMAGES, *shape)


def _trial(
    name: str, model: "nn.Module", shape: tuple[int, int, int], classes: int, brightness: float = 1
) -> "Tensor | None":
    """The network's scores of two images; None where it runs on another device alone."""
    import torch

    images = brightness * trial_images(model, shape)
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad():  # the last operation of the scores is read
            return checked_output(model(images), len(images), classes).scores
    except CapsbenchError as error:
        raise UsageError(f"{name}: {error}") from None
    except Exception as error:
        if images.is_meta:
            raise
        if ELSEWHERE.search(str(error)):
            return None
        hint = "a constructor that takes image_size gets the size in pixels, "
        hint += "one that takes channels_in the number of channels"
        if isinstance(error, TypeError) and "positional argument" in str(error):
            hint = "its forward gets the images and nothing else"
        raise UsageError(
            f"The model {name!r} fails on images {list(images.shape)} (batch, channel, height, width): "
            f"{first_line(error)}. It must give scores [{IMAGES}, {classes}]; {hint}."
        ) from error
    finally:
        model.train(was_training)
