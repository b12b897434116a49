"""Training: what it selects, what it keeps, and that an interruption leaves no trace."""

import json
import math
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from capsbench.contracts import ArrayBatch, IndexArray, Output, TensorBatch
from capsbench.data.streaming import Stream, stream
from capsbench.errors import ParameterError, TrainingError
from capsbench.evaluation.inference import predict
from capsbench.training import trainer as training_module
from capsbench.training.checkpoints import CheckpointFolder, load_checkpoint, save_checkpoint
from capsbench.training.config import TrainConfig, Trained
from capsbench.training.logs import MetricsLog
from capsbench.training.trainer import UNTIMED_STEPS, Trainer

CONFIG = TrainConfig(epochs=3, batch_size=80, learning_rate=3e-3, schedule="one-cycle", target=0.5)
STEPS = 30  # 800 digits are 10 steps an epoch


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


@pytest.fixture(autouse=True)
def each_validation_leaves_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the last one took to write."""
    monkeypatch.setattr(training_module, "SAVING_SHARE", math.inf)


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


@cache
def unbroken_run(config: TrainConfig = CONFIG) -> tuple[dict[str, torch.Tensor], Trained]:
    """The weights after a training that nothing stopped, and what it returned."""
    one = trainer(None, config)
    trained = one.run()
    return weights(one), trained


class StoppedError(Exception):
    """A test's way to end a training in its midst."""


def test_training_learns(tmp_path: Path) -> None:
    trained = trainer(tmp_path, replace(CONFIG, batch_size=32)).run()
    losses = [row["loss"] for row in trained.history]
    assert losses == sorted(losses, reverse=True)
    assert trained.selected["last"].accuracy > 0.6


