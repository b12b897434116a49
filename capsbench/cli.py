"""The command line: a command parses, calls one function, and prints.

Nothing heavy is imported before a command needs it: ``capsbench --help`` answers at once.
"""

import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from capsbench.errors import CellsFailedError, DataFileError, UsageError
from capsbench.exits import exit_code
from capsbench.parameters import split_assignments
from capsbench.version import VERSION

digits_option = click.option(
    "--digits",
    default="auto",
    metavar="auto|embedded|DIR",
    show_default=True,
    help="Where the source digits come from.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
set_option = click.option("--set", "sets", multiple=True, metavar="K=V", help="Set one parameter; may be repeated.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="capsbench")
def cli() -> None:
    """Robustness of capsule and equivariant networks on digits, exact and reproducible.

    \b
    Example:
      capsbench generate multimnist
      capsbench run --suite affine
    """


@cli.command()
@click.argument("dataset")
@click.option(
    "--split", "splits", multiple=True, metavar="SPLIT", help="train, validation, trainval or test; may be repeated."
)
@click.option("--preset", help="A named set of parameters; see `capsbench list`.")
@set_option
@click.option("--seed", default=0, show_default=True, help="0..2**64-1.")
@click.option("--count", type=int, help="Number of samples; by default one for each digit of the split.")
@digits_option
@click.option("--layers", is_flag=True, help="Keep each digit alone, too.")
@click.option("--out", default=".", metavar="DIR|FILE.h5", show_default=True, help="Where the files go.")
@click.option("--force", is_flag=True, help="Start anew where another file stands.")
@json_option
def generate(
    dataset: str, splits: Sequence[str], out: str, sets: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Make the HDF5 files of a data set.

    A run that was stopped goes on where it was; a file that is whole is verified and left.

    \b
    Example:
      capsbench generate multimnist
      capsbench generate affnist --split test --set rotation=-45,45 --out data
    """
    from capsbench.describing import file_facts, generated_text
    from capsbench.face import DEFAULT_SPLITS, generate_splits
    from capsbench.progress import progress
    from capsbench.storage import DataFile

    made = generate_splits(
        dataset,
        Path(out),
        splits or DEFAULT_SPLITS,
        progress=progress,
        parameters=split_assignments(sets),
        **options,
    )
    files = [DataFile(generated.path, digits=options["digits"]) for generated in made]
    _note_embedded(files)
    facts = [
        file_facts(file) | {"seconds": one.seconds, "drawn": one.drawn} for file, one in zip(files, made, strict=True)
    ]
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo("\n\n".join(generated_text(one, fact) for one, fact in zip(made, facts, strict=True)))


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Draw damaged blocks anew from the file's spec.")
@click.option("--sample", default=0, metavar="N", help="Also draw N random samples anew and compare their bytes.")
@digits_option
def verify(file: Path, repair: bool, sample: int, digits: str) -> None:
    """Check every block of a file against its digest.

    \b
    Example:
      capsbench verify multimnist-test.h5 --sample 500
      capsbench verify multimnist-test.h5 --repair
    """
    from capsbench.generation import remake_command, repair_file, wrong_samples
    from capsbench.layout import block_count
    from capsbench.parameters import check_number
    from capsbench.progress import progress
    from capsbench.storage import DataFile

    check_number("--sample", sample, 0, 2**40)
    try:
        data = DataFile(file, digits=digits)
    except DataFileError as error:
        command = remake_command(file)
        raise DataFileError(f"{error} Make it anew with: {command}" if command else str(error)) from None
    if repair:
        with progress(f"repairing {file.name}") as report:
            repaired = repair_file(file, digits=digits, report=report)
        click.echo(f"{file}: {repaired.drawn:,} samples drawn anew, {repaired.kept:,} were right.")
    data.check()
    number = block_count(len(data))
    held = "1 block" if number == 1 else f"all {number:,} blocks"
    click.echo(f"{file}: {held} of {len(data):,} samples right. Digest {data.digest}")
    if sample:
        wrong = wrong_samples(data, sample)
        if wrong:
            raise DataFileError(
                f"{file}: {len(wrong)} of {min(sample, len(data))} samples are not what its spec draws: {wrong[:3]}."
            )
        click.echo(f"{file}: {min(sample, len(data)):,} random samples drawn anew from the spec are the same bytes.")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@digits_option
@json_option
def info(file: Path, digits: str, as_json: bool) -> None:
    """Tell what a file holds: spec, counts, digest, and measures such as overlap.

    \b
    Example:
      capsbench info multimnist-test.h5
    """
    from capsbench.describing import facts_text, file_facts
    from capsbench.storage import open_dataset

    data = open_dataset(file, digits=digits)
    facts = file_facts(data)
    click.echo(json.dumps(facts, indent=2) if as_json else facts_text(facts))


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The PNG; beside the file by default.")
@digits_option
def preview(file: Path, out: Path | None, digits: str) -> None:
    """Draw the first samples of a file with their labels, pairs in two colours.

    \b
    Example:
      capsbench preview multimnist-test.h5 --out pairs.png
    """
    from capsbench.inspection import preview as draw
    from capsbench.storage import open_dataset

    target = out or file.with_suffix(".png")
    number = draw(open_dataset(file, digits=digits), target)
    click.echo(f"{target}: {number} samples.")


@cli.group()
def data() -> None:
    """Fetch the source digits, or see which are here.

    \b
    Example:
      capsbench data fetch
    """


@data.command()
def fetch() -> None:
    """Put full MNIST into the user's cache: four files, checked.

    \b
    Example:
      capsbench data fetch
    """
    from capsbench.fetching import fetch as fetch_digits

    folder = fetch_digits(report=lambda line: click.echo(line, err=True))
    click.echo(f"{folder}: full MNIST, four files, MD5 right.")


@data.command()
@json_option
def status(as_json: bool) -> None:
    """Tell which source digits are here, in the order in which `--digits auto` looks.

    \b
    Example:
      capsbench data status
    """
    from tabulate import tabulate

    from capsbench.digits import status as digits_status

    rows = [vars(row) for row in digits_status()]
    if as_json:
        click.echo(json.dumps(rows, indent=2, default=str))
    else:
        click.echo(tabulate([row.values() for row in rows], list(rows[0]), tablefmt="simple"))


@cli.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List data sets, models and suites with their presets, plug-ins included.

    \b
    Example:
      capsbench list
    """
    from capsbench import registry

    entries = {
        family: [_entry(family, name) for name in sorted(registry.catalog(family))] for family in registry.FAMILIES
    }
    if as_json:
        click.echo(json.dumps(entries, indent=2))
        return
    for family, members in entries.items():
        click.echo(f"{family}s")
        for member in members:
            presets = f"  [presets: {', '.join(member['presets'])}]" if member["presets"] else ""
            click.echo(f"  {member['name']:<12} {member['summary']}{presets}")


@cli.command()
@click.option("--suite", required=True, help="Which experiment; see `capsbench list`.")
@click.option("--model", "models", multiple=True, help="A name, package.module:attr or file.py:attr; may be repeated.")
@click.option("--preset", default="small", show_default=True, help="The protocol: smoke or small.")
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="K=V",
    help="Set one thing of the preset, or MODEL.K=V of a model; may be repeated.",
)
@click.option("--seeds", default="0", show_default=True, metavar="LIST", help="One run for each, such as 0,1,2.")
@digits_option
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where to train.")
@click.option("--out", default="runs", show_default=True, metavar="DIR", help="Where results, data and checkpoints go.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@json_option
def run(sets: tuple[str, ...], seeds: str, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Run a suite: train, test, and print the table. Finished cells are not run again.

    A model of your own is code that is run; use only what you trust.

    \b
    Example:
      capsbench run --suite affine
      capsbench run --suite affine --model capsnet --model mine.py:Net --seeds 0,1,2
      capsbench run --suite affine --set epochs=10 --set capsnet.iterations=1
    """
    from capsbench.charts import save_chart
    from capsbench.parameters import convert
    from capsbench.report import charts, render
    from capsbench.running import plan_run, run_plan

    numbers = convert("--seeds", seeds, tuple[int, ...])
    plan = plan_run(changes=split_assignments(sets), seeds=numbers, **options)
    if plan.cells[0].digits == "embedded":  # a suite may show none
        _say_embedded(options["digits"])
    if dry_run:
        states = {str(plan.path(cell)): "finished" if plan.finished(cell) else "to do" for cell in plan.cells}
        lines = "\n".join(f"{path}: {state}" for path, state in states.items())
        click.echo(json.dumps(states, indent=2) if as_json else lines)
        return
    outcome = run_plan(plan, lambda line: click.echo(line, err=True))
    if as_json:
        click.echo(render(outcome.results, "json"))
    elif outcome.results:
        click.echo(render(outcome.results))
        click.echo("".join(f"\nresult: {path}" for path in outcome.paths))
        for chart in charts(outcome.results):
            click.echo(f"chart: {save_chart(chart, outcome.paths[0].parent)[0]}")
    if outcome.failed:
        cells = "; ".join(f"{cell.model}, seed {cell.seed}: {why}" for cell, why in outcome.failed)
        raise CellsFailedError(f"{len(outcome.failed)} of {len(plan.cells)} cells failed: {cells}")


@cli.command()
@click.argument("model")
@set_option
@json_option
def check(model: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Check a capsule layer against the paper, or a network with its capsules.

    MODEL is a name, package.module:attr or file.py:attr: a network, or a function routing(u, weight, iterations). It is
    code that is run; use only what you trust. See docs/conformance.md.

    \b
    Example:
      capsbench check capsnet --set gradient=detached
      capsbench check mine.py:routing
    """
    from capsbench.conformance import check as check_model
    from capsbench.conformance import findings_text
    from capsbench.errors import ChecksFailedError
    from capsbench.parameters import literal

    findings = check_model(model, **{key: literal(value) for key, value in split_assignments(sets).items()})
    click.echo(json.dumps([vars(one) for one in findings], indent=2) if as_json else findings_text(findings))
    failed = [one.check for one in findings if one.passed is False]
    if failed:
        raise ChecksFailedError(f"{model} fails {len(failed)} of {len(findings)} checks: {', '.join(failed)}.")


@cli.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option(
    "--format", "style", default="simple", show_default=True, help="simple, github, latex_booktabs, csv or json."
)
@click.option("--charts", "pictures", type=click.Path(path_type=Path), metavar="DIR", help="Also draw charts there.")
def report(folders: Sequence[Path], style: str, pictures: Path | None) -> None:
    """Make tables, and with --charts pictures with their numbers as CSV, from results.

    \b
    Example:
      capsbench report runs --format github
    """
    from capsbench.charts import save_chart
    from capsbench.errors import UnknownNameError
    from capsbench.report import FORMATS, charts, render
    from capsbench.results import load_results

    if style not in FORMATS:
        raise UnknownNameError("format", style, FORMATS)
    results = [result for folder in folders for result in load_results(folder)]
    click.echo(render(results, style))
    if pictures:
        for chart in charts(results):
            click.echo(f"chart: {save_chart(chart, pictures)[0]}", err=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and ends the process with its exit code."""
    # For GNU's OpenMP, which reads it when torch starts its threads: how long a thread that waits spins before it
    # sleeps. Measured, small CapsNet on two cores: idle 1,500 images/s (1,350 by default, 1,120 if it never spins);
    # beside a busy process 420 (some 100 where it spins for long, 800 if it never does).
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its profiler warns of what is not our user's concern
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # a file's name need not be Unicode
    sys.exit(exit_code(lambda: cli.main(arguments, prog_name="capsbench", standalone_mode=False)))


def _note_embedded(files: Sequence[Any]) -> None:
    from capsbench.digits import name_of

    if any(name_of(file.spec.digits) == "embedded" for file in files):
        _say_embedded(files[0].digits)


def _say_embedded(asked: str) -> None:
    if asked != "embedded":
        click.echo("Note: made from the 5,000 embedded digits. Full MNIST: capsbench data fetch", err=True)


def _entry(family: str, name: str) -> dict[str, Any]:
    from capsbench import registry

    try:
        thing = registry.load(family, name)
    except UsageError as error:  # a plug-in that fails must not hide the others
        return {"name": name, "summary": f"cannot be loaded: {error}", "presets": []}
    return {"name": name, "summary": registry.summary(thing), "presets": sorted(getattr(thing, "presets", {}))}
