"""Rows of times, with operations and bytes counted by hand."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from capsbench.contracts import Output, TensorBatch
from capsbench.errors import ModelError
from capsbench.models import build
from capsbench.system.timing import PROBE, Rates, Timed
from capsbench.training import profiling as timing
from capsbench.training.capture import capture
from capsbench.training.profiling import Conditions, count_flops, part_rows, step_rows
from capsbench.training.rows import Row

CONDITIONS = Conditions(
    image_size=28, asked=4, precision="fp32", device="cpu", seconds=0.0, rates=Rates(flops=1.0, bytes=1.0)
)


def conditions(**changes: Any) -> Conditions:
    return Conditions(**(vars(CONDITIONS) | changes))


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[Timed]:
    """The outcome of contests; only what is counted is run."""
    outcome = [Timed(batch=1, seconds=1.0, peak_bytes=10)]

    def contest(contestants: Sequence[Any], **options: Any) -> list[Timed]:
        return [outcome[k % len(outcome)] for k in range(len(contestants))]

    monkeypatch.setattr(timing, "contest", contest)
    return outcome


def rows(where: Conditions, **changes: Any) -> list[Row]:
    """Of two implementations, with 20 flops and 3 elements for each image and 8 weights."""
    stated: dict[str, Any] = {"flops": 20, "elements": 3, "weight_bytes": 32, "part": "routing", "what": "forward"}
    return list(where.rows({"one": lambda batch: lambda: None, "two": lambda batch: lambda: None}, **stated | changes))


def test_shares_by_hand(timed: list[Timed]) -> None:
    timed[:] = [Timed(batch=4, seconds=2.0, peak_bytes=10), Timed(batch=2, seconds=2.0, peak_bytes=11)]
    one, two = rows(conditions(asked=4, rates=Rates(flops=100, bytes=50)), gradient="exact", iterations=3)
    assert (one.implementation, one.batch, one.seconds, one.peak_bytes) == ("one", 4, 2.0, 10)
    assert (two.implementation, two.batch, two.seconds, two.peak_bytes) == ("two", 2, 2.0, 11)
    assert {(row.part, row.what, row.gradient, row.iterations, row.image_size, row.asked) for row in (one, two)} == {
        ("routing", "forward", "exact", 3, 28, 4)
    }
    assert one.flops_share == pytest.approx(0.4)  # 20 in half a second, of 100
    assert two.flops_share == pytest.approx(0.2)
    assert one.bytes_share == pytest.approx(2.4)  # 3 + 8/4 numbers of 4 bytes, thrice, in half a second, of 50
    assert two.bytes_share == pytest.approx(1.68)  # 3 + 8/2 in a second: the weights crossed for two images only


def test_shares_of_half_precision_and_of_answers_alone(timed: list[Timed]) -> None:
    full = rows(conditions())[0].bytes_share
    assert full == (3 + 8) * 4 * 3
    assert rows(conditions(precision="bf16"))[0].bytes_share == (3 * 2 + 8 * 4) * 3  # weights stay in single precision
    assert rows(conditions(), backward=False)[0].bytes_share == full / 3


def test_a_row_without_memory_has_no_shares(timed: list[Timed]) -> None:
    timed[:] = [Timed(batch=0, seconds=0.0, peak_bytes=0)]
    row = rows(conditions())[0]
    assert (row.batch, row.seconds, row.flops_share, row.bytes_share) == (0, 0.0, 0.0, 0.0)


def test_a_comparison_runs_under_its_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def contest(contestants: Sequence[Any], **options: Any) -> list[Timed]:
        asked.append((len(contestants), options, torch.backends.cudnn.allow_tf32))
        return [Timed(1, 1.0, 1, 2.0)] * len(contestants)

    monkeypatch.setattr(timing, "contest", contest)
    rows(conditions(asked=32, seconds=0.5), recorded=True)
    options = {"batch": 32, "seconds": 0.5, "device": "cpu", "tried": {}, "capture": None}
    assert asked == [(2, options, False)]  # without TF32, as the rate of which fp32 rows are a share
    asked.clear()
    found = rows(conditions(device="cuda", precision="bf16"), recorded=True)
    rows(conditions(device="cuda", precision="bf16"))
    options |= {"batch": CONDITIONS.asked, "seconds": CONDITIONS.seconds, "device": "cuda"}
    assert asked == [(2, options | {"capture": capture}, True), (2, options, True)]
    assert [row.eager_seconds for row in found] == [2, 2]


def forward(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    return lambda: layer(x)


def both(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    return lambda: layer(x).sum().backward()


def test_operations_of_a_linear_layer() -> None:
    layer = nn.Linear(3, 5)
    x = torch.rand(PROBE, 3)
    assert count_flops(forward(layer, x)) == 2 * 3 * 5
    assert count_flops(both(layer, x)) == 2 * 2 * 3 * 5  # the images' gradient is not asked for
    assert count_flops(both(layer, x.requires_grad_())) == 3 * 2 * 3 * 5


def test_operations_of_a_convolution() -> None:
    layer = nn.Conv2d(2, 4, 3)
    x = torch.rand(PROBE, 2, 8, 8)
    once = 2 * (6 * 6) * (3 * 3) * 2 * 4
    assert count_flops(forward(layer, x)) == once
    assert count_flops(both(layer, x.requires_grad_())) == 3 * once


def test_the_parts_of_capsnet(timed: list[Timed]) -> None:
    model = build("capsnet", image_size=28, channels=4, types=2, conv_stride=2, decoder=(16, 32))
    found = {row.part: row for row in part_rows(model, CONDITIONS)}
    assert list(found) == ["convolution", "primary", "decoder"]
    assert {(row.what, row.implementation, row.iterations) for row in found.values()} == {("forward + backward", "", 0)}
    side = (28 - 9) // 2 + 1  # 10, and a single position after the second convolution
    first = side**2 * 81 * 4
    assert found["convolution"].flops_share == 2 * 2 * first  # forward and the weights' gradient
    assert found["primary"].flops_share == 3 * 2 * 81 * 4 * 16
    assert found["decoder"].flops_share == 3 * 2 * (160 * 16 + 16 * 32 + 32 * 784)
    assert found["convolution"].bytes_share == 4 * 3 * (784 + 4 * side**2 + 81 * 4 + 4)
    assert found["primary"].bytes_share == 4 * 3 * (4 * side**2 + 16 + 81 * 4 * 16 + 16)
    assert all(not child._forward_hooks for child in model.children())


class Scaled(nn.Linear):
    def forward(self, input: Tensor, *, scale: float = 1.0) -> Tensor:
        return scale * super().forward(input)


class Odd(nn.Module):
    """Every kind of child there is; notes how many images came, whether in training, and whether gradients are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(784, 6)
        self.bilinear = nn.Bilinear(6, 6, 6)
        self.activation = nn.ReLU()
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.named = Scaled(6, 6)
        self.table = nn.Embedding(7, 6)
        self.rows = nn.Linear(3, 3)
        self.idle = nn.Linear(6, 6)
        self.sequence = nn.GRU(6, 6, batch_first=True)  # gives two things
        self.last = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 6).requires_grad_(False), nn.Linear(6, 10))
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(self, images: Tensor) -> Output:
        self.seen.append((len(images), self.training, torch.is_grad_enabled()))
        x = self.first(images.flatten(1))
        x = self.frozen(self.activation(self.bilinear(x, x)))
        x = self.named(x, scale=2.0) + self.table(x.argmax(1))
        x = self.rows(x.view(-1, 3)).view(-1, 6)
        x = self.sequence(x[:, None])[0][:, 0]
        return Output(scores=self.last(x))

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        return nn.functional.cross_entropy(output.scores, batch.labels)


