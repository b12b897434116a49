"""Which cells a run has: names, presets and changes, checked before anything is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import time
from typing import Any

from capsbench.bench.cells import WEIGHTS, Cell, images_of, works
from capsbench.bench.code import code_of
from capsbench.bench.elsewhere import GivenWeights, weights_of
from capsbench.bench.networks import Several, networks
from capsbench.bench.protocols import Protocol, check_seeds, load_suite
from capsbench.errors import DataFileError, UsageError, shown
from capsbench.parameters import split_shard
from capsbench.paths import user_path
from capsbench.results.result import Result, load_result
from capsbench.system import machine
from capsbench.system.ranks import begun as begun_together
from capsbench.training.kept import load_kept
from capsbench.training.logs import check_tensorboard

MOST_SHOWN = 8  # ids in a message
FINISHED, MEASURE, TRAIN = "finished", "measure only", "train and measure"
"""What a run would do with a cell."""


@dataclass(frozen=True)
class Plan:
    """A run before it begins.

    Attributes:
        cells: The cells of the run.
        folder: The folder of results.
        digits: The source digits: ``auto``, ``embedded``, a folder, a set by its name, or ``NAME=DIR``.
        tensorboard: Whether training also logs for TensorBoard.
        force: Whether finished cells are measured again, from the first step on.
        asked: The arguments of `plan_run` that all cells share, so that another process can plan a cell once more.
        since: With ``force``: when the run began, in seconds since 1970. What was trained before does not count.
    """

    cells: list[Cell]
    folder: Path
    digits: str
    tensorboard: bool = False
    force: bool = False
    asked: Mapping[str, Any] = field(default_factory=dict)
    since: float = 0.0

    def path(self, cell: Cell) -> Path:
        """The file of a cell's result."""
        return self.folder / cell.folder / f"{cell.name}.json"

    def only(self, cell: str) -> "Plan":
        """The plan of one cell, by its id.

        Raises:
            UsageError: There is no such cell.
        """
        found = [one for one in self.cells if one.id == cell]
        if not found:
            known = ", ".join(one.id for one in self.cells[:MOST_SHOWN])
            raise UsageError(
                f"No cell of this run has the id {shown(cell)}. It has {known}. A file that a cell is made of may have "
                "changed since."
            )
        return replace(self, cells=found)

    def shard(self, part: str) -> "Plan":
        """The plan of one part of the cells; which they are does not depend on the order of networks and seeds.

        Args:
            part: Such as ``"0/4"``, the first of four; it may have no cells.

        Raises:
            ParameterError: There is no such part.
        """
        index, shards = split_shard(part)
        ordered = sorted(self.cells, key=lambda cell: (cell.label, cell.seed, cell.id))
        mine = {cell.id for cell in ordered[index::shards]}
        return replace(self, cells=[cell for cell in self.cells if cell.id in mine])

    def weights(self, cell: Cell) -> list[Path]:
        """The files of the weights that a cell's trainings leave."""
        return [self.folder / WEIGHTS / f"{cell.training_name(part)}.pt" for part in cell.trainings]

    def state(self, cell: Cell) -> str:
        """What a run would do with a cell: ``finished``, ``measure only`` or ``train and measure``."""
        if self.finished(cell):
            return FINISHED
        kept = cell.weights or (not self.force and all(load_kept(path) for path in self.weights(cell)))
        return MEASURE if kept or not cell.trainings else TRAIN

    def finished(self, cell: Cell) -> Result | None:
        """A cell's result, if it is there, readable and of this cell, and is not to be measured again."""
        if self.force:
            return None
        try:
            found = load_result(self.path(cell))
        except DataFileError:
            return None
        if not cell.owns(found):
            return None
        return replace(found, label=cell.label) if cell.title else found  # a label is no part of what was measured


def plan_run(
    suite: str,
    *,
    models: Several = (),
    preset: str = "small",
    changes: Mapping[str, str] | None = None,
    weights: GivenWeights = (),
    seeds: Sequence[int] = (0,),
    digits: str = "auto",
    device: str = "auto",
    out: str | Path = "runs",
    tensorboard: bool = False,
    force: bool = False,
    since: float | None = None,
    elsewhere: bool = False,
) -> Plan:
    """Plans a run.

    Args:
        suite: The suite's name.
        models: The networks: names (with a label if wanted: ``Ours=mine.py:Net``), classes or functions, or a mapping
            of labels to them; by default the suite's own.
        preset: The protocol; each suite has ``smoke`` (seconds, for tests) and ``small`` (minutes on two cores), and
            the suites of the paper's experiments have ``medium`` (full MNIST, small networks) and ``paper``.
        changes: Settings that differ from the preset, as text; ``MODEL.KEY`` is a parameter of a model, and so is
            ``KEY`` where one model alone has it.
        weights: Files of weights that were trained elsewhere, as `capsbench.bench.elsewhere.weights_of` takes them.
        seeds: One cell each.
        digits: ``auto``, ``embedded``, a folder, a set by its name, or ``NAME=DIR``.
        device: ``auto``, ``cpu`` or ``cuda``.
        out: The folder of results, data and checkpoints.
        tensorboard: Whether training also logs for TensorBoard, below ``out``.
        force: Measure finished cells again.
        since: With ``force``: when the run began that a cell's own process is of; by default now.
        elsewhere: Whether other machines measure: ``device`` is then theirs, and ``cuda`` needs no GPU here.

    Raises:
        UsageError: A name, a key or a value makes no sense, or a package is not installed.
        DataFileError: A file of weights is damaged, or does not fit its network.
        DigitsError: The digits are missing or damaged.
    """
    kind = load_suite(suite, preset)
    changes = dict(changes or {})
    chosen = kind.presets[preset]
    measured = networks(models or kind.models, chosen, changes, vars(chosen.settings))  # takes their changes out
    protocol = Protocol.of(suite, preset, changes)
    check_seeds(seeds)
    trained = works(kind, protocol.settings)
    images, *others = [work.images for work in trained] or [images_of(kind)]
    made_of = [network.identified(images) for network in measured]
    for network in measured:
        for of_another in others:
            network.try_to_build(of_another)
    if tensorboard:
        check_tensorboard()
    origin, sums = protocol.origin(digits), protocol.sums(digits)
    trained_before = weights_of(weights, measured, trained, suite=suite, preset=preset, seeds=seeds)
    cells = [
        Cell(
            suite=suite,
            version=kind.version,
            preset=protocol.label,
            model=network.name,
            label=network.label,
            identity=identity,
            parameters=network.parameters,
            seed=seed,
            settings=protocol.settings,
            digits=origin,
            digits_sums=sums,
            device=device if elsewhere and device == "cuda" else machine.device(device),
            suite_identity=protocol.suite_identity,
            files=protocol.files,
            given=network.given,
            code=code_of(network.factory),
            trainings=tuple(work.name for work in trained),
            title=network.title,
            changes=network.changes,
            weights=trained_before.get(network.label),
        )
        for network, identity in zip(measured, made_of, strict=True)
        for seed in seeds
    ]
    folder = user_path(out, "out")
    asked = {"preset": preset, "changes": changes, "digits": digits, "out": str(folder), "tensorboard": tensorboard}
    begun = (since or begun_together() or time()) if force else 0.0
    asked |= {"force": force, "since": begun} if force else {}
    return Plan(list({cell.id: cell for cell in cells}.values()), folder, digits, tensorboard, force, asked, begun)
