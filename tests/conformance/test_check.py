"""Every check passes right layers, and each has wrong layers that it alone catches."""

import re
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import capsbench
from capsbench.conformance.check import CHECKS, Finding, check
from capsbench.contracts import Output, TensorBatch
from capsbench.errors import ParameterError, UnknownNameError, UsageError
from capsbench.models.routing.reference import route_reference
from capsbench.models.routing.route import IMPLEMENTATIONS
from capsbench.sources import seeding

PAGE = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text()


def verdicts(findings: list[Finding]) -> dict[str, bool | None]:
    assert [finding.check for finding in findings] == list(CHECKS)
    assert all(finding.detail and "\n" not in finding.detail for finding in findings)
    return {finding.check: finding.passed for finding in findings}


def failed(findings: list[Finding]) -> list[str]:
    return [name for name, passed in verdicts(findings).items() if passed is False]


def detail(findings: list[Finding], check: str) -> str:
    return next(finding.detail for finding in findings if finding.check == check)


def layer(u: Tensor, weight: Tensor, iterations: int, fault: str = "", leaky: bool = False) -> Tensor:
    """Routing as public implementations write it, with one of their faults; leaky as the authors' code writes it."""
    if fault == "capsules cut by a view":
        u = u.reshape(len(u), u.shape[2], u.shape[1]).transpose(1, 2)
    if fault == "matrices of the next capsule":
        weight = weight.roll(1, dims=0)
    if fault == "no gradient to the matrices":
        weight = weight.detach()
    times = {"always three iterations": 3, "one too many": iterations + 1, "one too few": max(1, iterations - 1)}
    votes = torch.einsum("bid,ijod->bijo", u, weight)
    source = votes.detach() if fault == "detached" else votes
    logits = torch.zeros_like(votes[..., 0])
    over = 1 if fault == "softmax over the inputs" else 2
    for _ in range(times.get(fault, iterations) - 1):
        v = squash(torch.einsum("bij,bijo->bjo", couple(logits, over, fault, leaky), source), fault)
        agreement = torch.einsum("bijo,bjo->bij", source, v)
        if fault == "logits averaged over the batch":
            agreement = agreement.mean(dim=0, keepdim=True)
        logits = logits + agreement
    v = squash(
        torch.einsum(
            "bij,bijo->bjo",
            couple(logits, over, fault, leaky and fault != "a leak in all iterations but the last"),
            votes,
        ),
        fault,
    )
    if fault == "gradients of half precision in float32" and v.requires_grad and v.dtype == torch.float32:
        v.register_hook(lambda gradient: gradient.bfloat16().float())  # type: ignore[no-untyped-call]
    return v


def couple(logits: Tensor, over: int, fault: str, leaky: bool) -> Tensor:
    if not leaky:
        c = logits.softmax(dim=over)
        return c * 0.99 if fault == "couplings that leak" else c
    leak = torch.zeros_like(logits.narrow(over, 0, 1))
    if fault == "a leak that agrees":
        leak = logits.mean(dim=over, keepdim=True)
    if fault == "a leak of another logit":
        leak = leak + 0.01
    if fault == "two leaks":
        leak = torch.cat([leak, leak], dim=over)
    width = leak.shape[over]
    c = torch.cat([leak, logits], dim=over).softmax(dim=over).narrow(over, width, logits.shape[over])
    return c / c.sum(dim=over, keepdim=True) if fault == "shares of a leak that are given back" else c


def squash(s: Tensor, fault: str) -> Tensor:
    square = s.square().sum(dim=-1, keepdim=True)
    length = square.sqrt() if fault == "a root of zero" else s.norm(dim=-1, keepdim=True)
    scale = length / (1 + square)
    return s * (scale.detach() if fault == "squash taken as a constant" else scale)


FAULTS = {
    "softmax over the inputs": "couplings",
    "logits averaged over the batch": "batch",
    "capsules cut by a view": "permutation",
    "matrices of the next capsule": "permutation",
    "always three iterations": "iterations",
    "one too many": "iterations",
    "one too few": "iterations",
    "squash taken as a constant": "gradients",
    "no gradient to the matrices": "gradients",
    "gradients of half precision in float32": "gradients",
    "a root of zero": "zeros",
}


