"""What a checkpoint can hold: tensors and plain values, and NumPy's arrays and numbers as tensors."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

KEPT = (type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)
ARRAY, NUMBER = "capsbench: a NumPy array", "capsbench: a NumPy number"


class UnsavableError(TypeError):
    """A value that a checkpoint cannot hold without running code when it is read."""


def to_plain(value: Any, where: str = "") -> Any:
    """A value in the types that torch loads without running code; a copy, but for its tensors.

    Args:
        value: Tensors, NumPy's arrays and numbers, plain values, and dictionaries, lists, tuples and sets of them, such
            as a module's extra state.
        where: Its place, for the message.

    Raises:
        UnsavableError: It holds something else.
    """
    if isinstance(value, torch.Tensor) or type(value) in KEPT:
        return value
    if isinstance(value, np.ndarray | np.generic):
        try:
            return {ARRAY if isinstance(value, np.ndarray) else NUMBER: torch.from_numpy(np.array(value))}
        except TypeError:
            raise UnsavableError(f"{where} holds NumPy's {value.dtype}") from None
    if type(value) in (dict, OrderedDict):
        places = {key: f"{where}[{key!r}]" if where else str(key) for key in value}
        return type(value)((key, to_plain(one, places[key])) for key, one in value.items())
    if type(value) in (list, tuple, set):
        return type(value)(to_plain(one, where) for one in value)
    raise UnsavableError(f"{where} holds a {type(value).__name__}")


def from_plain(value: Any) -> Any:
    """What `to_plain` got."""
    if type(value) in (dict, OrderedDict):
        if len(value) == 1 and isinstance(next(iter(value.values())), torch.Tensor):
            for key in value.keys() & {ARRAY, NUMBER}:
                array = value[key].numpy()
                return array if key == ARRAY else array[()]
        return type(value)((key, from_plain(one)) for key, one in value.items())
    if type(value) in (list, tuple, set):
        return type(value)(from_plain(one) for one in value)
    return value


def copied(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a module, on the CPU, in memory of its own; extra state as it is.

    Raises:
        UnsavableError: Its extra state holds what no checkpoint can hold.
    """
    return {key: _copied(from_plain(to_plain(value, key))) for key, value in state.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) in (dict, OrderedDict):
        return type(value)((key, _copied(one)) for key, one in value.items())
    if type(value) in (list, tuple, set):
        return type(value)(_copied(one) for one in value)
    return value
