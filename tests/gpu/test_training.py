"""Training on a GPU: steps captured in CUDA graphs do what plain ones do, and a killed training goes on."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import capsbench
from capsbench.bench.planning import plan_run
from capsbench.bench.running import run_plan
from capsbench.contracts import Batch, Output, TensorBatch
from capsbench.models import build
from capsbench.training.capture import capture
from capsbench.training.config import TrainConfig
from capsbench.training.step import WARM_UP, TrainingStep, adam
from capsbench.training.trainer import Trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]

SIZE = 40
NETWORKS = ["capsnet", "cnn-pool"]  # the second has dropout


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Gets an item for each step that is captured."""
    found: list[Any] = []

    def counted(function: Callable[[], Any]) -> Callable[[], Any]:
        replay = capture(function)
        found.append(replay)
        return replay

    monkeypatch.setattr("capsbench.training.step.capture", counted)
    return found


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(name, image_size=SIZE, preset="small").to("cuda")


def batch(images: int, seed: int) -> TensorBatch:
    random = torch.Generator().manual_seed(seed)
    pixels = torch.rand(images, 1, SIZE, SIZE, generator=random)
    return Batch(images=pixels.to("cuda"), labels=(torch.arange(images) % 10).to("cuda"))


def losses(model: nn.Module, sizes: list[int], *, graph: int) -> tuple[list[float], list[str]]:
    """Of steps on batches of some sizes; and what was reported."""
    told: list[str] = []
    optimizer = adam(model, 1e-3)
    step = TrainingStep(model, optimizer, precision="bf16", device="cuda", graph=graph, report=told.append)
    found = [step(batch(images, seed)) for seed, images in enumerate(sizes)]
    return [float(loss) for loss in found], told


@pytest.mark.parametrize("name", NETWORKS)
def test_captured_steps_do_what_plain_ones_do(name: str, captures: list[Any]) -> None:
    """Batches of another size come between them, as the last of an epoch does; dropout draws the same numbers."""
    sizes = [*[32] * (WARM_UP + 5), 5, 32, 32]
    plain, _ = losses(network(name), sizes, graph=0)
    assert not captures
    ours, told = losses(network(name), sizes, graph=32)
    assert len(captures) == 1 and told == []
    assert ours == pytest.approx(plain, rel=1e-3)  # other dropout changes a loss by a hundredth
    assert plain[-1] != pytest.approx(plain[0], rel=1e-3)


class Waits(nn.Module):
    """Looks at a value on the device, which no captured step can."""

    def __init__(self, *, waits: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(SIZE * SIZE, 10)
        self.waits = waits

    def forward(self, images: Tensor) -> Output:
        if self.waits and float(images.mean()) < 0:
            raise ValueError
        return Output(scores=nn.functional.dropout(self.layer(images.flatten(1)), 0.1))

    def loss(self, output: Output, given: TensorBatch) -> Tensor:
        return nn.functional.cross_entropy(output.scores, given.labels)


def test_a_network_that_waits_is_trained_without_a_graph_and_spoils_nothing(captures: list[Any]) -> None:
    sizes = [16] * (WARM_UP + 3)
    found, told = losses(Waits(waits=True).to("cuda"), sizes, graph=16)
    assert all(0 < loss < 10 for loss in found)
    assert len(told) == 1 and "not captured" in told[0] and not captures
    torch.cuda.empty_cache()  # fails where an allocator is left in a capture
    _, told = losses(Waits(waits=False).to("cuda"), sizes, graph=16)
    assert told == [] and len(captures) == 1


def trained(folder: Path | None, stop: int = 0) -> tuple[dict[str, Tensor], list[str], int]:
    """The weights after 60 steps, what was reported, and how many steps were looked at; ends at a step if given."""
    model = network("capsnet")
    data = [capsbench.stream("padded", split=name, digits="embedded") for name in ("train", "validation")]
    config = TrainConfig(epochs=1, batch_size=54, precision="bf16", eval_every=20)
    told: list[str] = []

    def progress(done: int, total: int) -> None:
        if done == stop:
            raise InterruptedError

    training = Trainer(model, data[0], data[1], config, seed=1, device="cuda", folder=folder)
    done = training.run(told.append, progress).steps
    return {key: value.detach().cpu() for key, value in model.state_dict().items()}, told, done


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return float(sum(((value - other[key]) ** 2).sum() for key, value in one.items()) ** 0.5)


def test_a_killed_training_goes_on_with_all_that_it_had(
    tmp_path: Path, captures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    # What is fastest differs from run to run, and so would sums.
    monkeypatch.setattr("capsbench.training.trainer.fast_training", lambda *model, **options: nullcontext())
    start = {key: value.detach().cpu() for key, value in network("capsnet").state_dict().items()}
    with pytest.raises(InterruptedError):
        trained(tmp_path, stop=30)
    resumed, told, steps_done = trained(tmp_path)
    whole, _, _ = trained(None)
    assert any("going on after step" in line for line in told) and steps_done == 60
    assert len(captures) == 3
    # Without Adam's moments it would be a seventh.
    assert distance(resumed, whole) <= 0.05 * distance(whole, start)


def test_throughput_times_the_fused_kernels(tmp_path: Path) -> None:
    plan = plan_run("throughput", models=["capsnet"], preset="smoke", device="cuda", out=tmp_path)
    outcome = run_plan(plan)
    assert not outcome.failed
    rows = outcome.results[0].metrics["rows"]
    assert {"fused", "blocked", "reference"} <= {row["implementation"] for row in rows if row["part"] == "routing"}
    assert all(row["seconds"] > 0 for row in rows)
