"""Convolutions in their fastest order."""

import pytest
import torch

from capsbench.models import build
from capsbench.system.convolutions import fast_order, fast_training


class Ready(torch.nn.Sequential):
    """Layers to whose code the order of memory makes no difference."""

    channels_last = True


@pytest.mark.parametrize(
    ("precision", "device", "last"),
    [("bf16", "cuda", True), ("fp32", "cuda", False), ("bf16", "cpu", False), ("fp32", "cpu", True)],
)
def test_convolutions_keep_channels_last_where_that_is_faster(precision: str, device: str, last: bool) -> None:
    model = build("capsnet", image_size=28, channels=4, types=2, conv_stride=2, decoder=(16, 32))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    strides = [parameter.stride() for parameter in model.parameters()]
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), fast_training(model, precision=precision, device=device):
            assert torch.backends.cudnn.benchmark == (device == "cuda")
            weight = model.get_parameter("primary.convolution.weight")
            assert weight.is_contiguous(memory_format=torch.channels_last) == last
            assert model.get_parameter("weight").is_contiguous()  # [I, J, O, D] of the routing: no channels
            assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
            raise ZeroDivisionError
        assert [parameter.stride() for parameter in model.parameters()] == strides
        assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize(("precision", "device"), [("fp32", "cuda"), ("bf16", "cuda"), ("fp32", "cpu")])
def test_a_network_that_keeps_channels_last_itself_goes_on_to(precision: str, device: str) -> None:
    model = build("cnn-pair", image_size=36, preset="small", pairs=True)
    strides = [parameter.stride() for parameter in model.parameters()]
    for _ in range(2):
        with fast_training(model, precision=precision, device=device):
            assert [parameter.stride() for parameter in model.parameters()] == strides
    assert [parameter.stride() for parameter in model.parameters()] == strides


@pytest.mark.parametrize(
    ("capability", "channels", "kernel", "stride", "last"),
    [
        ("AVX2", 2, 1, 2, False),
        ("AVX2", 7, 1, 3, False),
        ("AVX2", 8, 1, 2, True),
        ("AVX512", 15, 1, 2, False),
        ("AVX512", 16, 1, 2, True),
        ("AVX2", 1, 1, 2, True),
        ("AVX2", 4, 1, 1, True),
        ("AVX2", 4, 3, 2, True),
    ],
)
def test_no_channels_last_where_a_backward_pass_would_end_the_process(
    capability: str, channels: int, kernel: int, stride: int, last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    model = Ready(torch.nn.Conv2d(3, channels, 3, padding=1), torch.nn.Conv2d(channels, 8, kernel, stride))
    with fast_training(model, precision="fp32", device="cpu"):
        first = model.get_parameter("0.weight")
        assert first.is_contiguous(memory_format=torch.channels_last) == last


def test_weights_that_were_ordered_in_inference_mode_can_be_trained_after() -> None:
    convolution = torch.nn.Conv2d(2, 3, 3)
    with torch.inference_mode(), fast_order(Ready(convolution), precision="fp32", device="cpu"):
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    convolution(torch.rand(1, 2, 4, 4)).sum().backward()
    assert convolution.weight.grad is not None and convolution.weight.is_contiguous()


def test_a_convolution_that_learns_its_size_from_the_first_images_has_no_order_yet() -> None:
    model = Ready(torch.nn.LazyConv2d(3, 3))
    with fast_order(model, precision="fp32", device="cpu"):
        assert model(torch.rand(1, 2, 4, 4)).shape == (1, 3, 2, 2)


class Rotated(torch.nn.Conv2d):
    """A convolution that takes its weights apart."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        filters = self.weight.view(self.out_channels * self.in_channels, *self.kernel_size)
        return torch.nn.functional.conv2d(images, filters.rot90(1, (1, 2)).reshape(self.weight.shape), self.bias)


def test_the_weights_of_a_convolution_of_ones_own_keep_their_order() -> None:
    model = Ready(torch.nn.Conv2d(1, 4, 3), Rotated(4, 2, 3))
    with fast_order(model, precision="fp32", device="cpu"):
        assert model.get_parameter("0.weight").is_contiguous(memory_format=torch.channels_last)
        assert model(torch.rand(1, 1, 6, 6)).shape == (1, 2, 2, 2)


class Viewed(torch.nn.Module):
    """A network as many are written: its features, and weights, are viewed as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(2, 4, 3)
        self.last = torch.nn.Linear(4 * 9, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        size = self.convolution.weight.view(4, -1).norm(dim=1).view(1, 4, 1, 1)
        answers: torch.Tensor = self.last((self.convolution(images) / size).view(len(images), -1))
        return answers


@pytest.mark.parametrize(("precision", "device"), [("fp32", "cpu"), ("bf16", "cuda")])
def test_a_network_that_does_not_ask_for_it_is_run_as_it_is_written(precision: str, device: str) -> None:
    model = Viewed()
    with fast_training(model, precision=precision, device=device):
        model(torch.rand(5, 2, 5, 5)).sum().backward()
    model.convolution.to(memory_format=torch.channels_last)  # such an order that it has of its own is kept
    with fast_training(model, precision=precision, device=device):
        assert model.convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert model.convolution.weight.is_contiguous(memory_format=torch.channels_last)