@pytest.mark.parametrize("schedule", ["one-cycle", "exponential"])
@pytest.mark.parametrize("saves_between_validations", [False, True])
def test_a_run_stopped_at_any_step_ends_with_the_same_weights(
    tmp_path: Path, schedule: str, saves_between_validations: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(epochs=3, batch_size=80, schedule=schedule, target=0.5, eval_every=8)
    unbroken, expected = unbroken_run(config)

    def stop(done: int, total: int) -> None:
        if done == 13:
            raise StoppedError

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        if saves_between_validations:  # as if a checkpoint were due long before the next validation
            patch.setattr(training_module, "QUIET_SECONDS", 0.0)
        trainer(tmp_path, config).run(progress=stop)
    resumed = trainer(tmp_path, config)
    lines: list[str] = []
    found = resumed.run(lines.append)
    assert lines[0] == f"going on after step {12 if saves_between_validations else 8} of 30"
    assert_same(weights(resumed), unbroken)
    assert found.history == expected.history
    assert (found.steps, found.images) == (expected.steps, expected.images) == (STEPS, 2400)
    for name, selected in expected.selected.items():
        assert (found.selected[name].step, found.selected[name].accuracy) == (selected.step, selected.accuracy)
        assert_same(found.selected[name].state, selected.state)


def train_and_be_killed(folder: str, steps: int) -> None:
    """Goes on from what is in a folder, and dies after so many steps as no handler can prevent."""
    torch.set_num_threads(1)
    begun: list[int] = []

    def kill(done: int, total: int) -> None:
        begun.append(done)
        if len(begun) == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer(Path(folder), KILLED).run(progress=kill)


KILLED = TrainConfig(epochs=3, batch_size=32, learning_rate=3e-3, schedule="one-cycle", target=0.5, eval_every=4)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of a process with threads
def test_kills_leave_no_trace(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    scale: Callable[[int, int], int],
    survived: Callable[[str, int], None],
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes below: the sums of two threads are others
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    unbroken, expected = unbroken_run(KILLED)
    # A fork has torch already; of a process that may have used a GPU there can be none.
    processes: Any = multiprocessing.get_context("forkserver" if torch.cuda.is_available() else "fork")
    random = np.random.default_rng(0)
    for _ in range(scale(5, 20)):
        process = processes.Process(target=train_and_be_killed, args=(str(tmp_path), int(random.integers(1, 7))))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    lines: list[str] = []
    resumed = trainer(tmp_path, KILLED)
    found = resumed.run(lines.append)
    assert lines[0].startswith("going on after step") and not any("damaged" in line for line in lines)
    assert_same(weights(resumed), unbroken)
    assert found.history == expected.history
    survived("A training is killed", scale(5, 20))


def test_a_damaged_checkpoint_is_put_aside_for_the_one_before(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 24:
            raise StoppedError

    with pytest.raises(StoppedError):
        trainer(tmp_path).run(progress=stop)
    newest = tmp_path / "step-00000020.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    lines: list[str] = []
    resumed = trainer(tmp_path)
    resumed.run(lines.append)
    assert "damaged" in lines[0] and lines[0].endswith("is now called step-00000020.pt.aside")
    assert lines[1] == "going on after step 10 of 30"
    assert_same(weights(resumed), unbroken_run()[0])


def test_of_a_finished_training_the_last_checkpoint_is_kept(tmp_path: Path) -> None:
    trainer(tmp_path).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step-00000030.pt{ending}" for ending in ("", ".sha256")
    ]


def test_a_checkpoint_of_another_protocol_is_not_taken_up(tmp_path: Path) -> None:
    trainer(tmp_path).run()
    lines: list[str] = []
    trainer(tmp_path, TrainConfig(epochs=3, batch_size=64, target=0.5)).run(lines.append)
    assert not any("going on" in line for line in lines)
    assert sorted(path.name for path in tmp_path.glob("step*")) == [
        "step-00000030.pt.aside",
        "step-00000039.pt",
        "step-00000039.pt.sha256",
    ]


def test_checkpoints_of_another_protocol_do_not_crowd_out_new_ones(tmp_path: Path) -> None:
    trainer(tmp_path).run()

    def stop(line: str) -> None:
        if line.startswith("epoch"):
            raise StoppedError

    other = TrainConfig(epochs=3, batch_size=64, target=0.5)
    with pytest.raises(StoppedError):
        trainer(tmp_path, other).run(stop)
    lines: list[str] = []
    trainer(tmp_path, other).run(lines.append)
    assert lines[0] == "going on after step 13 of 39"


@pytest.mark.parametrize(
    ("eval_every", "steps"), [(0, [10, 20, 30]), (12, [12, 24, 30]), (10, [10, 20, 30]), (1000, [30])]
)
def test_validations_come_every_so_many_steps_and_at_the_end(eval_every: int, steps: list[int]) -> None:
    config = TrainConfig(epochs=3, batch_size=80, eval_every=eval_every)
    trained = trainer(None, config).run()
    assert [row["step"] for row in trained.history] == steps
    assert [row["epoch"] for row in trained.history] == [step / 10 for step in steps]


def test_the_number_of_validations_does_not_change_the_weights() -> None:
    runs = [trainer(None, TrainConfig(epochs=3, batch_size=80, eval_every=every)) for every in (0, 7)]
    for one in runs:
        one.run()
    assert_same(weights(runs[0]), weights(runs[1]))


def test_no_more_than_a_share_of_the_time_goes_into_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_module, "SAVING_SHARE", 1e-9)  # none is worth its time, after the first
    saved: list[int] = []
    monkeypatch.setattr(CheckpointFolder, "save", lambda self, step, content, keep: saved.append(step))
    trainer(tmp_path, TrainConfig(epochs=3, batch_size=80, eval_every=5)).run()
    assert saved == [5, 30]  # the last is, in any case


def test_watched_samples_are_noted_and_select_nothing() -> None:
    training, validation = data()
    watched = stream("padded", split="validation", digits="embedded", size=28, shift=6)
    torch.manual_seed(0)
    one = Trainer(Net(), training, validation, CONFIG, seed=5, watch={"far": watched})
    trained = one.run()
    assert trained.history[-1]["far"] == predict(one.model, watched).correct.mean()
    assert trained.history[-1]["far"] < trained.history[-1]["accuracy"]
    assert trained.selected["best"].accuracy == max(row["accuracy"] for row in trained.history)
    assert_same(weights(one), unbroken_run()[0])


def test_a_history_has_the_mean_loss_since_the_last_validation() -> None:
    losses: list[float] = []

    class Counted(Net):
        def loss(self, output: Output, batch: TensorBatch) -> torch.Tensor:
            loss = super().loss(output, batch)
            losses.append(loss.item())
            return loss

    training, validation = data()
    config = TrainConfig(epochs=3, batch_size=80, eval_every=12)
    trained = Trainer(Counted(), training, validation, config, seed=5).run()
    means = [np.mean(losses[:12]), np.mean(losses[12:24]), np.mean(losses[24:])]
    assert [row["loss"] for row in trained.history] == pytest.approx(means)


def test_metrics_say_how_much_was_done() -> None:
    metrics = unbroken_run()[1].metrics()
    assert (metrics["steps"], metrics["micro_batches"], len(metrics["history"])) == (STEPS, 1, 3)
    assert metrics["training_seconds"] > 0 and 2400 / metrics["training_seconds"] < metrics["images_per_second"]


def test_the_log_has_each_validation_once_whatever_happens(tmp_path: Path) -> None:
    def logged() -> Trainer:
        training, validation = data()
        torch.manual_seed(0)
        config = TrainConfig(epochs=3, batch_size=80, eval_every=4)
        log = MetricsLog(tmp_path / "log.jsonl")
        return Trainer(Net(), training, validation, config, seed=5, folder=tmp_path / "checkpoints", log=log)

    def stop(done: int, total: int) -> None:
        if done == 19:
            raise StoppedError

    with pytest.raises(StoppedError):
        logged().run(progress=stop)
    (tmp_path / "checkpoints" / "step-00000016.pt").unlink()  # as if the kill had come while it was written
    trained = logged().run()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 8, 12, 16, 20, 24, 28, 30]
    keys = ("step", "epoch", "loss", "accuracy")
    assert [{key: row[key] for key in keys} for row in rows] == trained.history


