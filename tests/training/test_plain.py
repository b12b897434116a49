"""What a checkpoint can hold comes back as it was; the rest is refused by name."""

from collections import OrderedDict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from capsbench.training.checkpoints import load_checkpoint, save_checkpoint
from capsbench.training.plain import UnsavableError, copied, to_plain

VALUES = [
    np.float64(1.5),
    np.float32(1.5),
    np.int8(-3),
    np.bool_(True),
    np.arange(6, dtype="u1").reshape(2, 3)[:, ::-1],
    np.zeros((0, 2)),
    np.array(3.5),
    {"seen": np.float64(2.5), "of": [1, (2, None), {"a"}], 3: b"x"},
    OrderedDict(a=torch.ones(2), b=1 + 2j),
    torch.float16,
    torch.Size([1, 2]),
    "text",
]


def alike(first: Any, second: Any) -> bool:
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return list(first) == list(second) and all(alike(first[key], second[key]) for key in first)
    if isinstance(first, np.ndarray | np.generic):
        return first.dtype == second.dtype and np.array_equal(first, second)
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else bool(first == second)


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_value_comes_back_of_the_same_type(value: Any, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "step-1.pt", {"value": value})
    found = load_checkpoint(tmp_path / "step-1.pt")
    assert found is not None and alike(found["value"], value)


def test_a_copy_shares_no_memory() -> None:
    state: dict[str, Any] = {"weight": torch.zeros(2), "extra": {"array": np.zeros(2), "list": [torch.zeros(2)]}}
    copy = copied(state)
    for part in (state["weight"], state["extra"]["array"], state["extra"]["list"][0]):
        part += 1
    assert copy["weight"].sum() == copy["extra"]["array"].sum() == copy["extra"]["list"][0].sum() == 0


def test_what_would_run_code_is_refused_with_its_place() -> None:
    with pytest.raises(UnsavableError, match=r"layer\._extra_state\['rate'\] holds a Fraction"):
        to_plain({"layer._extra_state": {"rate": Fraction(1, 2)}})
    with pytest.raises(UnsavableError, match="holds NumPy's object"):
        to_plain({"a": np.array([None])})
