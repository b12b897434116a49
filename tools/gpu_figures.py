"""Measures on a GPU what no command of the project measures: ``python tools/gpu_figures.py STAGE=SECONDS ...``.

Each figure is a line of JSON in the file that $FIGURES names, written when it is measured. A measurement that fails
leaves a line with its error and costs nothing else; one that the file has already is not made again, so that a process
that died is started once more. tools/gpu_figures.sh runs the stages in their order, tools/gpu_results.py reads them.

With $TINY=1 every stage is short, and $DEVICE=cpu measures something on a machine without a GPU, for tests.
"""

import gc
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_routing import DEVICE, DTYPES, TINY, Found, Job, compile_kernels, compiled, equality, profile, routing

import capsbench
from capsbench.contracts import Batch
from capsbench.errors import ParameterError
from capsbench.evaluation.inference import predict
from capsbench.models import build
from capsbench.results.result import now
from capsbench.system.convolutions import fast_training
from capsbench.system.machine import environment
from capsbench.system.timing import finish, machine_rates
from capsbench.training.step import TrainingStep, adam

SPOILED = 3  # exit code: the device answers nothing any more, and only another process can go on


def machine() -> Iterator[Job]:
    """Where and of what all else is measured."""
    commit = os.environ.get("COMMIT") or _output("git", "rev-parse", "--short", "HEAD")
    yield {}, lambda: {"date": now()[:10], "commit": commit, **environment(DEVICE)}


def rates() -> Iterator[Job]:
    """What products of large matrices and copies reach."""
    for dtype in DTYPES:
        yield {"dtype": dtype}, partial(_rates, DTYPES[dtype])


def _rates(dtype: torch.dtype) -> Found:
    return asdict(machine_rates(DEVICE, dtype, seconds=0.0 if TINY else 0.3))


@dataclass(frozen=True)
class Case:
    """A training step: of what, and how; `tuned` is cudnn.benchmark, `last` channels_last, which bf16 training has."""

    model: str
    px: int
    batch: int = 128
    precision: str = "bf16"
    options: Found = field(default_factory=dict)
    graph: bool = True
    tuned: bool = True
    last: bool = True


REFERENCE = {"implementation": "reference"}
CASES = [
    Case("capsnet", 40),
    Case("cnn-pool", 40),
    Case("capsnet", 28),
    Case("capsnet", 28, 1024),
    Case("capsnet", 40, 1024),
    Case("capsnet", 28, options=REFERENCE),
    Case("capsnet", 40, options=REFERENCE),
    Case("capsnet", 28, 1024, options=REFERENCE),
    Case("capsnet", 40, 1024, options=REFERENCE),
    Case("capsnet", 40, tuned=False, last=False),
    Case("capsnet", 28, tuned=False, last=False),
    Case("capsnet", 28, 1024, tuned=False, last=False),
    Case("cnn-pool", 40, tuned=False, last=False),
    Case("capsnet", 36),
    Case("cnn-pair", 36),
    Case("cnn", 28, options={"padding": "same"}),
    Case("capsnet", 40, options={"gradient": "detached"}),
    Case("capsnet", 40, options={"implementation": "blocked"}),
    Case("capsnet", 28, precision="fp32", last=False),
    Case("capsnet", 40, precision="fp32", last=False),
    Case("capsnet", 28, graph=False),
    Case("capsnet", 40, graph=False),
    Case("cnn-pool", 40, graph=False),
]
TINY_NETWORKS: dict[str, Found] = {
    "capsnet": {"preset": "small", "channels": 4, "types": 1},
    "cnn-pool": {"preset": "small", "channels": [2, 4]},
}
TINY_CASES = [Case(name, 40, 8, options=options) for name, options in TINY_NETWORKS.items()]


def steps() -> Iterator[Job]:
    """Whole training steps of the networks at the paper's sizes."""
    for case in TINY_CASES if TINY else CASES:
        yield asdict(case), partial(_time_step, case)