def test_only_children_that_can_be_timed_alone_are_parts() -> None:
    model = Odd()
    found = list(part_rows(model, CONDITIONS))
    assert [row.part for row in found] == ["first", "last"]
    assert all(row.batch == 4 and row.seconds > 0 and row.peak_bytes > 0 for row in found)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_parts_run_on_the_batch_that_the_conditions_state() -> None:
    model = Odd()
    generator = part_rows(model, conditions(asked=5))
    sizes: list[tuple[int, bool]] = []
    model.first.register_forward_pre_hook(
        lambda module, given: sizes.append((len(given[0]), given[0].requires_grad)),
    )
    next(generator)
    assert {size for size, _ in sizes} == {PROBE, 5}
    assert not any(wanted for _, wanted in sizes)  # nobody trains the images
    sizes.clear()
    model.last.register_forward_pre_hook(
        lambda module, given: sizes.append((len(given[0]), given[0].requires_grad)),
    )
    next(generator)
    assert (5, True) in sizes


def test_answers_are_given_in_evaluation_and_steps_train() -> None:
    model = Odd()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    generator = step_rows({"": model}, conditions(asked=5))
    answers = next(generator)
    assert (answers.part, answers.what, answers.implementation) == ("network", "forward", "")
    assert set(model.seen) == {(size, False, False) for size in (PROBE, 5)}
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    model.seen.clear()
    (step,) = generator
    assert (step.part, step.what) == ("network", "training step")
    assert set(model.seen) == {(size, True, True) for size in (PROBE, 5)}
    assert not torch.equal(before[0], model.first.weight)
    assert answers.peak_bytes < step.peak_bytes


