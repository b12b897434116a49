"""Where a result comes from: what it takes to measure it again."""

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from capsbench.results.result import Result
from capsbench.spec import MNIST, SOURCES

FETCHED = tuple(name for name in SOURCES if name not in (*MNIST, "none"))
"""The digits that `capsbench data fetch NAME` fetches."""

VERSIONS = ("capsbench", "python", "torch", "numpy", "h5py", "triton", "cuda", "cudnn", "driver")


def commands(result: Result) -> list[str]:
    """The lines of a shell that measure a result again, on a machine like its own."""
    words = ["capsbench", "run", "--suite", result.suite, "--preset", result.preset.partition(" ")[0]]
    for key, value in _changes(result.preset, result.settings):
        words += ["--set", f"{key}={value}"]
    title = "" if result.label.startswith(result.model) else result.label.partition(" (")[0]  # else of the user's own
    words += ["--model", f"{title}={result.model}" if title else result.model]
    if title:  # which does not say what was changed
        changed = [(key, _as_text(value)) for key, value in result.parameters.items()]
    else:
        changed = list(_changes(result.label.removeprefix(result.model), result.parameters))
    words += [word for key, value in changed for word in ("--set", f"{result.model}.{key}={value}")]
    words += ["--seeds", str(result.seed)]
    words += _digits(result.digits)
    here = result.environment
    on_cpu = here.get("device") == "cpu"
    words += ["--device", "cpu" if on_cpu else "cuda"]
    threads = [f"OMP_NUM_THREADS={here['threads']}"] if on_cpu and type(here.get("threads")) is int else []
    line = " ".join([*threads, *map(shlex.quote, words)])
    if result.origin == "weights":
        line += f" --weights {shlex.quote(str(result.training.get('file', 'FILE')))}  # {result.from_where}"
    if result.origin == "scores":
        digits = _digits(result.digits)
        tests = shlex.join(["capsbench", "tests", *words[2 : words.index("--model")], *digits])
        judge = shlex.join(["capsbench", "judge", "--suite", result.suite, *digits])
        label = f"{shlex.quote(result.label)}{f' --seed {result.seed}' * bool(result.seed)}"
        return [
            *_fetched(result.digits),
            f"{tests} --out SCORES_DIR  # the scores belong there",
            f"{judge} SCORES_DIR --label {label}  # scores from elsewhere",
        ]
    return [*_fetched(result.digits), line]


def _digits(name: str) -> list[str]:
    """The option that names the digits of a result."""
    if name in FETCHED:
        return ["--digits", name]
    if name in ("mnist", "none", "cifar10"):
        return []
    if name == "cifar10-like":
        return ["--digits", "DIR"]
    return ["--digits", "embedded"] if name in ("embedded", "made") else ["--digits", "DIR", "--digits-as", name]


def _fetched(name: str) -> list[str]:
    """The command that fetches the digits of a result, where there is one."""
    return ["capsbench data fetch"] if name == "mnist" else [f"capsbench data fetch {name}"] if name in FETCHED else []


def _changes(label: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a label ``small (epochs=5, scale=(1, 2))`` says was changed, as ``--set`` takes it."""
    for key in re.findall(r"[(,] ?(\w+)=", label):
        if key in values:
            yield key, _as_text(values[key])


def _as_text(value: Any) -> str:
    """A value as ``--set`` takes it."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def stated(result: Result) -> dict[str, Any]:
    """Everything that a reader needs to measure a result again, as plain JSON types."""
    here = result.environment
    return {
        "cell": result.cell,
        "seed": result.seed,
        "commands": commands(result),
        "device": here.get("device"),
        "processor": here.get("processor"),
        "system": here.get("system"),
        "threads": here.get("threads"),
        "versions": {name: here[name] for name in VERSIONS if name in here},
        "date": result.date,
        "seconds": result.seconds,
        "parameters": result.parameters,
        "made of": result.identity,
        "digests": digests(result),
    }


def digests(result: Result) -> dict[str, str]:
    """The root digest of each file of data, by its role; other data are drawn from their specs alone."""
    return {
        role: used["digest"]
        for role, used in result.data.items()
        if isinstance(used, Mapping) and isinstance(used.get("digest"), str)
    }
