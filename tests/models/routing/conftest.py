"""Memory that shows what was never written."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Memory that nobody has written to holds NaN."""
    torch.set_deterministic_debug_mode("warn")  # unlike use_deterministic_algorithms it imports no compiler
    assert torch.empty(3).isnan().all()  # which deterministic algorithms bring along
    yield
    torch.set_deterministic_debug_mode("default")
