"""Training: what it selects, what it keeps, and that an interruption leaves no trace."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from capsbench.contracts import ArrayBatch, IndexArray, Output, TensorBatch
from capsbench.errors import ParameterError, TrainingError, UnknownNameError
from capsbench.loading import Stream, stream
from capsbench.training import TrainConfig, Trained, Trainer, load_checkpoint, save_checkpoint

CONFIG = TrainConfig(epochs=3, batch_size=32, learning_rate=3e-3, schedule="one-cycle", target=0.5)


class Net(torch.nn.Module):
    """One hidden layer with dropout, so that a resumed run must find torch's generator where it was."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(784, 32),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.3),
            torch.nn.Linear(32, 10),
        )

    def forward(self, images: torch.Tensor) -> Output:
        return Output(scores=self.layers(images))

    def loss(self, output: Output, batch: TensorBatch) -> torch.Tensor:
        return F.cross_entropy(output.scores, batch.labels)


def data(epochs: int = 3) -> tuple[Stream, Stream]:
    options: dict[str, Any] = {"digits": "embedded", "size": 28, "shift": 2}
    return (
        stream("padded", split="validation", variants=epochs, **options),
        stream("padded", split="validation", seed=1, **options),
    )


def trainer(folder: Path | None, config: TrainConfig = CONFIG) -> Trainer:
    torch.manual_seed(0)
    training, validation = data(config.epochs)
    return Trainer(Net(), training, validation, config, seed=5, folder=folder)


def weights(one: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in one.model.state_dict().items()}


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_training_learns(tmp_path: Path) -> None:
    trained = trainer(tmp_path).run()
    losses = [row["loss"] for row in trained.history]
    assert losses == sorted(losses, reverse=True)
    assert trained.selected["last"].accuracy > 0.6


