"""A derivative written by hand, as autograd sees it: one function for every implementation that has one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from capsbench.errors import UsageError

Forward = Callable[[Tensor, Tensor, Tensor | None, int, int, bool], tuple[Tensor, tuple[Tensor, ...]]]
Backward = Callable[[Tensor, Tensor, tuple[Tensor, ...], Tensor, int, int, bool], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class HandWritten:
    """An implementation of routing with its derivative; both are called without autograd, on checked arguments.

    Attributes:
        name: Of the implementation.
        forward: ``(u, weight, bias, iterations, kept, leaky)`` to ``(v, saved)``: the output capsules ``[B, J, O]``,
            and the tensors that `backward` wants beside ``u`` and ``weight`` for the last `kept` iterations, which
            carry gradient: all of them, one, or none.
        backward: ``(u, weight, saved, dv, iterations, kept, leaky)`` to ``(du, dweight, dbias)``, of the shapes of u,
            of weight and ``[J, O]``, of any dtype.
    """

    name: str
    forward: Forward
    backward: Backward

    def __call__(
        self, u: Tensor, weight: Tensor, iterations: int, bias: Tensor | None, gradient: str, leaky: bool = False
    ) -> Tensor:
        """Routes; see `capsbench.models.routing.route`, which checks the arguments."""
        inputs = [tensor for tensor in (u, weight, bias) if tensor is not None]
        if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)):
            return self.forward(u, weight, bias, iterations, 0, leaky)[0]  # nothing to keep for a backward pass
        kept = iterations if gradient == "exact" else 1
        v: Tensor = _Routing.apply(u, weight, bias, (iterations, kept, leaky), self)
        return v


class _Routing(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, u: Tensor, weight: Tensor, bias: Tensor | None, options: tuple[int, int, bool], written: HandWritten
    ) -> Tensor:
        v, saved = written.forward(u, weight, bias, *options)
        ctx.save_for_backward(u, weight, bias, *saved)
        ctx.options = options
        ctx.written = written
        return v

    @staticmethod
    def backward(ctx: Any, dv: Tensor) -> tuple[Tensor | None, ...]:
        u, weight, bias, *saved = ctx.saved_tensors
        with torch.no_grad():
            found = ctx.written.backward(u, weight, tuple(saved), dv, *ctx.options)
        inputs = [u, weight, dv if bias is None else bias]
        gradients = [gradient.to(one.dtype) for gradient, one in zip(found, inputs, strict=True)]
        if torch.is_grad_enabled():  # create_graph=True: someone may want to differentiate again
            gradients = [_Once.apply(gradient, ctx.written.name, dv, *inputs) for gradient in gradients]
        du, dweight, dbias = gradients
        return du, dweight, None if bias is None else dbias, None, None


class _Once(torch.autograd.Function):
    """Passes a gradient on; it depends on the inputs in a way that nobody has written down."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, name: str, *inputs: Tensor) -> Tensor:
        ctx.name = name
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        raise UsageError(
            f"A second derivative was asked of routing's implementation {ctx.name!r}, which has only the first. "
            "Use implementation='reference'."
        )
