"""Networks without a loss: what their scores are is found out, and the loss is the one that fits them."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capsbench.building import build
from capsbench.contracts import Batch, Output, TensorBatch
from capsbench.errors import UsageError
from capsbench.scoring import ScoreLoss, fit_loss, kind_of, remarks_of

LOGITS = 3 * torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([3, 0, 9, 9, 1, 5])
PAIRS = torch.stack([LABELS, (LABELS + 4) % 10], dim=1)


def batch(labels: Tensor) -> TensorBatch:
    return Batch(images=torch.zeros(len(labels), 1, 4, 4), labels=labels)


def loss(kind: str, scores: Tensor, labels: Tensor) -> float:
    return float(ScoreLoss(kind)(Output(scores=scores), batch(labels)))


def test_logits_of_one_digit_have_cross_entropy_and_so_have_their_probabilities() -> None:
    true = float(F.cross_entropy(LOGITS.double(), LABELS))
    found = [
        loss("logits", LOGITS, LABELS),
        loss("softmax", LOGITS.softmax(1), LABELS),
        loss("log-softmax", LOGITS.log_softmax(1), LABELS),
    ]
    assert found == pytest.approx([true] * 3, rel=1e-6)


def test_logits_of_two_digits_have_a_sigmoid_for_each_class() -> None:
    targets = torch.zeros(6, 10, dtype=torch.float64)
    for row, pair in enumerate(PAIRS.tolist()):
        targets[row, pair] = 1
    p = LOGITS.double().sigmoid()
    true = float(-(targets * p.log() + (1 - targets) * (1 - p).log()).sum() / 6)  # over the classes; a mean over images
    assert loss("logits", LOGITS, PAIRS) == pytest.approx(true, rel=1e-6)
    assert loss("sigmoid", LOGITS.sigmoid(), PAIRS) == pytest.approx(true, rel=1e-4)


def test_probabilities_of_two_digits_are_compared_with_both_labels() -> None:
    p = LOGITS.double().softmax(1)
    true = float(-p.gather(1, PAIRS).log().mean())
    for kind, scores in (("softmax", LOGITS.softmax(1)), ("log-softmax", LOGITS.log_softmax(1))):
        assert loss(kind, scores, PAIRS) == pytest.approx(true, rel=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_a_probability_of_zero_has_a_loss_and_gradients_that_are_numbers(kind: str) -> None:
    scores = torch.eye(10)[:6].requires_grad_()
    found = ScoreLoss(kind)(Output(scores=scores), batch(LABELS))
    (gradient,) = torch.autograd.grad(found, scores)
    assert found.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize(
    ("scores", "kind"),
    [
        (LOGITS, "logits"),
        (LOGITS.softmax(1), "softmax"),
        (LOGITS.softmax(1).bfloat16(), "softmax"),
        (LOGITS.log_softmax(1), "log-softmax"),
        (LOGITS.clone().requires_grad_().sigmoid(), "sigmoid"),
        (LOGITS.sigmoid(), "in 0..1"),  # nothing says where they come from
        (-LOGITS.abs(), "logits"),
        (torch.zeros(2, 10), "logits"),  # a last layer that begins with zeros
        (torch.full((2, 10), torch.nan), "logits"),
        (torch.zeros(2, 10, device="meta"), "logits"),
    ],
)
def test_what_scores_are_shows_in_their_sums_or_their_last_operation(scores: Tensor, kind: str) -> None:
    assert kind_of(scores) == kind


class Bounded(nn.Module):
    """Scores in 0..1 of a trial's images: by chance, because they are bounded, or checked to be images."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)
        nn.init.uniform_(self.layer.weight, 0, 1e-3)
        nn.init.constant_(self.layer.bias, 0.4)
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        assert self.kind != "checked" or images.max() <= 1
        scores: Tensor = self.layer(images.flatten(1))
        return scores.clamp(0, 1) if self.kind == "clamped" else scores


