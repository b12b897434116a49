"""Memory against what is known: tensors of a stated size, what Linux says, and words of errors."""

from pathlib import Path

import pytest
import torch

from capsbench.system import memory


def test_memory_is_available() -> None:
    assert 1 << 26 < memory.available() < 1 << 50


def test_available_memory_is_what_linux_says(monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = Path("meminfo")
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:   7 kB\n")
    assert memory.available("cpu") == 7 * 1024
    for text in ("", "MemAvailable:", "MemAvailable: much"):
        meminfo.write_text(text)
        assert memory.available() > 1 << 26  # half of what is built in


def test_memory_of_a_gpu_is_what_is_free_and_what_torch_keeps_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (100, 900))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 20)
    assert memory.available("cuda") == 130


def test_peak_is_the_most_at_any_time() -> None:
    kept = torch.ones(1 << 20)  # was there before

    def function() -> object:
        first = kept + 1  # 4 MiB
        second = first.repeat(2)  # 8 MiB beside it
        del first
        return second[: 1 << 20].clone()  # 4 MiB beside that

    assert 0 <= memory.peak(function, "cpu") - (12 << 20) < 1024


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("any words"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_lack_of_memory_is_known_by_its_kind_or_its_words(error: Exception, expected: bool) -> None:
    assert memory.is_out_of_memory(error) is expected