def _time_step(case: Case) -> Found:
    pairs = case.px == 36
    torch.manual_seed(0)
    network = build(case.model, image_size=case.px, pairs=pairs, **case.options).to(DEVICE).train()
    images = torch.rand(case.batch, 1, case.px, case.px, device=DEVICE)
    labels = torch.arange(case.batch, device=DEVICE) % 10
    layers = images.expand(-1, 2, -1, -1).contiguous() if pairs else None
    batch = Batch(images=images, labels=torch.stack([labels, (labels + 1) % 10], 1) if pairs else labels, layers=layers)
    told: list[str] = []
    step = TrainingStep(
        network,
        adam(network, 1e-3),
        precision=case.precision,
        device=DEVICE,
        graph=case.batch if case.graph and DEVICE == "cuda" else 0,
        report=told.append,
    )
    fast = fast_training(network, precision=case.precision, device=DEVICE)
    with fast if case.tuned else nullcontext():
        for _ in range(2 if TINY else 6):  # a graph is captured after three
            step(batch)
        finish(DEVICE)
        count, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < (0.05 if TINY else 0.5):
            for _ in range(1 if TINY else 10):
                loss = step(batch)
                count += 1
            finish(DEVICE)
        seconds = (time.perf_counter() - begun) / count
    if not math.isfinite(loss):
        raise ParameterError(f"the loss became {float(loss)}")
    return {"ms": 1e3 * seconds, "images_per_s": case.batch / seconds, "parts": step.micro_batches, "told": told}


def answers() -> Iterator[Job]:
    """How fast a data set is tested, as `capsbench.evaluation` does it."""
    for model in ("capsnet", "cnn-pool"):
        yield {"model": model, "px": 40}, partial(_time_answers, model)


def _time_answers(model: str) -> Found:
    stream = capsbench.stream("padded", split="validation", digits="embedded", variants=1 if TINY else 20)
    options = TINY_NETWORKS[model] if TINY else {}
    network = build(model, image_size=40, **options).to(DEVICE)
    predict(network, stream, device=DEVICE)
    begun = time.perf_counter()
    predict(network, stream, device=DEVICE)
    return {"images_per_s": len(stream) / (time.perf_counter() - begun)}


def streams() -> Iterator[Job]:
    """How many images one thread of the host draws."""
    for data in ("padded", "multimnist", "affnist"):
        yield {"data": data}, partial(_time_stream, data, layers=data == "multimnist")


def _time_stream(data: str, *, layers: bool) -> Found:
    stream = capsbench.stream(data, split="train", digits="embedded", variants=30)
    order = np.random.default_rng(0).permutation(len(stream))
    begun, drawn = time.perf_counter(), 0
    while time.perf_counter() - begun < (0.05 if TINY else 0.5):
        rows = order[drawn % 65536 : drawn % 65536 + 1024]
        stream.batch(rows)
        if layers:
            stream.layers(rows)
        drawn += len(rows)
    return {"images_per_s": drawn / (time.perf_counter() - begun)}


STAGES = {
    stage.__name__: stage
    for stage in (machine, rates, equality, routing, compiled, profile, steps, answers, streams)
}  # fmt: skip


def measure(stage: str, seconds: float, figures: Path) -> None:
    """Runs what is left of a stage, for so many seconds at most, and writes down what comes of it."""
    lines = figures.read_text().splitlines() if figures.exists() else []
    known = {_name(json.loads(line)["what"]) for line in lines if json.loads(line)["stage"] == stage}
    begun = time.perf_counter()
    for what, job in STAGES[stage]():
        if _name(what) in known:
            continue
        if time.perf_counter() - begun > seconds:
            print(f"{stage}: {seconds:g} s are over", flush=True)
            return
        try:
            found = job()
        except Exception as error:  # one measurement must not cost the rest
            found = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        line = json.dumps({"stage": stage, "what": what, "found": _rounded(found)})
        with figures.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)
        _release("error" in found)


def _release(failed: bool) -> None:
    """Gives back what a measurement took; ends the process where the device does not answer any more."""
    gc.collect()  # a captured step holds on to itself
    if DEVICE == "cuda":
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError:
            if failed:
                sys.exit(SPOILED)
            raise


def _name(what: Found) -> str:
    return json.dumps(what, sort_keys=True)


def _rounded(value: Any) -> Any:
    """Six digits are more than any figure is good for; what is no number is told as text, which JSON can hold."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return {key: _rounded(one) for key, one in value.items()} if isinstance(value, dict) else value


def _output(*command: str) -> str:
    """What a command prints; nothing where it is not there or fails."""
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return ""


def main() -> None:
    """Runs the stages that are named, each with its seconds; ``compile:float32:exact`` compiles."""
    figures = Path(os.environ["FIGURES"])
    for argument in sys.argv[1:]:
        if argument.startswith("compile:"):
            compile_kernels(*argument.split(":")[1:])
            continue
        stage, _, seconds = argument.partition("=")
        measure(stage, float(seconds), figures)


if __name__ == "__main__":
    main()
