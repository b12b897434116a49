"""Every preset of every suite: its networks can be built at the suite's size. Medium is on full MNIST alone."""

from pathlib import Path

import pytest
import torch

from capsbench import registry
from capsbench.bench.planning import plan_run
from capsbench.building import build
from capsbench.errors import DigitsError

from .known_networks import SHORT_MEDIUM

CASES = [(suite, preset) for suite in registry.catalog("suite") for preset in registry.load("suite", suite).presets]


@pytest.mark.parametrize(("name", "preset"), CASES, ids=str)
def test_networks_of_a_preset_can_be_built(name: str, preset: str) -> None:
    suite = registry.load("suite", name)
    chosen = suite.presets[preset]
    for model in {*suite.models, *chosen.models}:
        with torch.device("meta"):
            network = build(
                model,
                image_size=suite.image_size,
                pairs=getattr(suite, "pairs", False),
                channels_in=getattr(suite, "channels_in", 1),
                **chosen.models.get(model, {}),
            )
        assert sum(one.numel() for one in network.parameters()) > 1000


def test_every_suite_with_the_preset_medium_is_tested_with_it() -> None:
    assert {suite for suite, preset in CASES if preset == "medium"} == set(SHORT_MEDIUM)


@pytest.mark.parametrize("suite", SHORT_MEDIUM)
def test_medium_has_the_networks_of_small_and_never_falls_back_to_the_embedded_digits(
    suite: str, tmp_path: Path
) -> None:
    medium, small = (registry.load("suite", suite).presets[name] for name in ("medium", "small"))
    assert (medium.models, medium.variants) == (small.models, small.variants)
    with pytest.raises(DigitsError, match=r"Full MNIST's(.|\n)*`capsbench data fetch`"):
        plan_run(suite, preset="medium", digits="embedded", out=tmp_path)
