"""One step of training: half precision, captures, and batches that do not fit into memory."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from capsbench.contracts import Batch, Output, TensorBatch
from capsbench.errors import ModelError, TrainingError
from capsbench.models import build
from capsbench.system.convolutions import fast_training
from capsbench.training import step as stepping
from capsbench.training.step import WARM_UP, TrainingStep, _parts, adam

Compute = Callable[[], tuple[Tensor, list[Tensor | None]]]


class Line(torch.nn.Module):
    """One weight w and the loss w * (mean of the labels): its gradient is that mean."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Output:
        return Output(scores=self.weight.expand(len(images), 10))

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        return (output.scores[:, 0] * batch.labels).mean()


def batch(*labels: int) -> TensorBatch:
    return Batch(images=torch.zeros(len(labels), 1, 28, 28), labels=torch.tensor(labels))


def test_a_step_descends() -> None:
    model = Line()
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert step(batch(1, 3)).item() == 0
    assert model.weight.item() == pytest.approx(-0.2)
    assert step(batch(1, 1)).item() == pytest.approx(-0.2)
    assert model.weight.item() == pytest.approx(-0.3)


def test_the_loss_carries_no_graph() -> None:
    model = Line()
    assert not TrainingStep(model, adam(model, 1e-3))(batch(1)).requires_grad


def test_a_model_that_returns_nonsense_is_refused() -> None:
    model = torch.nn.Linear(28, 28)
    with pytest.raises(ModelError, match=r"scores of shape \[1, 1, 28, 28\] for 1 images"):
        TrainingStep(model, adam(model, 1e-3))(batch(1))


