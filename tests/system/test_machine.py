"""What a result says about its machine, and which device a name stands for."""

import json
from pathlib import Path

import pytest
import torch

from capsbench.errors import UnknownNameError, UsageError
from capsbench.system import machine


def test_environment_says_where() -> None:
    found = machine.environment("cpu")
    assert found["device"] == "cpu" and found["torch"] and found["cores"] >= 1 and found["processor"]


def test_environment_of_a_gpu_says_how_float32_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Path("version")
    driver.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC version: 12.2\n"
    )
    monkeypatch.setattr(machine, "DRIVER", driver)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A card")
    found = machine.environment("cuda")
    assert (found["device"], found["driver"], found["cuda"]) == ("A card", "570.86.15", torch.version.cuda)
    assert found["tf32 in convolutions"] is True and found["tf32 in products"] is False
    assert found["cudnn.benchmark outside training"] is False and isinstance(found["triton"], str)
    with machine.without_tf32():
        assert machine.environment("cuda")["tf32 in convolutions"] is False
    driver.unlink()
    assert machine.environment("cuda")["driver"] == ""
    assert json.loads(json.dumps(found)) == found
    assert "driver" not in machine.environment("cpu")


def test_float32_is_not_rounded_inside_and_as_it_was_outside() -> None:
    for convolutions, products in ((True, "highest"), (False, "high")):
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)
        try:
            with pytest.raises(KeyError), machine.without_tf32():
                assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
                raise KeyError
            assert torch.backends.cudnn.allow_tf32 is convolutions
            assert torch.get_float32_matmul_precision() == products
        finally:
            torch.backends.cudnn.allow_tf32 = True
            torch.set_float32_matmul_precision("highest")


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
