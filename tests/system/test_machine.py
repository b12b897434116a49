"""What a result says about its machine, and which device a name stands for."""

import pytest
import torch

from capsbench.errors import UnknownNameError, UsageError
from capsbench.system import machine


def test_environment_says_where() -> None:
    found = machine.environment("cpu")
    assert found["device"] == "cpu" and found["torch"] and found["cores"] >= 1 and found["processor"]


def test_device_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [machine.device(name) for name in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [machine.device(name) for name in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(UsageError, match="needs a GPU, and torch sees none here"):
        machine.device("cuda")


def test_device_of_another_name_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="No device is called 'gpu'"):
        machine.device("gpu")