class Line(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(784, width, bias=False)
        self.outer = nn.Linear(width, 10, bias=False)

    def forward(self, images: Tensor) -> Output:
        return Output(scores=self.outer(self.inner(images.flatten(1))))

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        return nn.functional.cross_entropy(output.scores, batch.labels)


def test_the_network_is_counted_as_the_last_has_it(timed: list[Timed]) -> None:
    found = list(step_rows({"auto": Line(100), "reference": Line(3)}, CONDITIONS))
    assert [(row.what, row.implementation) for row in found] == [
        (what, name) for what in ("forward", "training step") for name in ("auto", "reference")
    ]
    inner, outer = 784 * 3, 3 * 10
    for row in found[:2]:
        assert row.flops_share == 2 * (inner + outer)
        assert row.bytes_share == 4 * (784 + inner + outer)
    for row in found[2:]:
        assert row.flops_share == 2 * (2 * inner + 3 * outer)
        assert row.bytes_share == 4 * 3 * (784 + 3 * (inner + outer))  # weights, and Adam's two averages


def test_a_step_on_a_gpu_is_captured_at_the_size_of_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    benchmarks: list[bool] = []

    def step(network: nn.Module, optimizer: torch.optim.Optimizer, **options: Any) -> Callable[[TensorBatch], object]:
        made.append(options)
        return lambda batch: network(batch.images).scores.sum().backward()

    def contest(contestants: Sequence[Any], *, batch: int, **options: Any) -> list[Timed]:
        benchmarks.append(torch.backends.cudnn.benchmark)
        for prepare in contestants:
            prepare(batch)
        return [Timed(batch, 1.0, 1)] * len(contestants)

    original = timing._batch
    monkeypatch.setattr(timing, "_batch", lambda number, place: original(number, conditions()))
    monkeypatch.setattr(timing, "TrainingStep", step)
    monkeypatch.setattr(timing, "contest", contest)
    list(step_rows({"": Line(3)}, conditions(asked=12, device="cuda")))
    assert [one["graph"] for one in made] == [PROBE, 12]
    assert type(made[0]["graph"]) is int and {one["device"] for one in made} == {"cuda"}
    assert benchmarks == [True, True] and not torch.backends.cudnn.benchmark
    made.clear()
    list(step_rows({"": Line(3)}, conditions(asked=12)))
    assert [one["graph"] for one in made] == [0, 0]


class Hungry(Line):
    """Has memory for `PROBE` images at a time."""

    def forward(self, images: Tensor) -> Output:
        if len(images) > PROBE:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(images)


def test_a_step_that_does_not_fit_is_no_row_of_the_whole_batch() -> None:
    found = list(step_rows({"": Hungry(3)}, conditions(asked=4 * PROBE)))
    assert [(row.what, row.asked, row.batch) for row in found] == [
        ("forward", 4 * PROBE, PROBE),
        ("training step", 4 * PROBE, PROBE),
    ]


def test_parts_get_images_in_the_order_of_the_network() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 4, 3)
            self.second = nn.Conv2d(4, 10, 26)
            self.last: list[bool] = []

        def forward(self, images: Tensor) -> Output:
            x = self.first(images).contiguous(memory_format=torch.channels_last)
            return Output(scores=self.second(x).flatten(1))

    model = Pair()
    model.second.register_forward_pre_hook(
        lambda module, given: model.last.append(given[0].is_contiguous(memory_format=torch.channels_last))
    )
    list(part_rows(model, CONDITIONS))
    assert len(model.last) > 2 and all(model.last)


def test_a_model_that_returns_nonsense_is_refused() -> None:
    class Nonsense(Line):
        def forward(self, images: Tensor) -> Any:
            return [super().forward(images).scores]

    with pytest.raises(ModelError, match="forward returned a list"):
        list(part_rows(Nonsense(3), CONDITIONS))


def test_half_precision_is_autocast() -> None:
    model = Line(3)
    made: list[torch.dtype] = []
    model.inner.register_forward_hook(lambda module, given, output: made.append(output.dtype))
    for precision, expected in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        list(step_rows({"": model}, conditions(precision=precision)))
        assert set(made) == {expected}
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        made.clear()
    given: list[torch.dtype] = []
    model.outer.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].dtype))
    list(part_rows(model, conditions(precision="bf16")))
    assert set(made) == set(given) == {torch.bfloat16}  # a part is given what the network gives it