def test_progress_counts_every_step() -> None:
    seen: list[tuple[int, int]] = []
    trainer(None).run(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(step, STEPS) for step in range(1, STEPS + 1)]


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


@pytest.mark.parametrize(("factor", "said"), [(torch.nan, "nan"), (torch.inf, "inf")])
def test_a_loss_that_is_no_number_stops_with_its_epoch_and_step(factor: float, said: str) -> None:
    class Broken(Net):
        steps = 0

        def loss(self, output: Output, batch: TensorBatch) -> torch.Tensor:
            self.steps += 1
            return super().loss(output, batch) * (factor if self.steps == 13 else 1)

    training, validation = data()
    with pytest.raises(TrainingError, match=rf"loss is {said} in step 13 of 30 \(epoch 2 of 3\).*learning_rate"):
        Trainer(Broken(), training, validation, CONFIG, seed=0).run()


def test_a_loss_that_is_not_a_number_in_the_first_step_does_not_blame_the_learning_rate() -> None:
    class Broken(Net):
        def loss(self, output: Output, batch: TensorBatch) -> torch.Tensor:
            return super().loss(output, batch) * torch.nan

    training, validation = data()
    with pytest.raises(TrainingError, match=r"nan in step 1 of 30 \(epoch 1 of 3\)\. Nothing was learned yet"):
        Trainer(Broken(), training, validation, CONFIG, seed=0).run()


@pytest.mark.parametrize("learning_rate", [1e-9, 1e-3])
def test_a_gradient_that_is_no_number_is_named_and_not_the_learning_rate(learning_rate: float) -> None:
    class Rooted(Net):
        def loss(self, output: Output, batch: TensorBatch) -> torch.Tensor:
            return super().loss(output, batch) + (output.scores * 0).square().sum().sqrt()  # a root of zero

    training, validation = data()
    config = replace(CONFIG, learning_rate=learning_rate)
    message = r"nan in step 2 of 30 .* the gradient of pow in test_trainer\.py, line \d+, was not a number"
    with pytest.raises(TrainingError, match=message) as told:
        Trainer(Rooted(), training, validation, config, seed=0).run()
    assert "capsbench check" in str(told.value) and "learning rate" not in str(told.value)


def test_weights_that_the_step_before_a_validation_ruined_stop_with_that_step() -> None:
    class Ruined(Net):
        def forward(self, images: torch.Tensor) -> Output:
            return super().forward(images if self.training else images * torch.nan)

    training, validation = data()
    with pytest.raises(TrainingError, match=r"After step 10 of 30 \(epoch 1 of 3\): .*not numbers.*learning_rate"):
        Trainer(Ruined(), training, validation, CONFIG, seed=0).run()


def test_large_losses_that_do_not_grow_are_no_divergence_after_a_kill_either(tmp_path: Path) -> None:
    class Large(Net):
        def loss(self, output: Output, batch: TensorBatch) -> torch.Tensor:
            return 5000 * super().loss(output, batch)

    def large() -> Trainer:
        training, validation = data()
        torch.manual_seed(0)
        return Trainer(Large(), training, validation, CONFIG, seed=5, folder=tmp_path)

    def stop(done: int, total: int) -> None:
        if done == 13:
            raise StoppedError

    with pytest.raises(StoppedError):
        large().run(progress=stop)
    assert large().run().steps == STEPS