@cache
def checked(fault: str = "", leaky: bool = False) -> list[Finding]:
    """The findings of `layer`, which are the same each time."""
    return check(layer, fault=fault, leaky=leaky)


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize(("fault", "check"), FAULTS.items())
def test_a_wrong_layer_is_caught_by_its_check_alone(fault: str, check: str, leaky: bool) -> None:
    assert failed(checked(fault, leaky)) == [check]


@pytest.mark.parametrize(
    "fault",
    [
        "a leak that agrees",
        "a leak of another logit",
        "a leak in all iterations but the last",
        "two leaks",
        "shares of a leak that are given back",
    ],
)
def test_a_wrong_orphan_category_is_seen(fault: str) -> None:
    assert "couplings" in failed(checked(fault, leaky=True))


def unsaid(u: Tensor, weight: Tensor, iterations: int) -> Tensor:
    """Has an orphan category, and does not say so."""
    return layer(u, weight, iterations, leaky=True)


class Leaky(nn.Module):
    """Says so with an attribute."""

    leaky = True

    def forward(self, u: Tensor, weight: Tensor, iterations: int) -> Tensor:
        return layer(u, weight, iterations, leaky=True)


def test_an_orphan_category_must_be_said() -> None:
    found = detail(capsbench.check(unsaid), "couplings")
    assert found.startswith("sums over the outputs 0.75, 0.") and found.endswith("says so with leaky = True")
    found = detail(checked("shares of a leak that are given back", leaky=True), "couplings")
    assert found.startswith("sums over the outputs 1, 1, 1, 1") and "expected with an orphan category 0.75" in found


@pytest.mark.parametrize(
    ("right", "options"),
    [
        (layer, {"leaky": True}),
        (Leaky(), {}),
        (partial(layer, leaky=True), {}),
        ("capsbench.models.routing:route", {"leaky": True}),
        ("capsbench.models.routing:route", {"leaky": True, "implementation": "reference"}),
        ("capsbench.models.routing:route", {"leaky": True, "implementation": "blocked", "gradient": "detached"}),
    ],
    ids=["function", "module", "partial", "route", "reference", "blocked"],
)
def test_couplings_of_a_layer_with_an_orphan_category_sum_to_less_than_1(right: Any, options: dict[str, Any]) -> None:
    findings = capsbench.check(right, **options)
    assert verdicts(findings) == dict.fromkeys(CHECKS, True) | {"margin loss": None}
    found = detail(findings, "couplings")
    assert found.endswith("less than 1 by an orphan category's share")
    sums = [float(number) for number in re.findall(r"\d\.\d+", found)]
    assert len(sums) == 4 and sums[0] == 0.75 and max(sums) < 0.9


@pytest.mark.parametrize("implementation", ["reference", "blocked"])
def test_couplings_without_an_orphan_category_sum_to_1(implementation: str) -> None:
    found = detail(capsbench.check("capsbench.models.routing:route", implementation=implementation), "couplings")
    assert re.fullmatch(r"sums over the outputs within \de-0[678] of 1", found)


def test_every_check_has_a_wrong_layer_that_it_alone_catches() -> None:
    assert {*FAULTS.values(), *(check for check, _ in NETWORK_FAULTS.values())} == set(CHECKS)


def test_a_finding_says_what_was_found_and_what_was_expected() -> None:
    found = {fault: detail(checked(fault), check) for fault, check in FAULTS.items()}
    assert found["softmax over the inputs"].startswith("sums over the outputs 0.6, ")
    assert "expected 1" in found["softmax over the inputs"]
    assert "with iterations 1, 2, 3, 4, the results are those of 3, 3, 3, 3" in found["always three iterations"]
    assert found["one too many"].endswith("those of 2, 3, 4, 5")
    assert found["one too few"].endswith("those of 1, 1, 2, 3")
    assert found["a root of zero"] == "where all input capsules are zero, the gradient of u is not a number"
    assert "gradients of weight" in found["no gradient to the matrices"]
    assert re.search(r"differ by [\d.]+ of the largest value, expected at most", found["capsules cut by a view"])


def test_a_small_leak_of_the_couplings_is_seen() -> None:
    assert "couplings" in failed(capsbench.check(layer, fault="couplings that leak"))


class Layer(nn.Module):
    """A module whose call is a routing function."""

    def forward(self, u: Tensor, weight: Tensor, iterations: int = 3) -> Tensor:
        return layer(u, weight, iterations)


