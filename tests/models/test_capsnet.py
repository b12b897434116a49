"""CapsNet against the pitfalls that public implementations fall into."""

from typing import Any

import pytest
import torch

import capsbench
from capsbench.contracts import Batch, TensorBatch
from capsbench.errors import CapsbenchError, ParameterError, UnknownNameError
from capsbench.models.capsnet import CapsNet, PrimaryCapsules
from capsbench.models.losses import k_hot, margin_loss
from capsbench.models.routing.reference import route_reference

SIZE = 20
TINY: dict[str, Any] = {
    "image_size": SIZE, "channels": 4, "kernel": 5, "types": 3, "capsule_dim": 4, "digit_dim": 6, "decoder": (8, 9)
}  # fmt: skip


def tiny(**parameters: Any) -> CapsNet:
    torch.manual_seed(0)
    return CapsNet(**(TINY | parameters))


def batch_of(labels: list[Any], layers: bool = False) -> TensorBatch:
    generator = torch.Generator().manual_seed(1)
    parts = torch.rand(len(labels), 2, SIZE, SIZE, generator=generator)
    images = parts.sum(dim=1, keepdim=True).clamp(max=1)
    return Batch(images=images, labels=torch.tensor(labels), layers=parts if layers else None)


@pytest.mark.parametrize(
    ("image_size", "encoder", "decoder"),
    [(28, 6_804_384, 1_411_344), (36, 9_425_824, 1_936_144), (40, 11_228_064, 2_247_744)],
)
def test_encoder_and_decoder_have_the_known_sizes(image_size: int, encoder: int, decoder: int) -> None:
    with torch.device("meta"):
        model = CapsNet(image_size=image_size)
    assert model.decoder is not None
    of_decoder = sum(parameter.numel() for parameter in model.decoder.parameters())
    assert of_decoder == decoder
    assert sum(parameter.numel() for parameter in model.parameters()) - of_decoder == encoder


def test_scores_are_the_lengths_of_the_capsules() -> None:
    output = tiny()(batch_of([1, 2, 3]).images)
    assert output.poses.shape == (3, 10, 6)
    torch.testing.assert_close(output.scores, output.poses.square().sum(-1).sqrt())
    assert (output.scores < 1).all()


@pytest.mark.parametrize(("kind", "dimension", "y", "x"), [(0, 0, 0, 0), (1, 3, 2, 1), (2, 2, 3, 4)])
def test_primary_capsules_are_channel_groups(kind: int, dimension: int, y: int, x: int) -> None:
    types, dimensions, height, width = 3, 4, 4, 5
    primary = PrimaryCapsules(channels=1, types=types, dimensions=dimensions, kernel=3, scale=1.0)
    torch.nn.init.zeros_(primary.bias)
    torch.nn.init.zeros_(primary.convolution.weight)
    with torch.no_grad():  # one output channel copies the pixel at the kernel's corner
        primary.convolution.weight[kind * dimensions + dimension, 0, 0, 0] = 1
    features = torch.zeros(1, 1, 2 * height + 1, 2 * width + 1)
    features[0, 0, 2 * y, 2 * x] = 2  # stride 2

    capsules = primary(features)

    assert capsules.shape == (1, types * height * width, dimensions)
    expected = torch.zeros_like(capsules)
    expected[0, (kind * height + y) * width + x, dimension] = 4 / 5  # squash of length 2
    torch.testing.assert_close(capsules, expected)


def test_primary_scale_leaves_the_start_as_it_is() -> None:
    images = batch_of([1, 2]).images
    torch.testing.assert_close(tiny(primary_scale=1 / 32)(images).scores, tiny()(images).scores)


def test_primary_scale_applies_before_the_bias() -> None:
    scaled, plain = tiny(primary_scale=0.5), tiny()
    scaled.primary.load_state_dict(plain.primary.state_dict())
    plain.primary.convolution.weight.data.mul_(0.5)
    features = torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(scaled.primary(features), plain.primary(features))