@pytest.mark.parametrize("schedule", ["exponential", "one-cycle"])
@pytest.mark.parametrize(("device", "graph"), [("cuda", 32), ("cpu", 0)])
def test_a_step_on_a_gpu_is_captured_and_its_convolutions_tuned(
    monkeypatch: pytest.MonkeyPatch, schedule: str, device: str, graph: int
) -> None:
    asked: list[tuple[int, bool]] = []

    def step(*rest: Any, graph: int, **options: Any) -> None:
        asked.append((graph, torch.backends.cudnn.benchmark))
        raise StoppedError

    one = trainer(None, TrainConfig(epochs=3, batch_size=32, schedule=schedule))
    monkeypatch.setattr(training_module, "TrainingStep", step)
    monkeypatch.setattr("capsbench.sources.seeding.seeded", lambda seed, device: nullcontext())
    one._device = device
    with pytest.raises(StoppedError):
        one.run()
    assert asked == [(graph, device == "cuda")]
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize("eval_every", [0, 1])
@pytest.mark.parametrize("killed", [0, 2, 25])
def test_the_rate_leaves_out_the_first_steps_of_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eval_every: int, killed: int
) -> None:
    """Ten seconds each, in which kernels are compiled and a graph is captured; the others take a quarter of one."""
    size = 80
    clock = [0.0]
    monkeypatch.setattr("capsbench.training.trainer.time.perf_counter", lambda: clock[0])

    class Slow(Net):
        steps = 0

        def forward(self, images: torch.Tensor) -> Output:
            if self.training:
                self.steps += 1
                clock[0] += 10 if self.steps <= UNTIMED_STEPS else 0.25
            else:
                clock[0] += 100
            return super().forward(images)

    def slow() -> Trainer:
        training, _ = data()
        validation = stream("padded", split="validation", count=40, digits="embedded", size=28)
        config = TrainConfig(epochs=3, batch_size=size, eval_every=eval_every)
        return Trainer(Slow(), training, validation, config, seed=5, folder=tmp_path)

    def stop(done: int, total: int) -> None:
        if done == killed:
            raise StoppedError

    lines: list[str] = []
    if killed:
        with pytest.raises(StoppedError):
            slow().run(progress=stop)
    trained = slow().run(lines.append)
    assert trained.steps == 2400 / size and trained.images == 2400
    assert trained.metrics()["images_per_second"] == size / 0.25
    assert all(f"{4 * size} images/s" in line for line in lines if line.startswith("epoch 3"))


def test_the_rate_is_of_the_time_when_no_other_work_slowed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("capsbench.training.trainer.time.perf_counter", lambda: clock[0])

    class Disturbed(Net):
        steps = 0

        def forward(self, images: torch.Tensor) -> Output:
            self.steps += self.training
            clock[0] += 0.25 if self.steps <= 25 else 1.0  # other work begins after the first epoch
            return super().forward(images)

    training, validation = data()
    trained = Trainer(Disturbed(), training, validation, TrainConfig(epochs=3, batch_size=32), seed=5).run()
    assert trained.metrics()["images_per_second"] == 32 / 0.25


def test_the_rate_of_a_short_run_has_all_of_its_steps() -> None:
    trained = trainer(None, TrainConfig(epochs=1, batch_size=200)).run()
    assert trained.steps <= UNTIMED_STEPS and trained.untimed == 0
    assert trained.metrics()["images_per_second"] == 800 / trained.stepping


def test_a_loss_that_grows_without_end_stops() -> None:
    config = TrainConfig(epochs=3, batch_size=32, learning_rate=100.0)
    with pytest.raises(TrainingError, match=r"grew from 2\.\d+ to \d.* by step 25 of 75 \(epoch 1 of 3\).*100"):
        trainer(None, config).run()


class Hungry(Net):
    """Has memory for so many images at once, and no dropout, whose draws depend on how a batch is cut."""

    room = 10

    def __init__(self) -> None:
        super().__init__()
        self.layers[3] = torch.nn.Identity()

    def forward(self, images: torch.Tensor) -> Output:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
        return super().forward(images)


CUT = TrainConfig(epochs=1, batch_size=32, learning_rate=3e-3, schedule="one-cycle", target=0.5, eval_every=10)


