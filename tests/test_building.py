"""The door through which any network is built: what ships, what a plug-in brings, what a file holds."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from capsbench.building import build
from capsbench.contracts import Output, TensorBatch
from capsbench.errors import ParameterError, UnknownNameError, UsageError


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("capsnett", {}, "No model is called 'capsnett'. Did you mean 'capsnet'?"),
        (
            "capsnet",
            {"iteration": 3},
            "No parameter of model 'capsnet' is called 'iteration'. Did you mean 'iterations'?",
        ),
        (
            "capsnet",
            {"preset": "relased"},
            "No preset of model 'capsnet' is called 'relased'. Did you mean 'released'?",
        ),
    ],
)
def test_unknown_name_is_met_with_the_nearest(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        build(name, **parameters)
    assert str(caught.value) == message


PLUG_IN = """
from torch import nn

class Net(nn.Module):
    presets = {"tiny": {"width": 2}}

    def __init__(self, image_size, *, width=4):
        super().__init__()
        if width < 1:
            raise ValueError("width must be positive")
        self.size, self.width = image_size, width

    def loss(self, output, batch):
        return output.scores.sum()

def function(**parameters):
    net = Net(1)
    net.parameters_given = parameters
    return net

def demanding(width, depth, classes):
    return Net(width)

def nothing():
    return "net"

def lossless():
    return nn.Linear(1, 1)

number = 3
"""


@pytest.fixture
def plug_in(tmp_path: Path) -> str:
    path = tmp_path / "plug_in.py"
    path.write_text(PLUG_IN)
    return str(path)


def test_class_from_a_file_gets_what_its_signature_takes(plug_in: str) -> None:
    model: Any = build(f"{plug_in}:Net", image_size=36, classes=5, width=7)
    assert (model.size, model.width) == (36, 7)
    tiny: Any = build(f"{plug_in}:Net", preset="tiny")
    assert tiny.width == 2


def test_function_that_takes_anything_gets_everything(plug_in: str) -> None:
    model: Any = build(f"{plug_in}:function", pairs=True, depth=2)
    assert model.parameters_given == {"image_size": 28, "classes": 10, "pairs": True, "depth": 2}


@pytest.mark.parametrize(
    ("attribute", "parameters", "error", "message"),
    [
        ("Net", {"widht": 3}, UnknownNameError, "Did you mean 'width'?"),
        ("Net", {"width": 0}, ParameterError, "refuses its parameters: width must be positive"),
        ("Net", {"preset": "big"}, UnknownNameError, "Known: tiny."),
        ("demanding", {"width": 3}, ParameterError, "needs depth, which nothing sets"),
        ("number", {}, UsageError, "should be a class or a function, but it is a int"),
        ("nothing", {}, UsageError, r"should be a torch.nn.Module, but it is a str"),
        ("lossless", {}, UsageError, r"has no method loss\(output, batch\)"),
    ],
)
def test_plug_in_that_makes_no_network(
    plug_in: str, attribute: str, parameters: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(f"{plug_in}:{attribute}", **parameters)


def test_installed_plug_in_is_found_by_name(plug_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(plug_in).parent
    distribution = folder / "plug_in-0.1.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 0.1\n")
    (distribution / "entry_points.txt").write_text("[capsbench.models]\nplugged = plug_in:Net\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "plug_in", raising=False)
    model: Any = build("plugged", image_size=36)
    assert model.size == 36


class Minimal(nn.Module):
    """The least that the bench asks of a network."""

    def forward(self, images: torch.Tensor) -> Output:
        return Output(scores=images.flatten(1)[:, :10])

    def loss(self, output: Output, batch: TensorBatch) -> torch.Tensor:
        return output.scores.mean()


def test_module_attribute_is_a_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "somewhere", sys.modules[__name__])
    assert isinstance(build("somewhere:Minimal"), Minimal)