@pytest.mark.parametrize("gradient", ["exact", "detached"])
def test_iterations_are_honoured(gradient: str) -> None:
    images = batch_of([1, 2, 3]).images
    scores = [tiny(iterations=iterations, gradient=gradient)(images).scores for iterations in (1, 2, 3)]
    for first, second in ((0, 1), (1, 2), (0, 2)):
        assert (scores[first] - scores[second]).abs().max() > 1e-5


def test_gradient_through_routing_is_chosen() -> None:
    batch = batch_of([1, 2, 3])
    exact, detached = tiny(gradient="exact"), tiny(gradient="detached")
    losses = [model.loss(model(batch.images), batch) for model in (exact, detached)]
    assert losses[0] == losses[1]
    (of_exact,) = torch.autograd.grad(losses[0], exact.weight)
    (of_detached,) = torch.autograd.grad(losses[1], detached.weight)
    assert not torch.allclose(of_exact, of_detached, rtol=1e-3)


def test_digit_bias_is_optional() -> None:
    assert tiny(digit_bias=False).bias is None
    model = tiny()
    assert model.bias is not None
    torch.nn.init.zeros_(model.bias)
    images = batch_of([1, 2]).images
    assert torch.equal(model(images).scores, tiny(digit_bias=False)(images).scores)


@pytest.mark.parametrize("shared", [False, True])
def test_an_orphan_category_is_optional(shared: bool) -> None:
    images = batch_of([1, 2, 3]).images
    model = tiny(leaky=True, shared=shared)
    u = model.primary(torch.relu(model.convolution(images)))
    weight = model.weight.repeat_interleave(model.positions, 0)
    found = model(images).poses
    torch.testing.assert_close(found, route_reference(u, weight, 3, model.bias, "exact", leaky=True))
    plain = tiny(shared=shared)(images).poses
    torch.testing.assert_close(plain, route_reference(u, weight, 3, model.bias, "exact"))
    assert (found - plain).abs().max() > 1e-4


@pytest.mark.parametrize("leaky", [False, True])
def test_shared_matrices_route_as_matrices_that_are_alike_at_every_position(leaky: bool) -> None:
    shared, own = tiny(shared=True, leaky=leaky), tiny(leaky=leaky)
    weight = torch.randn(shared.weight.shape, generator=torch.Generator().manual_seed(3))  # [types, J, O, D]
    positions = len(own.weight) // len(weight)
    with torch.no_grad():
        shared.weight.copy_(weight)
        for kind, matrices in enumerate(weight):
            own.weight[kind * positions : (kind + 1) * positions] = matrices
    rest = {name: value for name, value in own.state_dict().items() if name != "weight"}
    shared.load_state_dict(rest, strict=False)
    batch = batch_of([1, 2, 3])
    torch.testing.assert_close(shared(batch.images).poses, own(batch.images).poses)
    gradients = [
        torch.autograd.grad(model.loss(model(batch.images), batch), model.weight)[0] for model in (shared, own)
    ]
    torch.testing.assert_close(gradients[0], gradients[1].view(len(weight), positions, *weight.shape[1:]).sum(1))


def test_with_shared_matrices_it_does_not_matter_which_position_a_capsule_has() -> None:
    shared, own = (tiny(shared=shared, image_size=24) for shared in (True, False))
    here, there = torch.zeros(2, 1, 1, 24, 24)
    here[..., 8:12, 8:12] = there[..., 10:14, 12:16] = 0.8  # apart by multiples of the primary convolution's stride
    torch.testing.assert_close(shared(here).scores, shared(there).scores)
    assert (own(here).scores - own(there).scores).abs().max() > 1e-4


def test_decoder_sees_one_capsule_only() -> None:
    model, batch = tiny(), batch_of([4, 7])
    output = model(batch.images)
    classes = torch.tensor([4, 0])
    (gradient,) = torch.autograd.grad(output.reconstruct(classes).sum(), output.poses)
    seen = gradient.abs().sum(-1) > 0
    assert seen.tolist() == k_hot(classes, 10).bool().tolist()


