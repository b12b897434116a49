"""Which networks of torchvision work on which images: the table that is listed is what is measured."""

import pytest
import torchvision_fits

from capsbench import registry
from capsbench.errors import UnknownNameError, UsageError
from capsbench.models.libraries import SIZES, measured
from capsbench.models.libraries.torchvision_networks import TorchvisionNetwork


def test_only_what_was_measured_is_listed() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'torchvision'"):
        registry.library_table("torchvison")
    with pytest.raises(UsageError, match="capsbench try timm:NAME"):
        registry.library_table("timm")


def test_the_table_of_torchvision_is_what_is_measured(request: pytest.FixtureRequest) -> None:
    """All of them with --campaign; in every run two, which take a second."""
    table = measured("torchvision")["networks"]
    everything = request.config.getoption("--campaign")
    assert set(table) == set(TorchvisionNetwork.names())
    for name in TorchvisionNetwork.names() if everything else ("resnet18", "alexnet"):
        assert torchvision_fits.measured(name) == table[name], name
    assert all(list(facts) == ["parameters", *SIZES] for facts in table.values())