@pytest.mark.parametrize("right", [layer, Layer(), "capsbench.models.routing:route"])
def test_a_right_layer_passes(right: Any) -> None:
    assert verdicts(capsbench.check(right)) == dict.fromkeys(CHECKS, True) | {"margin loss": None}


def test_a_layer_that_writes_into_what_it_is_given_passes() -> None:
    def careless(u: Tensor, weight: Tensor, iterations: int) -> Tensor:
        v = layer(u, weight, iterations)
        if not u.requires_grad:
            u.zero_()
            weight.zero_()
        return v

    assert not failed(capsbench.check(careless))


def test_an_epsilon_in_squash_does_no_harm() -> None:
    def careful(u: Tensor, weight: Tensor, iterations: int) -> Tensor:
        votes = torch.matmul(weight[None], u[:, :, None, :, None]).squeeze(-1)  # [B, I, J, O]
        logits = votes.new_zeros(votes.shape[:3])
        for turn in range(iterations):
            s = (logits.softmax(dim=2).unsqueeze(-1) * votes).sum(dim=1)
            norm: Tensor = s.norm(dim=-1, keepdim=True)
            v = norm**2 / (1 + norm**2) * s / (norm + 1e-8)
            if turn < iterations - 1:
                logits = logits + (votes * v[:, None]).sum(dim=-1)
        return v

    assert not failed(capsbench.check(careful))


@pytest.mark.parametrize(
    ("model", "options"), [(layer, {"fault": "detached"}), ("capsbench.models.routing:route", {"gradient": "detached"})]
)
def test_couplings_without_gradient_are_recognised(model: Any, options: dict[str, str]) -> None:
    findings = capsbench.check(model, **options)
    assert not failed(findings)
    assert detail(findings, "gradients").startswith("detached")
    assert detail(checked(), "gradients").startswith("exact")


def raising(u: Tensor, weight: Tensor, iterations: int) -> Tensor:
    raise RuntimeError("broken\nin two lines")


def leaving(u: Tensor, weight: Tensor, iterations: int) -> Tensor:
    raise SystemExit(3)


def not_a_number(u: Tensor, weight: Tensor, iterations: int) -> Tensor:
    return layer(u, weight, iterations) * float("nan")


def too_wide(u: Tensor, weight: Tensor, iterations: int) -> Tensor:
    return layer(u, weight, iterations)[:, None]


def two_things(u: Tensor, weight: Tensor, iterations: int) -> Any:
    return layer(u, weight, iterations), iterations


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (raising, "u [16, 5, 4], weight [5, 3, 6, 4] of torch.float32, iterations=1 it raises RuntimeError: broken"),
        (leaving, "it raises SystemExit: 3"),
        (not_a_number, "values that are not numbers"),
        (too_wide, "it returns [16, 1, 3, 6], expected v [16, 3, 6]"),
        (two_things, "it returns a tuple, expected v [16, 3, 6]"),
    ],
)
def test_a_layer_that_breaks_fails_with_a_line(broken: Any, message: str) -> None:
    findings = capsbench.check(broken)
    assert failed(findings) == [name for name in CHECKS if name != "margin loss"]
    assert message in detail(findings, "couplings")


def test_a_layer_for_float32_only_fails_the_check_that_needs_float64() -> None:
    def narrow(u: Tensor, weight: Tensor, iterations: int) -> Tensor:
        v: Tensor = (layer if u.dtype == torch.float32 else raising)(u, weight, iterations)
        return v

    findings = capsbench.check(narrow)
    assert failed(findings) == ["gradients"]
    assert "torch.float64, iterations=3 it raises RuntimeError: broken" in detail(findings, "gradients")


def margin(lengths: Tensor, labels: Tensor, fault: str = "") -> Tensor:
    there = torch.zeros_like(lengths).scatter(1, labels[:, None], 1.0)
    missed, imagined = (0.9 - lengths).relu(), (lengths - 0.1).relu()
    if fault != "not squared":
        missed, imagined = missed.square(), imagined.square()
    each = there * missed + (1 if fault == "no lambda" else 0.5) * (1 - there) * imagined
    over_classes = each.mean(dim=1) if fault == "mean over the classes" else each.sum(dim=1)
    return over_classes.sum() if fault == "sum over the batch" else over_classes.mean()


