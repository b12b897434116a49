"""A user's code as a guest: whatever it prints, draws and sets, the next one finds everything as it did."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from capsbench.sources.hosting import hosted

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
    "cudnn": (lambda: setattr(torch.backends.cudnn, "enabled", False), lambda: torch.backends.cudnn.enabled),
    "errors of NumPy": (lambda: np.seterr(all="raise"), np.geterr),
    "warnings": (lambda: warnings.simplefilter("once"), lambda: list(warnings.filters)),
    "draws of torch": (lambda: torch.rand(3), lambda: torch.get_rng_state().tolist()),
}


@pytest.mark.parametrize(("change", "read"), SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("fails", [False, True])
def test_what_a_guest_sets_is_put_back(change: Callable[[], object], read: Callable[[], Any], fails: bool) -> None:
    before = read()
    try:
        with hosted(0):
            change()
            assert read() != before
            if fails:
                raise SystemExit(0)
    except SystemExit:
        pass
    assert read() == before


def test_a_default_device_that_was_set_is_set_again() -> None:
    torch.set_default_device("meta")
    try:
        with hosted(0):
            torch.set_default_device("cpu")
        assert torch.empty(1).is_meta
    finally:
        torch.set_default_device(None)


def test_what_a_guest_prints_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with hosted(0):
        print("building")  # noqa: T201
    print("done")  # noqa: T201
    said = capsys.readouterr()
    assert (said.out, said.err) == ("done\n", "building\n")
