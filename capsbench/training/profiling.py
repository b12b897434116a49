"""What is timed of a network: each of its parts, its answers, and its training step; any network has these."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from capsbench.contracts import CLASSES, Batch, TensorBatch
from capsbench.evaluation.inference import checked_output
from capsbench.system.timing import PROBE, Rates, contest
from capsbench.training.step import TrainingStep, adam

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Run = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that was timed.

    Attributes:
        part: ``routing``, ``step``, or the name of a part of the network.
        what: ``forward``, ``forward + backward`` or ``training step``.
        implementation: Of routing; empty where there is none.
        gradient: Through routing.
        iterations: Of routing.
        image_size: Side of the images in pixels.
        asked: Images at a time that were asked for.
        batch: Images at a time that memory sufficed for; 0 where it did not even suffice for one.
        precision: ``fp32`` or ``bf16``.
        seconds: The shortest time.
        peak_bytes: That tensors took at most, beyond weights and inputs.
        flops_share: Of the machine's rate of multiplying matrices of this dtype: what the reference must compute, by
            the time that was taken.
        bytes_share: Of the machine's rate of copying: inputs, weights and outputs once, and with the backward pass
            twice more, by the time that was taken.
    """

    part: str
    what: str
    implementation: str = ""
    gradient: str = ""
    iterations: int = 0
    image_size: int
    asked: int
    batch: int
    precision: str
    seconds: float
    peak_bytes: int
    flops_share: float
    bytes_share: float


@dataclass(frozen=True)
class Place:
    """What all rows of a comparison have in common.

    Attributes:
        image_size: Side of the images in pixels.
        asked: Images at a time.
        precision: ``fp32`` or ``bf16``.
        device: ``"cpu"`` or ``"cuda"``.
        seconds: For each comparison.
        rates: Of the machine, in this precision.
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
        **labels: Any,
    ) -> Iterator[Row]:
        """Times contestants, by implementation.

        Args:
            prepare: Makes each ready for a number of images.
            flops: Of one image.
            elements: That cross memory for each image, once.
            weight_bytes: That cross memory for all images together, once.
            backward: Whether they come back, too.
            labels: What else a `Row` has.
        """
        timed = contest(list(prepare.values()), batch=self.asked, seconds=self.seconds, device=self.device)
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
            )

    def autocast(self) -> torch.autocast:
        """What a network runs under here."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")


def part_rows(model: nn.Module, place: Place) -> Iterator[Row]:
    """Each part of the network that has weights, forward and backward."""
    for name, part, given, made in _parts(model, place):
        parameters = [one for one in part.parameters() if one.requires_grad]

        def prepare(batch: int, part: nn.Module = part, given: Tensor = given, parameters: Any = parameters) -> Run:
            x = torch.rand(batch, *given.shape[1:], dtype=given.dtype, device=place.device)
            x.requires_grad_(given.requires_grad)
            wanted = [*parameters, *([x] if x.requires_grad else [])]

            def run() -> None:
                with place.autocast():
                    y = part(x)
                torch.autograd.backward(y, torch.ones_like(y), inputs=wanted)
                for one in wanted:
                    one.grad = None

            return run

        yield from place.rows(
            {"": prepare},
            flops=count_flops(prepare(PROBE)),
            elements=(given.numel() + made.numel()) / PROBE,
            weight_bytes=sum(one.nbytes for one in part.parameters()),  # float32 under autocast, too
            part=name,
            what="forward + backward",
        )


def _parts(model: nn.Module, place: Place) -> list[tuple[str, nn.Module, Tensor, Tensor]]:
    """Each child of the network that maps one tensor to one, with what it is given and makes of `PROBE` images.

    Only those that learn, and that are given a row of numbers for each image: others cannot be timed alone.
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
    batch = _batch(PROBE, place)
    with place.autocast():
        output = checked_output(model(batch.images), PROBE)
        if output.reconstruct is not None:
            output.reconstruct(batch.labels)
    for hook in hooks:
        hook.remove()
    return list(found.values())


def step_rows(networks: Mapping[str, nn.Module], place: Place) -> Iterator[Row]:
    """The whole network: answers alone, and the training step.

    Args:
        networks: By the implementation of routing that each has; the last one's products of matrices are counted.
        place: Where, and for how many images.
    """

    def answer(network: nn.Module, batch: int) -> Run:
        images = _batch(batch, place).images
        network.eval()

        def run() -> object:
            with torch.no_grad(), place.autocast():
                return network(images).scores

        return run

    def step(network: nn.Module, batch: int) -> Run:
        samples = _batch(batch, place)
        network.train()
        optimizer = adam(network, 1e-3, place.device)
        graph = place.device == "cuda"
        train = TrainingStep(network, optimizer, precision=place.precision, device=place.device, graph=graph)
        return lambda: train(samples)

    *_, last = networks.values()
    weights = sum(one.nbytes for one in last.parameters())
    for what, prepare, moved in (("forward", answer, weights), ("training step", step, 3 * weights)):
        yield from place.rows(
            {name: partial(prepare, network) for name, network in networks.items()},
            flops=count_flops(prepare(last, PROBE)),
            elements=place.image_size**2,
            weight_bytes=moved,  # Adam's two averages are as large as the weights
            backward=what != "forward",
            part="network",
            what=what,
        )


def _batch(number: int, place: Place) -> TensorBatch:
    size = place.image_size
    images = torch.rand(number, 1, size, size, generator=torch.Generator().manual_seed(0)).to(place.device)
    return Batch(images=images, labels=(torch.arange(number) % CLASSES).to(place.device), layers=images)


def count_flops(run: Run) -> float:
    """Multiplications and additions of products of matrices for each of `PROBE` images, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops()) / PROBE
