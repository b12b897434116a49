"""A capsule layer that keeps its own weights, as the function of (u, weight, iterations) that the checks call.

The checks choose the sizes, so that the layer is built for each. Which argument of its constructor is which size is
found by trying: no two sizes are alike, and only the right arguments give a weight of these sizes and capsules of the
right shape.
"""

import inspect
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn

from capsbench.errors import UsageError

SIZES = (7, 3, 6, 4)
"""I input capsules, J output capsules of O dimensions, D dimensions of an input: no two alike."""

MOST = 6  # arguments of a constructor that may be sizes: more give too many orders to try


class CapsuleLayer:
    """Routing with a layer's own code, and with weights that are given.

    Args:
        name: What messages call the layer.
        kind: Its class.
        parameters: Arguments of its constructor that are no sizes.

    Raises:
        UsageError: No choice of arguments makes a layer of capsules of it.
    """

    def __init__(self, name: str, kind: type[nn.Module], parameters: Mapping[str, Any]) -> None:
        self._kind = kind
        self._parameters = dict(parameters)
        named = [one for one in inspect.signature(kind).parameters.values() if one.name not in parameters]
        free = [one for one in named if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
        self._iterations = next((one.name for one in free if _counts_iterations(one.name)), "")
        sizes = [one for one in free if one.default is one.empty or type(one.default) is int]
        whole = [one for one in sizes if one.name != self._iterations]
        names = [one.name for one in whole]
        needed = {one.name for one in whole if one.default is one.empty}
        for chosen in permutations(names, len(SIZES)) if len(names) <= MOST else ():
            if needed <= set(chosen) and self._is_right(chosen):
                self._sizes = chosen
                return
        raise UsageError(f"{name} is no layer from u [B, I, D] to [B, J, O] with one weight of I, J, O and D.")

    def _is_right(self, chosen: Sequence[str]) -> bool:
        self._sizes = tuple(chosen)
        try:
            found = self(torch.zeros(2, SIZES[0], SIZES[3]), torch.zeros(SIZES), 2)
        except KeyboardInterrupt:
            raise
        except BaseException:  # of a constructor that was given sizes in another order
            return False
        return isinstance(found, Tensor) and list(found.shape) == [2, SIZES[1], SIZES[2]]

    def __call__(self, u: Tensor, weight: Tensor, iterations: int) -> Tensor:
        """``[B, I, D]`` and ``[I, J, O, D]`` to what the layer makes of them."""
        arguments = self._parameters | dict(zip(self._sizes, weight.shape, strict=True))
        if self._iterations:
            arguments[self._iterations] = iterations
        layer = self._kind(**arguments).to(u.dtype)
        own = dict(layer.named_parameters())
        name, order, shape = _weight_of(own, tuple(weight.shape))
        given = {key: torch.zeros_like(one) for key, one in own.items()}  # the checks know no bias
        given[name] = weight.permute(order).reshape(shape)
        result: Tensor = torch.func.functional_call(layer, given, (u,))
        return result


def _weight_of(own: Mapping[str, Tensor], sizes: tuple[int, ...]) -> tuple[str, tuple[int, ...], torch.Size]:
    """The parameter that holds the matrices: its name, the order of its axes, and its shape, with axes of 1."""
    for name, one in own.items():
        axes = [side for side in one.shape if side != 1]
        for order in permutations(range(len(sizes))):
            if axes == [sizes[axis] for axis in order]:
                return name, order, one.shape
    raise ValueError(f"no parameter has the sizes {sizes}")


def _counts_iterations(name: str) -> bool:
    return any(part in name.lower() for part in ("iter", "routing", "rounds"))
