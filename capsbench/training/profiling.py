"""What a network costs: the time of each of its parts, of its answers and of its training step."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from capsbench.contracts import CLASSES, Batch, TensorBatch, checked_output
from capsbench.system.convolutions import fast_training
from capsbench.system.machine import without_tf32
from capsbench.system.timing import PROBE, Rates, Run, contest
from capsbench.training.capture import capture
from capsbench.training.rows import Row
from capsbench.training.step import TrainingStep, adam

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Conditions:
    """What all rows of a comparison have in common.

    Attributes:
        image_size: Side of the images in pixels.
        asked: Images at a time.
        precision: ``fp32`` or ``bf16``.
        device: ``"cpu"`` or ``"cuda"``.
        seconds: Time for each comparison.
        rates: What the machine reaches in this precision.
    """

    image_size: int
    asked: int
    precision: str
    device: str
    seconds: float
    rates: Rates

    def rows(
        self,
        prepare: Mapping[str, Callable[[int], Run]],
        *,
        flops: float,
        elements: float,
        weight_bytes: float,
        backward: bool = True,
        tried: Mapping[str, int] | None = None,
        recorded: bool = False,
        **labels: Any,
    ) -> Iterator[Row]:
        """Times several implementations beside one another.

        Args:
            prepare: For each implementation, a function that prepares a run on a number of images.
            flops: Multiplications and additions for one image.
            elements: Numbers that must be read or written for one image, once.
            weight_bytes: Bytes that must be read or written for all images together, once.
            backward: Whether the backward pass is timed, too.
            tried: For an implementation, a number of images that should fit; see `capsbench.system.timing.contest`.
            recorded: Whether a GPU's time is of a CUDA graph; a training step is one already.
            labels: The other fields of `Row`.
        """
        # In fp32 nothing is rounded to TF32, as in the product of matrices that shares are of.
        with without_tf32() if self.precision == "fp32" else nullcontext():
            timed = contest(
                list(prepare.values()),
                batch=self.asked,
                seconds=self.seconds,
                device=self.device,
                tried={list(prepare).index(name): batch for name, batch in (tried or {}).items()},
                capture=capture if recorded and self.device == "cuda" else None,
            )
        passes = 3 if backward else 1
        for implementation, one in zip(prepare, timed, strict=True):
            each = one.seconds / one.batch if one.batch else float("inf")
            moved = (elements * DTYPES[self.precision].itemsize + weight_bytes / max(one.batch, 1)) * passes
            yield Row(
                **labels,
                implementation=implementation,
                image_size=self.image_size,
                asked=self.asked,
                batch=one.batch,
                precision=self.precision,
                seconds=one.seconds,
                peak_bytes=one.peak_bytes,
                flops_share=flops / each / self.rates.flops,
                bytes_share=moved / each / self.rates.bytes,
                eager_seconds=one.eager_seconds,
            )

    def autocast(self) -> torch.autocast:
        """The context in which a network runs in this precision."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")


def part_rows(model: nn.Module, conditions: Conditions) -> Iterator[Row]:
    """Each part of the network that has weights, forward and backward."""
    with fast_training(model, precision=conditions.precision, device=conditions.device):
        for name, part, given, made in _parts(model, conditions):
            prepare = partial(_both_passes, part, given, conditions)
            yield from conditions.rows(
                {"": prepare},
                flops=count_flops(prepare(PROBE)),
                elements=(given.numel() + made.numel()) / PROBE,
                weight_bytes=sum(one.nbytes for one in part.parameters()),  # float32 under autocast, too
                part=name,
                what="forward + backward",
            )


def _both_passes(part: nn.Module, given: Tensor, conditions: Conditions, batch: int) -> Run:
    """A part's forward and backward pass on so many images like those that it was given."""
    x = torch.rand(batch, *given.shape[1:], dtype=given.dtype, device=conditions.device)
    if not given.is_contiguous() and given.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_(given.requires_grad)
    inputs = [one for one in (*part.parameters(), x) if one.requires_grad]

    def run() -> None:
        with conditions.autocast():
            y = part(x)
        torch.autograd.backward(y, torch.ones_like(y), inputs=inputs)
        for one in inputs:
            one.grad = None

    return run


def _parts(model: nn.Module, conditions: Conditions) -> list[tuple[str, nn.Module, Tensor, Tensor]]:
    """Each child of the network that maps one tensor to one, with its input and output for `PROBE` images.

    Only children that learn and whose input has a row of numbers for each image can be timed alone.
    """
    found: dict[str, tuple[str, nn.Module, Tensor, Tensor]] = {}

    def note(name: str, part: nn.Module, given: tuple[Any, ...], named: dict[str, Any], made: Any) -> None:
        if len(given) == 1 and not named and all(isinstance(one, Tensor) for one in (*given, made)):
            x = given[0]
            if x.is_floating_point() and x.dim() and len(x) == PROBE and made.requires_grad:
                found[name] = (name, part, x, made)

    hooks = [
        child.register_forward_hook(partial(note, name), with_kwargs=True)
        for name, child in model.named_children()
        if any(one.requires_grad for one in child.parameters())
    ]
    batch = _batch(PROBE, conditions)
    with conditions.autocast():
        output = checked_output(model(batch.images), PROBE)
        if output.reconstruct is not None:
            output.reconstruct(batch.labels)
    for hook in hooks:
        hook.remove()
    return list(found.values())


def step_rows(networks: Mapping[str, nn.Module], conditions: Conditions) -> Iterator[Row]:
    """The whole network: its answers alone, and its training step.

    Args:
        networks: Implementation of routing to the network that has it; the operations of the last one are counted.
        conditions: Device, precision and number of images.
    """

    def answer(network: nn.Module, batch: int) -> Run:
        images = _batch(batch, conditions).images
        network.eval()

        def run() -> object:
            with torch.no_grad(), conditions.autocast():
                return network(images)

        return run

    def step(network: nn.Module, batch: int) -> Run:
        samples = _batch(batch, conditions)
        network.train()
        train = TrainingStep(
            network,
            adam(network, 1e-3),
            precision=conditions.precision,
            device=conditions.device,
            graph=batch if conditions.device == "cuda" else 0,
            cut=False,  # a row states the batch that was computed in one piece
        )
        return partial(train, samples)

    *_, last = networks.values()
    weights = sum(one.nbytes for one in last.parameters())
    with ExitStack() as stack:
        for network in networks.values():
            stack.enter_context(fast_training(network, precision=conditions.precision, device=conditions.device))
        for what, prepare, moved in (("forward", answer, weights), ("training step", step, 3 * weights)):
            yield from conditions.rows(
                {name: partial(prepare, network) for name, network in networks.items()},
                flops=count_flops(prepare(last, PROBE)),
                elements=conditions.image_size**2,
                weight_bytes=moved,  # Adam's two averages are as large as the weights
                backward=what != "forward",
                part="network",
                what=what,
            )


def _batch(number: int, conditions: Conditions) -> TensorBatch:
    size = conditions.image_size
    images = torch.rand(number, 1, size, size, generator=torch.Generator().manual_seed(0)).to(conditions.device)
    return Batch(images=images, labels=(torch.arange(number) % CLASSES).to(conditions.device), layers=images)


def count_flops(run: Run) -> float:
    """Multiplications and additions in products of matrices for one of `PROBE` images, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops()) / PROBE
