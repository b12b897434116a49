"""The Triton kernels compiled for sm_90, which takes no GPU, with the very arguments that `fused` launches them with.

Compiling happens in a process of its own, which is this file run as a program, because what was imported for the
interpreter cannot be compiled.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from capsbench.models.routing import fused
from capsbench.models.routing.fused import TILES, route_fused

Launch = tuple[str, tuple[Any, ...], dict[str, Any]]
Compiled = dict[str, Any]

AGREE, AGREE_HALF = ("torch.float32", "agree"), ("torch.bfloat16", "agree")
SPILLED = {"3.6": {AGREE: 288, AGREE_HALF: 32}, "3.8": {AGREE: 288, AGREE_HALF: 80}}
"""Bytes of a thread that are spilled under a version of Triton; no other kernel spills any. No tile of `agree` without
spills was found; under 3.6 these are the fastest on a GPU, under 3.8 none was timed."""

OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")
REGISTERS, SHARED_MEMORY = 64 * 1024, 227 * 1024  # of a multiprocessor of sm_90: count, and bytes for all programs


class Recorder:
    """Stands in for the module of kernels, and writes down what is launched."""

    INTERPRETED = False

    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def __getattr__(self, name: str) -> Any:
        def launch(*arguments: Any, **constants: Any) -> None:
            self.launches.append((name, arguments, constants))

        class Kernel:
            def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
                return launch

        return Kernel()


def launches(
    dtype: torch.dtype, iterations: int, kept: int, with_bias: bool, outputs: int = 10, device: str = "cpu"
) -> list[Launch]:
    """Those of the paper's network at 28x28, forward and backward.

    On the device "meta" tensors have no elements, so that none can be looked at; it takes a second of imports.
    """
    shapes = (128, 1152, 8), (1152, outputs, 16, 8), (outputs, 16)
    u, weight, bias = (torch.empty(shape, dtype=dtype, device=device) for shape in shapes)
    recorder = Recorder()
    with patch.object(fused, "_kernels", lambda: recorder):
        v, saved = route_fused.forward(u, weight, bias if with_bias else None, iterations, kept, False)
        found = route_fused.backward(u, weight, saved, v, iterations, kept, False)
    assert [one.shape for one in (v, *found)] == [(128, outputs, 16), u.shape, weight.shape, bias.shape]
    return recorder.launches


def types(arguments: tuple[Any, ...]) -> list[str]:
    pointers = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}
    return [pointers[one.dtype] if isinstance(one, torch.Tensor) else "i32" for one in arguments]


def compile_launch(name: str, arguments: tuple[Any, ...], constants: dict[str, Any]) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from capsbench.models.routing import kernels

    kernel = getattr(kernels, name)
    options = {key: value for key, value in constants.items() if key in OPTIONS}
    constants = {key: value for key, value in constants.items() if key not in OPTIONS}
    given = types(arguments)
    source = ASTSource(
        fn=kernel,
        signature=dict(zip(kernel.arg_names, [*given, *["constexpr"] * len(constants)], strict=True)),
        constexprs={(kernel.arg_names.index(key),): value for key, value in constants.items()},
        attrs={(place,): [["tt.divisibility", 16]] for place, one in enumerate(given) if one != "i32"},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    return {
        "name": name,
        "constants": str(constants),
        "warps": options["num_warps"],
        "shared": compiled.metadata.shared,
        "version": triton.__version__,
        **resources(triton.knobs.nvidia.cuobjdump.path, compiled.asm["cubin"]),
    }


def resources(cuobjdump: str, binary: bytes) -> dict[str, int]:
    """Registers of a thread, and bytes of its own memory, where registers are spilled to."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(binary)
        command = [cuobjdump, "-res-usage", str(path)]
        usage = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return {"registers": found["REG"], "spilled": found["STACK"] + found["LOCAL"]}