class Capsules(nn.Module):
    """A small network of capsules, with one fault or none."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.primary = nn.Parameter(torch.randn(784, 24, generator=generator) / 28)
        self.weight = nn.Parameter(torch.randn(6, 10, 8, 4, generator=generator))
        self.dropout = nn.Dropout()
        self.fault = fault

    def routing(self, u: Tensor, weight: Tensor, iterations: int) -> Tensor:
        return layer(u, weight, iterations, self.fault)

    def forward(self, images: Tensor) -> Output:
        features = self.dropout(images.flatten(1) @ self.primary)
        if self.fault == "a root of the image":
            features = features / features.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1)
        if self.fault == "the mean of the batch added":
            features = features + features.mean(dim=0)
        if self.fault == "half precision" and features.dtype == torch.float32:
            features = features.bfloat16().float()
        poses = layer(features.unflatten(1, (6, 4)), self.weight, 3)
        if self.fault == "not numbers":
            poses = poses / 0
        return Output(scores=poses.norm(dim=-1), poses=poses)

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        return margin(output.scores, batch.labels, self.fault)


NETWORK_FAULTS = {
    "softmax over the inputs": ("couplings", "routing"),
    "the mean of the batch added": ("batch", "network"),
    "half precision": ("gradients", "network"),
    "a root of the image": ("zeros", "network"),
    "no lambda": ("margin loss", "network"),
    "not squared": ("margin loss", "network"),
    "mean over the classes": ("margin loss", "network"),
    "sum over the batch": ("margin loss", "network"),
}


@pytest.mark.parametrize(("fault", "check", "whose"), [(fault, *found) for fault, found in NETWORK_FAULTS.items()])
def test_a_wrong_network_is_caught_by_its_check_alone(fault: str, check: str, whose: str) -> None:
    findings = capsbench.check(Capsules(fault))
    assert failed(findings) == [check]
    assert detail(findings, check).startswith(f"{whose}: ")


def test_a_margin_loss_is_told_what_it_should_be() -> None:
    found = detail(capsbench.check(Capsules("no lambda")), "margin loss")
    assert found == "network: all lengths 0.5: the loss is 1.6, expected 0.88"


def test_a_loss_that_reconstructs_is_compared_without_an_error_of_its_reconstruction() -> None:
    class Drawing(Capsules):
        def loss(self, output: Output, batch: TensorBatch) -> Tensor:
            assert output.reconstruct is not None
            drawn = output.reconstruct(batch.labels)
            return super().loss(output, batch) + 0.0005 * (drawn - batch.images).square().sum((1, 2, 3)).mean()

    assert verdicts(capsbench.check(Drawing()))["margin loss"] is True
    assert detail(capsbench.check(Drawing("no lambda")), "margin loss").startswith("network: all lengths 0.5")


def test_a_right_network_passes_every_check_and_stays_as_it_was() -> None:
    network = Capsules()
    before = [parameter.clone() for parameter in network.parameters()]
    assert verdicts(capsbench.check(network)) == dict.fromkeys(CHECKS, True)
    assert network.training and all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


def test_answers_that_are_not_numbers_are_told() -> None:
    findings = capsbench.check(Capsules("not numbers"))
    assert "scores or poses that are not numbers" in detail(findings, "batch")


def test_a_network_that_ignores_its_iterations_is_found(tmp_path: Path) -> None:
    path = tmp_path / "deaf.py"
    path.write_text(
        "from capsbench.models.capsnet import CapsNet\n"
        "class Deaf(CapsNet):\n"
        "    def __init__(self, *, iterations=3, **others):\n"
        "        super().__init__(**others)\n"
    )
    findings = capsbench.check(f"{path}:Deaf", preset="small")
    assert failed(findings) == ["iterations"]
    assert detail(findings, "iterations") == "network: built with iterations=2 it answers as with iterations=1"


@pytest.mark.parametrize(
    "options", [{}, {"pairs": True}, {"image_size": (30, 34), "gradient": "exact"}, {"leaky": True}, {"shared": True}]
)
def test_the_capsnet_that_ships_passes(options: dict[str, Any]) -> None:
    findings = capsbench.check("capsnet", preset="small", **options)
    assert verdicts(findings) == dict.fromkeys(CHECKS, True)
    assert ("detached" in detail(findings, "gradients")) == ("gradient" not in options)
    assert "routing: iterations 1, 2, 3, 4 within" in detail(findings, "iterations")
    assert "network: built with iterations 1, 2, 3" in detail(findings, "iterations")
    assert ("less than 1" in detail(findings, "couplings")) == ("leaky" in options)


def test_a_network_without_capsules_gets_the_checks_that_make_sense() -> None:
    findings = capsbench.check("cnn", preset="small", image_size=40)
    assert verdicts(findings) == dict.fromkeys(CHECKS) | {"batch": True, "gradients": True, "zeros": True}
    assert detail(findings, "margin loss") == (
        "does not apply: no routing is offered, and no margin_loss = True says that it is the loss"
    )


class Squashed(nn.Module):
    """A network without routing that says that its loss is the margin loss."""

    margin_loss = True

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)
        self.fault = fault

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.layer(images.flatten(1)))

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        return margin(output.scores, batch.labels, self.fault)


def test_a_margin_loss_that_says_so_is_compared_without_routing() -> None:
    findings = capsbench.check(Squashed())
    assert verdicts(findings)["margin loss"] is True and not failed(findings)
    assert failed(capsbench.check(Squashed("no lambda"))) == ["margin loss"]


@pytest.mark.parametrize("other", ["dynamic", nn.Linear(4, 4), Capsules])
def test_an_attribute_routing_of_another_meaning_is_no_routing(other: Any) -> None:
    class Named(Capsules):
        routing = other

    assert verdicts(capsbench.check(Named())) == dict.fromkeys(CHECKS) | {
        "batch": True,
        "gradients": True,
        "zeros": True,
    }


def test_checking_twice_says_the_same_and_leaves_the_random_state() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with torch.no_grad():
        first = capsbench.check("capsnet", preset="small")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert capsbench.check("capsnet", preset="small") == first


def not_a_network(u: Tensor, weight: Tensor) -> Tensor:
    return u


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("capsnett", {}, UnknownNameError, "Did you mean 'capsnet'"),
        ("capsnet", {"iteration": 1}, UnknownNameError, "Did you mean 'iterations'"),
        ("capsnet", {"iterations": 0}, ParameterError, "iterations must be .* got 0"),
        ("capsnet", {"image_size": "big"}, ParameterError, "image_size must be .* got big"),
        ("capsnet", {"image_size": (28, 28, 1)}, ParameterError, "image_size must be one number or"),
        ("math:pi", {}, UsageError, "it is of class float"),
        ("os.path:join", {}, UsageError, r"needs a.*\n.*docs/conformance.md"),
        ("capsbench.models.routing:route", {"gradiant": "exact"}, UsageError, "unexpected keyword argument 'gradiant'"),
        (not_a_network, {}, UsageError, "'not_a_network' should be a name, a network .* but it is a function"),
        (Capsules, {}, UsageError, "should be a name"),
        (nn.Linear(2, 2), {}, UsageError, "should be a name, .* but it is a Linear"),
        (Capsules(), {"iterations": 3}, UsageError, "built already and takes no iterations"),
        (3, {}, UsageError, "it is a int"),
    ],
)
def test_what_cannot_be_checked_is_refused(model: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.compile(message, re.DOTALL)) as raised:
        capsbench.check(model, **options)
    assert len(str(raised.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("source", "passes"),
    [
        ("def thing(image_size, classes, iterations=3):\n    return Linear()", False),  # builds, and ignores the number
        ("def thing(image_size, classes):\n    return Linear()", True),
        ("thing = Linear()", True),
    ],
)
def test_a_file_may_hold_a_network_or_what_builds_one(source: str, passes: bool, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\nfrom torch.nn import functional as F\nfrom capsbench.contracts import Output\n"
        "class Linear(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.layer = torch.nn.Linear(784, 10)\n"
        "    def forward(self, images):\n        return Output(scores=self.layer(images.flatten(1)))\n"
        "    def loss(self, output, batch):\n        return F.cross_entropy(output.scores, batch.labels)\n" + source
    )
    assert failed(capsbench.check(f"{path}:thing")) == ([] if passes else ["iterations"])


@pytest.mark.parametrize(
    "source", ["def thing():\n    raise RuntimeError('no such weights')", "import torch\nthing = torch.nn.Linear"]
)
def test_what_builds_no_network_is_refused(source: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(UsageError, match=r"mine\.py:thing"):
        capsbench.check(f"{tmp_path}/mine.py:thing")


def test_the_example_of_the_page_is_right_and_its_fault_is_found(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(# layer\.py.*?)```", PAGE, re.DOTALL)
    (tmp_path / "layer.py").write_text(code)
    assert not failed(capsbench.check(f"{tmp_path}/layer.py:routing"))
    (tmp_path / "wrong.py").write_text(code.replace("softmax(dim=2)", "softmax(dim=1)"))
    assert failed(capsbench.check(f"{tmp_path}/wrong.py:routing")) == ["couplings"]
    (tmp_path / "root.py").write_text(code.replace("s.norm(dim=-1, keepdim=True)", "s.square().sum(-1, True).sqrt()"))
    assert failed(capsbench.check(f"{tmp_path}/root.py:routing")) == ["zeros"]


KEPT = """
import torch
from torch import nn

