"""A user's code as a guest: whatever it prints, draws and sets, the next one finds everything as it did."""

import os
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from capsbench.sources.hosting import EndedError, hosted, printing_aside

SETTINGS: dict[str, tuple[Callable[[], object], Callable[[], Any]]] = {
    "gradients": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "type": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), torch.get_num_threads),
    "deterministic": (lambda: torch.use_deterministic_algorithms(True), torch.get_deterministic_debug_mode),
    "only warned": (
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        torch.get_deterministic_debug_mode,
    ),
    "anomalies": (lambda: torch.autograd.set_detect_anomaly(True), torch.is_anomaly_enabled),
    "benchmark": (lambda: setattr(torch.backends.cudnn, "benchmark", True), lambda: torch.backends.cudnn.benchmark),
    "repeated": (
        lambda: setattr(torch.backends.cudnn, "deterministic", True),
        lambda: torch.backends.cudnn.deterministic,
    ),
    "tf32": (lambda: setattr(torch.backends.cudnn, "allow_tf32", False), lambda: torch.backends.cudnn.allow_tf32),
    "precision": (lambda: torch.set_float32_matmul_precision("medium"), torch.get_float32_matmul_precision),
    "autocast": (lambda: torch.set_autocast_enabled("cpu", True), lambda: torch.is_autocast_enabled("cpu")),
    "folder": (lambda: os.chdir("/"), os.getcwd),
    "cudnn": (lambda: setattr(torch.backends.cudnn, "enabled", False), lambda: torch.backends.cudnn.enabled),
    "errors of NumPy": (lambda: np.seterr(all="raise"), np.geterr),
    "warnings": (lambda: warnings.simplefilter("once"), lambda: list(warnings.filters)),
    "draws of torch": (lambda: torch.rand(3), lambda: torch.get_rng_state().tolist()),
}


@pytest.mark.parametrize(("change", "read"), SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("fails", [False, True])
def test_what_a_guest_sets_is_put_back(change: Callable[[], object], read: Callable[[], Any], fails: bool) -> None:
    before = read()
    with pytest.raises(EndedError, match=r"^SystemExit: 0$") if fails else nullcontext(), hosted(0):
        change()
        assert read() != before
        if fails:
            raise SystemExit(0)
    assert read() == before


def test_a_default_device_that_was_set_is_set_again() -> None:
    torch.set_default_device("meta")
    try:
        with hosted(0):
            torch.set_default_device("cpu")
        assert torch.empty(1).is_meta
    finally:
        torch.set_default_device(None)


def test_a_device_that_was_not_set_is_not_set_afterwards() -> None:
    before = torch._C._len_torch_function_stack()
    with hosted(0):
        torch.set_default_device("cpu")
    assert torch._C._len_torch_function_stack() == before  # else it is asked for at every operation


def test_precision_that_was_set_in_both_of_torchs_ways_is_put_back() -> None:
    before = torch.get_float32_matmul_precision()
    with hosted(0):
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        with pytest.raises(RuntimeError):
            torch.get_float32_matmul_precision()
    assert torch.get_float32_matmul_precision() == before


def test_one_setting_that_cannot_be_put_back_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter((1, 2))
    monkeypatch.setattr(torch, "get_num_threads", lambda: next(numbers))
    monkeypatch.setattr(torch, "set_num_threads", failing)
    with pytest.raises(ArithmeticError), hosted(0):
        torch.set_grad_enabled(False)
        torch.backends.cudnn.benchmark = True
    assert torch.is_grad_enabled() and not torch.backends.cudnn.benchmark


def failing(*arguments: Any) -> None:
    raise ArithmeticError


def test_guests_of_several_threads_give_stdout_back() -> None:
    stdout, entered, left = sys.stdout, threading.Event(), threading.Event()

    def first() -> None:
        with printing_aside():
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(10)
    with printing_aside():  # the first to come in is the first to leave
        left.set()
        thread.join()
        assert sys.stdout is sys.stderr
    assert sys.stdout is stdout


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no")])
def test_errors_that_may_stop_a_run_or_a_cell_pass_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, hosted(0):
        raise error
    assert caught.value is error


def test_what_a_guest_prints_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with hosted(0):
        sys.stdout.write("building\n")
    sys.stdout.write("done\n")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("done\n", "building\n")
