"""Networks that ship with their weights: they are those of committed results, and give their figures again."""

from pathlib import Path
from typing import Any

import pytest

import capsbench
from capsbench.bench.planning import plan_run
from capsbench.bench.pretrained import FOLDER, pretrained, pretrained_file
from capsbench.errors import DataFileError, UnknownNameError, UsageError
from capsbench.evaluation.inference import predict
from capsbench.results.result import Result, load_result
from capsbench.system.machine import environment

RESULTS = Path(__file__).resolve().parents[2] / "results"
SHIPPED = [(network, protocol) for protocol, networks in pretrained().items() for network in networks]
TESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "centered": ("padded", {"preset": "centered"}),
    "clean": ("padded", {"variants": 4}),
    "affine": ("affnist", {"variants": 4}),
}
"""What affine-small tests on: a generator and its parameters."""


def result_of(network: str, protocol: str) -> Result:
    return load_result(pretrained_file(network, protocol).with_suffix(".json"))


def right(network: str, protocol: str, role: str) -> int:
    """How many of the embedded test digits it classifies correctly."""
    name, parameters = TESTS[role]
    data = capsbench.stream(name, split="test", digits="embedded", **parameters)
    return int(predict(capsbench.load_network(network, pretrained=protocol), data, device="cpu").correct.sum())


def test_what_ships_is_small_and_of_committed_results_of_seed_0() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert SHIPPED and sum(path.stat().st_size for path in files) < 12e6
    assert len(files) == 2 * len(SHIPPED)
    committed = {path.read_bytes() for path in (RESULTS / "affine").rglob("*.json")}
    for network, protocol in SHIPPED:
        result = result_of(network, protocol)
        assert (result.label, f"{result.suite}-{result.preset}", result.seed) == (network, protocol, 0)
        assert pretrained_file(network, protocol).with_suffix(".json").read_bytes() in committed


@pytest.mark.parametrize("role", TESTS)
@pytest.mark.parametrize(("network", "protocol"), SHIPPED)
def test_a_network_that_ships_gives_every_figure_of_its_result_again(network: str, protocol: str, role: str) -> None:
    result = result_of(network, protocol)
    stated = result.metrics["checkpoints"]["best"][role]
    assert stated["total"] == 1000 * TESTS[role][1].get("variants", 1)
    # To the last count; another processor may add in another order, and decide a digit on the edge otherwise.
    here = environment("cpu")
    elsewhere = any(here[key] != result.environment[key] for key in ("torch", "processor", "threads"))
    assert abs(right(network, protocol, role) - stated["correct"]) <= (2 if elsewhere else 0)


def test_a_run_takes_the_weights_that_ship() -> None:
    network, protocol = SHIPPED[0]
    result = result_of(network, protocol)
    changed = {f"{result.model}.{key}": str(value) for key, value in result.parameters.items() if key in network}
    for weights in ("pretrained", [f"{result.model}=pretrained"], {result.model: "pretrained"}):
        plan = plan_run(
            "affine", models=[result.model], changes=changed, weights=weights, digits="embedded", device="cpu"
        )
        (cell,) = plan.cells
        assert cell.label == network and cell.weights is not None
        assert cell.weights.path == pretrained_file(network, protocol) and cell.id != result.cell


def test_what_does_not_ship_is_said(tmp_path: Path) -> None:
    network, protocol = SHIPPED[0]
    with pytest.raises(UnknownNameError, match="No protocol of pretrained networks is called 'affine-smoke'"):
        plan_run("affine", models=["stn"], preset="smoke", weights="pretrained", digits="embedded", device="cpu")
    with pytest.raises(UnknownNameError, match=f"No pretrained network of {protocol} is called 'cnn'"):
        capsbench.load_network("cnn", pretrained=protocol)
    with pytest.raises(UsageError, match="trained elsewhere, so it has no checkpoint 'last'"):
        capsbench.load_network(network, pretrained=protocol, checkpoint="last")
    with pytest.raises(DataFileError, match="has no pretrained networks"):
        pretrained_file(network, protocol, tmp_path)