@pytest.mark.parametrize(("kind", "remarked"), [("by chance", False), ("clamped", True), ("checked", True)])
def test_logits_that_lie_in_0_to_1_by_chance_are_no_remark(kind: str, remarked: bool) -> None:
    model = Bounded(kind)
    fit_loss("net", model, shape=(1, 28, 28), classes=10, pairs=False)
    assert any("lie in 0..1" in one for one in remarks_of(model)) == remarked


def test_a_forward_that_wants_labels_is_told_that_there_are_none() -> None:
    class Labelled(nn.Module):
        def forward(self, images: Tensor, labels: Tensor) -> Tensor:
            return images.new_zeros(len(images), 10)

    with pytest.raises(UsageError, match=r"missing 1 required .* 'labels'\. It must .*; its forward gets the images"):
        fit_loss("net", Labelled(), shape=(1, 28, 28), classes=10, pairs=False)


class Plain(nn.Module):
    """A network as anyone has it; what comes last is a parameter."""

    def __init__(self, last: str = "", classes: int = 10) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.dropout = nn.Dropout(0.5)
        self.layer = nn.LazyLinear(classes)
        self.last = last

    def forward(self, images: Tensor) -> Any:
        scores = self.layer(self.dropout(self.norm(images)).flatten(1))
        if self.last in ("softmax", "log_softmax"):
            return getattr(scores, self.last)(1)
        return {"": scores, "sigmoid": scores.sigmoid(), "tuple": (scores, None), "output": Output(scores=scores)}[
            self.last
        ]


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize(
    ("last", "kind", "said"),
    [
        ("", "logits", ()),
        ("output", "logits", ()),
        ("softmax", "softmax", ("probabilities",)),
        ("log_softmax", "log-softmax", ("log-probabilities",)),
        ("sigmoid", "sigmoid", ("sigmoids",)),
    ],
)
def test_a_network_without_a_loss_gets_one_and_a_remark(
    last: str, kind: str, said: tuple[str, ...], pairs: bool
) -> None:
    torch.manual_seed(1)
    model = build(Plain, image_size=(9, 12), pairs=pairs, last=last)
    after = torch.rand(())
    assert model.loss == ScoreLoss(kind) and model.training
    if kind == "log-softmax" and not pairs:
        said = ()  # cross-entropy is exact as it is
    remarks = remarks_of(model)
    assert len(remarks) == len(said) and all(word in remark for word, remark in zip(said, remarks, strict=True))
    assert set(model.state_dict()) == {
        *("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"),
        *("layer.weight", "layer.bias"),
    }
    assert float(model.norm.running_mean) == 0  # type: ignore[arg-type, union-attr]  # the trial teaches nothing
    torch.manual_seed(1)
    build(Plain, image_size=(9, 12), pairs=pairs, last=last)
    assert torch.rand(()) == after
    assert copy.deepcopy(model).loss == ScoreLoss(kind)


class Few(Plain):
    def __init__(self, last: str = "") -> None:
        super().__init__(last, classes=5)


@pytest.mark.parametrize(
    ("network", "last", "message"),
    [
        (Few, "", r"Few: .*scores of shape \[2, 5\] for 2 images; \[2, 10\] is needed"),
        (Plain, "tuple", r"Plain: .*returned a tuple; it must return scores \[B, 10\], or .*Output\(scores="),
        (Plain, "nothing", r"'Plain' fails on images \[2, 1, 9, 12\] .*KeyError.*must give scores \[2, 10\]"),
    ],
)
def test_scores_of_a_wrong_shape_are_named_with_both(network: type[Plain], last: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(network, image_size=(9, 12), last=last)


class OnTheGPU(Plain):
    def forward(self, images: Tensor) -> Any:
        raise RuntimeError("0 active drivers ([]). There should only be one.")


def test_a_network_for_a_gpu_alone_is_taken_at_its_word() -> None:
    assert build(OnTheGPU).loss == ScoreLoss("logits")


def test_remarks_of_anything_else_are_none() -> None:
    model = nn.Identity()
    assert remarks_of(model) == []
    for other in (3, "text", nn.Linear(1, 1)):
        model.__dict__["remarks"] = other
        assert remarks_of(model) == []
