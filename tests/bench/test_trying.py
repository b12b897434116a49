"""Trying a network: whether it fits each suite, which shapes it has, and what a cell of each preset would take."""

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from capsbench import registry
from capsbench.bench import trying
from capsbench.bench.trying import Speed, try_network
from capsbench.cli import cli
from capsbench.cli.trying import trials_text
from capsbench.errors import ChecksFailedError, UnknownNameError

PLAIN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=3, side=0):
        super().__init__()
        first = nn.Linear(side**2, width) if side else nn.LazyLinear(width)
        self.layers = nn.Sequential(nn.Flatten(), first, nn.Linear(width, 10), nn.Softmax(1))

    def forward(self, images):
        return self.layers(images)
"""


@pytest.fixture(autouse=True)
def quick(own_world: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "SECONDS", 0.0)
    Path("net.py").write_text(PLAIN)


def test_a_plain_network_fits_all_suites_but_the_one_that_needs_drawings() -> None:
    trials = {one.suite: one for one in try_network("net.py", changes={"width": "5"}, digits="embedded", device="cpu")}
    assert set(trials) == {name for name in registry.catalog("suite") if hasattr(registry.load("suite", name), "work")}
    fits = {"affine": 40 * 40, "mnist": 28 * 28, "overlap": 36 * 36, "crowding": 28 * 84, "clutter": 32 * 32}
    for suite, pixels in fits.items():
        (speed,) = trials[suite].speeds
        assert not trials[suite].why_not and speed.scores == [64, 10]
        assert speed.parameters == (pixels + 1) * 5 + 60
        assert set(trials[suite].seconds) >= {"smoke", "small", "medium", "paper"}
        assert all(time and time > 0 for time in trials[suite].seconds.values())
    assert "needs a network that draws" in trials["reconstruction"].why_not
    assert trials["overlap"].images == ["36x36, two digits"]
    text = trials_text("net.py", list(trials.values()))
    assert "reconstruction: it needs a network that draws" in text and "scores are probabilities" in text


def test_what_does_not_fit_is_said_in_a_line() -> None:
    (mnist, affine) = try_network(
        "net.py", suites=["mnist", "affine"], changes={"side": "28"}, digits="embedded", device="cpu"
    )
    assert not mnist.why_not
    assert "fails on images [2, 1, 40, 40]" in affine.why_not and "\n" not in affine.why_not
    assert not affine.seconds and not Path("runs").exists()


class Layered(nn.Module):
    """Its loss reads each digit alone."""

    def __init__(self, needs: bool = False) -> None:
        super().__init__()
        self.needs_layers = needs
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))

    def forward(self, images: Tensor) -> Any:
        return self.layers(images)

    def loss(self, output: Any, batch: Any) -> Any:
        """A scalar."""
        return output.scores.mean() + batch.layers.mean()


@pytest.mark.parametrize("needs", [False, True])
def test_a_loss_gets_layers_where_the_network_says_so_as_in_a_run(needs: bool) -> None:
    (trial,) = try_network(Layered, suites=["mnist"], changes={"needs": str(needs)}, digits="embedded", device="cpu")
    told = "'NoneType' object has no attribute 'mean' (in the model's loss; it gets batch.layers where the model says"
    assert (told in trial.why_not) is not needs


class Diverging(Layered):
    """Its loss is no number."""

    def loss(self, output: Any, batch: Any) -> Any:
        """A scalar."""
        return output.scores.mean() / 0


def test_a_loss_that_is_no_number_does_not_fit() -> None:
    (trial,) = try_network(Diverging, suites=["mnist"], digits="embedded", device="cpu")
    assert trial.why_not in ("the loss of the first step is inf", "the loss of the first step is -inf")
    assert "A preset's column" not in trials_text("net.py", [trial])


class Short(nn.Sequential):
    """Its loss takes the output alone."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.LazyLinear(10))

    def loss(self, output: Any) -> Any:
        """A scalar."""
        return output.scores.mean()


