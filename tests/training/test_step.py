"""One step of training: half precision, captures, and batches that do not fit into memory."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from capsbench.contracts import Batch, Output, TensorBatch
from capsbench.errors import ModelError, TrainingError
from capsbench.models import build
from capsbench.training import step as stepping
from capsbench.training.step import WARM_UP, TrainingStep, adam


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
    assert not TrainingStep(model, adam(model, 1e-3, "cpu"))(batch(1)).requires_grad


def test_a_model_that_returns_nonsense_is_refused() -> None:
    model = torch.nn.Linear(28, 28)
    with pytest.raises(ModelError, match="forward returned a Tensor"):
        TrainingStep(model, adam(model, 1e-3, "cpu"))(batch(1))


@pytest.mark.parametrize("name", ["capsnet", "cnn", "cnn-pool"])
def test_half_precision_is_near_single_and_keeps_weights_and_gradients_single(name: str) -> None:
    losses = {}
    images = torch.rand(8, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    given = Batch(images=images, labels=torch.arange(8))
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        model = build(name, image_size=40, preset="small").eval()  # without dropout
        losses[precision] = TrainingStep(model, adam(model, 1e-3, "cpu"), precision=precision)(given)
        assert all(p.dtype == torch.float32 for p in model.parameters())
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
    assert losses["bf16"].dtype == torch.float32
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"].item() == pytest.approx(losses["fp32"].item(), rel=2**-5)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Tensor]]:
    """Stands in for the GPU: a capture runs nothing, and a replay does what was captured."""
    captured: list[Callable[[], Tensor]] = []

    def capture(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        captured.append(function)
        return function

    monkeypatch.setattr(stepping, "on_side_stream", lambda function: function())
    monkeypatch.setattr(stepping, "capture", capture)
    return captured


def test_a_captured_step_is_the_plain_step(recorded: list[Callable[[], Tensor]]) -> None:
    models = {False: Line(), True: Line()}
    batches = [batch(k, k + 1, 2) for k in range(WARM_UP + 4)]
    batches.insert(WARM_UP + 2, batch(9))  # the last batch of an epoch may be smaller
    losses = {}
    for graph, model in models.items():
        step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), graph=3 if graph else 0)
        losses[graph] = [step(one).item() for one in batches]
    assert losses[True] == losses[False]
    assert torch.equal(models[True].weight, models[False].weight)
    assert len(recorded) == 1


def test_a_captured_step_reads_the_same_memory_each_time(recorded: list[Callable[[], Tensor]]) -> None:
    seen = []
    model = Line()
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].data_ptr()))
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), graph=2)
    for k in range(WARM_UP + 4):
        step(batch(k, k))
    assert len(set(seen[WARM_UP:])) == 1


def test_a_training_that_goes_on_at_a_small_batch_captures_the_full_ones(recorded: list[Callable[[], Tensor]]) -> None:
    model = Line()
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), graph=3)
    step(batch(1))  # the last of an epoch
    for _ in range(WARM_UP + 3):
        step(batch(1, 1, 1))
    assert len(recorded) == 1 and model.weight.item() == pytest.approx(-0.1 * (WARM_UP + 4))


def test_a_step_that_cannot_be_captured_runs_all_the_same(
    recorded: list[Callable[[], Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(stepping, "capture", refuse)
    model = Line()
    lines: list[str] = []
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), graph=1, report=lines.append)
    for _ in range(WARM_UP + 3):
        step(batch(1))
    assert model.weight.item() == pytest.approx(-0.1 * (WARM_UP + 3))
    assert len(lines) == 1
    assert lines[0].endswith("CUDA graph: RuntimeError: operation not permitted when stream is capturing")


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


def test_an_image_that_does_not_fit_alone_ends_the_training() -> None:
    model = Hungry(0)
    with pytest.raises(TrainingError, match=r"a single image. Try .* \(OutOfMemoryError: CUDA out of memory"):
        TrainingStep(model, adam(model, 1e-3, "cpu"))(batch(1, 2, 3))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    model = Hungry(2, "shapes do not fit")
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        TrainingStep(model, adam(model, 1e-3, "cpu"))(batch(1, 2, 3))


def test_a_captured_step_that_runs_out_of_memory_is_captured_again(recorded: list[Callable[[], Tensor]]) -> None:
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
