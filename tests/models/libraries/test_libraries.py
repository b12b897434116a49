"""Networks of torchvision and timm: one channel, small images, no pretrained weights, and what was changed is said."""

import importlib.util
import sys
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from capsbench import registry
from capsbench.building import build
from capsbench.errors import UsageError
from capsbench.models.libraries.fitting import Enlarge, ShapesAlone, last_map
from capsbench.scoring import ScoreLoss, remarks_of
from capsbench.system.convolutions import fast_order

TIMM = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is an extra")


def shapes(name: str, **parameters: Any) -> Any:
    """A network of shapes alone: building the numbers of a large one takes seconds."""
    with ShapesAlone():
        return build(name, **parameters)


def test_a_residual_network_keeps_the_places_of_small_images() -> None:
    model: Any = shapes("torchvision:resnet18", image_size=28)
    assert (model.conv1.in_channels, model.conv1.kernel_size, model.conv1.stride) == (1, (3, 3), (1, 1))
    assert isinstance(model.maxpool, nn.Identity) and last_map(model, (28, 28)) == (4, 4)
    (remark,) = remarks_of(model)
    assert f"torchvision {torchvision.__version__.partition('+')[0]}" in remark
    assert all(words in remark for words in ("not pretrained", "one input channel", "stem for small images"))
    # resnet18 of ImageNet has 11,689,512: 990 classes of 513 fewer, and 3x3 of one channel for 7x7 of three
    assert sum(one.numel() for one in model.parameters()) == 11_689_512 - 990 * 513 - 64 * (7 * 7 * 3 - 9)


def test_the_stem_of_imagenet_can_be_chosen() -> None:
    model: Any = shapes("torchvision:resnet18", image_size=40, stem="imagenet")
    assert (model.conv1.in_channels, model.conv1.kernel_size, model.conv1.stride) == (1, (7, 7), (2, 2))
    assert isinstance(model.maxpool, nn.MaxPool2d) and "the stem of ImageNet" in remarks_of(model)[0]


def test_images_are_enlarged_where_the_last_map_would_be_one_place_and_it_is_said() -> None:
    model: Any = build("torchvision:squeezenet1_1", image_size=20)
    small = torch.rand(2, 1, 20, 20)
    seen: list[torch.Size] = []
    next(iter(model.modules())).features.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    model(small)
    factor = seen[0][-1] // 20
    assert factor in (2, 4) and any(f"images of 20x20 are enlarged {factor} times" in one for one in remarks_of(model))
    assert set(model.state_dict()) == set(torchvision.models.squeezenet1_1(weights=None).state_dict())


def test_enlarged_images_are_bilinear() -> None:
    images = torch.rand(1, 1, 2, 2)
    large = Enlarge(2)(nn.Identity(), (images,))
    a, b = images[0, 0, 0].tolist()
    assert large.shape == (1, 1, 4, 4)
    assert large[0, 0, 0].tolist() == pytest.approx([a, 0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b, b])


def test_the_order_of_memory_makes_no_difference() -> None:
    torch.manual_seed(0)
    model: Any = build("torchvision:squeezenet1_1", image_size=28).eval()
    images = torch.rand(2, 1, 28, 28)
    plain = model(images)
    with fast_order(model, precision="fp32", device="cpu"):
        assert [one for one in model.parameters() if one.dim() == 4 and one.shape[1] > 1 and one.stride(1) != 1] == []
        torch.testing.assert_close(model(images), plain, rtol=1e-4, atol=1e-5)


def test_a_transformer_gets_the_size_of_the_images() -> None:
    model: Any = shapes("torchvision:vit_b_16", image_size=28)
    assert model.encoder.pos_embedding.shape[1] == 49 + 1 and "patches of 4x4" in remarks_of(model)[0]
    model = shapes("torchvision:vit_b_16", image_size=40, patch=8, channels_in=3)
    assert model.encoder.pos_embedding.shape[1] == 25 + 1 and model.conv_proj.kernel_size == (8, 8)
    assert model.conv_proj.in_channels == 3 and "3 input channels" in remarks_of(model)[0]


def test_auxiliary_heads_are_off() -> None:
    model: Any = shapes("torchvision:googlenet", image_size=40)
    assert model.aux1 is None and "no auxiliary heads" in remarks_of(model)[0]