def test_a_loss_of_other_arguments_is_told_which_it_gets() -> None:
    (trial,) = try_network(Short, suites=["mnist"], digits="embedded", device="cpu")
    assert "positional arguments" in trial.why_not
    assert trial.why_not.endswith("(in the model's loss, a method loss(self, output, batch))")


class Deeper(Layered):
    """What its loss calls gets too little."""

    def loss(self, output: Any, batch: Any) -> Any:
        """None: it fails."""
        raise TypeError("mse_loss() missing 1 required positional argument: 'target'")


class Nothing(Layered):
    """It has its layers, and fails on another None."""

    def __init__(self) -> None:
        super().__init__(needs=True)

    def loss(self, output: Any, batch: Any) -> Any:
        """None: it fails."""
        raise AttributeError("'NoneType' object has no attribute 'mean'")


@pytest.mark.parametrize("network", [Deeper, Nothing])
def test_an_error_deeper_in_a_loss_is_neither_of_its_arguments_nor_of_layers(network: type[nn.Module]) -> None:
    (trial,) = try_network(network, suites=["mnist"], digits="embedded", device="cpu")
    assert trial.why_not.endswith("(in the model's loss)")


def test_a_suite_that_does_not_state_its_work_trains_one_network() -> None:
    Path("own.py").write_text(
        "from capsbench.suites.mnist import MNIST\n"
        "class Own:\n"
        "    version, models, image_size, presets = 1, ('cnn',), 28, MNIST.presets\n"
        "    run, table = MNIST.run, MNIST.table\n"
    )
    (trial,) = try_network("net.py", suites=["own.py:Own"], changes={"width": "5"}, digits="embedded", device="cpu")
    assert not trial.why_not and trial.images == ["28x28"] and trial.seconds["smoke"]


class Square(nn.Module):
    """It takes image_size for one number, which it is not in `crowding`, and other images than that of its layer."""

    def __init__(self, image_size: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(28 * torch.zeros(image_size, 1).shape[0], 10)

    def forward(self, images: Tensor) -> Any:
        return self.layer(images.flatten(1))


def test_what_a_suite_needs_comes_before_what_failed_first() -> None:
    crowding, drawn = try_network(Square, suites=["crowding", "reconstruction"], digits="embedded", device="cpu")
    assert "fails where image_size is a pair, height and width" in crowding.why_not and "(28, 84)" in crowding.why_not
    assert drawn.why_not.startswith("it needs a network that draws")
    assert "Besides, The model 'Square' fails on images [2, 1, 36, 36]" in drawn.why_not


class Broken(nn.Module):
    def forward(self, images: Tensor) -> Any:
        return images.flatten(1)[:, :7]


def test_a_network_that_fits_nothing_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = try_network(Broken, suites=["mnist"], digits="embedded", device="cpu")
    assert "[2, 7] for 2 images; [2, 10] is needed" in found.why_not
    ran = CliRunner().invoke(cli, ["try", "net.py", "--suite", "mnist", "--set", "side=9", "--digits", "embedded"])
    assert isinstance(ran.exception, ChecksFailedError) and "no" in ran.stdout


def test_unknown_names_are_met_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'width'"):
        try_network("net.py", suites=["mnist"], changes={"widht": "5"}, digits="embedded", device="cpu")
    with pytest.raises(UnknownNameError, match="Did you mean 'mnist'"):
        try_network("net.py", suites=["mnits"], digits="embedded", device="cpu")


def test_the_time_of_a_cell_worked_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = Speed(1, [64, 10], False, 2.0, 0.25, [])
    monkeypatch.setattr(trying, "_measured", lambda network, work, device: speed)
    (found,) = try_network("net.py", suites=["mnist"], digits="embedded", device="cpu")
    # One epoch of 3,200 digits in batches of 64 is 50 steps of 2 s; validations at 20, 40 and 50 on 800 digits each,
    # and two checkpoints on 1,000 digits each.
    assert found.seconds["smoke"] == pytest.approx(50 * 2.0 + (3 * 800 + 2 * 1000) * 0.25)
