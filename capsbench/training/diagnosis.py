"""Why a loss is no number: the first gradient that is none, and where in the network it comes from."""

import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from capsbench.contracts import TensorBatch, as_output, loss_of

CALL = re.compile(r'File "(.+?)", line (\d+), in ')
FUNCTION = re.compile(r"Function '(\w+?)(?:Backward\d*)?' returned nan")  # what torch says in anomaly mode


def broken_gradient(model: nn.Module, batches: Iterable[TensorBatch], autocast: torch.autocast) -> str | None:
    """The first gradient that is not a number although the loss is one.

    Args:
        model: The network, with weights that are numbers; its gradients are overwritten.
        batches: Looked at one after the other, up to the first whose gradients are not all numbers.
        autocast: Entered for the forward pass.

    Returns:
        Words such as ``"the gradient of sqrt in mine.py, line 7,"``; None if all are numbers, or a loss is none.
    """
    for batch in batches:
        with warnings.catch_warnings(record=True) as told, torch.autograd.set_detect_anomaly(True):
            warnings.simplefilter("always")
            model.zero_grad(set_to_none=True)
            with autocast:
                loss = loss_of(model, as_output(model(batch.images)), batch)
            if not loss.isfinite():
                return None
            try:
                torch.autograd.backward(loss)
            except RuntimeError as error:
                found = FUNCTION.search(str(error))
                if found is None:
                    raise
                return f"the gradient of {found[1].lower()}{_place([str(one.message) for one in told])}"
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                return f"the gradient of {name}"
    return None


def _place(messages: list[str]) -> str:
    """The line outside torch that called the function, as torch says it in a warning."""
    torch_folder = str(Path(torch.__file__).parent)
    calls = [call for message in messages for call in CALL.findall(message) if not call[0].startswith(torch_folder)]
    return f" in {Path(calls[-1][0]).name}, line {calls[-1][1]}," if calls else ""
