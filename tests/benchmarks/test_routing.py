"""How fast and how lean routing is: forward and backward, three iterations, against the paper in plain einsum.

Gates are ratios of minima of alternating runs on one thread, with room for a noisy machine below what was measured.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from capsbench.contracts import Batch
from capsbench.models import build
from capsbench.models.routing import route
from capsbench.models.routing.reference import route_reference
from capsbench.models.routing.route import choose
from capsbench.system import memory
from capsbench.training.step import TrainingStep, adam

Alternate = Callable[..., dict[str, float]]
Compare = Callable[..., None]

OUTPUTS, OUTPUT_DIM, INPUT_DIM = 10, 16, 8  # the paper's
LEANER = 5  # times less memory than the reference, at least


@dataclass(frozen=True)
class Contest:
    """A size and what is to be reached there.

    Attributes:
        batch: Images.
        inputs: Input capsules: 1,152 at 28x28, 4,608 at 40x40.
        gradient: ``"exact"`` or ``"detached"``.
        reference: How many times as fast as the reference.
        compiled: How many times as fast as torch.compile of the reference; None does not ask.
    """

    batch: int
    inputs: int
    gradient: str
    reference: float
    compiled: float | None = None

    @property
    def name(self) -> str:
        return f"routing, B={self.batch}, I={self.inputs}, {self.gradient}"


CONTESTS = [
    Contest(128, 1152, "detached", 4.0, 2.4),
    Contest(128, 1152, "exact", 5.0, 1.7),
    Contest(128, 4608, "detached", 4.5),
    Contest(128, 4608, "exact", 4.5),
]


def prepare(batch: int, inputs: int, gradient: str) -> Callable[[Callable[..., Tensor]], Callable[[int], object]]:
    """Capsules and matrices for a contestant, other ones each turn, in more memory than caches have."""
    random = torch.Generator().manual_seed(0)
    sets = [
        (
            torch.rand(batch, inputs, INPUT_DIM, generator=random).sub_(0.5).requires_grad_(),
            torch.randn(inputs, OUTPUTS, OUTPUT_DIM, INPUT_DIM, generator=random).mul_(0.1).requires_grad_(),
        )
        for _ in range(3)
    ]
    upstream = torch.randn(batch, OUTPUTS, OUTPUT_DIM, generator=random)

    def make(routing: Callable[..., Tensor]) -> Callable[[int], object]:
        def run(turn: int) -> object:
            u, weight = sets[turn % len(sets)]
            return torch.autograd.grad(routing(u, weight, 3, None, gradient), (u, weight), upstream)

        return run

    return make


def named(implementation: str) -> Callable[..., Tensor]:
    def routing(u: Tensor, weight: Tensor, iterations: int, bias: Tensor | None, gradient: str) -> Tensor:
        return route(u, weight, iterations, bias=bias, gradient=gradient, implementation=implementation)

    return routing


@pytest.mark.parametrize("contest", CONTESTS, ids=lambda contest: contest.name)
def test_routing(benchmark: Any, alternate: Alternate, compare: Compare, contest: Contest) -> None:
    if not benchmark.enabled:
        contest = Contest(8, 36, contest.gradient, 0)
    make = prepare(contest.batch, contest.inputs, contest.gradient)
    contestants = {"auto": make(named("auto")), "reference": make(route_reference)}
    gates = {"reference": contest.reference}
    if contest.compiled:
        contestants["compiled reference"] = make(torch.compile(route_reference))
        gates["compiled reference"] = contest.compiled
    describe(benchmark, contest.name, contest.batch, "float32")
    minima = alternate(contestants, gates=gates)
    benchmark.extra_info["images_per_s"] = {name: round(contest.batch / seconds) for name, seconds in minima.items()}
    benchmark.extra_info["peak_bytes"] = peaks = {
        name: memory.peak(lambda name=name: contestants[name](0), "cpu")  # type: ignore[misc]
        for name in ("auto", "reference")
    }
    compare("auto", "reference", peaks["reference"] / peaks["auto"], LEANER, measure="memory")


@pytest.mark.parametrize("gradient", ["detached", "exact"])
@pytest.mark.parametrize("batch", [1, 32])
def test_auto_is_the_best_of_ours(benchmark: Any, alternate: Alternate, batch: int, gradient: str) -> None:
    inputs = 1152 if benchmark.enabled else 36
    make = prepare(batch, inputs, gradient)
    ours = choose(torch.empty(batch, inputs, INPUT_DIM), torch.empty(inputs, OUTPUTS, OUTPUT_DIM, INPUT_DIM))
    others = {"blocked", "reference"} - {ours}
    describe(benchmark, f"what auto chooses, B={batch}, I={inputs}, {gradient}", batch, "float32")
    alternate({name: make(named(name)) for name in (ours, *others)}, gates=dict.fromkeys(others, 1.0))


@pytest.mark.parametrize(("precision", "gate"), [("fp32", 1.3), ("bf16", 2.3)])
def test_training_step(benchmark: Any, alternate: Alternate, precision: str, gate: float) -> None:
    """The paper's CapsNet on 28x28, against the same with reference routing in float32."""
    if benchmark.enabled and precision == "bf16" and not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this CPU has no products of bfloat16: a step takes a minute and says nothing")
    images, preset = (128, "paper") if benchmark.enabled else (8, "small")
    batch = Batch(images=torch.rand(images, 1, 28, 28), labels=torch.arange(images) % 10)

    def step(implementation: str, precision: str) -> Callable[[int], object]:
        model = build("capsnet", preset=preset, implementation=implementation)
        train = TrainingStep(model, adam(model, 1e-3), precision=precision)
        return lambda turn: train(batch)

    describe(benchmark, f"training step of capsnet 28x28, {precision}", images, precision)
    contestants = {"auto": step("auto", precision), "reference, fp32": step("reference", "fp32")}
    minima = alternate(contestants, gates={"reference, fp32": gate})
    benchmark.extra_info["images_per_s"] = {name: images / seconds for name, seconds in minima.items()}


def describe(benchmark: Any, group: str, batch: int, dtype: str) -> None:
    benchmark.group = group
    benchmark.extra_info.update(batch=batch, device="cpu", dtype=dtype)
