"""Which cells a run has: names, presets and changes, checked before anything is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capsbench import registry
from capsbench.bench.cells import Cell, Preset, file_name
from capsbench.building import build
from capsbench.contracts import CLASSES, Suite
from capsbench.data.digits import load_digits
from capsbench.errors import DataFileError, ParameterError, UnknownNameError, UsageError
from capsbench.parameters import check_choice, check_seed, construct, literal
from capsbench.results.result import Result, load_result
from capsbench.system import machine
from capsbench.training.logs import check_tensorboard


@dataclass(frozen=True)
class Plan:
    """A run before it begins.

    Attributes:
        cells: The cells of the run.
        folder: The folder of results.
        digits: The source digits: ``auto``, ``embedded`` or a folder.
        tensorboard: Whether training also logs for TensorBoard.
    """

    cells: list[Cell]
    folder: Path
    digits: str
    tensorboard: bool = False

    def path(self, cell: Cell) -> Path:
        """The file of a cell's result."""
        return self.folder / file_name(cell.suite) / f"{cell.name}.json"

    def finished(self, cell: Cell) -> Result | None:
        """A cell's result, if it is there and readable."""
        try:
            return load_result(self.path(cell))
        except DataFileError:
            return None


def plan_run(
    suite: str,
    *,
    models: Sequence[str] = (),
    preset: str = "small",
    changes: Mapping[str, str] | None = None,
    seeds: Sequence[int] = (0,),
    digits: str = "auto",
    device: str = "auto",
    out: str | Path = "runs",
    tensorboard: bool = False,
) -> Plan:
    """Plans a run.

    Args:
        suite: The suite's name.
        models: The networks; by default the suite's own.
        preset: The protocol; each suite has ``smoke`` (seconds, for tests) and ``small`` (minutes on two cores), and
            the suites of the paper's experiments have ``paper``.
        changes: Settings that differ from the preset, as text; ``MODEL.KEY`` is a parameter of a model.
        seeds: One cell each.
        digits: ``auto``, ``embedded`` or a folder of IDX files.
        device: ``auto``, ``cpu`` or ``cuda``.
        out: The folder of results, data and checkpoints.
        tensorboard: Whether training also logs for TensorBoard, below ``out``.

    Raises:
        UsageError: A name, a key or a value makes no sense, or TensorBoard is not installed.
        DigitsError: The digits are missing or damaged.
    """
    kind = _load_suite(suite)
    check_choice(f"preset of suite {suite!r}", preset, kind.presets)
    names = list(dict.fromkeys(models or kind.models))
    changes = dict(changes or {})
    protocol = kind.presets[preset]
    networks = _networks(names, protocol, _changes_of_models(changes, names))
    settings = construct(type(protocol.settings), {**vars(protocol.settings), **changes}, owner=f"suite {suite!r}")
    changed = {key: value for key, value in vars(settings).items() if value != getattr(protocol.settings, key)}
    _check_seeds(seeds)
    for name, _, parameters in networks:
        _try_to_build(name, kind, parameters)
    if tensorboard:
        check_tensorboard()
    shows_digits = getattr(kind, "needs_digits", True)
    origin = load_digits("test", digits, full=preset == "paper").origin if shows_digits else "none"
    cells = [
        Cell(
            suite=suite,
            version=kind.version,
            preset=_named(preset, changed),
            model=name,
            label=label,
            source=registry.source_hash("model", name),
            parameters=parameters,
            seed=seed,
            settings=settings,
            digits=origin,
            device=machine.device(device),
        )
        for name, label, parameters in networks
        for seed in seeds
    ]
    return Plan(list({cell.id: cell for cell in cells}.values()), Path(out), digits, tensorboard)


def _load_suite(name: str) -> type[Suite]:
    kind: type[Suite] = registry.load("suite", name)
    parts = ("version", "models", "image_size", "presets", "run", "table")
    missing = [part for part in parts if not hasattr(kind, part)]
    if missing:
        raise UsageError(f"{name!r} is not a suite: it lacks {', '.join(missing)}.")
    return kind


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds or len(set(seeds)) < len(seeds):
        raise ParameterError(f"seeds must be different numbers, got {','.join(map(str, seeds)) or 'none'}.")
    for seed in seeds:
        check_seed(seed)


def _changes_of_models(changes: dict[str, str], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Takes the changes ``MODEL.KEY`` out of all changes, and gives each model its own."""
    own: dict[str, dict[str, Any]] = {name: {} for name in names}
    for change in [change for change in changes if "." in change]:
        model, _, key = change.rpartition(".")
        check_choice(f"model in this run (--set {change})", model, own)
        if key in ("image_size", "classes", "pairs"):
            raise ParameterError(f"--set {change} cannot be set: the suite chooses {key}.")
        own[model][key] = literal(changes.pop(change))
    return own


def _networks(
    names: Sequence[str], protocol: Preset, own: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, str, dict[str, Any]]]:
    """Every network to measure: its model's name, its label, and its parameters."""
    networks = []
    for name in names:
        for variant in protocol.variants.get(name, [{}]):
            changes = {**variant, **own[name]}
            parameters = _spelled_out(name, {**protocol.models.get(name, {}), **changes})
            networks.append((name, _named(name, changes), parameters))
    return networks


def _spelled_out(name: str, stated: Mapping[str, Any]) -> dict[str, Any]:
    """A model's parameters with its preset spelled out, so that a cell's identity and its result have them."""
    presets = getattr(registry.load("model", name), "presets", {})
    preset = stated.get("preset")
    if preset is not None and preset not in presets:
        raise UnknownNameError(f"preset of model {name!r}", preset, presets)
    return {**presets.get(preset, {}), **{key: value for key, value in stated.items() if key != "preset"}}


def _try_to_build(name: str, kind: type[Suite], parameters: Mapping[str, Any]) -> None:
    """Finds unknown parameters and bad values before the first cell is trained.

    Raises:
        UsageError: `capsbench.building.build` rejects the parameters.
    """
    import torch

    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):  # shapes alone, no numbers
            pairs = getattr(kind, "pairs", False)
            build(name, image_size=kind.image_size, classes=CLASSES, pairs=pairs, **parameters)
    except UsageError:
        raise
    except Exception:  # a user's model may need real numbers, or fail: its cell will show it
        return


def _named(name: str, changes: Mapping[str, Any]) -> str:
    """A name with its changes: ``small (epochs=5)``."""
    changed = ", ".join(f"{key}={value}" for key, value in changes.items())
    return f"{name} ({changed})" if changed else name