class Usual(nn.Module):
    def __init__(self, num_capsules=10, in_capsules=1152, in_dim=8, out_dim=16, num_routing=3, over=2, leaky=False):
        super().__init__()
        self.W = nn.Parameter(torch.randn(1, in_capsules, num_capsules, out_dim, in_dim))
        self.bias = nn.Parameter(torch.ones(num_capsules, out_dim))
        self.num_routing, self.over, self.leaky = num_routing, over, leaky

    def forward(self, x):
        votes = (self.W @ x[:, :, None, :, None]).squeeze(-1)
        logits = torch.zeros_like(votes[..., 0])
        for _ in range(self.num_routing):
            c = logits.exp() / (logits.exp().sum(self.over, keepdim=True) + self.leaky)
            s = (c.unsqueeze(-1) * votes).sum(1) + self.bias
            length = s.norm(dim=-1, keepdim=True)
            v = length / (1 + length.square()) * s
            logits = logits + (votes * v.unsqueeze(1)).sum(-1)
        return v
"""


def test_a_layer_that_keeps_its_weights_is_checked_as_it_is(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(# layer\.py.*?)```", PAGE, re.DOTALL)
    (tmp_path / "layer.py").write_text(code)
    assert not failed(capsbench.check(f"{tmp_path}/layer.py:DigitCapsules"))
    (tmp_path / "wrong.py").write_text(code.replace("softmax(dim=2)", "softmax(dim=1)"))
    assert failed(capsbench.check(f"{tmp_path}/wrong.py:DigitCapsules")) == ["couplings"]
    (tmp_path / "usual.py").write_text(KEPT)
    assert not failed(capsbench.check(f"{tmp_path}/usual.py", over=2))
    assert failed(capsbench.check(f"{tmp_path}/usual.py:Usual", over=1)) == ["couplings"]
    assert not failed(capsbench.check(f"{tmp_path}/usual.py:Usual", over=2, leaky=True))


def test_the_page_tells_of_every_check() -> None:
    for name in CHECKS:
        assert PAGE.count(f"| `{name}` |") == 2  # how it is done, and what for


def test_the_hook_of_capsnet_routes_as_the_network_does() -> None:
    network = capsbench.models.build("capsnet", preset="small", digit_bias=False)
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    u = network.primary(torch.relu(network.convolution(images)))
    torch.testing.assert_close(network.routing(u, network.weight, 3), network(images).poses)


def test_what_routes_many_images_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(u: Tensor, weight: Tensor, *options: Any) -> Tensor:
        return route_reference(u, weight.flip(1), *options)

    monkeypatch.setitem(IMPLEMENTATIONS, "blocked", wrong)
    assert any(finding.passed is False for finding in check("capsbench.models.routing:route"))


LATE = """
import numpy as np, torch
from torch.nn import functional as F
from capsbench.contracts import Output

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(784, 10)
        self.layer.weight.data *= float(np.random.rand())

    def forward(self, images):
        from beside_of_check import SCALE
        return Output(scores=SCALE * self.layer(images.flatten(1)))

    def loss(self, output, batch):
        return F.cross_entropy(output.scores, batch.labels)
"""


def test_what_a_forward_imports_from_beside_its_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    (tmp_path / "beside_of_check.py").write_text("SCALE = 2.0\n")
    before = repr(seeding.state())
    first, second = (check(f"{tmp_path}/late.py:Net") for _ in range(2))
    assert first == second and not any("raises" in finding.detail for finding in first)
    assert repr(seeding.state()) == before