def test_reconstruction_is_an_image() -> None:
    model = tiny(image_size=(20, 23))
    drawn = model(torch.rand(2, 1, 20, 23)).reconstruct(torch.tensor([3, 3]))
    assert drawn.shape == (2, 1, 20, 23)
    assert (drawn > 0).all() and (drawn < 1).all()


def test_loss_reconstructs_by_the_true_label() -> None:
    model, batch = tiny(reconstruction_weight=0.25), batch_of([4, 7])
    output = model(batch.images)
    assert (output.scores.argmax(1) != batch.labels).any()  # so that the prediction would give another loss
    drawn = torch.stack([model.decode(output.poses, batch.labels)[i] for i in range(2)])
    errors = (drawn - batch.images).square().sum(dim=(1, 2, 3))
    expected = margin_loss(output.scores, k_hot(batch.labels, 10)) + 0.25 * errors.mean()
    torch.testing.assert_close(model.loss(output, batch), expected)


def test_loss_of_pairs_adds_both_reconstructions() -> None:
    model, batch = tiny(pairs=True, reconstruction_weight=0.25), batch_of([[4, 7], [0, 9]], layers=True)
    output = model(batch.images)
    assert batch.layers is not None
    total = margin_loss(output.scores, k_hot(batch.labels, 10))
    for k in (0, 1):
        error = model.decode(output.poses, batch.labels[:, k])[:, 0] - batch.layers[:, k]
        total = total + 0.25 * error.square().sum(dim=(1, 2)).mean()
    torch.testing.assert_close(model.loss(output, batch), total)


def test_loss_without_reconstruction_is_the_margin_loss() -> None:
    model, batch = tiny(reconstruction=False), batch_of([4, 7])
    output = model(batch.images)
    assert output.reconstruct is None
    assert torch.equal(model.loss(output, batch), margin_loss(output.scores, k_hot(batch.labels, 10)))
    with pytest.raises(ParameterError, match="has no decoder"):
        model.decode(output.poses, batch.labels)


@pytest.mark.parametrize(("pairs", "reconstruction"), [(False, False), (False, True), (True, False), (True, True)])
def test_layers_are_needed_to_reconstruct_pairs_only(pairs: bool, reconstruction: bool) -> None:
    assert tiny(pairs=pairs, reconstruction=reconstruction).needs_layers == (pairs and reconstruction)


@pytest.mark.parametrize(
    ("pairs", "labels", "message"),
    [
        (True, [[1, 2]], r"pairs=True .* got labels \[1, 2\] and no layers"),
        (False, [[1, 2]], r"pairs=False .* got labels \[1, 2\] and images to reconstruct \[1, 1, 20, 20\]"),
    ],
)
def test_loss_refuses_what_it_cannot_reconstruct(pairs: bool, labels: list[Any], message: str) -> None:
    model, batch = tiny(pairs=pairs), batch_of(labels)
    with pytest.raises(ParameterError, match=message):
        model.loss(model(batch.images), batch)


def test_released_preset_weighs_reconstruction_twenty_times_more() -> None:
    assert CapsNet.presets["released"] == {"primary_scale": 1 / 32, "reconstruction_weight": 0.01}


@pytest.mark.parametrize(("preset", "saturates"), [("paper", {1e-3: True, 1e-3 / 25: False}), ("large", {1e-3: False})])
def test_the_first_step_at_40x40_saturates_every_capsule_but_for_a_warm_up_or_the_preset_large(
    preset: str, saturates: dict[float, bool]
) -> None:
    """By learning rate: that of the paper, and that with which one-cycle begins."""
    torch.manual_seed(0)
    model = CapsNet(image_size=40, gradient="detached", reconstruction=False, **CapsNet.presets[preset])
    drawn = capsbench.stream("padded", split="train", digits="embedded").batch(range(2))
    images = torch.from_numpy(drawn.images)[:, None] / 255
    batch = Batch(images=images, labels=torch.from_numpy(drawn.labels).long())
    torch.autograd.backward(model.loss(model(images), batch))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for learning_rate, every in saturates.items():
        model.load_state_dict(before)
        torch.optim.Adam(model.parameters(), learning_rate).step()
        with torch.no_grad():
            lengths = model(images).scores
        assert (lengths.min() > 0.9) == every and (lengths.max() < 0.9) != every