@pytest.mark.parametrize("schedule", ["one-cycle", "exponential"])
def test_a_run_stopped_after_an_epoch_ends_with_the_same_weights(tmp_path: Path, schedule: str) -> None:
    config = TrainConfig(epochs=3, batch_size=32, schedule=schedule, target=0.5)
    unbroken = trainer(None, config)
    expected = unbroken.run()

    class StoppedError(Exception):
        pass

    def stop(line: str) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        trainer(tmp_path, config).run(stop)
    resumed = trainer(tmp_path, config)
    lines: list[str] = []
    found = resumed.run(lines.append)
    assert lines[0] == "going on after epoch 1"
    assert_same(weights(resumed), weights(unbroken))
    assert found.history == expected.history
    for name, selected in expected.selected.items():
        assert (found.selected[name].epoch, found.selected[name].accuracy) == (selected.epoch, selected.accuracy)
        assert_same(found.selected[name].state, selected.state)


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import torch
from test_training import CONFIG, trainer
torch.set_num_threads(1)
trainer(Path({out!r})).run(lambda line: print(line, flush=True))
"""


def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the process below: the sums of two threads are others
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    unbroken = trainer(None)
    unbroken.run()
    code = DRIVER.format(folder=str(Path(__file__).parent), out=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "epoch 1/3" in process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    resumed = trainer(tmp_path)
    resumed.run()
    assert_same(weights(resumed), weights(unbroken))


def test_a_damaged_checkpoint_is_left_aside_for_the_one_before(tmp_path: Path) -> None:
    unbroken = trainer(tmp_path)
    unbroken.run()
    newest = tmp_path / "epoch-00003.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    lines: list[str] = []
    resumed = trainer(tmp_path)
    resumed.run(lines.append)
    assert "damaged" in lines[0] and lines[1] == "going on after epoch 2"
    assert_same(weights(resumed), weights(unbroken))


def test_only_the_newest_two_checkpoints_are_kept(tmp_path: Path) -> None:
    trainer(tmp_path).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"epoch-0000{epoch}.pt{ending}" for epoch in (2, 3) for ending in ("", ".sha256")
    ]


def test_a_checkpoint_of_another_protocol_is_not_taken_up(tmp_path: Path) -> None:
    trainer(tmp_path).run()
    lines: list[str] = []
    trainer(tmp_path, TrainConfig(epochs=3, batch_size=64, target=0.5)).run(lines.append)
    assert not any("going on" in line for line in lines)
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["epoch-00002.pt", "epoch-00003.pt"]


def test_checkpoints_of_another_protocol_do_not_crowd_out_new_ones(tmp_path: Path) -> None:
    trainer(tmp_path).run()

    class StoppedError(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith("epoch"):
            raise StoppedError

    other = TrainConfig(epochs=3, batch_size=64, target=0.5)
    with pytest.raises(StoppedError):
        trainer(tmp_path, other).run(stop)
    lines: list[str] = []
    trainer(tmp_path, other).run(lines.append)
    assert lines[0] == "going on after epoch 1"


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "epoch-00001.pt"
    save_checkpoint(path, {"format": 1, "model": Path("x")})  # a Path is no tensor and no plain value
    assert load_checkpoint(path) is None


def test_the_target_is_the_first_epoch_to_reach_it_and_the_best_the_earliest_of_equals() -> None:
    trained = Trained()
    for accuracy in (0.2, 0.6, 0.9, 0.7, 0.9):
        trained.add(1.0, accuracy, {}, target=0.6)
    assert {name: selected.epoch for name, selected in trained.selected.items()} == {"target": 2, "best": 3, "last": 5}


def test_a_target_that_is_not_reached_is_not_selected() -> None:
    trained = Trained()
    trained.add(1.0, 0.5, {}, target=0.6)
    assert set(trained.selected) == {"best", "last"}


def test_each_epoch_draws_its_own_samples_once() -> None:
    seen: list[int] = []

    class Watched:
        def __init__(self, inner: Stream) -> None:
            self.inner = inner
            self.spec = inner.spec

        def __len__(self) -> int:
            return len(self.inner)

        def batch(self, indices: IndexArray) -> ArrayBatch:
            seen.extend(indices.tolist())
            return self.inner.batch(indices)

        def layers(self, indices: IndexArray) -> Any:
            return self.inner.layers(indices)

    training, validation = data(3)
    Trainer(Net(), Watched(training), validation, CONFIG, seed=5).run()
    first, second = seen[:800], seen[800:1600]
    assert sorted(seen) == list(range(2400))
    assert sorted(first) == list(range(800)) and first != sorted(first)
    assert [index - 800 for index in second] != first  # every epoch has its own order


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(77)
    before = torch.get_rng_state()
    one = trainer(None)
    torch.set_rng_state(before)
    one.run()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_that_is_no_number_stops_with_its_epoch() -> None:
    class Broken(Net):
        def loss(self, output: Output, batch: TensorBatch) -> torch.Tensor:
            return super().loss(output, batch) * torch.nan

    training, validation = data()
    with pytest.raises(TrainingError, match=r"loss is nan in epoch 1 of 3.*learning_rate"):
        Trainer(Broken(), training, validation, CONFIG, seed=0).run()


def test_layers_come_along_where_the_model_asks_for_them() -> None:
    class Pairs(Net):
        needs_layers = True

        def loss(self, output: Output, batch: TensorBatch) -> torch.Tensor:
            assert batch.layers is not None and batch.layers.shape[1:] == (2, 28, 28)
            assert batch.labels.shape[1:] == (2,)
            torch.testing.assert_close(batch.layers.sum(1, keepdim=True).clamp(max=1), batch.images, atol=0.005, rtol=0)
            return F.cross_entropy(output.scores, batch.labels[:, 0])

    config = TrainConfig(epochs=1, target=1)
    pairs = stream("multimnist", split="validation", digits="embedded", margin=0, shift=2)
    single = stream("padded", split="validation", digits="embedded", size=28, shift=2)
    Trainer(Pairs(), pairs, single, config, seed=0).run()


@pytest.mark.parametrize("role", [0, 1], ids=["training", "validation"])
def test_test_digits_are_refused(role: int) -> None:
    given = list(data())
    given[role] = stream("padded", split="test", digits="embedded", size=28, shift=2, variants=3)
    with pytest.raises(ParameterError, match="Test digits"):
        Trainer(Net(), given[0], given[1], CONFIG, seed=0)


def test_samples_that_epochs_cannot_share_are_refused() -> None:
    training, validation = data(2)
    with pytest.raises(ParameterError, match="1600 training samples were given; 3 epochs"):
        Trainer(Net(), training, validation, CONFIG, seed=0)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": -1}, "batch_size=-1"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"target": 1.5}, "target=1.5"),
    ],
)
def test_values_out_of_range_are_refused_by_name(change: dict[str, Any], error: str) -> None:
    with pytest.raises(ParameterError, match=error):
        TrainConfig(**({"epochs": 1} | change))


def test_an_unknown_schedule_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'one-cycle'"):
        TrainConfig(epochs=1, schedule="onecycle")


def test_the_exponential_schedule_is_the_authors() -> None:
    training, validation = data(1)
    one = Trainer(Net(), training, validation, TrainConfig(epochs=1, batch_size=8, target=1), seed=0)  # 100 steps
    one.run()
    (group,) = one._optimizer.param_groups
    assert group["lr"] == pytest.approx(1e-3 * 0.96 ** (100 / 2000))
    assert np.isfinite(group["lr"])
