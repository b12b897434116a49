"""What holds for every network that ships."""

from typing import Any

import pytest
import torch
from torch import nn

from capsbench.contracts import Batch, TensorBatch, loss_of
from capsbench.errors import ParameterError
from capsbench.models import CATALOG, build
from capsbench.models.losses import binary_cross_entropy, cross_entropy, k_hot
from capsbench.system.convolutions import fast_order

SIZE = 40
NAMES = sorted(CATALOG)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small(name: str, **parameters: Any) -> Any:
    torch.manual_seed(0)
    return build(name, image_size=SIZE, preset="small", **parameters)


def batch_of(n: int) -> TensorBatch:
    generator = torch.Generator().manual_seed(1)
    return Batch(images=torch.rand(n, 1, SIZE, SIZE, generator=generator), labels=torch.arange(n) % 10)


@pytest.mark.parametrize(
    ("name", "image_size", "parameters", "expected"),
    [
        ("cnn", 40, {}, 35_445_522),
        ("cnn", 28, {"padding": "same"}, 35_445_522),
        ("cnn", 28, {}, 13_277_970),
        ("cnn", 40, {"preset": "small"}, 97_994),
        ("cnn-pool", 40, {}, 13_334_378),
        ("cnn-pool", 40, {"preset": "small"}, 322_138),
        ("efficient-capsnet", 28, {"reconstruction": False}, 161_824),  # as the authors count
        ("efficient-capsnet", 28, {}, 161_824 + 1_411_344),
        ("efficient-capsnet", 40, {"preset": "small", "reconstruction": False}, 57_872),
        ("resnet-gap", 40, {}, 308_074),
        ("resnet-gap", 40, {"preset": "small", "blur": True}, 77_858),
        ("gcnn", 40, {}, 286_938),
        ("gcnn", 40, {"preset": "small"}, 73_758),
        ("stn", 40, {}, 13_334_378 + 59_896),
        ("stn", 40, {"preset": "small"}, 322_138 + 14_590),
        ("cnn-pair", 36, {}, 24_563_978),
        ("cnn-pair", 36, {"preset": "small"}, 723_562),
        ("capsnet", 28, {}, 6_804_384 + 1_411_344),
        ("capsnet", 36, {}, 9_425_824 + 1_936_144),
        ("capsnet", 40, {}, 11_228_064 + 2_247_744),
        ("capsnet", 40, {"reconstruction": False}, 11_228_064),
        ("capsnet", 40, {"digit_bias": False}, 11_228_064 - 160 + 2_247_744),
        ("capsnet", 40, {"preset": "small", "reconstruction": False}, 332_576),
        ("capsnet", 40, {"shared": True, "reconstruction": False}, 11_228_064 - (4608 - 32) * 10 * 16 * 8),
        ("capsnet", 40, {"preset": "small", "shared": True, "reconstruction": False}, 178_976),
    ],
)
def test_number_of_parameters(name: str, image_size: int, parameters: dict[str, Any], expected: int) -> None:
    with torch.device("meta"):  # counts without allocating
        assert count(build(name, image_size=image_size, **parameters)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_scores_have_one_row_an_image(name: str) -> None:
    output = small(name)(batch_of(3).images)
    assert output.scores.shape == (3, 10)
    assert output.scores.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_image_need_not_be_square(name: str) -> None:
    model = build(name, image_size=(29, 42), classes=7, preset="small")
    assert model(torch.rand(2, 1, 29, 42)).scores.shape == (2, 7)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_memory_makes_no_difference(name: str) -> None:
    model, batch = small(name).eval(), batch_of(3)
    plain = model(batch.images).scores
    convolutions = [one for one in model.modules() if isinstance(one, nn.Conv2d)]
    assert convolutions or name == "gcnn"  # whose rotated filters have five axes
    with fast_order(model, precision="fp32", device="cpu"):
        assert all(one.weight.is_contiguous(memory_format=torch.channels_last) for one in convolutions)
        torch.testing.assert_close(model(batch.images).scores, plain, rtol=1e-4, atol=1e-5)


NO_AUTOCAST: dict[str, dict[str, Any]] = {
    "capsnet": {"channels": 4, "types": 2, "decoder": (8, 8)},
    "stn": {"preset": "small"},
}
"""Networks that switch autocast off, which torch cannot do for shapes alone; as small as they come."""


def learns_from(size: int, name: str, **parameters: Any) -> None:
    model = build(name, image_size=size, **parameters)
    batch: TensorBatch = Batch(images=torch.rand(2, 1, size, size), labels=torch.zeros(2, dtype=torch.int64))
    output = model(batch.images)
    assert output.scores.shape == (2, 10)
    torch.autograd.backward(loss_of(model, output, batch))


@pytest.mark.parametrize("preset", ["paper", "small"])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in NO_AUTOCAST])
def test_networks_take_images_of_up_to_128_pixels(name: str, preset: str) -> None:
    for size in (64, 96, 128) if preset == "paper" else (128,):
        with torch.device("meta"):  # shapes alone: the numbers would take a CPU half a minute
            learns_from(size, name, preset=preset)


