"""Memory that shows what was never written."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Memory that nobody has written to holds NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()  # which deterministic algorithms bring along
    yield
    torch.use_deterministic_algorithms(False)
