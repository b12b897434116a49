"""Measures what results/ lacks of the networks' figures, cell by cell: ``python tools/cpu_figures.py [--help]``.

The list below says which networks, in which order. A cell whose result is anywhere in the folder of results is not
measured again, and one that was stopped goes on from its checkpoint, so the script can be stopped and started as often
as one likes: ``nohup nice python tools/cpu_figures.py >figures.log 2>&1 &`` lets it run beside other work. Each result
is copied to results/SUITE/PRESET/ when it is whole; data and checkpoints stay in the folder of runs.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from capsbench.bench.cells import Cell
from capsbench.bench.measuring import run_cell
from capsbench.bench.planning import Plan, plan_run
from capsbench.errors import CapsbenchError, CellsFailedError
from capsbench.results.result import load_results
from capsbench.system.disk import make_folder, write_atomically

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Wanted:
    """A network to measure.

    Attributes:
        suite: The suite's name.
        preset: The protocol.
        model: The network's name; one that the protocol has variants of makes several cells.
        seed: Of the network.
        changes: Settings that differ from the preset, as text; ``MODEL.KEY`` is a parameter of the network.
    """

    suite: str
    preset: str
    model: str
    seed: int = 0
    changes: Mapping[str, str] = field(default_factory=dict)


def of(suite: str, preset: str, models: Sequence[str], seeds: Sequence[int]) -> list[Wanted]:
    """Every network with every seed, one seed of all before the next; ``capsnet shared`` has its matrices shared."""
    return [
        Wanted(suite, preset, name, seed, {f"{name}.{switch}": "true"} if switch else {})
        for seed in seeds
        for name, _, switch in (model.partition(" ") for model in models)
    ]


FIELD = ("cnn-pool", "capsnet", "capsnet shared", "resnet-gap", "efficient-capsnet", "stn", "gcnn")
SEEDS = (0, 1, 2)
CLUTTERED = ("capsnet", "cnn-pool", "resnet-gap")  # capsnet without and with an orphan category
PAIRS = ("cnn-pair", "capsnet", "efficient-capsnet", "resnet-gap")
LIST = [
    *of("affine", "medium", FIELD, SEEDS),
    *of("affine", "medium", ["cnn"], [0]),
    *of("affine", "small", FIELD, SEEDS),
    *of("affine", "small", ["cnn"], [0]),
    *of("mnist", "medium", ["cnn", "capsnet", "resnet-gap", "efficient-capsnet"], SEEDS),
    *of("crowding", "medium", ["cnn-pool", "capsnet", "resnet-gap"], SEEDS),
    *of("overlap", "medium", PAIRS, SEEDS),
    *of("clutter", "small", CLUTTERED, SEEDS),
    *of("clutter", "trained", CLUTTERED, SEEDS),
    *of("clutter", "medium", CLUTTERED, SEEDS),
]


def missing(wanted: Sequence[Wanted], *, results: Path, runs: Path, digits: str) -> Iterator[tuple[Cell, Plan]]:
    """The cells that the folder of results does not hold, in the order of the list.

    Raises:
        DataError: A result there is damaged, or the digits of a cell are missing.
    """
    there = {one.cell for one in load_results(results)} if any(results.rglob("*.json")) else set()
    for one in wanted:
        plan = plan_run(
            one.suite,
            models=[one.model],
            preset=one.preset,
            changes=one.changes,
            seeds=[one.seed],
            digits="embedded" if one.preset in ("smoke", "small", "trained") else digits,
            device="cpu",
            out=runs,
        )
        for cell in plan.cells:
            if cell.id not in there:
                there.add(cell.id)
                yield cell, plan


def measure(cell: Cell, plan: Plan, results: Path) -> Path:
    """Measures a cell, or takes it from the folder of runs if it is finished there; the file of its result.

    Raises:
        Exception: Whatever a network can raise.
    """
    run_cell(cell, plan, report=lambda line: print(f"  {line}", flush=True))
    made = plan.path(cell)
    kept = results / cell.suite / cell.preset.partition(" ")[0] / made.name
    make_folder(kept.parent)
    write_atomically(kept, made.read_bytes())
    return kept


def measure_all(wanted: Sequence[Wanted], *, results: Path, runs: Path, digits: str, planned: bool = False) -> None:
    """Measures what is missing; a cell that fails does not stop the others.

    Raises:
        CellsFailedError: Some failed.
    """
    cells = list(missing(wanted, results=results, runs=runs, digits=digits))
    failed = []
    for number, (cell, plan) in enumerate(cells, 1):
        print(f"[{number}/{len(cells)}] {cell.suite}, {cell.preset}: {cell.label}, seed {cell.seed}", flush=True)
        if planned:
            continue
        try:
            print(f"  {measure(cell, plan, results)}", flush=True)
        except Exception as error:  # the others are still to be measured
            print(f"  failed: {error}", flush=True)
            failed.append(cell)
    if failed:
        raise CellsFailedError(f"{len(failed)} of {len(cells)} cells failed; start again to try them again.")
    count = f"{len(cells)} cell" if len(cells) == 1 else f"{len(cells)} cells"
    print("nothing is missing" if not cells else f"{count} {'missing' if planned else 'measured'}")


@click.command()
@click.option("--results", type=Path, default=ROOT / "results", show_default="results/", help="Folder of results.")
@click.option("--runs", type=Path, default=Path("runs"), show_default=True, help="Folder of data and checkpoints.")
@click.option("--digits", default="auto", show_default=True, help="Full MNIST, for the preset medium.")
@click.option("--dry-run", is_flag=True, help="Only say which cells are missing.")
def main(results: Path, runs: Path, digits: str, dry_run: bool) -> None:
    """Measure what the folder of results lacks of the networks' figures; about ten hours of two cores in all."""
    try:
        measure_all(LIST, results=results, runs=runs, digits=digits, planned=dry_run)
    except CapsbenchError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