def test_scores_are_float32_under_autocast() -> None:
    model, images = tiny(), batch_of([1, 2]).images
    with torch.autocast("cpu", torch.bfloat16):
        output = model(images)
    assert output.scores.dtype == output.poses.dtype == torch.float32
    # Two convolutions in bfloat16, of 25 and 100 terms; what comes after is in float32.
    assert (output.scores - model(images).scores).abs().max() < 4 * torch.finfo(torch.bfloat16).eps


def test_blank_image_has_finite_gradients() -> None:
    model = tiny(digit_bias=False)
    torch.nn.init.zeros_(model.primary.bias)
    torch.nn.init.zeros_(model.convolution.get_parameter("bias"))
    batch = Batch(images=torch.zeros(2, 1, SIZE, SIZE), labels=torch.tensor([0, 1]))
    output = model(batch.images)
    assert not output.scores.any()
    gradients = torch.autograd.grad(model.loss(output, batch), list(model.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"image_size": 12}, ParameterError, "image of 12x12 pixels is too small .* at least 17x17"),
        ({"iterations": 0}, ParameterError, "iterations must be .* got 0"),
        ({"gradient": "exakt"}, UnknownNameError, "No gradient of routing is called 'exakt'. Did you mean 'exact'?"),
        ({"implementation": "referense"}, UnknownNameError, "Did you mean 'reference'?"),
        ({"types": 0}, ParameterError, "types must be .* got 0"),
        ({"reconstruction": "no"}, ParameterError, "reconstruction must be True or False, got no"),
        ({"shared": 1}, ParameterError, "shared must be True or False, got 1"),
        ({"leaky": 1}, ParameterError, "leaky must be True or False, got 1"),
        ({"digit_bias": 1}, ParameterError, "digit_bias must be True or False, got 1"),
        ({"primary_scale": 0}, ParameterError, "primary_scale must be .* got 0"),
        ({"reconstruction_weight": -1}, ParameterError, "reconstruction_weight must be .* got -1"),
        ({"decoder": (512, 0)}, ParameterError, "decoder must be .* got 0"),
    ],
)
def test_refusals(parameters: dict[str, Any], error: type[CapsbenchError], message: str) -> None:
    with pytest.raises(error, match=message):
        CapsNet(**parameters)


@pytest.mark.parametrize("gradient", ["exact", "detached"])
def test_a_training_step_with_blocked_routing_is_that_with_the_reference(gradient: str) -> None:
    batch = batch_of([3, 1, 4, 1, 5, 9, 2, 6])
    gradients = {}
    for implementation in ("reference", "auto", "blocked"):
        model = tiny(implementation=implementation, gradient=gradient)
        torch.autograd.backward(model.loss(model(batch.images), batch))
        gradients[implementation] = {name: p.grad for name, p in model.named_parameters()}
    for implementation in ("auto", "blocked"):
        for name, expected in gradients["reference"].items():
            ours = gradients[implementation][name]
            assert expected is not None and ours is not None
            assert (ours - expected).norm() <= 1e-5 * expected.norm(), name


def test_a_decoder_of_colours_draws_all_of_them_and_its_loss_has_every_one() -> None:
    model = tiny(channels_in=3)
    images, labels = torch.rand(2, 3, SIZE, SIZE), torch.tensor([1, 2])
    output = model(images)
    assert output.reconstruct is not None
    drawn = output.reconstruct(labels)
    assert drawn.shape == images.shape
    expected = margin_loss(output.scores, k_hot(labels, 10)) + 0.0005 * (drawn - images).square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(model.loss(output, Batch(images=images, labels=labels)), expected)


def test_pairs_are_grey() -> None:
    with pytest.raises(ParameterError, match="Pairs of digits are grey, so that channels_in must be 1, got 3"):
        tiny(pairs=True, channels_in=3)