class Said(Line):
    """Makes its loss of the plain one."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.change = change

    def loss(self, output: Output, batch: TensorBatch) -> Any:
        return self.change(super().loss(output, batch))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Tensor.detach, "The loss depends on no parameter that is trained"),
        (lambda loss: loss.expand(2), r"must be a scalar tensor, the mean over the batch, got shape \[2\]"),
        (lambda loss: loss[None], r"got shape \[1\]"),
        (Tensor.item, "got a float"),
    ],
)
def test_a_loss_that_nothing_can_be_trained_with_is_refused(change: Callable[[Tensor], Any], message: str) -> None:
    model = Said(change)
    with pytest.raises(ModelError, match=message):
        TrainingStep(model, adam(model, 1e-3))(batch(1))


def test_a_network_without_anything_to_train_is_refused() -> None:
    with pytest.raises(ModelError, match=r"The network has no parameters.*use torch\.nn\.ModuleList"):
        adam(torch.nn.Flatten(), 1e-3)
    with pytest.raises(ModelError, match="trains none of its 1 parameters: requires_grad is False"):
        adam(Line().requires_grad_(False), 1e-3)


def test_complex_weights_are_trained() -> None:
    model = torch.nn.Linear(2, 1, dtype=torch.complex64)
    optimizer = adam(model, 1e-3)
    before = model.weight.detach().clone()
    model(torch.ones(1, 2, dtype=torch.complex64)).abs().sum().backward()
    optimizer.step()
    assert not torch.equal(model.weight, before)


@pytest.mark.parametrize("name", ["capsnet", "cnn", "cnn-pool"])
def test_half_precision_is_near_single_and_keeps_weights_and_gradients_single(name: str) -> None:
    losses = {}
    images = torch.rand(8, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    given = Batch(images=images, labels=torch.arange(8))
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        model = build(name, image_size=40, preset="small").eval()  # without dropout
        losses[precision] = TrainingStep(model, adam(model, 1e-3), precision=precision)(given)
        assert all(p.dtype == torch.float32 for p in model.parameters())
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
    assert losses["bf16"].dtype == torch.float32
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"].item() == pytest.approx(losses["fp32"].item(), rel=2**-5)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Compute]:
    """Stands in for the GPU: a capture runs nothing; a replay does it all, and writes to the same memory each time."""
    captured: list[Compute] = []

    def capture(function: Compute) -> Compute:
        captured.append(function)
        memory: list[Tensor] = []

        def replay() -> tuple[Tensor, list[Tensor | None]]:
            loss, gradients = function()
            fresh = [loss, *[one for one in gradients if one is not None]]
            memory.extend([torch.empty_like(one) for one in fresh][len(memory) :])
            for kept, one in zip(memory, fresh, strict=True):
                kept.copy_(one)
                one.fill_(torch.nan)  # a graph does not write to what Python sees now
            rest = iter(memory[1:])
            return memory[0], [None if one is None else next(rest) for one in gradients]

        return replay

    monkeypatch.setattr(stepping, "on_side_stream", lambda function: function())
    monkeypatch.setattr(stepping, "waiting_refused", nullcontext)
    monkeypatch.setattr(stepping, "capture", capture)
    return captured


def test_a_captured_step_is_the_plain_step(recorded: list[Compute]) -> None:
    models = {False: Line(), True: Line()}
    batches = [batch(k, k + 1, 2) for k in range(WARM_UP + 4)]
    batches.insert(WARM_UP + 2, batch(9))  # the last batch of an epoch may be smaller
    losses = {}
    for graph, model in models.items():
        step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), graph=3 if graph else 0)
        losses[graph] = [loss.item() for loss in [step(one) for one in batches]]  # read after all of them
    assert losses[True] == losses[False]
    assert torch.equal(models[True].weight, models[False].weight)
    assert len(recorded) == 1


def test_a_captured_step_reads_the_same_memory_each_time(recorded: list[Compute]) -> None:
    seen = []
    model = Line()
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].data_ptr()))
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), graph=2)
    for k in range(WARM_UP + 4):
        step(batch(k, k))
    assert len(set(seen[WARM_UP:])) == 1


def test_a_training_that_goes_on_at_a_small_batch_captures_the_full_ones(recorded: list[Compute]) -> None:
    model = Line()
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), graph=3)
    step(batch(1))  # the last of an epoch
    for _ in range(WARM_UP + 3):
        step(batch(1, 1, 1))
    assert len(recorded) == 1 and model.weight.item() == pytest.approx(-0.1 * (WARM_UP + 4))


def test_a_step_that_cannot_be_captured_runs_all_the_same(
    recorded: list[Compute], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(function: Compute) -> Compute:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(stepping, "capture", refuse)
    model = Line()
    lines: list[str] = []
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), graph=1, report=lines.append)
    for _ in range(WARM_UP + 3):
        step(batch(1))
    assert model.weight.item() == pytest.approx(-0.1 * (WARM_UP + 3))
    assert lines == [
        "the step is not captured in a CUDA graph and runs slower: "
        "RuntimeError: operation not permitted when stream is capturing"
    ]


class Waiting(Line):
    """Waits for the device, which `waiting_refused` makes an error."""

    refused = False

    def forward(self, images: Tensor) -> Output:
        if self.refused:
            raise RuntimeError("called a synchronizing CUDA operation")
        return super().forward(images)


def test_a_network_that_waits_is_found_before_a_capture_and_trained_without(
    recorded: list[Compute], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Waiting()

    @contextmanager
    def refuse() -> Iterator[None]:
        model.refused = True
        try:
            yield
        finally:
            model.refused = False

    monkeypatch.setattr(stepping, "waiting_refused", refuse)
    lines: list[str] = []
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), graph=1, report=lines.append)
    for _ in range(WARM_UP + 3):
        step(batch(1))
    assert model.weight.item() == pytest.approx(-0.1 * (WARM_UP + 3))
    assert recorded == [] and step.micro_batches == 1
    (line,) = lines
    assert re.fullmatch(
        r"the step is not captured in a CUDA graph and runs slower: the network waits for the GPU in test_step\.py, "
        r"line \d+ \(RuntimeError: called a synchronizing CUDA operation\); "
        r"replace \.item\(\), \.cpu\(\) and conditions on tensors by operations on tensors",
        line,
    )


def test_the_optimizer_is_no_part_of_a_graph(recorded: list[Compute]) -> None:
    """A one-cycle schedule changes Adam's momentum with each step; a graph would repeat the first one."""
    weights, models = {}, {0: Line(), 2: Line()}
    for graph, model in models.items():
        optimizer = adam(model, 1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=21)
        step = TrainingStep(model, optimizer, graph=graph)
        for k in range(20):
            step(batch(k % 3, 1))
            schedule.step()
        weights[graph] = model.weight.item()
    (differentiate,) = recorded
    differentiate()
    assert weights[2] == weights[0] == models[2].weight.item()