def compile_all(campaign: bool) -> Iterator[Compiled]:
    """Each kernel with each set of dtypes and constants that is launched, and last one whose tile is far too large.

    Outside a campaign only what an exact gradient launches is compiled, which is every kernel with every tile: of the
    kernels of squash those that do most; and `agree`, which takes half of the time, for two output capsules.
    """

    def flags(launch: Launch) -> int:
        return sum(value is True for value in launch[2].values())

    chosen: dict[tuple[str, ...], Launch] = {}
    for dtype in TILES:
        for options in [(4, 4, True), *([(3, 1, False), (1, 1, False)] if campaign else [])]:
            for whole, fewer in zip(launches(dtype, *options), launches(dtype, *options, outputs=2), strict=True):
                name, arguments, constants = launch = whole if campaign or whole[0] != "agree" else fewer
                differs = constants if campaign or not name.startswith("squash") else ""
                key = str(dtype), name, *types(arguments), str(differs)
                chosen[key] = max(chosen.get(key, launch), launch, key=flags)
    for (dtype_name, *_), launch in chosen.items():
        yield compile_launch(*launch) | {"dtype": dtype_name}
    with patch.multiple(fused, ROWS=64, SQUASH_WARPS=1):
        yield compile_launch(*launches(torch.float32, 2, 2, with_bias=False)[1])


@pytest.fixture(scope="module")
def compiled(request: pytest.FixtureRequest, warm_python: str) -> list[Compiled]:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    root = Path(__file__).parents[3]
    environment["TRITON_CACHE_DIR"] = str(root / "build" / "triton")  # what is unchanged is compiled once for all runs
    environment["PYTHONPATH"] = str(root)  # else what is installed would be compiled
    command = [warm_python, __file__, *(["--campaign"] if request.config.getoption("--campaign") else [])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_every_kernel_compiles_with_every_tile(compiled: list[Compiled]) -> None:
    found = {(one["dtype"], one["name"]) for one in compiled[:-1]}
    assert {(str(dtype), name) for dtype, tiles in TILES.items() for name in tiles} <= found
    assert {name for _, name in found} - {*TILES[torch.float32]} == {"squash", "squash_gradient"}


@pytest.mark.slow
def test_no_more_registers_are_spilled_than_known(compiled: list[Compiled]) -> None:
    *ours, too_large = compiled
    version = ".".join(too_large["version"].split(".")[:2])
    known = SPILLED.get(version, {})
    assert too_large["spilled"] > max(known.values(), default=0), "spills are not seen"
    spilled = [one for one in ours if one["spilled"] > known.get((one["dtype"], one["name"]), 0)]
    if spilled and version not in SPILLED:
        pytest.skip(f"what Triton {version} spills was never looked at: {spilled}")
    assert not spilled


@pytest.mark.slow
def test_programs_of_a_split_fit_a_multiprocessor(compiled: list[Compiled]) -> None:
    for one in compiled[:-1]:
        if one["name"] in ("gather", "agree"):
            programs = TILES[getattr(torch, one["dtype"].removeprefix("torch."))][one["name"]].programs
            if one["name"] == "agree":  # they take turns, eight at a time at least
                programs = min(programs, 8)
            registers = -(-one["registers"] // 8) * 8 * 32 * one["warps"]  # handed out by eights
            assert programs * registers <= REGISTERS, one
            assert programs * (one["shared"] + 1024) <= SHARED_MEMORY, one


@pytest.mark.slow
def test_warps_of_agree_share_nothing(compiled: list[Compiled]) -> None:
    for one in compiled[:-1]:
        if one["name"] == "agree":
            assert (one["warps"], one["shared"]) == (1, 0)


def test_no_program_has_two_groups_of_four_warps() -> None:
    # In Triton 3.6 to 3.8 a wait for products does not hold back the other group, which may overwrite their operands
    # (triton-lang/triton issue #11047). A tile of 8 warps would need tl.debug_barrier() at the head of its loops.
    assert all(tile.warps <= 4 for tiles in TILES.values() for tile in tiles.values())
    assert fused.SQUASH_WARPS <= 4


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize(
    ("kept", "backward"),
    [(3, ["agree", "squash_gradient"] * 2), (1, [])],
    ids=["exact", "detached"],
)
def test_few_launches_that_depend_on_no_value(kept: int, backward: list[str]) -> None:
    names = [name for name, _, _ in launches(torch.float32, 3, kept, with_bias=True, device="meta")]
    assert names[:6] == ["gather", "squash", "agree", "squash", "agree", "squash"]
    assert names[6:] == ["squash_gradient", *backward, "weight_gradient", "input_gradient"]


if __name__ == "__main__":
    for one in compile_all("--campaign" in sys.argv):
        sys.stdout.write(json.dumps(one) + "\n")