def test_where_memory_runs_out_batches_are_cut_and_the_result_says_so(tmp_path: Path) -> None:
    training, validation = data(1)
    lines: list[str] = []
    models = {}
    for room in (10, 1000):
        torch.manual_seed(0)
        models[room] = Hungry()
        models[room].room = room
    hungry = Trainer(models[10], training, validation, CUT, seed=5, folder=tmp_path).run(lines.append)
    plain = Trainer(models[1000], training, validation, CUT, seed=5).run()
    assert lines[:2] == [
        f"memory ran out: batches of 32 are now computed {size} at a time, their gradients added up" for size in (16, 8)
    ]
    assert (hungry.metrics()["micro_batches"], plain.metrics()["micro_batches"]) == (4, 1)
    # Equal but for the order of sums: a batch is still a batch of 32 to the optimizer.
    for first, second in zip(models[10].parameters(), models[1000].parameters(), strict=True):
        torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-3)


def test_a_resumed_run_cuts_batches_as_before(tmp_path: Path) -> None:
    def hungry() -> Trainer:
        training, validation = data(1)
        torch.manual_seed(0)
        return Trainer(Hungry(), training, validation, CUT, seed=5, folder=tmp_path)

    def stop(done: int, total: int) -> None:
        if done == 13:
            raise StoppedError

    with pytest.raises(StoppedError):
        hungry().run(progress=stop)
    lines: list[str] = []
    assert hungry().run(lines.append).micro_batches == 4
    assert lines[0].startswith("going on") and not any("memory" in line for line in lines)


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


@pytest.mark.parametrize("role", ["training", "validation", "watched"])
def test_test_digits_are_refused(role: str) -> None:
    given = dict(zip(("training", "validation"), data(), strict=True)) | {"watched": data()[1]}
    given[role] = stream("padded", split="test", digits="embedded", size=28, shift=2, variants=3)
    with pytest.raises(ParameterError, match="Test digits"):
        Trainer(Net(), given["training"], given["validation"], CONFIG, seed=0, watch={"seen": given["watched"]})


def test_samples_that_epochs_cannot_share_are_refused() -> None:
    training, validation = data(2)
    with pytest.raises(ParameterError, match="1600 training samples cannot be divided evenly among 3 epochs"):
        Trainer(Net(), training, validation, CONFIG, seed=0)


@pytest.mark.parametrize(
    ("decay_steps", "batch_size", "rate"),
    [(2000, 8, 1e-3 * 0.96 ** (100 / 2000)), (50, 8, 1e-3 * 0.96**2), (1, 4, 1e-6)],  # 100 steps, and 200
)
def test_the_exponential_schedule_is_the_authors(decay_steps: int, batch_size: int, rate: float) -> None:
    training, validation = data(1)
    config = TrainConfig(epochs=1, batch_size=batch_size, target=1, decay_steps=decay_steps)
    one = Trainer(Net(), training, validation, config, seed=0)
    one.run()
    (group,) = one._optimizer.param_groups
    assert group["lr"] == pytest.approx(rate)


class Extra(Net):
    """Counts its steps in extra state, and computes with the number."""

    def __init__(self, kind: type = np.float64) -> None:
        super().__init__()
        self.seen: Any = kind(1)

    def get_extra_state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]

    def forward(self, images: torch.Tensor) -> Output:
        if self.training:
            self.seen = self.seen + 1
        return Output(scores=self.layers(images) / float(self.seen) ** 0.1)


def halt(done: int, at: int) -> None:
    if done == at:
        raise StoppedError


def test_extra_state_is_trained_kept_and_put_back(tmp_path: Path) -> None:
    def run(folder: Path | None, stop: int = 0) -> tuple[Extra, Any]:
        torch.manual_seed(0)
        model = Extra()
        one = Trainer(model, *data(), CONFIG, seed=0, folder=folder)
        if not stop:
            return model, one.run()
        with pytest.raises(StoppedError):
            one.run(progress=lambda done, total: halt(done, stop))
        return model, None

    whole, trained = run(None)
    assert trained.selected["last"].state["_extra_state"] == {"seen": np.float64(STEPS + 1)}
    run(tmp_path, stop=13)
    resumed, _ = run(tmp_path)
    assert resumed.seen == whole.seen == STEPS + 1 and type(resumed.seen) is np.float64
    for key, value in whole.layers.state_dict().items():
        assert torch.equal(value, resumed.layers.state_dict()[key])