def test_the_size_of_a_graph_is_no_truth_value() -> None:
    model = Line()
    with pytest.raises(TypeError, match="graph must be the size of a batch, or 0; got True"):
        TrainingStep(model, adam(model, 1e-3), graph=True)


class Hungry(Line):
    """Has memory for so many images at once."""

    def __init__(self, room: int, words: str = "") -> None:
        super().__init__()
        self.room = room
        self.error = RuntimeError(words) if words else torch.OutOfMemoryError("CUDA out of memory.")

    def forward(self, images: Tensor) -> Output:
        if len(images) > self.room:
            raise self.error
        return super().forward(images)


@pytest.mark.parametrize("words", ["", "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"])
@pytest.mark.parametrize(("labels", "parts"), [((1, 3, 5, 7), 2), ((1, 3, 5, 7, 9), 4)])
def test_a_batch_that_does_not_fit_is_cut_and_its_gradients_added(
    labels: tuple[int, ...], parts: int, words: str
) -> None:
    model = Hungry(2, words)
    lines: list[str] = []
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), report=lines.append)
    mean = sum(labels) / len(labels)
    for k in range(3):
        assert step(batch(*labels)).item() == pytest.approx(-0.1 * k * mean**2, rel=1e-5)
    assert model.weight.item() == pytest.approx(-0.3 * mean)
    assert step.micro_batches == parts and len(lines) == parts // 2
    step(batch(2, 2))  # a small batch does not need as many parts
    assert model.weight.item() == pytest.approx(-0.3 * mean - 0.2)


@pytest.mark.parametrize("images", range(1, 20))
@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_parts_of_a_batch_are_alike_and_no_larger_than_the_memory_for_them(images: int, parts: int) -> None:
    cut = _parts(images, parts)
    sizes = [one.stop - one.start for one in cut]
    assert [index for one in cut for index in range(one.start, one.stop)] == list(range(images))
    assert max(sizes) == -(-images // parts) and max(sizes) - min(sizes) <= 1 and len(cut) <= parts


@pytest.mark.parametrize("images", [1, 4])
def test_a_batch_that_must_not_be_cut_is_an_error_where_memory_runs_out(images: int) -> None:
    model = Hungry(0)
    lines: list[str] = []
    step = TrainingStep(model, adam(model, 1e-3), cut=False, report=lines.append)
    with pytest.raises(torch.OutOfMemoryError):
        step(batch(*range(images)))
    assert step.micro_batches == 1 and lines == []


def test_an_image_that_does_not_fit_alone_ends_the_training() -> None:
    model = Hungry(0)
    with pytest.raises(TrainingError, match=r"single image. Try .* \(OutOfMemoryError: CUDA out of memory"):
        TrainingStep(model, adam(model, 1e-3))(batch(1, 2, 3))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    model = Hungry(2, "shapes do not fit")
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        TrainingStep(model, adam(model, 1e-3))(batch(1, 2, 3))


def test_a_captured_step_that_runs_out_of_memory_is_captured_again(recorded: list[Compute]) -> None:
    model = Hungry(4)
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), graph=4)
    for _ in range(WARM_UP + 2):
        step(batch(1, 1, 1, 1))
    model.room = 2  # another process took the rest
    step._replay = None  # a replay that is running needs no more memory; a new capture does
    for _ in range(WARM_UP + 2):
        step(batch(1, 1, 1, 1))
    assert model.weight.item() == pytest.approx(-0.1 * 2 * (WARM_UP + 2))
    assert step.micro_batches == 2 and len(recorded) == 3


def test_a_network_with_narrow_strided_shortcuts_trains() -> None:
    model = build("resnet-gap", image_size=24, channels=(4, 8, 16))  # channels last, this ended the process
    step = TrainingStep(model, adam(model, 1e-3))
    with fast_training(model, precision="fp32", device="cpu"):
        for _ in range(4):
            images = torch.rand(50, 1, 24, 24).contiguous()
            assert torch.isfinite(step(TensorBatch(images=images, labels=torch.arange(50) % 10)))
