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

    def forward(self, images): ...

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
    model = build(f"{plug_in}:function", channels_in=3)  # one channel goes without saying
    assert model.parameters_given == {"image_size": 28, "classes": 10, "pairs": False, "channels_in": 3}


@pytest.mark.parametrize(
    ("attribute", "parameters", "error", "message"),
    [
        ("Net", {"widht": 3}, UnknownNameError, "Did you mean 'width'?"),
        ("Net", {"width": 0}, ParameterError, "refuses its parameters: width must be positive"),
        ("Net", {"preset": "big"}, UnknownNameError, "Known: tiny."),
        ("demanding", {"width": 3}, ParameterError, "needs depth, which nothing sets"),
        ("number", {}, UsageError, r"should be a class or a function, but it is of class int\.$"),
        ("nothing", {}, UsageError, r"should be a torch.nn.Module, but it is a str"),
        ("lossless", {}, UsageError, r"fails on images \[2, 1, 28, 28\]"),
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


SHAPES = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
    def forward(self, images): ...
    def loss(self, output, batch): ...

class NoForward(nn.Module):
    def loss(self, output, batch): ...

class Position(Net):
    def __init__(self, classes, /):
        super().__init__()

class Unpacked(Net):
    def __init__(self, *args):
        super().__init__(*args)
        self.classes, = args

class Ignored(Net):
    def __init__(self, *args):
        super().__init__()

def with_attribute(name, value):
    return type("Net", (Net,), {name: value})

number = with_attribute("presets", 3)
nothing = with_attribute("presets", {"small": None})
key = with_attribute("presets", {"small": {3: 4}})
chosen = with_attribute("presets", {"small": {"classes": 4}})
loss = with_attribute("loss", 5)
criterion = lambda: with_attribute("loss", nn.CrossEntropyLoss())()
forward = with_attribute("forward", 5)
layers = with_attribute("needs_layers", "yes")
built = Net()
"""


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("number", r"presets of model .* should be a mapping of names to parameters, but it is 3 \(int\)"),
        ("nothing", r"preset 'small' of model .* such as {'width': 8}, but it is None \(NoneType\)"),
        ("key", "preset 'small' of model .* should be a mapping of names to values"),
        ("chosen", "preset 'small' of model .* sets classes, which the caller chooses"),
        (
            "loss",
            r"attribute loss of model .* should be a method loss\(output, batch\), or not there, but .* 5 \(int\)",
        ),
        ("criterion", r"should be a method loss\(output, batch\), or not there, but it is CrossEntropyLoss"),
        ("forward", r"has no method forward\(images\)"),
        ("NoForward", r"has no method forward\(images\)"),
        ("layers", r"attribute needs_layers of model .* should be True or False, but it is yes \(str\)"),
        ("Position", "takes classes by position alone"),
        ("Unpacked", r"takes \*args, but parameters are given by name"),
        ("built", r"but it is of class Net\. Write def build\(\): return Net\(\.\.\.\), so that each seed"),
    ],
)
def test_an_attribute_of_the_wrong_kind_is_named_with_what_it_should_be(
    attribute: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "shapes.py").write_text(SHAPES)
    with pytest.raises(UsageError, match=message):
        build(f"{tmp_path}/shapes.py:{attribute}")


def test_arguments_that_are_ignored_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text(SHAPES)
    assert isinstance(build(f"{tmp_path}/shapes.py:Ignored"), nn.Module)


def test_a_builtin_without_a_signature_is_no_network() -> None:
    with pytest.raises(UsageError, match=r"signature of model 'builtins:dict' cannot be read"):
        build("builtins:dict")