def test_extra_state_that_cannot_be_kept_is_named_before_training() -> None:
    with pytest.raises(TrainingError, match=r"cannot be kept: _extra_state\['seen'\] holds a Fraction"):
        Trainer(Extra(Fraction), *data(), CONFIG, seed=0).run()


def stopped(folder: Path, **options: Any) -> None:
    torch.manual_seed(0)
    with pytest.raises(StoppedError):
        Trainer(Net(), *data(), CONFIG, seed=5, folder=folder, **options).run(progress=lambda done, _: halt(done, 13))


def test_a_checkpoint_of_another_identity_is_put_aside(tmp_path: Path) -> None:
    stopped(tmp_path, identity="the same layers, another loss")
    lines: list[str] = []
    torch.manual_seed(0)
    one = Trainer(Net(), *data(), CONFIG, seed=5, folder=tmp_path, identity="this")
    one.run(lines.append)
    assert "belongs to another run" in lines[0] and not any("going on" in line for line in lines)
    assert_same(weights(one), unbroken_run()[0])


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "lacks the model": lambda content: content.pop("model"),
    "of another shape": lambda content: content["model"].update({"layers.1.weight": torch.zeros(1)}),
    "of another type": lambda content: content["model"].update({"layers.1.bias": torch.zeros(32, dtype=torch.int8)}),
    "selected weights lack one": lambda content: content["trained"]["selected"]["best"]["state"].popitem(),
    "an optimizer of nothing": lambda content: content.update(optimizer={}),
    "no generator": lambda content: content["randomness"].update(numpy=[]),
    "steps past the end": lambda content: content["trained"].update(steps=STEPS + 1),
    "unknown facts": lambda content: content["trained"].update(more=1),
}


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was stopped."""
    folder = tmp_path_factory.mktemp("left")
    stopped(folder)
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_that_does_not_fit_leaves_no_trace(change: str, left: Path, tmp_path: Path) -> None:
    shutil.copytree(left, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("*.pt"):
        content = load_checkpoint(path)
        assert content is not None
        CHANGES[change](content)
        save_checkpoint(path, content)
    one = trainer(tmp_path)
    lines: list[str] = []
    one.run(lines.append)
    assert "is damaged" in lines[0]
    assert_same(weights(one), unbroken_run()[0])


class Normalized(Net):
    """Batch normalization refuses to train on one image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers.insert(2, torch.nn.BatchNorm1d(32))
        self.sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> Output:
        if self.training:
            self.sizes.append(len(images))
        return super().forward(images)


def normalized(folder: Path | None, size: int) -> tuple[Normalized, Trainer]:
    torch.manual_seed(0)
    model = Normalized()
    config = TrainConfig(epochs=2, batch_size=size, schedule="one-cycle", target=0.5)
    return model, Trainer(model, *data(2), config, seed=5, folder=folder)


@pytest.mark.parametrize(("size", "sizes"), [(47, [47] * 16 + [48]), (799, [800]), (800, [800]), (801, [800])])
def test_a_last_batch_of_one_image_joins_the_one_before(size: int, sizes: list[int]) -> None:
    model, one = normalized(None, size)
    trained = one.run()
    assert model.sizes == 2 * sizes
    assert (trained.steps, trained.images) == (2 * len(sizes), 1600)


@cache
def normalized_once() -> Normalized:
    model, one = normalized(None, 47)
    one.run()
    return model


@pytest.mark.parametrize("stop", [16, 17, 18])
def test_a_run_stopped_before_or_after_a_joined_batch_ends_with_the_same_weights(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = normalized_once()
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(training_module, "QUIET_SECONDS", 0.0)
        normalized(tmp_path, 47)[1].run(progress=lambda done, _: halt(done, stop))
    resumed, one = normalized(tmp_path, 47)
    one.run()
    assert 0 < len(resumed.sizes) < len(whole.sizes)
    assert_same(dict(whole.state_dict()), dict(resumed.state_dict()))


def test_a_training_that_goes_on_with_other_threads_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(tmp_path)
    had = torch.get_num_threads()
    monkeypatch.setattr("torch.get_num_threads", lambda: had + 1)
    lines: list[str] = []
    trainer(tmp_path).run(lines.append)
    assert lines[0] == (
        f"going on after step 10 of 30, now with threads: {had + 1} instead of {had}; "
        "the weights will differ in their last digits"
    )
