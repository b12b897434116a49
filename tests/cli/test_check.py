"""The command `check`."""

import json
from pathlib import Path

import pytest

from capsbench.cli import main
from capsbench.conformance.check import CHECKS

LAYER = """
import torch

def routing(u, weight, iterations, axis=2):
    votes = torch.einsum("bid,ijod->bijo", u, weight)
    logits = torch.zeros_like(votes[..., 0])
    for _ in range(iterations):
        s = torch.einsum("bij,bijo->bjo", logits.softmax(dim=axis), votes)
        length = s.norm(dim=-1, keepdim=True)
        v = s * length / (1 + length.square())
        logits = logits + torch.einsum("bijo,bjo->bij", votes, v)
    return v

def broken(u, weight, iterations):
    raise RuntimeError("no")

def neither(u):
    return u
"""


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    path = tmp_path / "layer.py"
    path.write_text(LAYER)
    return path


def run_cli(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_a_right_layer_ends_in_exit_code_0(layer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("check", f"{layer}:routing") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["check", "result", "found"] and not err
    assert [line.split("  ")[0] for line in lines[2:]] == list(CHECKS)
    assert lines[2].split()[1] == "pass" and "n.a." in lines[-1] and "FAIL" not in out


def test_a_wrong_layer_ends_in_exit_code_5(layer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("check", f"{layer}:routing", "--set", "axis=1") == 5
    out, err = capsys.readouterr()
    assert "couplings    FAIL      sums over the outputs 0.6" in out
    assert err == f"Error: {layer}:routing fails 1 of 7 checks: couplings.\n"


def test_a_layer_that_raises_gets_no_traceback(layer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("check", f"{layer}:broken") == 5
    out, err = capsys.readouterr()
    assert "RuntimeError: no" in out and "Traceback" not in out + err
    assert "fails 6 of 7 checks: couplings, batch, permutation, iterations, gradients, zeros." in err


def test_json_has_every_finding(layer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("check", f"{layer}:routing", "--set", "axis=1", "--json") == 5
    findings = json.loads(capsys.readouterr().out)
    assert [finding["check"] for finding in findings] == list(CHECKS)
    assert [finding["passed"] for finding in findings] == [False, True, True, True, True, True, None]
    assert all(finding["detail"] for finding in findings)


def test_the_table_keeps_to_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("check", "capsnet", "--set", "preset=small", "--set", "gradient=detached") == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 120
    assert "routing: detached" in out and "network: " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["capsnett"], "Did you mean 'capsnet'"),
        (["capsnet", "--set", "iteration=1"], "Did you mean 'iterations'"),
        (["capsnet", "--set", "iterations"], "key=value"),
        (["capsnet", "--set", "name=x"], "No parameter of model 'capsnet' is called 'name'"),
        (["LAYER:neither"], "needs u, which nothing sets"),
        (["LAYER:routing", "--set", "axes=1"], "unexpected keyword argument 'axes'"),
        (["LAYER:routin"], "Did you mean 'routing'"),
        (["nowhere.py:routing"], "is not a file"),
        ([], "MODEL"),
    ],
)
def test_what_cannot_be_checked_gets_a_line_and_exit_code_2(
    arguments: list[str], message: str, layer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("check", *(argument.replace("LAYER", str(layer)) for argument in arguments)) == 2
    out, err = capsys.readouterr()
    assert message in err and "Traceback" not in err and not out
    assert len(err.splitlines()) <= 2