@pytest.mark.parametrize("name", NO_AUTOCAST)
def test_networks_without_autocast_take_images_of_128_pixels(name: str) -> None:
    learns_from(128, name, **NO_AUTOCAST[name])


@pytest.mark.parametrize("name", NAMES)
def test_prediction_does_not_depend_on_the_other_images(name: str) -> None:
    model, images = small(name).eval(), batch_of(5).images
    together = model(images).scores
    alone = torch.cat([model(image[None]).scores for image in images])
    # Sums of up to 2,592 terms may be ordered differently for another batch size.
    assert (together - alone).abs().max() <= 16 * torch.finfo().eps * together.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_repeats_itself(name: str) -> None:
    model, images = small(name).eval(), batch_of(2).images
    assert torch.equal(model(images).scores, model(images).scores)


@pytest.mark.parametrize("name", ["cnn", "cnn-pair", "cnn-pool", "stn"])
def test_dropout_acts_in_training_only(name: str) -> None:
    model, images = small(name), batch_of(2).images
    assert not torch.equal(model(images).scores, model(images).scores)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter(name: str) -> None:
    model, batch = small(name), batch_of(8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # before the first step, a last layer that starts at 0 passes nothing on
        optimizer.zero_grad()
        model.loss(model(batch.images), batch).backward()
        optimizer.step()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_the_loss(name: str) -> None:
    model, batch = small(name), batch_of(8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(6):
        loss = model.loss(model(batch.images), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_the_mean_over_the_batch(name: str) -> None:
    model, batch = small(name).eval(), batch_of(4)
    whole = model.loss(model(batch.images), batch)
    parts = []
    for i in range(4):
        one = Batch(images=batch.images[i : i + 1], labels=batch.labels[i : i + 1])
        parts.append(model.loss(model(one.images), one))
    torch.testing.assert_close(whole, torch.stack(parts).mean())


@pytest.mark.parametrize("name", NAMES)
def test_loss_takes_two_labels_an_image(name: str) -> None:
    model = small(name, pairs=True)
    images = batch_of(3).images
    batch = Batch(images=images, labels=torch.tensor([[0, 1], [2, 3], [4, 5]]), layers=images.expand(-1, 2, -1, -1))
    assert model.loss(model(images), batch).isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_float32_under_autocast(name: str) -> None:
    model, batch = small(name), batch_of(2)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(batch.images)
    assert model.loss(output, batch).dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_image_of_another_size_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match=r"built for images \[B, 1, 40, 40\], got \[2, 1, 28, 28\]"):
        small(name)(torch.rand(2, 1, 28, 28))


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_builds(name: str) -> None:
    factory = type(small(name))
    assert {"paper", "small"} <= set(factory.presets)
    with torch.device("meta"):
        for preset in factory.presets:
            build(name, image_size=40, preset=preset)


def test_parameter_wins_over_its_preset() -> None:
    assert small("cnn", dropout=0.1).classifier[-2].p == 0.1


@pytest.mark.parametrize("name", ["gcnn", "resnet-gap"])
def test_pairs_have_a_sigmoid_for_each_class(name: str) -> None:
    images, labels = torch.rand(3, 1, 24, 24), torch.tensor([[0, 1], [2, 3], [4, 5]])
    for pairs, loss in ((True, binary_cross_entropy), (False, cross_entropy)):
        model = build(name, image_size=24, pairs=pairs, preset="small", channels=(2, 4))
        output = model(images)
        expected = loss(output.scores, k_hot(labels, 10))
        torch.testing.assert_close(loss_of(model, output, Batch(images=images, labels=labels)), expected)


@pytest.mark.parametrize("name", NAMES)
def test_images_of_colours_are_taken_where_the_network_was_built_for_them(name: str) -> None:
    model = small(name, channels_in=3)
    batch = Batch(images=torch.rand(2, 3, SIZE, SIZE), labels=torch.tensor([3, 7]))
    output = model(batch.images)
    assert output.scores.shape == (2, 10) and model.loss(output, batch).isfinite()
    with pytest.raises(ParameterError, match=r"built for images \[B, 3, 40, 40\], got \[2, 1, 40, 40\]"):
        model(batch.images[:, :1])
    with pytest.raises(ParameterError, match="channels_in must be a whole number of at least 1, got 0"):
        small(name, channels_in=0)


@pytest.mark.parametrize("name", NAMES)
def test_another_colour_is_another_answer(name: str) -> None:
    model = small(name, channels_in=3).eval()
    red = torch.zeros(1, 3, SIZE, SIZE)
    red[:, 0, 8:20, 8:20] = 1
    scores = model(torch.cat([red, red.roll(1, 1), red.roll(2, 1)])).scores
    assert (scores[0] - scores[1]).abs().max() > 1e-7 and (scores[1] - scores[2]).abs().max() > 1e-7
