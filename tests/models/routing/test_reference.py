"""The reference against numbers worked by hand, the paper's procedure written as loops, and its derivatives."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from capsbench.models.routing.reference import combine, couplings, predict, route_reference

EPS = torch.finfo(torch.float64).eps


def inputs(B: int, I: int, J: int, O: int, D: int, *, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    u, weight, bias = (torch.randn(shape, generator=generator).double() for shape in ((B, I, D), (I, J, O, D), (J, O)))
    return u, scale * weight, bias


def squash_list(s: list[float]) -> list[float]:
    length = math.hypot(*s)
    return [length * value / (1 + length * length) for value in s]


def procedure_1(u: Tensor, weight: Tensor, iterations: int, bias: Tensor | None, leaky: bool) -> Tensor:
    """Procedure 1 for one image, line by line, in plain floats; leaky adds exp(0) below the softmax."""
    inputs_, outputs, dimensions, _ = weight.shape
    votes = [[(weight[i, j] @ u[i]).tolist() for j in range(outputs)] for i in range(inputs_)]
    b = [[0.0] * outputs for _ in range(inputs_)]  # line 2
    v: list[list[float]] = []
    for _ in range(iterations):  # line 3
        totals = [sum(math.exp(b_ik) for b_ik in row) + leaky for row in b]
        c = [[math.exp(b_ij) / total for b_ij in row] for row, total in zip(b, totals, strict=True)]  # line 4
        s = [
            [
                sum(c[i][j] * votes[i][j][o] for i in range(inputs_)) + (0.0 if bias is None else bias[j, o].item())
                for o in range(dimensions)
            ]
            for j in range(outputs)
        ]  # line 5
        v = [squash_list(s_j) for s_j in s]  # line 6
        for i in range(inputs_):  # line 7
            for j in range(outputs):
                b[i][j] += sum(vote * value for vote, value in zip(votes[i][j], v[j], strict=True))
    return torch.tensor(v, dtype=torch.float64)  # line 8


def test_routing_worked_by_hand() -> None:
    # Two input capsules vote (1, 0) and (1, -1) on two output capsules of one dimension.
    #   First iteration, c = 1/2 throughout: s = ((1 + 1)/2, (0 - 1)/2) = (1, -1/2).
    #   squash: v = (1/2 * 1, -(1/4)/(5/4)) = (0.5, -0.2).
    #   Agreement: b_1 = (1 * 0.5, 0 * -0.2) = (0.5, 0), b_2 = (1 * 0.5, -1 * -0.2) = (0.5, 0.2).
    #   c_1 = softmax(0.5, 0) = (0.6224593, 0.3775407), c_2 = softmax(0.5, 0.2) = (0.5744425, 0.4255575).
    #   Second iteration: s = (0.6224593 + 0.5744425, -0.4255575) = (1.1969018, -0.4255575).
    #   s^2 = (1.4325740, 0.1810992), v = (1.4325740/2.4325740, -0.1810992/1.1810992) = (0.5889128, -0.1533311).
    u = torch.ones(1, 2, 1, dtype=torch.float64)
    weight = torch.tensor([[1.0, 0.0], [1.0, -1.0]], dtype=torch.float64).view(2, 2, 1, 1)
    c = couplings(predict(u, weight), 2)[0]
    torch.testing.assert_close(
        c, torch.tensor([[0.6224593, 0.3775407], [0.5744425, 0.4255575]]).double(), rtol=0, atol=1e-7
    )
    v = route_reference(u, weight, 2, None, "exact").flatten()
    torch.testing.assert_close(v, torch.tensor([0.5889128, -0.1533311]).double(), rtol=0, atol=1e-7)


def test_leaky_routing_worked_by_hand() -> None:
    # The same votes, and an orphan category whose logit is 0.
    #   First iteration, c = 1/3 throughout: s = (2/3, -1/3), v = (4/9 / (13/9), -1/9 / (10/9)) = (4/13, -1/10).
    #   Agreement: b_1 = (4/13, 0), b_2 = (4/13, 1/10).
    #   c_1 = (e^(4/13), 1) / (e^(4/13) + 1 + 1) = (0.4048119, 0.2975940),
    #   c_2 = (e^(4/13), e^(1/10)) / (e^(4/13) + e^(1/10) + 1) = (0.3925265, 0.3189109).
    #   Second iteration: s = (0.7973385, -0.3189109), v = (0.6357486/1.6357486, -0.1017042/1.1017042).
    u = torch.ones(1, 2, 1, dtype=torch.float64)
    weight = torch.tensor([[1.0, 0.0], [1.0, -1.0]], dtype=torch.float64).view(2, 2, 1, 1)
    c = couplings(predict(u, weight), 2, leaky=True)[0]
    torch.testing.assert_close(
        c, torch.tensor([[0.4048119, 0.2975940], [0.3925265, 0.3189109]]).double(), rtol=0, atol=1e-7
    )
    v = route_reference(u, weight, 2, None, "exact", leaky=True).flatten()
    torch.testing.assert_close(v, torch.tensor([0.3886591, -0.0923153]).double(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("leaky", [False, True])
def test_routing_is_procedure_1(iterations: int, with_bias: bool, leaky: bool) -> None:
    u, weight, bias = inputs(B=3, I=7, J=4, O=5, D=3, scale=0.5)
    given_bias = bias if with_bias else None
    expected = torch.stack([procedure_1(image, weight, iterations, given_bias, leaky) for image in u])
    for gradient in ("exact", "detached"):
        v = route_reference(u, weight, iterations, given_bias, gradient, leaky)
        assert (v - expected).abs().max() <= 64 * EPS  # sums of 7 terms, compounded over the iterations


def test_iterations_change_the_result() -> None:
    u, weight, _ = inputs(B=2, I=6, J=3, O=4, D=3)
    results = [route_reference(u, weight, iterations, None, "exact") for iterations in (1, 2, 3)]
    assert (results[0] - results[1]).abs().max() > 1e-3
    assert (results[1] - results[2]).abs().max() > 1e-3


@settings(deadline=None)
@given(sizes=st.tuples(*[st.integers(1, 5)] * 4), iterations=st.integers(1, 4), scale=st.sampled_from([0.1, 1.0, 30.0]))
def test_couplings_share_each_input_among_the_outputs(
    sizes: tuple[int, int, int, int], iterations: int, scale: float
) -> None:
    inputs_, outputs, output_dim, input_dim = sizes
    u, weight, bias = inputs(2, inputs_, outputs, output_dim, input_dim, scale=scale)
    c = couplings(predict(u, weight), iterations, bias)
    assert c.shape == (2, inputs_, outputs)
    assert (c >= 0).all()
    assert (c.sum(dim=2) - 1).abs().max() <= 8 * EPS


@settings(deadline=None)
@given(sizes=st.tuples(*[st.integers(1, 5)] * 4), iterations=st.integers(1, 4), scale=st.sampled_from([0.1, 1.0, 5.0]))
def test_an_orphan_category_takes_its_share_of_every_input(
    sizes: tuple[int, int, int, int], iterations: int, scale: float
) -> None:
    inputs_, outputs, output_dim, input_dim = sizes
    u, weight, bias = inputs(2, inputs_, outputs, output_dim, input_dim, scale=scale)
    c = couplings(predict(u, weight), iterations, bias, leaky=True)
    assert c.shape == (2, inputs_, outputs)
    assert (c >= 0).all()
    orphan = 1 - c.sum(dim=2)
    assert (orphan >= -8 * EPS).all() and (iterations > 1 or orphan.allclose(orphan.new_tensor(1 / (outputs + 1))))
    if scale < 5:  # else the logits are so large that the share is lost in rounding
        assert (orphan > 0).all()


def test_the_logit_of_the_orphan_category_stays_zero() -> None:
    # Its share is then 1 / (1 + sum_j exp(b_ij)), with the logits made of the outputs of one and of two iterations.
    u, weight, bias = inputs(B=2, I=6, J=3, O=4, D=3, scale=0.5)
    votes = predict(u, weight)
    earlier = sum(route_reference(u, weight, number, bias, "exact", leaky=True) for number in (1, 2))
    logits = torch.einsum("bijo,bjo->bij", votes, earlier)
    orphan = 1 - couplings(votes, 3, bias, leaky=True).sum(dim=2)
    torch.testing.assert_close(orphan, 1 / (1 + logits.exp().sum(dim=2)))


def test_couplings_do_not_sum_to_one_over_the_inputs() -> None:
    u, weight, _ = inputs(B=2, I=6, J=3, O=4, D=3)
    assert torch.equal(couplings(predict(u, weight), 1), torch.full((2, 6, 3), 1 / 3, dtype=torch.float64))
    assert (couplings(predict(u, weight), 3).sum(dim=1) - 1).abs().max() > 0.1


@pytest.mark.parametrize("leaky", [False, True])
def test_exact_gradient_is_the_derivative(leaky: bool) -> None:
    u, weight, bias = (tensor.requires_grad_() for tensor in inputs(B=2, I=3, J=4, O=3, D=2))
    assert torch.autograd.gradcheck(lambda u, w, b: route_reference(u, w, 3, b, "exact", leaky), (u, weight, bias))


@pytest.mark.parametrize("leaky", [False, True])
def test_detached_gradient_takes_the_couplings_as_constants(leaky: bool) -> None:
    tensors = [tensor.requires_grad_() for tensor in inputs(B=2, I=5, J=4, O=3, D=2)]
    u, weight, bias = tensors
    upstream = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1)).double()
    detached = torch.autograd.grad(route_reference(u, weight, 3, bias, "detached", leaky), tensors, upstream)
    votes = predict(u, weight)
    constant = couplings(votes, 3, bias, leaky).detach()
    for ours, expected in zip(
        detached, torch.autograd.grad(combine(constant, votes, bias), tensors, upstream), strict=True
    ):
        assert torch.equal(ours, expected)
    exact = torch.autograd.grad(route_reference(u, weight, 3, bias, "exact", leaky), tensors, upstream)
    assert not torch.allclose(exact[1], detached[1], rtol=1e-2)


def test_detached_gradient_is_exact_for_one_iteration() -> None:
    tensors = [tensor.requires_grad_() for tensor in inputs(B=2, I=5, J=4, O=3, D=2)]
    u, weight, bias = tensors
    both = [
        torch.autograd.grad(route_reference(u, weight, 1, bias, gradient).sum(), tensors)
        for gradient in ("exact", "detached")
    ]
    assert all(torch.equal(exact, detached) for exact, detached in zip(*both, strict=True))


def test_routing_of_zeros_has_zero_gradients() -> None:
    u, weight = torch.zeros(1, 3, 2, requires_grad=True), torch.zeros(3, 2, 4, 2, requires_grad=True)
    v = route_reference(u, weight, 3, None, "exact")
    assert not v.any()
    assert not any(gradient.any() for gradient in torch.autograd.grad(v.sum(), (u, weight)))
