"""Checks of a whole network; each returns a line about what it found, or None if it does not apply."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from capsbench.conformance.routing import TOLERANCE, FaultError, Layer, expect_small, relative_error
from capsbench.contracts import CLASSES, Batch, Output, TensorBatch, checked_output, loss_of

IMAGES = 3


@dataclass(frozen=True)
class Network:
    """A network in evaluation mode, with what its checks need to know.

    Attributes:
        module: The network.
        image_shape: Height and width in pixels.
        pairs: Whether an image shows two digits.
        rebuilt: Builds it with another number of iterations and the same weights; None if it has no such parameter.
        routing: The layer that it offers, if it does.
    """

    module: nn.Module
    image_shape: tuple[int, int]
    pairs: bool
    rebuilt: Callable[[int], nn.Module] | None
    routing: Layer | None

    def batch(self, number: int) -> TensorBatch:
        """Images of noise: as good as any for a network of random weights."""
        shown = 2 if self.pairs else 1
        generator = torch.Generator().manual_seed(0)
        layers = torch.rand(number, shown, *self.image_shape, generator=generator)
        labels = torch.arange(number * shown).reshape(number, shown) % CLASSES
        images = layers.sum(dim=1, keepdim=True).clamp(max=1)
        return Batch(images=images, labels=labels if self.pairs else labels[:, 0], layers=layers)


def batch(network: Network) -> str:
    """The answer to an image is the same alone and among others."""
    images = network.batch(IMAGES).images
    together = _answer(network.module, images)
    alone = torch.cat([_answer(network.module, image[None]) for image in images])
    error = relative_error(alone, together)
    expect_small(error, f"answers to an image alone and in a batch of {IMAGES} differ")
    return f"alone and in a batch of {IMAGES} within {error:.1g}"


def iterations(network: Network) -> str | None:
    """A network with a parameter ``iterations`` answers differently for each number."""
    if not network.rebuilt:
        return None
    images = network.batch(IMAGES).images
    answers = {number: _answer(network.rebuilt(number), images) for number in (1, 2, 3)}
    for number in (2, 3):
        if torch.equal(answers[number], answers[number - 1]):
            raise FaultError(f"built with iterations={number} it answers as with iterations={number - 1}")
    return "built with iterations 1, 2, 3 it answers differently"


def gradients(network: Network) -> str:
    """The gradients of the loss in float32 are those of a copy in float64.

    Images are taken one by one, and the middle error of three counts: where rounding pushes a ReLU over its edge, the
    gradient of that image moves by more than rounding.
    """
    batch = network.batch(IMAGES)
    errors = []
    for row in range(IMAGES):
        in_float32, in_float64 = (_gradients(network.module, batch, row, t) for t in (torch.float32, torch.float64))
        errors.append(float((in_float32 - in_float64).norm() / in_float64.norm()))
    error = sorted(errors)[IMAGES // 2]
    expect_small(error, "gradients of the loss in float32 and float64 differ")
    return f"of the loss, float32 within {error:.1g} of float64"


def zeros(network: Network) -> str:
    """Scores of a black image, and the gradients of its loss, are numbers."""
    black = network.batch(1)
    assert black.layers is not None
    batch = replace(black, images=torch.zeros_like(black.images), layers=torch.zeros_like(black.layers))
    module = copy.deepcopy(network.module)
    _answer(module, batch.images)
    torch.autograd.backward(_loss_of(module, batch))
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise FaultError(f"at a black image the gradient of {name} is not a number")
    return "scores and gradients are numbers at a black image"


def margin_loss(network: Network) -> str | None:
    """The margin loss of lengths for which it is known by hand (section 3, equation 4)."""
    if not (network.routing or getattr(network.module, "margin_loss", False) is True):
        return None  # nothing says that this is the loss
    shown = 2 if network.pairs else 1  # their labels are 0, or 0 and 1
    silent, right, mistaken = torch.zeros(CLASSES), torch.full((CLASSES,), 0.1), torch.full((CLASSES,), 0.1)
    right[:shown] = 0.9
    mistaken[-1] = 0.9
    cases = {
        "all lengths 0": ([silent], 0.81 * shown),
        "all lengths 0.5": ([silent + 0.5], 0.16 * shown + 0.08 * (CLASSES - shown)),
        "what is there 0.9, all others 0.1": ([right], 0.0),
        "one that is not there 0.9, all others 0.1": ([mistaken], 0.64 * shown + 0.32),
        "two images, the first and the third of these": ([silent, right], 0.405 * shown),
    }
    for name, (rows, expected) in cases.items():
        found = _loss(network, torch.stack(rows), torch.arange(shown).expand(len(rows), shown))
        if not abs(found - expected) <= TOLERANCE:
            raise FaultError(f"{name}: the loss is {found:.4g}, expected {expected:.4g}")
    return f"{len(cases)} values known by hand"


def _answer(module: nn.Module, images: Tensor) -> Tensor:
    """Scores, and poses if there are any: ``[B, anything]``."""
    with torch.no_grad():
        output = checked_output(module(images), len(images))
    answer = output.scores
    if isinstance(output.poses, Tensor):
        answer = torch.cat([answer, output.poses.flatten(1)], dim=1)
    if not answer.isfinite().all():
        raise FaultError("it gives scores or poses that are not numbers")
    return answer


def _gradients(module: nn.Module, batch: TensorBatch, row: int, dtype: torch.dtype) -> Tensor:
    """Gradients of the loss of one image of a batch with respect to all parameters: ``[parameters]``."""
    module = copy.deepcopy(module).to(dtype)
    assert batch.layers is not None
    one = slice(row, row + 1)
    single = Batch(images=batch.images[one].to(dtype), labels=batch.labels[one], layers=batch.layers[one].to(dtype))
    torch.autograd.backward(_loss_of(module, single))
    return torch.cat([p.grad.double().flatten() for p in module.parameters() if p.grad is not None])


def _loss_of(module: nn.Module, batch: TensorBatch) -> Tensor:
    """The loss of the network's own answer to a batch."""
    return loss_of(module, checked_output(module(batch.images), len(batch.images)), batch)


def _loss(network: Network, scores: Tensor, labels: Tensor) -> float:
    """The loss of scores ``[B, classes]`` whose reconstructions are perfect: the margin loss alone."""
    layers = torch.zeros(*labels.shape, *network.image_shape)
    batch = Batch(images=layers[:, :1], labels=labels if network.pairs else labels[:, 0], layers=layers)
    poses = scores.unsqueeze(-1)  # capsules of one dimension have the same lengths, for a loss that takes them
    with torch.no_grad():
        output = Output(scores=scores, poses=poses, reconstruct=lambda classes: batch.images)  # for a loss that asks
        return float(loss_of(network.module, output, batch))
