"""The command run: plan, train, test, and print the table."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capsbench.cli.completion import names, presets
from capsbench.cli.options import PATH, Command, digits_option, json_option, say_embedded
from capsbench.errors import (
    CapsbenchError,
    CellsFailedError,
    DataError,
    ParameterError,
    UsageError,
    escaped,
    plain,
    shown,
)
from capsbench.parameters import convert, split_assignments

if TYPE_CHECKING:
    from capsbench.bench.apart import Apart
    from capsbench.bench.planning import Plan
    from capsbench.results.result import Result


IN_THIS_PROCESS = {"jobs": 1, "isolate": False, "retries": 0, "timeout": None, "scheduler": None, "collect": False}


@click.command(cls=Command)
@click.option("--suite", required=True, shell_complete=names("suite"), help="The experiment; see `capsbench list`.")
@click.option(
    "--model",
    "models",
    multiple=True,
    shell_complete=names("model"),
    metavar="[LABEL=]MODEL",
    help="A network: a name, file.py:attr, package.module:attr, torchvision:NAME or timm:NAME; may be repeated.",
)
@click.option(
    "--preset",
    default="small",
    show_default=True,
    shell_complete=presets("suite", "suite"),
    help="The protocol, such as smoke, small, medium or paper; see capsbench list.",
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="K=V",
    help="Change a setting of the preset, or a parameter of a network: MODEL.K=V, or K=V where one alone has it.",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="[NAME=]FILE",
    help="Measure weights that were trained elsewhere (.pt or .safetensors) instead of training, or with FILE "
    "`pretrained` those that ship; may be repeated.",
)
@click.option("--seeds", default="0", show_default=True, metavar="LIST", help="Run once for each seed, such as 0,1,2.")
@digits_option
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="The device to train on.")
@click.option(
    "--out",
    type=PATH,
    default="runs",
    show_default=True,
    metavar="DIR",
    help="The folder of results, data, weights and checkpoints.",
)
@click.option("--force", is_flag=True, help="Train and measure finished cells again, from the first step on.")
@click.option("--tensorboard", is_flag=True, help="Also log for TensorBoard, below --out.")
@click.option("--jobs", type=int, default=1, show_default=True, metavar="N", help="Cells at once, a process for each.")
@click.option("--isolate", is_flag=True, help="Give each cell a process of its own, also with one job.")
@click.option("--retries", type=int, default=0, show_default=True, metavar="K", help="Try a failed cell K times more.")
@click.option("--timeout", type=float, metavar="MINUTES", help="End a cell, in a process of its own, after that time.")
@click.option("--scheduler", metavar="ADDRESS|FILE", help="Run the cells on the workers of a Dask cluster.")
@click.option("--collect", is_flag=True, help="With --scheduler: workers send results back, for want of a shared DIR.")
@click.option("--shard", metavar="I/N", help="Run only part I of N of the cells, counted from 0.")
@click.option("--cell", "only", metavar="ID", help="Run only the cell with this id, which is in its file's name.")
@click.option("--since", type=float, hidden=True, help="With --force: when the run began; what is older is not used.")
@click.option("--events", is_flag=True, hidden=True, help="Run the cell for a parent: lines of JSON on stdout.")
@click.option(
    "--dry-run", is_flag=True, help="Only show what would be trained and measured, and estimate the time it takes here."
)
@click.option("--wide", is_flag=True, help="Show every column of the table.")
@json_option
def run(
    sets: tuple[str, ...],
    seeds: str,
    shard: str | None,
    only: str | None,
    events: bool,
    dry_run: bool,
    as_json: bool,
    wide: bool,
    **options: Any,
) -> None:
    """Run a suite: train, test, and print the table. Finished cells are not run again.

    Where tests alone change, the weights of finished trainings are measured again, and nothing is trained.

    A network of your own is code that is run; use only code that you trust.

    \b
    Example:
      capsbench run --suite affine
      capsbench run --suite affine --model capsnet --model "Ours=mine.py:Net" --seeds 0,1,2
      capsbench run --suite affine --model torchvision:resnet18 --preset smoke
      capsbench run --suite affine --set epochs=10 --set capsnet.iterations=1
      capsbench run --suite affine --seeds 0,1,2,3 --jobs 4 --retries 1
    """
    from capsbench.bench.apart import Apart, told_events
    from capsbench.system.ranks import ranks

    how = {key: options.pop(key) for key in ("jobs", "isolate", "retries", "timeout", "scheduler", "collect")}
    apart = Apart(**how)
    if ranks().size > 1 and how != IN_THIS_PROCESS:
        raise UsageError(
            "torchrun is for one cell at a time: leave --jobs, --isolate, --retries, --timeout, --scheduler."
        )
    if not ranks().first:
        _follow(lambda: _planned(sets, seeds, shard, only, options), dry_run=dry_run)
        return
    with told_events() if events else nullcontext() as tell:
        plan = _planned(sets, seeds, shard, only, options | {"elsewhere": how["scheduler"] is not None})
        if tell:
            tell(plan)
            return
    if not plan.cells:
        click.echo(f"There are no cells in shard {shard}.", err=True)
    elif plan.cells[0].digits == "embedded":  # a suite may show none
        say_embedded(options["digits"])
    elif plan.cells[0].digits == "made":
        click.echo("Note: a made set, no photographs. CIFAR-10: capsbench data fetch cifar10", err=True)
    if dry_run:
        _show_plan(plan, as_json=as_json)
    else:
        _run_plan(plan, apart, as_json=as_json, wide=wide)


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds: tuple[int, ...] = convert("--seeds", text, tuple[int, ...])
    except ParameterError:
        raise ParameterError(
            f"--seeds must be whole numbers with commas between, such as 0,1,2, got {shown(text.strip()) or 'nothing'}."
        ) from None
    return seeds


def _planned(sets: tuple[str, ...], seeds: str, shard: str | None, only: str | None, options: dict[str, Any]) -> "Plan":
    """The plan of a command line."""
    from capsbench.bench.planning import plan_run

    plan = plan_run(changes=split_assignments(sets), seeds=_seeds(seeds), **options)
    if shard is not None:
        plan = plan.shard(shard)
    if only is not None:
        plan = plan.only(only)
    return plan


def _follow(planned: Callable[[], "Plan"], *, dry_run: bool) -> None:
    """Does the part of a process that is not the first of those which `torchrun` started, and prints nothing."""
    try:
        plan = planned()
    except CapsbenchError as error:  # which the first process prints
        raise click.exceptions.Exit(error.exit_code) from None
    if not dry_run:
        from capsbench.bench.running import run_plan

        run_plan(plan)


def _show_plan(plan: "Plan", *, as_json: bool) -> None:
    """Prints what a run would do."""
    states = {str(plan.path(cell)): plan.state(cell) for cell in plan.cells}
    names = [f"{cell.label}, seed {cell.seed}" for cell in plan.cells]
    lines = [f"{path}: {state} ({name})" for (path, state), name in zip(states.items(), names, strict=True)]
    click.echo(json.dumps(states, indent=2) if as_json else "\n".join(lines))
    for line in _made_of(plan):
        click.echo(line, err=as_json)
    if not as_json:
        _say_estimates(plan)


def _run_plan(plan: "Plan", apart: "Apart", *, as_json: bool, wide: bool) -> None:
    """Runs a plan and prints what came of it."""
    from capsbench.bench.apart import Apart
    from capsbench.bench.running import engine_of, run_plan
    from capsbench.cli.progress import progress_of_several
    from capsbench.report.pages import render

    def say(line: str) -> None:
        click.echo(plain(line), err=True)

    for line in _beginning(plan):
        say(line)
    if apart == Apart() and _is_estimated(plan):
        _say_estimates(plan)
    # Each epoch also prints a line.
    with progress_of_several(every=60.0) as progress, engine_of(plan, apart, say) as engine:
        outcome = run_plan(plan, say, progress, engine)
    if as_json:
        click.echo(render(outcome.results, "json"))
    elif outcome.results:
        click.echo(escaped(render(outcome.results, wide=wide)))
        click.echo("".join(f"\nresult: {path}" for path in outcome.paths))
        show_all(outcome.results, outcome.paths[0].parent)
    if outcome.failed:
        cells = "\n".join(f"{cell.label}, seed {cell.seed}: {why}" for cell, why in outcome.failed)
        raise CellsFailedError(f"{len(outcome.failed)} of {len(plan.cells)} cells failed:\n{cells}")


def _beginning(plan: "Plan") -> Iterator[str]:
    """What a run will do, and where that takes days."""
    from capsbench.bench.planning import FINISHED

    if not plan.cells:
        return
    first, waiting = plan.cells[0], [cell for cell in plan.cells if plan.state(cell) != FINISHED]
    networks = list(dict.fromkeys(cell.label for cell in plan.cells))
    seeds = ", ".join(map(str, sorted({cell.seed for cell in plan.cells})))
    cells = f"{len(plan.cells)} cell{'s' * (len(plan.cells) > 1)}, {len(waiting)} to do, on {first.device}"
    yield f"{first.suite}, preset {first.preset}: {', '.join(networks)}; seeds: {seeds}. {cells}."
    if waiting and first.device == "cpu" and first.preset.partition(" ")[0] == "paper" and first.digits != "none":
        yield (
            "The preset paper is made for a GPU: on a CPU a cell takes days. With --dry-run the time is measured here; "
            "--preset small takes minutes."
        )


def show_all(results: "Sequence[Result]", folder: Path) -> None:
    """Draws the charts and prints the board of all results in a folder that belong together with some.

    A run of one more network must not replace the charts of the others. Where one of these is damaged, a warning says
    so, and the board has the given results alone.
    """
    from capsbench.report.board import boards
    from capsbench.report.boardtables import render_boards
    from capsbench.report.groups import alike, figures_by_group
    from capsbench.results.result import load_results

    try:
        together = alike(results, load_results(folder))
    except DataError as error:
        click.echo(plain(f"Warning: no chart is drawn, and the board lacks other results: {error}"), err=True)
        together = list(results)
    else:
        for group, figures in figures_by_group(together):
            for figure in figures:
                click.echo(f"chart: {figure.save(folder / group.folder)[0]}")
    shown = render_boards(boards(together), "simple")
    click.echo(escaped(f"\n{shown}" if shown else ""))


def _is_estimated(plan: "Plan") -> bool:
    """Whether a run begins with its time: smoke of networks that ship is over at once, and paper takes days here."""
    from capsbench.registry import catalog

    presets = {cell.preset.partition(" ")[0] for cell in plan.cells}
    quick = "smoke" in presets and all(cell.model in catalog("model") for cell in plan.cells)
    return not quick and "paper" not in presets


def _made_of(plan: "Plan") -> Iterator[str]:
    """What identifies what does not ship with capsbench, once for each network."""
    for label, made_of in {cell.label: cell.made_of for cell in plan.cells}.items():
        for what, parts in made_of.items():
            yield f"{label}: the {what} {'are' if what in ('settings', 'weights', 'digits') else 'is'} made of"
            yield from (f"  {part}  {value[:16] if len(value) == 64 else value}" for part, value in parts.items())


def _say_estimates(plan: "Plan") -> None:
    """Prints on stderr how long the cells that are to do may take on this device."""
    from capsbench.bench.estimating import estimate
    from capsbench.bench.planning import FINISHED, TRAIN
    from capsbench.errors import first_line
    from capsbench.system.timing import duration

    known: dict[str, float] = {}
    waiting = [cell for cell in plan.cells if plan.state(cell) != FINISHED]
    for cell in waiting:
        if cell.label not in known:
            try:
                seconds = estimate(cell, plan.digits, training=plan.state(cell) == TRAIN)
            except Exception as error:  # a user's network can fail in any way; its cell will say more
                click.echo(f"No estimate for {cell.label}: {first_line(error)}", err=True)
                return
            if seconds is None:
                return
            known[cell.label] = seconds
            click.echo(f"{cell.label}: about {duration(seconds)} a cell on this device ({cell.device})", err=True)
    if waiting:
        total = duration(sum(known[cell.label] for cell in waiting))
        click.echo(
            f"About {total} in all. This is an estimate from a few training steps and predictions; making data files, "
            "statistics and reconstructions come on top.",
            err=True,
        )
