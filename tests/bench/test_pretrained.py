"""Networks that ship with their weights: they are those of committed results, and give their figures again."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import capsbench
from capsbench.bench.bench import Bench
from capsbench.bench.planning import plan_run
from capsbench.bench.pretrained import FOLDER, pretrained, pretrained_file
from capsbench.contracts import silent
from capsbench.errors import DataFileError, UnknownNameError, UsageError
from capsbench.evaluation.inference import predict
from capsbench.evaluation.pairs import pair_accuracies
from capsbench.results.result import Result, load_result
from capsbench.system.machine import environment

RESULTS = Path(__file__).resolve().parents[2] / "results"
SHIPPED = [(network, protocol) for protocol, networks in pretrained().items() for network in networks]
FULL = os.environ.get("CAPSBENCH_DIGITS", "")  # before a fixture takes it away, lest other tests find more digits
ROLES = {
    "affine": {"affine": "affnist", "clean": "padded", "centered": "padded"},
    "overlap": {"exact pair": "multimnist"},
}
"""What a suite tests, and the generator of each; the first of a suite is always tested, the others in a campaign."""


def result_of(network: str, protocol: str) -> Result:
    return load_result(pretrained_file(network, protocol).with_suffix(".json"))


def figures(*digits: str) -> list[Any]:
    """What is tested of the networks that were trained on one of these digits: network, protocol, figure."""
    return [
        pytest.param(network, protocol, role, marks=[pytest.mark.campaign] * (number > 0))
        for network, protocol in SHIPPED
        if result_of(network, protocol).digits in digits
        for number, role in enumerate(ROLES[protocol.split("-")[0]])
    ]


def right(network: str, protocol: str, role: str, digits: str, variants: int | None = None) -> tuple[int, int]:
    """How many of the test images it classifies correctly, and of how many: as many variants as its result states."""
    result = result_of(network, protocol)
    varied = {"preset": "centered"} if role == "centered" else {"variants": variants or result.settings["variants"]}
    data = capsbench.stream(ROLES[result.suite][role], split="test", digits=digits, **varied)
    answers = predict(capsbench.load_network(network, pretrained=protocol), data, device="cpu")
    if result.suite == "overlap":
        found = pair_accuracies(answers)[role]
        return found.correct, found.total
    return int(answers.correct.sum()), len(answers.correct)


def test_what_ships_is_small_and_of_committed_results_of_seed_0() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert SHIPPED and sum(path.stat().st_size for path in files) < 12e6
    assert len(files) == 2 * len(SHIPPED)
    committed = {path.read_bytes() for path in RESULTS.rglob("*.json")}
    for network, protocol in SHIPPED:
        result = result_of(network, protocol)
        assert (result.label, f"{result.suite}-{result.preset}", result.seed) == (network, protocol, 0)
        assert pretrained_file(network, protocol).with_suffix(".json").read_bytes() in committed


@pytest.mark.parametrize(("network", "protocol", "role"), figures("embedded", "mnist"))
def test_a_network_that_ships_gives_every_figure_of_its_result_again(network: str, protocol: str, role: str) -> None:
    result = result_of(network, protocol)
    stated = result.metrics["checkpoints"]["best"][role]
    if result.digits == "mnist" and not FULL:
        pytest.skip("needs full MNIST: CAPSBENCH_DIGITS=DIR names its folder")
    correct, images = right(network, protocol, role, FULL if result.digits == "mnist" else "embedded")
    assert images == stated["total"]
    # To the last count; another processor may add in another order, and decide a digit on the edge otherwise.
    here = environment("cpu")
    elsewhere = any(here[key] != result.environment[key] for key in ("torch", "processor", "threads"))
    assert abs(correct - stated["correct"]) <= (2 if elsewhere else 0)


@pytest.mark.parametrize(("network", "protocol", "role"), figures("mnist"))
def test_a_network_of_full_mnist_is_as_good_on_the_test_digits_in_the_package(
    network: str, protocol: str, role: str
) -> None:
    stated = result_of(network, protocol).metrics["checkpoints"]["best"][role]["share"]
    correct, images = right(network, protocol, role, "embedded", variants=1)
    assert correct / images == pytest.approx(stated, abs=4 * (stated * (1 - stated) / 1000) ** 0.5)


def test_a_run_takes_the_weights_that_ship() -> None:
    network, protocol = next(one for one in SHIPPED if one[1] == "affine-small")
    result = result_of(network, protocol)
    changed = {f"{result.model}.{key}": str(value) for key, value in result.parameters.items() if key in network}
    for weights in ("pretrained", [f"{result.model}=pretrained"], {result.model: "pretrained"}):
        plan = plan_run(
            "affine", models=[result.model], changes=changed, weights=weights, digits="embedded", device="cpu"
        )
        (cell,) = plan.cells
        assert cell.label == network and cell.weights is not None
        assert cell.weights.path == pretrained_file(network, protocol) and cell.id != result.cell
        told = Bench(cell, plan.folder, plan.digits, silent).training  # as a result states it, on any machine
        assert told == {"file": "pretrained", "sha256": cell.weights.sha256}


def test_a_result_of_weights_that_ship_leads_to_them(tmp_path: Path) -> None:
    network, protocol = next(one for one in SHIPPED if one[1] == "affine-small")
    file = pretrained_file(network, protocol)
    told = {"file": "pretrained", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    result = replace(result_of(network, protocol), origin="weights", training=told)
    ours, theirs = (
        one.state_dict()
        for one in (capsbench.load_network(result), capsbench.load_network(network, pretrained=protocol))
    )
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(UsageError, match=r"it ships: capsbench\.load_network\('.*', pretrained='affine-small'\)"):
        capsbench.export(result, tmp_path / "net.pt")


def test_beside_a_network_of_ones_own_those_that_ship_are_named() -> None:
    asked: dict[str, Any] = {"models": ["stn", "cnn-pool"], "preset": "small", "digits": "embedded", "device": "cpu"}
    with pytest.raises(UsageError, match=r"No weights ship of cnn-pool\. .*: --weights stn=pretrained$"):
        plan_run("affine", weights="pretrained", **asked)
    assert [cell.weights is None for cell in plan_run("affine", weights=["stn=pretrained"], **asked).cells] == [
        False,
        True,
    ]


def test_weights_that_ship_are_found_under_a_label(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"preset": "small", "digits": "embedded", "device": "cpu", "out": tmp_path}
    plain = plan_run("affine", models=["stn"], weights="pretrained", **asked)
    for weights in ("pretrained", ["Ours=pretrained"], ["stn=pretrained"]):
        (cell,) = plan_run("affine", models=["Ours=stn"], weights=weights, **asked).cells
        assert cell.label == "Ours" and cell.weights == plain.cells[0].weights


def test_what_does_not_ship_is_said(tmp_path: Path) -> None:
    network, protocol = next(one for one in SHIPPED if one[1] == "affine-small")
    asked: dict[str, Any] = {"models": ["stn"], "preset": "smoke", "digits": "embedded", "device": "cpu"}
    for weights in ("pretrained", ["stn=pretrained"], {"stn": "pretrained"}):
        with pytest.raises(UsageError, match=r"the preset 'smoke' of the suite 'affine'\. There are some for: affine-"):
            plan_run("affine", weights=weights, **asked)
    with pytest.raises(DataFileError, match="There is no file"):  # one whose name has the word in it
        plan_run("affine", weights=str(tmp_path / "pretrained" / "net.pt"), **asked)
    with pytest.raises(UnknownNameError, match=f"No pretrained network of {protocol} is called 'cnn'"):
        capsbench.load_network("cnn", pretrained=protocol)
    with pytest.raises(UsageError, match="the best weights alone, so that it has no checkpoint 'last'"):
        capsbench.load_network(network, pretrained=protocol, checkpoint="last")
    with pytest.raises(DataFileError, match="has no pretrained networks"):
        pretrained_file(network, protocol, tmp_path)