def test_weights_are_those_of_the_seed_and_the_loss_is_cross_entropy() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        model: Any = build("torchvision:shufflenet_v2_x0_5", image_size=40, pairs=True)
        found.append(model.state_dict())
    assert model.loss == ScoreLoss("logits")
    assert all(torch.equal(one, found[1][name]) for name, one in found[0].items())


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchvision:squeezenet1_1"])
def test_colours_keep_the_first_convolution_of_three(name: str) -> None:
    model = shapes(name, image_size=24, channels_in=3)
    first = next(part for part in model.modules() if isinstance(part, nn.Conv2d))
    assert first.in_channels == 3 and "3 input channels" in remarks_of(model)[0]
    images = torch.zeros(2, 3, 24, 24, device="meta")
    assert torch.func.functional_call(model.eval(), {}, images).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        (
            "torchvision:resnet19",
            {},
            "No network of torchvision is called 'resnet19'. The nearest: resnet18, .*list --models",
        ),
        ("torchvision:", {}, "No network of torchvision is called ''"),
        ("torchvision.models:resnet18", {}, "is named torchvision:NAME, such as torchvision:resnet18"),
        ("hf-hub:timm/resnet18", {}, "downloads neither networks nor weights"),
        ("timm:hf-hub:timm/resnet18", {}, "downloads neither networks nor weights"),
        ("timm:hf_hub:timm/resnet18", {}, "downloads neither networks nor weights"),
        ("timm:local-dir:/tmp", {}, "downloads neither networks nor weights"),
        ("https://example.org/net.py:Net", {}, "downloads neither networks nor weights"),
        ("torchvision:resnet18", {"weights": "DEFAULT"}, "resnet18.weights cannot be set: capsbench downloads no"),
        ("torchvision:resnet18", {"num_classes": 5}, "num_classes cannot be set: capsbench chooses it"),
        ("torchvision:resnet18", {"stem": "tiny"}, "No stem of torchvision:resnet18 is called 'tiny'"),
        ("torchvision:resnet18", {"upsample": 3}, "No upsample of torchvision:resnet18 is called '3'"),
        ("torchvision:vgg11", {"stem": "small"}, "no stem of a residual network"),
        ("torchvision:vgg11", {"patch": 4}, "does not work on images of 28x28.*patches cannot be chosen"),
        ("torchvision:vgg11", {"upsample": 1}, r"does not work on images of 28x28: "),
        ("torchvision:resnet18", {"depth": 3}, "does not work on images of 28x28.*unexpected keyword argument 'depth'"),
    ],
)
def test_what_makes_no_network_is_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(name, **parameters)


def test_a_network_is_identified_by_the_version_of_its_library() -> None:
    identity = registry.identify("model", "torchvision:resnet18")
    assert identity.name == "torchvision:resnet18"
    assert [part.partition(" ")[0] for part in identity.parts] == ["torchvision"] and identity.hash


@TIMM
@pytest.mark.parametrize(
    ("name", "size", "few", "said"),
    [
        ("timm:resnet18d", 28, {}, ["stem for small images"]),
        (
            "timm:convnext_atto",
            28,
            {"depths": (1, 1, 1, 1)},
            ["enlarged 4 times (bilinear), because its last map would be 1x1"],
        ),
        ("timm:vit_tiny_patch16_224", (28, 84), {"depth": 1}, ["patches of 4x4"]),
    ],
)
def test_networks_of_timm(name: str, size: Any, few: dict[str, Any], said: list[str]) -> None:
    model = shapes(name, image_size=size, **few)  # few layers, for each takes a tenth of a second
    remarks = " ".join(remarks_of(model))
    assert "not pretrained" in remarks and all(words in remarks for words in said)
    scores = torch.func.functional_call(
        model.eval(), {}, torch.zeros(2, 1, *((size, size) if isinstance(size, int) else size), device="meta")
    )
    assert scores.shape == (2, 10)


@TIMM
def test_networks_of_timm_take_colours() -> None:
    model = shapes("timm:resnet18d", image_size=24, channels_in=3)
    scores = torch.func.functional_call(model.eval(), {}, torch.zeros(2, 3, 24, 24, device="meta"))
    assert scores.shape == (2, 10) and "3 input channels" in remarks_of(model)[0]


@TIMM
def test_names_of_timm_that_lead_to_weights_are_refused() -> None:
    with pytest.raises(UsageError, match=r"names pretrained weights \(a1_in1k\).*untrained network is timm:resnet18"):
        build("timm:resnet18.a1_in1k")
    with pytest.raises(UsageError, match=r"is called 'resnet18x'\. The nearest: resnet18, "):
        build("timm:resnet18x")


def test_without_timm_its_networks_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "capsbench.models.libraries.timm_networks", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'capsbench\[timm\]'"):
        build("timm:resnet18")
