"""Every preset of every suite: its networks can be built at the suite's size."""

import pytest
import torch

from capsbench import registry
from capsbench.building import build

CASES = [(suite, preset) for suite in registry.catalog("suite") for preset in registry.load("suite", suite).presets]


@pytest.mark.parametrize(("name", "preset"), CASES, ids=str)
def test_networks_of_a_preset_can_be_built(name: str, preset: str) -> None:
    suite = registry.load("suite", name)
    chosen = suite.presets[preset]
    for model in suite.models:
        with torch.device("meta"):
            network = build(
                model,
                image_size=suite.image_size,
                pairs=getattr(suite, "pairs", False),
                **chosen.models.get(model, {}),
            )
        assert sum(one.numel() for one in network.parameters()) > 1000
